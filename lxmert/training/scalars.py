"""Scalars for TensorBoard, beside the history and made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxmert.errors import SpecError
from lxmert.files import read_json_lines

_NO_SCALARS = ("step", "evaluation")
_EVENTS = "events.out.tfevents.*"
_MARK = 8  # characters of a run's digest at the end of its file's name


class Scalars:
    """Writes one event file in a folder; a run that goes on, or goes back, writes it anew from the history.

    So no step is there twice, which appending after a kill would cause.

    Args:
        folder: made if absent. Event files of other runs in it are moved to a folder beside it, so that their
            curves stay and TensorBoard shows them as runs of their own.
        history: the JSON lines so far.
        run: tells runs apart, see `JobState.digest`.

    Raises:
        SpecError: the package is not installed.
    """

    def __init__(self, folder: Path, history: Path, run: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SpecError(
                "--tensorboard: the package is not installed. In the checkout, run:"
                " pip install -e '.[tensorboard]'"
            ) from error
        mark = f".{run[:_MARK]}"
        _move_other_runs(folder, mark)
        self._writer = SummaryWriter(str(folder), filename_suffix=mark)
        if history.exists():
            for _, record in read_json_lines(history):
                self.add(record)
        self._writer.flush()

    def add(self, record: Mapping[str, Any]) -> None:
        """One record of the history: its numbers, and those one level below."""
        group = "evaluation" if record.get("evaluation") else "training"
        for name, value in record.items():
            if name in _NO_SCALARS:
                continue
            values = (
                {f"{name}/{key}": item for key, item in value.items()} if _is_group(value) else {name: value}
            )
            for key, item in values.items():
                if isinstance(item, int | float) and not isinstance(item, bool):
                    self._writer.add_scalar(f"{group}/{key}", item, int(record["step"]))

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def _is_group(value: object) -> bool:
    return isinstance(value, Mapping)


def _move_other_runs(folder: Path, mark: str) -> None:
    """Removes this run's event files, and moves those of each other run to a folder named by its mark."""
    _empty(folder.with_name(f"{folder.name}{mark}"))  # this run's, from before another one came in between
    for path in folder.glob(_EVENTS):
        if path.name.endswith(mark):
            path.unlink()
            continue
        beside = folder.with_name(f"{folder.name}{path.suffix}")
        beside.mkdir(exist_ok=True)
        path.rename(beside / path.name)


def _empty(folder: Path) -> None:
    """Removes a folder of event files, where there is one; other files keep it."""
    for path in folder.glob(_EVENTS):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
