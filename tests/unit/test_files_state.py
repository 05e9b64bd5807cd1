"""Whole files or none, and state that belongs to one key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lxmert import files
from lxmert.errors import DataError, suggest
from lxmert.state import JobState, StopSignal


def test_atomic_path_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError), files.atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from lxmert.files import atomic_path\n"
            f"with atomic_path({str(tmp_path / 'a.txt')!r}) as p:\n"
            "    p.write_text('half'); print('ready', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "a.txt").exists() and len(list(tmp_path.iterdir())) == 1
    files.atomic_write_text(tmp_path / "a.txt", "whole")
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with files.atomic_folder(tmp_path / "a" / "b") as folder:
            (folder / "x").write_text("half")
            1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    left = tmp_path / "a" / f"b{files._TEMPORARY}{process.pid}"
    left.mkdir()
    (left / "x").write_text("of a killed process")
    (tmp_path / "a" / "b").mkdir()  # an empty folder may be filled
    with files.atomic_folder(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("whole")
        assert not list((tmp_path / "a" / "b").iterdir()) and not left.exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    for target in (tmp_path / "a" / "b", tmp_path / "a" / "b" / "x"):
        with pytest.raises(DataError, match="exists already; remove it, or name another folder"):
            with files.atomic_folder(target):
                raise AssertionError("not reached")


def test_a_live_process_keeps_its_temporary_file(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "a.txt") as outer:
        outer.write_text("outer")
        files._remove_abandoned(tmp_path / "a.txt")
        assert outer.exists()


@pytest.mark.parametrize(
    ("content", "place"), [(b'{"a": 1,\n "b": }', ":2:7:"), (b"\xff\xfe{", "not UTF-8"), (b"", ":1:1:")]
)
def test_malformed_json_names_the_place(tmp_path: Path, content: bytes, place: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match="x.json") as caught:
        files.read_json(tmp_path / "x.json")
    assert place in str(caught.value) and "\n" not in str(caught.value)


def test_json_lines_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(DataError, match=r"x\.json:3: not valid JSON"):
        list(files.read_json_lines(tmp_path / "x.json"))


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a part of the path is a file"):
        files.atomic_write_text(tmp_path / "file" / "deeper" / "x", "")


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.atomic_write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_suggest_names_the_nearest() -> None:
    assert (
        suggest("learning_rat", ["learning_rate", "eps"])
        == ' Did you mean "learning_rate"? Known: eps, learning_rate.'
    )
    assert suggest("zzz", []) == ""


def test_state_comes_back_and_belongs_to_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    state = JobState(tmp_path / "s", {"spec": {"lr": 1}})
    assert state.load() is None
    state.log({"step": 1})
    state.save({"w": torch.arange(3)}, {"step": 1})
    state.log({"step": 2})
    again = JobState(tmp_path / "s", {"spec": {"lr": 1}})
    loaded = again.load()
    assert loaded is not None
    assert loaded[0]["w"].tolist() == [0, 1, 2] and loaded[1] == {"step": 1}
    assert [json.loads(line) for line in again.history_path.read_text().splitlines()] == [{"step": 1}]
    with caplog.at_level("INFO"):
        other = JobState(tmp_path / "s", {"spec": {"lr": 2}})
    assert other.load() is None and "spec/lr changed" in caplog.text


def test_history_before_the_first_save_starts_again(tmp_path: Path) -> None:
    JobState(tmp_path / "s", {}).log({"step": 1})
    state = JobState(tmp_path / "s", {})
    assert state.load() is None and not state.history_path.exists()


@pytest.mark.parametrize("key", [None, "[]", "{", '{"spec": 2}'])
def test_a_state_without_its_key_is_not_adopted(tmp_path: Path, key: str | None) -> None:
    torch = pytest.importorskip("torch")
    state = JobState(tmp_path / "s", {"spec": 1})
    state.save({"w": torch.zeros(1)}, {"step": 1})
    state.log({"step": 1})
    (state.folder / "key.json").unlink()
    if key is not None:
        (state.folder / "key.json").write_text(key)
    again = JobState(tmp_path / "s", {"spec": 1})
    assert {item.name for item in again.folder.iterdir()} == {"key.json"} and again.load() is None
    assert json.loads((again.folder / "key.json").read_text()) == {"spec": 1}


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds thesis\.tex, which is no unfinished work"):
        JobState(tmp_path, {})
    assert (tmp_path / "thesis.tex").exists()


def test_clearing_moves_the_state_away_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = JobState(tmp_path / "s", {"spec": 1})
    removed: list[Path] = []
    with monkeypatch.context() as patch:  # as if killed while files are being removed
        patch.setattr("shutil.rmtree", lambda path, ignore_errors: removed.append(path))
        state.clear()
    assert [path.name for path in removed] == [f"s.gone-{os.getpid()}"] and removed[0].exists()
    assert not state.folder.exists()
    JobState(tmp_path / "s", {"spec": 1}).clear()
    assert list(tmp_path.iterdir()) == []
    state.clear()  # nothing there is no error


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    state = JobState(tmp_path / "s", {})
    (state.folder / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="Remove .* to start again"):
        state.load()


def test_stop_signal_is_noticed_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("second", "status"), [("SIGTERM", 128 + 15), ("SIGUSR1", 0)])
def test_only_the_same_signal_again_ends_at_once(second: str, status: int) -> None:
    code = (
        "import os, signal\n"
        "from lxmert.state import StopSignal\n"
        "with StopSignal() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        f"    os.kill(os.getpid(), signal.{second})\n"
        "    assert stop.requested\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == status
