"""Write easy-VQA as a folder of images and one file of JSON lines, as `corpus: custom` reads them.

easy-VQA (package `easy-vqa`) has questions and no boxes. Each of its images shows one shape on a plain
ground, so boxes are found in the pixels, and what people would have to write at them is taken from the
answers to the training questions: "what color is the circle?" "blue" makes a box `circle` with the
attribute `blue`. Nothing is taken from the questions of the test split, whose images get no box.

    python docs/easy_vqa/export.py easy_vqa/mine
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHAPES = {"circle", "rectangle", "triangle"}
COLOURS = {"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"}
EXAMPLES = "examples.jsonl"
# A pixel belongs to the shape if a channel differs from the ground by more; softened edges do by less.
DIFFERENCE = 24


def find_box(image: Image.Image) -> list[int] | None:
    """[x1, y1, x2, y2] around the pixels that are not of the ground, the commonest colour."""
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)  # [h, w, 3]
    codes, counts = np.unique(pixels @ [1 << 16, 1 << 8, 1], return_counts=True)
    ground = np.array([codes[counts.argmax()] >> shift & 255 for shift in (16, 8, 0)])
    other = (np.abs(pixels - ground) > DIFFERENCE).any(axis=2)  # [h, w]
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def names_of(questions: Iterable[tuple[str, str, int]]) -> dict[int, dict[str, str]]:
    """Image -> what the open questions and their answers say of it: its `shape`, its `colour`."""
    found: dict[int, dict[str, str]] = {}
    for text, answer, image in questions:
        if answer in ("yes", "no"):
            continue
        words = {answer, *text.rstrip("?").split()}
        for kind, known in (("shape", SHAPES), ("colour", COLOURS)):
            for word in words & known:
                found.setdefault(image, {})[kind] = word
    return found


def box_of(path: str, said: dict[str, str]) -> list[dict[str, Any]]:
    """The box of an image, where its shape is known."""
    with Image.open(path) as image:
        corners = find_box(image)
    if corners is None or "shape" not in said:
        return []
    colours = [said["colour"]] if "colour" in said else []
    return [{"box": corners, "label": said["shape"], "attributes": colours}]


def export(out: Path) -> None:
    """Writes `images/` and, last, `examples.jsonl`; nothing if that is there."""
    if (out / EXAMPLES).is_file():
        print(f"{out / EXAMPLES}: is there already")
        return
    try:
        import easy_vqa
    except ImportError:
        sys.exit("easy-vqa is not installed. In the checkout, run: pip install -e '.[easy-vqa]'")
    lines: list[dict[str, Any]] = []
    (out / "images").mkdir(parents=True, exist_ok=True)
    for split, paths, read in (
        ("train", easy_vqa.get_train_image_paths(), easy_vqa.get_train_questions),
        ("test", easy_vqa.get_test_image_paths(), easy_vqa.get_test_questions),
    ):
        questions = list(zip(*read(), strict=True))
        said = names_of(questions) if split == "train" else {}
        names = {number: f"{split}_{number}.png" for number in paths}
        for number, path in paths.items():
            shutil.copyfile(path, out / "images" / names[number])
        for text, answer, number in questions:
            lines.append({"image": names[number], "question": text, "answer": answer, "split": split})
        for number in sorted(said):
            boxes = box_of(paths[number], said[number])
            lines += [{"image": names[number], "boxes": boxes, "split": split}] if boxes else []
    unfinished = out / f"{EXAMPLES}.part"
    unfinished.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    unfinished.replace(out / EXAMPLES)
    boxes = sum("boxes" in line for line in lines)
    print(f"{out}: {len(lines) - boxes} questions, {boxes} boxes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/easy_vqa/export.py FOLDER")
    export(Path(sys.argv[1]))
