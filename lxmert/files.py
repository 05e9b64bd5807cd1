"""Whole files or none: atomic writing, checksums, and JSON that says where it is wrong."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxmert.errors import DataError

if TYPE_CHECKING:
    import torch

_READ_BYTES = 1 << 20
# The host is part of the name: on a shared disk only the own host's process numbers mean anything.
_TEMPORARY = f".tmp-{socket.gethostname()}-"


def explain_os_error(error: OSError, path: str | Path) -> DataError:
    """One line for a failed file operation: what, where, what to do."""
    remedies = {
        errno.ENOSPC: ("no space left on the device", "free some space, then run the same command again"),
        errno.EDQUOT: ("the disk quota is used up", "free some space, then run the same command again"),
        errno.EFBIG: ("the file grew past the allowed size", "raise the file size limit, then run again"),
        errno.EACCES: ("permission denied", "make the folder writable or choose another one"),
        errno.EPERM: ("operation not permitted", "make the folder writable or choose another one"),
        errno.EROFS: ("read-only file system", "choose a folder on a writable file system"),
        errno.ENOENT: ("no such file", "check the path, or build the file first"),
        errno.ENOTDIR: ("a part of the path is a file, not a folder", "check the path"),
        errno.EISDIR: ("is a folder, not a file", "check the path"),
        errno.EEXIST: ("exists already and is not a folder", "move it away"),
    }
    number = error.errno if error.errno is not None else 0
    what, remedy = remedies.get(number, (error.strerror or str(error), "check the path and the disk"))
    return DataError(f"{path}: {what}; {remedy}.")


def make_folder(path: str | Path) -> Path:
    """The folder `path`, made with its parents if it was not there."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place only if the block ends well.

    The file is flushed to the disk before it is renamed; after an error nothing is left.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}")
    _remove_abandoned(path)
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which takes its place only if the block ends well.

    After an error nothing is left. Its files are not flushed one by one: whoever makes many small files
    makes them again after a power cut.

    Raises:
        DataError: `path` exists and is no empty folder, the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: exists already; remove it, or name another folder.")
    temporary = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}")
    _remove_abandoned(path)
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(path: Path) -> None:
    """Removes what killed processes of this host left of earlier attempts at `path`."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}{_TEMPORARY}*"):
        process = leftover.name.rpartition("-")[2]
        if process.isdigit() and not _is_alive(int(process)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def atomic_write_bytes(path: str | Path, value: bytes) -> None:
    """Writes a whole file or none."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(value)


def atomic_write_text(path: str | Path, value: str) -> None:
    """Writes a whole UTF-8 file or none, line ends as given."""
    atomic_write_bytes(path, value.encode("utf-8"))


def atomic_write_json(path: str | Path, value: Any) -> None:
    """Writes sorted, indented JSON; NaN is refused since no other reader takes it."""
    atomic_write_text(path, json.dumps(value, indent=4, sort_keys=True, allow_nan=False) + "\n")


def save_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes a whole safetensors file or none; tensors may be on any device and of any strides.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(ready, str(temporary), metadata=metadata)
        except SafetensorError as error:  # the library hides the system's error number in its text
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise DataError(f"{path}: cannot be written ({error}); check the disk.") from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            while chunk := handle.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return digest.hexdigest()


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Size and SHA-256 of an input, for the keys of unfinished work.

    A region store answers from the digest it carries, since reading 70 GB to begin a job would
    cost more than many a job.
    """
    path = Path(path)
    if path.suffix == ".lmdb":
        from lxmert.data import region_store

        return region_store.fingerprint(path)
    digest = sha256_file(path)
    return {"size": path.stat().st_size, "sha256": digest}


def read_json(path: str | Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: the file is missing, not UTF-8 or not JSON (with line and column).
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise explain_os_error(error, path) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}."
            " Fetch or write the file again."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text at byte {error.start}. Fetch or write the file again."
        ) from error


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line of a JSON-lines file; blank lines are skipped.

    Raises:
        DataError: a line is not a JSON object.
    """
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (json.JSONDecodeError, UnicodeDecodeError) as error:
                    raise DataError(
                        f"{path}:{number}: not valid JSON: {error}. Fetch the file again."
                    ) from error
                if not isinstance(value, dict):
                    raise DataError(
                        f"{path}:{number}: a line must hold one JSON object. Fetch the file again."
                    )
                yield number, value
    except OSError as error:
        raise explain_os_error(error, path) from error
