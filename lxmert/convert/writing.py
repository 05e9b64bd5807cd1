"""Converted weights to disk, tensor by tensor, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lxmert.convert.opening import SAFETENSORS_NAMES, SIDE_HEAD
from lxmert.errors import DataError
from lxmert.files import atomic_path, explain_os_error, make_folder
from lxmert.models.keys import Stored
from lxmert.progress import track

# What a folder of transformers may hold; a folder with weights of another kind must not keep their parts.
MODEL = "model.safetensors"
_FILES = (
    *("config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"),
    *(SIDE_HEAD, "pytorch_model.bin", MODEL),
)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder whose files take their places in `out` only if the block ends well, weights last.

    Files of `out` that no folder of transformers has are left alone.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    temporary = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    try:
        make_folder(temporary)
        yield temporary
        make_folder(out)
        for name in _FILES:
            if (temporary / name).exists():
                os.replace(temporary / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, out) from error
    except DataError as error:  # of a file inside
        raise DataError(str(error).replace(str(temporary), str(out))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_safetensors(path: str | Path, stored: Mapping[str, Stored], metadata: Mapping[str, str]) -> None:
    """A safetensors file, holding one tensor in memory at a time.

    The same bytes as the library writes: large numbers first, then by name.

    Args:
        path: the file.
        stored: tensors by name.
        metadata: texts of the header.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    order = sorted(stored, key=lambda name: (-stored[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        item = stored[name]
        size = item.dtype.itemsize
        for length in item.shape:
            size *= length
        header[name] = {
            "dtype": SAFETENSORS_NAMES[item.dtype],
            "shape": list(item.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little"))
        handle.write(text)
        for name in track(order, len(order), "tensors", f"write {Path(path).name}"):
            _write_tensor(handle, stored[name])


def _write_tensor(handle: Any, stored: Stored) -> None:
    for part in stored.parts or (stored,):
        tensor = part.read().contiguous()
        assert tuple(tensor.shape) == part.shape and tensor.dtype == part.dtype
        handle.write(tensor.reshape(-1).view(torch.uint8).numpy())


def write_torch(path: str | Path, stored: Mapping[str, Stored]) -> None:
    """A state_dict as PyTorch saves it; needs the memory of one copy.

    Names of one tensor share its numbers, as tied parameters do.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    kept: dict[int, Tensor] = {}
    table: dict[str, Tensor] = {}
    for name, item in track(stored.items(), len(stored), "tensors", f"read for {Path(path).name}"):
        if id(item) not in kept:
            tensor = item.read()
            # A third of a stacked matrix would drag the whole matrix into the file.
            whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
            kept[id(item)] = tensor if whole else tensor.clone()
        table[name] = kept[id(item)]
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        try:
            torch.save(table, handle)
        except RuntimeError as error:  # what the archive's writer makes of a failed write
            raise DataError(
                f"{path}: cannot be written ({error}); free some space, then run again."
            ) from error
