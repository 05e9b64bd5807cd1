"""Unfinished work of a long job, kept in a folder that no rule declares.

A workflow engine deletes declared outputs before a job and after a failure, so what a job needs to
go on lives elsewhere, keyed by everything that decides its result. Tensors are stored as
safetensors and the rest as JSON: nothing here can run code when it is read.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from lxmert.errors import DataError
from lxmert.files import atomic_path, atomic_write_json, explain_os_error, make_folder, save_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Beginnings of the files that jobs keep in a state folder; the last two are of killed writers.
_OURS = ("key.json", "state.safetensors", "best.safetensors", "history.jsonl", "part.lmdb", ".tmp", ".nfs")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class JobState:
    """The saved state of one job.

    Args:
        folder: where it lives; made if absent.
        key: everything that decides the result: the spec and the fingerprint of each input. A
            folder with another key is emptied, and the log says what differed; so is one without.

    Attributes:
        digest: SHA-256 of the key.

    Raises:
        DataError: the folder cannot be written, or it holds files that are no unfinished work.
    """

    def __init__(self, folder: str | Path, key: dict[str, Any]) -> None:
        self.folder = make_folder(Path(folder).absolute())
        self.digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.history_path = self.folder / "history.jsonl"
        self._file = self.folder / "state.safetensors"
        key_path = self.folder / "key.json"
        old = self._read_key(key_path)
        if old == key:
            for leftover in self.folder.glob(".tmp*"):  # of safetensors, killed while it wrote
                leftover.unlink(missing_ok=True)
            return
        if old is not None:
            log.info("%s: %s changed since the unfinished run; starting again", folder, _difference(old, key))
        self._refuse_foreign_files()
        self.clear()  # without a key, too: nobody knows what is left there
        make_folder(folder)
        atomic_write_json(key_path, key)

    def save(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Replaces the saved state; either the old or the new one survives a kill."""
        save_tensors(self._file, tensors, {"meta": json.dumps(meta, sort_keys=True)})

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and meta of the last save, None at a first start.

        The history is cut back to records whose step is at most `meta["step"]`, so that a curve
        never shows a step twice.
        """
        if not self._file.exists():
            self.history_path.unlink(missing_ok=True)
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self._file), framework="pt") as handle:
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
                meta = json.loads(handle.metadata()["meta"])
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(
                f"{self._file}: the saved state cannot be read ({error})."
                f" Remove {self.folder} to start again."
            ) from error
        self._cut_history(meta.get("step"))
        return tensors, meta

    def log(self, record: dict[str, Any]) -> None:
        """Appends one JSON line to the history.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        line = json.dumps(record, sort_keys=True) + "\n"
        try:
            with open(self.history_path, "a", encoding="utf-8") as handle:
                handle.write(line)
        except OSError as error:
            raise explain_os_error(error, self.history_path) from error

    def clear(self) -> None:
        """Removes everything; a job calls it when its outputs stand.

        The folder first gets another name, so that a kill in between leaves no half of a state. What
        such a kill left under that name goes, too.
        """
        gone = f"{self.folder.name}.gone-"
        self._remove(gone)  # of a killed process that had our number
        try:
            self.folder.rename(self.folder.with_name(f"{gone}{os.getpid()}"))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        self._remove(gone)

    def _remove(self, beginning: str) -> None:
        for leftover in self.folder.parent.glob(f"{glob.escape(beginning)}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _refuse_foreign_files(self) -> None:
        """A mistyped --state must not cost a user the files of some other folder."""
        names = [item.name for item in self.folder.iterdir() if not item.is_dir()]
        foreign = sorted(name for name in names if not name.startswith(_OURS))
        if foreign:
            raise DataError(
                f"{self.folder}: holds {foreign[0]}, which is no unfinished work;"
                " name another folder with --state."
            )

    def _cut_history(self, step: int | None) -> None:
        if step is None or not self.history_path.exists():
            return
        kept = []
        for line in self.history_path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # the last line of a killed process
                continue
            if line.endswith("\n") and record.get("step", 0) <= step:
                kept.append(line)
        with atomic_path(self.history_path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    @staticmethod
    def _read_key(path: Path) -> dict[str, Any] | None:
        if not path.exists():
            return None
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None
        return value if isinstance(value, dict) else None


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The place of the first difference between two keys, for the log."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                return _difference(old.get(name), new.get(name), f"{path}/{name}" if path else str(name))
    return path or "the key"


class StopSignal:
    """Notices TERM, INT and USR1 without interrupting; a loop polls `requested`, saves, and stops.

    USR1 is what schedulers send ahead of a wall-time limit. Outside the main thread signals cannot
    be caught, and `requested` stays False. The same signal a second time ends the process at once;
    another one does not, as schedulers send USR1 and later TERM.
    """

    def __init__(self) -> None:
        self.requested = False
        self._seen: set[int] = set()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # ranks begin with them blocked
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in self._seen:
            os._exit(128 + number)
        self._seen.add(number)
        self.requested = True
        log.info("signal %s: saving, then stopping", signal.Signals(number).name)
