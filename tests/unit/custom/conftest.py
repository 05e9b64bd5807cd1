"""A small folder of images with a file of examples, one question an image and its box."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_lines import COLOURS, Record, Writer
from PIL import Image, ImageDraw


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Thirty images of 40 x 30 pixels, some in a sub-folder."""
    folder = tmp_path / "my images"
    (folder / "more").mkdir(parents=True)
    for number in range(30):
        image = Image.new("RGB", (40, 30), "white")
        ImageDraw.Draw(image).rectangle((5, 5, 20, 20), fill=COLOURS[number % 3])
        image.save(folder / f"{number}.png")
    Image.new("RGB", (40, 30)).save(folder / "more" / "extra one.v2.jpg")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a file of examples and returns its path."""

    def write(records: list[Record]) -> Path:
        path = tmp_path / "examples.jsonl"
        path.write_text("".join(f"{json.dumps(item)}\n" for item in records))
        return path

    return write
