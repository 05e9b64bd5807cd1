"""Full disks, unwritable folders and other failures of the system are one line, never a traceback."""

from __future__ import annotations

import argparse
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lxmert import cli
from lxmert.errors import DataError
from lxmert.files import save_tensors
from lxmert.progress import configure_logging

WRITERS = {
    "weights": "from lxmert.models.weights import save_weights\n"
    "save_weights(folder / 'w.safetensors', {'w': torch.zeros(100_000)}, {})",
    "state": "from lxmert.state import JobState\n"
    "JobState(folder / 's', {}).save({'w': torch.zeros(100_000)}, {'step': 1})",
    "history": "from lxmert.state import JobState\nJobState(folder / 's', {}).log({'text': 'x' * 100_000})",
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_file_size_limit_is_one_line(tmp_path: Path, what: str) -> None:
    """RLIMIT_FSIZE stands for a full disk: the write fails half way."""
    code = (
        "import pathlib, resource, sys, torch\n"
        "from lxmert.errors import DataError\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n" + "".join(f"    {line}\n" for line in WRITERS[what].splitlines()) + ""
        "except DataError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "grew past the allowed size; raise the file size limit" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and str(tmp_path) in done.stderr
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"key.json", "history.jsonl"}


def test_tensors_in_a_folder_that_is_a_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: exists already and is not a folder"):
        save_tensors(tmp_path / "file" / "w.safetensors", {"w": torch.zeros(2)})
    save_tensors(tmp_path / "w.safetensors", {"w": torch.zeros(2, 3).T}, {"meta": "{}"})  # any strides


@pytest.mark.parametrize("state", ["file/state", "file"])
def test_a_verb_whose_folder_cannot_be_made_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    (tmp_path / "file").write_text("")
    Image.new("RGB", (8, 8)).save(tmp_path / "COCO_val2014_000000000001.png")
    out = str(tmp_path / state / "x.json")
    status = cli.main(["list-images", "--image-set", "tiny", "--folder", str(tmp_path), "--out", out])
    told = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    assert status == 2 and len(told) == 1 and str(tmp_path / "file") in told[0]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "full", "/data/x"), "/data/x: no space left on the device"),
        (PermissionError(errno.EACCES, "denied", "/data/x"), "/data/x: permission denied"),
        (OSError("odd\nthing"), "train: odd thing"),
    ],
)
def test_a_forgotten_system_error_is_one_line(
    capsys: pytest.CaptureFixture[str], error: OSError, told: str
) -> None:
    def run(args: argparse.Namespace) -> None:
        raise error

    configure_logging(False, rank=0)  # onto this test's own stderr
    assert cli._run(run, argparse.Namespace(threads=1, debug=False), "train") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
    assert len(lines) == 1 and lines[0].startswith(told)
