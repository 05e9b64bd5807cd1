"""Scalars for TensorBoard, beside the history and made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxmert.errors import SpecError
from lxmert.files import read_json_lines

_NO_SCALARS = ("step", "evaluation")


class Scalars:
    """Writes one event file in a folder; a run that goes on writes it anew from the history.

    So no step is there twice, which appending after a kill would cause.

    Args:
        folder: made if absent; event files of earlier attempts are removed.
        history: the JSON lines so far.

    Raises:
        SpecError: the package is not installed.
    """

    def __init__(self, folder: Path, history: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SpecError(
                "--tensorboard: the package is not installed. Run: pip install lxmert[tensorboard]"
            ) from error
        for path in folder.glob("events.out.tfevents.*"):
            path.unlink()
        self._writer = SummaryWriter(str(folder))
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
