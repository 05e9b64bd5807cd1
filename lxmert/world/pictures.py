"""Draws the images of the world into their folders."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lxmert.files import explain_os_error
from lxmert.progress import track
from lxmert.world.drawing import draw
from lxmert.world.plan import World
from lxmert.world.rng import Stream
from lxmert.world.scenes import Scene
from lxmert.world.write_nlvr2 import image_name

JPEG = "jpeg"
# What hides under the name .png, as in the published set: mostly PNG, of several modes.
PNG_FORMS = {"png": 0.86, "palette": 0.04, "alpha": 0.03, "jpeg": 0.04, "gif": 0.02, "bmp": 0.01}


@dataclass(frozen=True)
class Picture:
    """One drawing: its scene, the form of its bytes, and every place where they go."""

    scene: Scene
    form: str
    places: tuple[str, ...]


def pictures_of(world: World) -> list[Picture]:
    """Every drawing of the world. GQA's folder holds copies of VG files and of COCO test files."""
    out = []
    names = {
        image.coco.id: image.id
        for split in ("testdev", "test", "challenge")
        for image in world.gqa[split]
        if image.coco
    }
    for split, images in world.coco.items():
        for image in images:
            places = [f"coco/{split}/{image.file_name}"]
            if split == "test2015" and image.id in names:
                places.append(f"gqa/images/{names[image.id]}.jpg")
            out.append(Picture(image.scene, JPEG, tuple(places)))
    for genome in world.genome:
        places = [f"vg/{genome.folder}/{genome.id}.jpg", f"gqa/images/{genome.id}.jpg"]
        out.append(Picture(genome.scene, JPEG, tuple(places)))
    for split, sets in world.nlvr2.items():
        for pair_set in sets:
            for pair, scenes in enumerate(pair_set.pairs):
                for side, scene in enumerate(scenes):
                    name = image_name(split, pair_set, pair, side)
                    form = Stream(world.spec["seed"], "png form", name).weighted(PNG_FORMS)
                    out.append(Picture(scene, form, (f"nlvr2/images/{name}",)))
    return out


def encode(picture: Image.Image, form: str) -> bytes:
    """The bytes of an RGB picture in one of the forms."""
    buffer = io.BytesIO()
    if form == JPEG:
        picture.save(buffer, "JPEG", quality=92)
    elif form in ("palette", "gif"):
        few = picture.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(buffer, "GIF" if form == "gif" else "PNG")
    elif form == "bmp":
        picture.save(buffer, "BMP")
    else:
        shown = picture.convert("RGBA") if form == "alpha" else picture
        shown.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _render(job: tuple[str, Picture]) -> tuple[tuple[str, ...], str]:
    """Draw one picture, write all its copies, and return the SHA-256 of its decoded RGB pixels."""
    root, picture = job
    data = encode(draw(picture.scene), picture.form)
    with Image.open(io.BytesIO(data)) as image:
        pixels = image.convert("RGB")
    digest = hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()
    for place in picture.places:
        path = Path(root) / place
        temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise explain_os_error(error, path) from error
    return picture.places, digest


def _rendered(jobs: list[tuple[str, Picture]], workers: int) -> Iterator[tuple[tuple[str, ...], str]]:
    if workers < 2:
        yield from map(_render, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_render, jobs, chunksize=32)


def draw_pictures(world: World, root: Path, workers: int) -> dict[str, dict[str, Any]]:
    """Draw everything; per folder the number of files and a digest over names and decoded pixels."""
    pictures = pictures_of(world)
    for folder in sorted({str(Path(place).parent) for picture in pictures for place in picture.places}):
        try:
            (root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, root / folder) from error
    folders: dict[str, list[str]] = defaultdict(list)
    jobs = [(str(root), picture) for picture in pictures]
    for places, digest in track(_rendered(jobs, workers), total=len(jobs), unit="images", label="draw"):
        for place in places:
            folder, _, name = place.rpartition("/")
            folders[folder].append(f"{name} {digest}")
    return {
        folder: {
            "images": len(rows),
            "pixels_sha256": hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest(),
        }
        for folder, rows in sorted(folders.items())
    }
