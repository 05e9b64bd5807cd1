"""Assets, archives and patience that the tests of the downloader share."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

from lxmert.assets.asset import Asset, Member
from lxmert.assets.transfer import Patience

# Short for a test, yet long enough for an honest answer on a busy machine.
SHORT = Patience(
    connect_seconds=2.0,
    header_seconds=0.7,
    read_seconds=0.5,
    slow_seconds=0.3,
    slow_bytes_per_second=2000.0,
    attempts=3,
    backoff_seconds=0.0,
    renew_bytes=1 << 30,
)


def plain(urls: list[str], body: bytes | None = None, **settings: Any) -> Asset:
    """An asset that is used as it is; its size and checksum are published if a body is given."""
    values: dict[str, Any] = {
        "id": "thing",
        "catalogue": "group",
        "what": "a thing",
        "licence": "MIT",
        "file": "group/thing.bin",
        "format": "binary",
        "place": "raw/group/thing.bin",
        "mirrors": tuple({"url": url} for url in urls),
    }
    if body is not None:
        values |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return Asset(**{**values, **settings})


def archive(urls: list[str], members: list[Member], body: bytes | None = None, **settings: Any) -> Asset:
    """A zip; its size and checksum are published if a body is given."""
    values = {"file": "group/thing.zip", "format": "zip", "place": None, "members": tuple(members)}
    return plain(urls, body, **{**values, **settings})


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The bytes of a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, body in files.items():
            target.writestr(name, body)
    return buffer.getvalue()


def caffemodel_of(*arrays: bytes) -> bytes:
    """The bytes of a Caffe network: one layer for each array of float32 numbers."""
    body = field(1, b"net")
    for number, array in enumerate(arrays):
        layer = field(1, f"conv{number}".encode()) + field(2, b"Convolution") + field(7, field(5, array))
        body += field(100, layer)
    return body


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    """A whole number of a protocol buffer."""
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def safetensors_of(tensors: dict[str, bytes]) -> bytes:
    """The bytes of a safetensors file of byte tensors."""
    header, at = {}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(tensors.values())


def torch_of(sizes: list[int], zipped: bool, seed: int = 0) -> bytes:
    """The bytes of a state dict as PyTorch writes it, in the form of today or of before 2020."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {
        f"layer{index}.weight": torch.rand(size, generator=generator) for index, size in enumerate(sizes)
    }
    state["steps"] = torch.tensor(7)
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()
