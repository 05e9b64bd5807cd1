"""A handful of drawn pictures in Visual Genome's raw form, for tests of the detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

OBJECTS = ("ball", "box", "bar")
ATTRIBUTES = ("red", "blue", "plain")
COLOURS = {"red": (210, 40, 40), "blue": (40, 60, 210)}


def write_raw(folder: Path, train: int = 6, val: int = 2) -> tuple[Path, Path]:
    """Writes raw files; gives the raw folder and the listing."""
    rng = np.random.default_rng(0)
    raw = folder / "raw"
    (raw / "vg" / "VG_100K").mkdir(parents=True)
    (raw / "vg" / "splits").mkdir()
    objects, attributes, data, listing, lines = [], [], [], [], []
    number = 0
    for image_id in range(1, train + val + 1):
        width, height = (80, 64) if image_id % 3 else (64, 72)
        image = Image.new("RGB", (width, height), (180, 190, 180))
        canvas = ImageDraw.Draw(image)
        things, looks = [], []
        for _ in range(int(rng.integers(1, 4))):
            number += 1
            side = int(rng.integers(16, 30))
            x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            kind, colour = OBJECTS[rng.integers(3)], ("red", "blue")[rng.integers(2)]
            corners = (x, y, x + side, y + side // (2 if kind == "bar" else 1))
            (canvas.ellipse if kind == "ball" else canvas.rectangle)(corners, fill=COLOURS[colour])
            box = {
                "x": x,
                "y": y,
                "w": corners[2] - x,
                "h": corners[3] - y,
                "object_id": number,
                "names": [kind],
            }
            things.append(box)
            looks.append({**box, "attributes": [colour]})
        name = f"VG_100K/{image_id}.jpg"
        image.save(raw / "vg" / name, quality=95)
        objects.append({"image_id": image_id, "objects": things})
        attributes.append({"image_id": image_id, "attributes": looks})
        data.append({"image_id": image_id, "width": width, "height": height})
        listing.append({"id": str(image_id), "file": name})
        lines.append(f"{name} xml/{image_id}.xml\n")
    for name, value in (("scene_graphs", objects), ("attributes", attributes), ("image_data", data)):
        (raw / "vg" / f"{name}.json").write_text(json.dumps(value))
    for name, part in (("train", lines[:train]), ("val", lines[train:]), ("test", lines[train:])):
        (raw / "vg" / "splits" / f"{name}.txt").write_text("".join(part))
    (raw / "vg" / "objects_vocab.txt").write_text("\n".join(OBJECTS))
    (raw / "vg" / "attributes_vocab.txt").write_text("\n".join(ATTRIBUTES))
    path = folder / "vg.json"
    listing.sort(key=lambda image: image["id"])
    path.write_text(
        json.dumps({"image_set": "vg", "folder": str(raw / "vg"), "subset": None, "images": listing})
    )
    return raw, path


def micro_documents(steps: int = 6) -> tuple[dict, dict]:
    """Size and recipe documents of a detector that trains in a second."""
    from lxmert.specs.documents import read_document

    size, recipe = read_document("detector_size", "sample"), read_document("detector_recipe", "sample")
    size["image"] |= {"short_side_px": 48, "long_side_px": 64}
    size["stem"]["channels"] = 4
    for stage in size["stages"]:
        stage |= {"blocks": 1, "bottleneck": 4, "channels": 8}
    size["rpn"]["width"] = 8
    size["head"] |= {"pool": 3, "blocks": 1, "bottleneck": 4, "channels": 8}
    size["predictor"] = {"embedding": 4, "attribute_hidden": 4}
    size["proposals"]["test"] |= {"before_nms": 60, "after_nms": 12}
    size["proposals"]["train"] |= {"before_nms": 60, "after_nms": 12}
    recipe |= {"steps": steps, "images_per_step": 2, "log_every_steps": 1, "save_every_seconds": 0.001}
    recipe["schedule"]["warmup_steps"] = 2
    recipe["rpn"]["batch"] = recipe["roi"]["batch"] = 8
    return size, recipe


def job(arguments: list[object]) -> None:
    """A command line as a process of its own would run it."""
    import sys

    from lxmert.cli import main

    sys.exit(main(["--threads", "1", *map(str, arguments)]))
