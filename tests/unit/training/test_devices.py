"""Where a job computes, and devices taken by lock file."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lxmert import devices
from lxmert.devices import pick_device, release_devices, shared_threads, take_devices, visible_devices
from lxmert.errors import SpecError

HOLD = (
    "import sys; from pathlib import Path; from lxmert.devices import take_devices;"
    "print(take_devices(int(sys.argv[1]), Path(sys.argv[2])), flush=True); sys.stdin.read()"
)


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-abc")
    monkeypatch.setattr(devices, "_identities", lambda: {"3": "GPU-three"})
    monkeypatch.setenv("LXMERT_DEVICES", "")
    yield
    release_devices()


def test_no_gpu_is_the_cpu_with_its_threads() -> None:
    assert pick_device(0, 1).type == "cpu" and torch.get_num_threads() == 1


def test_devices_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="--gpus 2: this verb uses one device"):
        pick_device(2, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SpecError, match="--gpus 1: 0 devices are visible"):
        pick_device(1, 1)


def test_what_is_visible_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 0,-1,1")
    assert visible_devices() == ["2", "0"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert len(visible_devices()) == torch.cuda.device_count()


def test_devices_are_taken_once_and_come_back(
    three_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", HOLD, "1", str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as other:
        assert other.stdout.readline() == "['3']\n"
        monkeypatch.setattr(devices, "_identities", dict)  # by number, as the other did without the tool
        assert take_devices(2, tmp_path) == ["5", "GPU-abc"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,GPU-abc"
        release_devices()
        other.kill()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-abc")
    assert take_devices(3, tmp_path) == ["3", "5", "GPU-abc"]


def test_a_device_is_known_by_its_unique_id(three_gpus: None, tmp_path: Path) -> None:
    take_devices(1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["GPU-three.lock"]


def test_waiting_takes_all_or_none(
    three_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = devices._try_lock(tmp_path / "5.lock")

    def later(seconds: float) -> None:
        for name in ("GPU-three", "GPU-abc"):  # given back while waiting, so that others can have them
            handle = devices._try_lock(tmp_path / f"{name}.lock")
            assert handle is not None
            handle.close()
        held.close()

    monkeypatch.setattr(devices.time, "sleep", later)
    with caplog.at_level("INFO"):
        assert take_devices(3, tmp_path) == ["3", "5", "GPU-abc"]
    assert "waiting for 3 of the GPUs 3, 5, GPU-abc" in caplog.text


def hold_one(folder: Path, diary: Path) -> None:
    """A job: takes a device, writes that it has it, holds it a moment, writes that it goes, and ends."""
    (name,) = take_devices(1, folder)
    with open(diary, "a", buffering=1) as lines:
        lines.write(f"+{name}\n")
        time.sleep(0.01)
        lines.write(f"-{name}\n")
    os._exit(0)


@pytest.mark.parametrize("jobs", [4, 24])
def test_jobs_at_once_never_share_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(devices, "_identities", dict)
    monkeypatch.setattr(devices, "_LOOK_SECONDS", 0.005)
    diary = tmp_path / "diary.txt"
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=hold_one, args=(tmp_path / "locks", diary)) for _ in range(jobs)]
    for job in started:
        job.start()
    for job in started:
        job.join(60)
    assert [job.exitcode for job in started] == [0] * jobs
    held: set[str] = set()
    lines = diary.read_text().split()
    assert len(lines) == 2 * jobs
    for line in lines:
        if line[0] == "+":
            assert line[1:] not in held, f"two jobs hold GPU {line[1:]}: {lines}"
            held.add(line[1:])
        else:
            held.remove(line[1:])
    assert {line[1:] for line in lines} <= {"0", "1", "2", "3"}


def test_threads_are_shared_among_processes() -> None:
    assert [shared_threads(8, count) for count in (1, 3, 8, 9)] == [8, 2, 1, 1]
