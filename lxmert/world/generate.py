"""Writes a whole world: images, annotation files, and last of all the manifest."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxmert.errors import DataError
from lxmert.files import atomic_write_json, atomic_write_text, explain_os_error
from lxmert.world.pictures import draw_pictures
from lxmert.world.plan import plan_world
from lxmert.world.raw import RawFolder
from lxmert.world.spec import resolve
from lxmert.world.write_coco import write_coco
from lxmert.world.write_genome import write_genome
from lxmert.world.write_gqa import write_gqa
from lxmert.world.write_nlvr2 import write_nlvr2
from lxmert.world.write_vqa import write_vqa

log = logging.getLogger(__name__)

# Raise when the same spec gives another world.
VERSION = 2
FOLDERS = ("coco", "vqa", "gqa", "nlvr2", "vg")
MARKER = "GENERATED.txt"
MARKER_TEXT = "Drawn and written by `generate`, which empties these folders before it writes anew.\n"


def _clear(root: Path) -> None:
    """Empty the folders of an earlier world; refuse to touch files that a generator did not write."""
    present = [name for name in FOLDERS if (root / name).is_dir() and any((root / name).iterdir())]
    if present and not (root / MARKER).exists():
        raise DataError(
            f"{root}: {present[0]}/ holds files that were not generated. "
            "Choose another folder, or move them away."
        )
    atomic_write_text(root / MARKER, MARKER_TEXT)
    for name in FOLDERS:
        try:
            if (root / name).exists():
                shutil.rmtree(root / name)
        except OSError as error:
            raise explain_os_error(error, root / name) from error


def generate_world(spec: Mapping[str, Any], root: Path, manifest: Path, workers: int = 0) -> dict[str, Any]:
    """Write the world of a spec below ``root`` and its manifest last.

    Args:
        spec: sizes and seed; missing keys take their defaults (lxmert/world/spec.py).
        root: the raw folder; what an earlier run left there is replaced.
        manifest: JSON file with seed, sizes, records and SHA-256 of each file, pixel digests of each folder.
        workers: processes that draw; the result does not depend on it.

    Returns:
        The manifest.

    Raises:
        SpecError: the spec has an unknown key or impossible sizes.
        DataError: the folder cannot be written, or holds somebody else's files.
    """
    resolved = resolve(spec)
    # No manifest stands beside a half-written world.
    manifest.unlink(missing_ok=True)
    _clear(root)
    world = plan_world(resolved)
    folders = draw_pictures(world, root, workers)
    raw = RawFolder(root)
    for write in (write_coco, write_vqa, write_gqa, write_nlvr2, write_genome):
        write(world, raw)
    sizes = {key: value for key, value in resolved.items() if key != "seed"}
    value = {
        "version": VERSION,
        "seed": resolved["seed"],
        "sizes": sizes,
        "files": raw.files,
        "images": folders,
    }
    atomic_write_json(manifest, value)
    log.info(
        "world of seed %d: %d files, %d images",
        resolved["seed"],
        len(raw.files),
        sum(folder["images"] for folder in folders.values()),
    )
    return value
