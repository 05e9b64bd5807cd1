"""What CI asks for: Slurm's tests may skip only where Slurm is not and could not be installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import loopback_slurm
import pytest

REQUIRED = loopback_slurm.REQUIRED


INSTALLS = "echo '#!/usr/bin/bash' > {folder}/slurmctld && /usr/bin/chmod +x {folder}/slurmctld"


@pytest.mark.parametrize(
    ("user", "apt", "required", "said"),
    [
        ("0", INSTALLS, "1", False),
        ("0", "exit 100", "", True),
        ("1000", INSTALLS, "", False),
        ("0", None, "", False),
    ],
    ids=["root", "root, and the installation fails", "a user", "root without apt"],
)
def test_slurm_is_required_where_it_is_installed(
    root: Path, tmp_path: Path, user: str, apt: str | None, required: str, said: bool
) -> None:
    programs = {"id": f"echo {user}", "make": f'echo "$* required=${{{REQUIRED}-}}"'}
    if apt is not None:
        programs["apt-get"] = apt.format(folder=tmp_path)
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != REQUIRED}
    done = subprocess.run(
        ["/usr/bin/bash", str(root / ".ci/run")],
        env={**environment, "PATH": str(tmp_path), "SLURM_SBIN": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"test required={required}\n"
    assert ("could not be installed" in done.stderr) == said


def test_a_required_slurm_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback_slurm, "why_not", lambda: "Slurm is not installed")
    monkeypatch.delenv(REQUIRED, raising=False)
    with (
        pytest.raises(pytest.skip.Exception, match="Slurm is not installed"),
        loopback_slurm.slurm_for_tests(),
    ):
        pass
    monkeypatch.setenv(REQUIRED, "1")
    with (
        pytest.raises(pytest.fail.Exception, match="must run here, but Slurm is"),
        loopback_slurm.slurm_for_tests(),
    ):
        pass
