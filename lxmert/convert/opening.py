"""Weights files of any program, opened without executing anything and without being read yet."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lxmert.errors import WeightsError
from lxmert.files import explain_os_error, read_json
from lxmert.models.keys import Stored

CONFIGS = ("config.json", "bert_config.json")
_FILES = ("model.safetensors", "pytorch_model.bin")
SIDE_HEAD = "pair_head.safetensors"  # an NLVR2 head, for which transformers has no class
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
SAFETENSORS_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# What a damaged or hostile file makes the restricted reader of PyTorch raise.
_TORCH_FAULTS = (
    pickle.UnpicklingError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass
class Opened:
    """Tensors of a file or folder, by the names that stand in it.

    Attributes:
        path: the weights file.
        stored: its tensors.
        header: what a safetensors file says of itself.
        config: the folder's config.json; None if there is none.
        folder: the folder that was given; None if a file was.
    """

    path: Path
    stored: dict[str, Stored]
    header: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    folder: Path | None = None


def open_weights(path: str | Path) -> Opened:
    """Opens a weights file, or a folder with one and its configuration.

    Raises:
        WeightsError: it is no weights file, or damaged, or holds more than tensors.
        DataError: it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"{path}: no such file; check the path, or fetch the weights first.")
    if not path.is_dir():
        config = _config_beside(path)
        opened = _open_file(path)
        opened.config = config
        return opened
    found = [path / name for name in _FILES if (path / name).is_file()]
    if not found:
        parts = list(path.glob("*.index.json"))
        what = f"weights in parts ({parts[0].name})" if parts else f"none of {', '.join(_FILES)}"
        raise WeightsError(f"{path}: the folder has {what}; give the weights file itself, in one piece.")
    opened = _open_file(found[0])
    opened.folder = path
    opened.config = _folder_config(path)
    side = path / SIDE_HEAD
    if side.is_file():
        opened.stored |= _open_file(side).stored
    return opened


def _config_beside(path: Path) -> dict[str, Any] | None:
    """The config.json of a weights file that lies in its folder under its usual name."""
    return _folder_config(path.parent) if path.name in _FILES else None


def _folder_config(folder: Path) -> dict[str, Any] | None:
    for name in CONFIGS:
        if (folder / name).is_file():
            config = read_json(folder / name)
            if not isinstance(config, dict):
                raise WeightsError(f"{folder / name}: must hold an object; fetch the file again.")
            return config
    return None


def _open_file(path: Path) -> Opened:
    try:
        with open(path, "rb") as handle:
            head = handle.read(64)
    except OSError as error:
        raise explain_os_error(error, path) from error
    if not head:
        raise WeightsError(f"{path}: is empty; fetch the file again.")
    if head.lstrip().startswith((b"<", b"\xef\xbb\xbf<")):
        raise WeightsError(f"{path}: is a web page instead of weights; fetch the file again.")
    if head.startswith((b"PK", b"\x80")):
        return Opened(path, _open_torch(path, head))
    if head[8:9] == b"{":
        return _open_safetensors(path)
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: is a pointer of git-lfs instead of weights; run git lfs pull.")
    raise WeightsError(
        f"{path}: is neither a PyTorch nor a safetensors file (it begins with {head[:4].hex(' ')});"
        " check that it is the file you want."
    )


def _open_safetensors(path: Path) -> Opened:
    """Positions of the tensors; their bytes are read when they are wanted, and not mapped."""
    try:
        with safe_open(str(path), framework="pt"):  # checks the header and the file's length
            pass
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length))
    except (OSError, SafetensorError) as error:
        what = " ".join(str(error).split())
        raise WeightsError(
            f"{path}: not a readable safetensors file ({what}); fetch or make it again."
        ) from error
    said = header.pop("__metadata__", {})
    stored = {}
    for name, item in header.items():
        if item["dtype"] not in _DTYPES:  # numbers of 4 or 8 bits
            raise WeightsError(f"{path}: {name}: numbers of type {item['dtype']} are not read here.")
        stored[name] = _stored_at(path, 8 + length, item)
    return Opened(path, stored, said)


def _stored_at(path: Path, base: int, item: Mapping[str, Any]) -> Stored:
    start, end = item["data_offsets"]
    shape, dtype = tuple(item["shape"]), _DTYPES[item["dtype"]]

    def read() -> Tensor:
        data = bytearray(end - start)
        try:
            with open(path, "rb") as handle:
                handle.seek(base + start)
                count = handle.readinto(data)
        except OSError as error:
            raise explain_os_error(error, path) from error
        if count != len(data):
            raise WeightsError(f"{path}: became shorter while it was read; run again.")
        if not data:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(data, dtype=dtype).reshape(shape)

    return Stored(shape, dtype, read)


def _open_torch(path: Path, head: bytes) -> dict[str, Stored]:
    """A table of tensors; the restricted reader builds nothing else and calls nothing the file names."""
    zipped = head.startswith(b"PK")
    if zipped:
        _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its remarks on odd files; what matters comes as an error
            # A file of 2020 or later is mapped; the older form can only be read whole.
            table = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except _TORCH_FAULTS as error:
        raise WeightsError(f"{path}: {_fault(error)}") from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    if isinstance(table, dict) and isinstance(table.get("state_dict"), dict):
        table = table["state_dict"]
    if not isinstance(table, dict) or not table:
        raise WeightsError(
            f"{path}: holds {type(table).__name__} instead of a table of tensors; save a state_dict."
        )
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: {str(name)[:80]!a} holds {type(value).__name__} instead of a tensor;"
                " save a state_dict alone."
            )
        plain = value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"
        # One number repeated by strides can claim any size.
        if not plain or value.numel() * value.itemsize > value.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name[:80]!a} is no plain tensor; save a dense state_dict.")
    return {name: Stored.of(tensor.detach()) for name, tensor in table.items()}


def _check_zip(path: Path) -> None:
    """Refuses archives PyTorch does not write: compressed members could unpack to anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type]
            names = {entry.filename.rpartition("/")[2] for entry in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        what = " ".join(str(error).split())
        raise WeightsError(f"{path}: a damaged weights file ({what}); fetch it again.") from None
    if packed or "data.pkl" not in names:
        raise WeightsError(f"{path}: is an archive, but none of PyTorch's; unpack it first.")


def _fault(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) and ("GLOBAL" in text or "lobal" in text):
        found = text.partition("GLOBAL ")[2].split(" ")[0] or "code"
        return (
            f"refused: it asks for {found[:80]!a}, which no table of tensors needs. Nothing of it was"
            " executed; save a state_dict alone, or get the file from its publisher again."
        )
    shown = ascii(text[:120])[1:-1] or type(error).__name__
    return f"no readable weights file of PyTorch ({shown}); fetch it again."
