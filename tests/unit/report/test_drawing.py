from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lxmert.errors import DataError
from lxmert.report.drawing import BOX_COLOURS, Box, draw_boxes, open_image
from lxmert.report.regions import ImageDrawer, read_names


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (200, 100)])
def test_boxes_of_any_image_and_place(size: tuple[int, int]) -> None:
    boxes = [
        Box((-5, -5, 1000, 1000), "all of it"),
        Box((0, 0, 0, 0), "x"),
        Box((size[0], size[1], 2, 2), "y"),
    ]
    drawn = draw_boxes(Image.new("RGB", size, "white"), boxes, 200)
    assert max(drawn.size) == 200 and min(drawn.size) >= 1
    bare = draw_boxes(Image.new("RGB", size, "white"), [], 50)
    assert bare.getcolors() == [(bare.width * bare.height, (255, 255, 255))]


def test_a_box_is_drawn_where_it_belongs() -> None:
    drawn = draw_boxes(Image.new("RGB", (100, 50), "white"), [Box((50, 20, 80, 40), "cup")], 400)
    colour = tuple(int(BOX_COLOURS[0][place : place + 2], 16) for place in (1, 3, 5))
    assert drawn.size == (400, 200) and drawn.getpixel((201, 120)) == colour
    assert drawn.getpixel((260, 120)) == (255, 255, 255)


def test_bad_images(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(whole.read_bytes()[:1500])
    text.write_text("no image")
    for path in (cut, text):
        with pytest.raises(DataError, match=f"{path.name}: cannot be read as an image"):
            open_image(path)
    with pytest.raises(DataError, match="gone.png: no such image"):
        open_image(tmp_path / "gone.png")


def drawer(root: Path, **changes) -> ImageDrawer:
    given = {
        "listings": [root / "listings" / "mscoco_val2014.json"],
        "features": [root / "features" / "mscoco_val2014.lmdb"],
        "objects": read_names(root / "objects_vocab.txt"),
        "attributes": read_names(root / "attributes_vocab.txt"),
    }
    return ImageDrawer(**{**given, **changes})


def test_named_regions_come_first_without_repeats(results_tree: Path) -> None:
    subject = drawer(results_tree)
    regions = subject._stores["mscoco_val2014"].regions("mscoco_val2014_000")
    for words in ("how many balls?", "is the box blue", ""):
        chosen = subject._relevant(regions, words, 3)
        assert len(chosen) == len(set(chosen)) <= 3
    cups = [place for place in range(4) if regions.object_ids[place] == 2]
    if cups:
        assert regions.object_ids[subject._relevant(regions, "two CUPS", 1)[0]] == 2


def test_synonyms_are_left_out_of_names(results_tree: Path) -> None:
    assert read_names(results_tree / "objects_vocab.txt") == ["ball", "box", "cup"]
    assert read_names(None) == []


def test_images_without_store_or_listing(results_tree: Path) -> None:
    key = "mscoco_val2014/mscoco_val2014_001"
    bare, boxed, unlisted = (
        drawer(results_tree, features=[]),
        drawer(results_tree),
        drawer(results_tree, listings=[]),
    )
    for subject in (bare, boxed, unlisted):
        subject.look_up([key])
    one, other = bare.draw(key, "", 300), boxed.draw(key, "", 300)
    assert one is not None and other is not None and one.tobytes() != other.tobytes()
    assert unlisted.draw(key, "", 300) is None
    unnamed = drawer(results_tree, objects=(), attributes=())
    unnamed.look_up([key])
    nameless = unnamed.draw(key, "", 300)
    assert nameless is not None and nameless.tobytes() != other.tobytes()


def test_a_listing_that_lacks_an_image(results_tree: Path) -> None:
    with pytest.raises(DataError, match="mscoco_val2014.json: lists no image 404"):
        drawer(results_tree).look_up(["mscoco_val2014/404"])
