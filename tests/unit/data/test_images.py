"""Listings of image folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from lxmert.data.images import choose_subset, list_images, read_listing, write_listing
from lxmert.errors import DataError


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_ids_are_the_text_before_the_first_dot_in_any_sub_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "7/train-7-0-img1.png", "7/train-7-0-img0.png", "a.b.JPG", "notes.txt", ".hidden.png")
    assert list_images(tmp_path) == {
        "a": "a.b.JPG",
        "train-7-0-img0": "7/train-7-0-img0.png",
        "train-7-0-img1": "7/train-7-0-img1.png",
    }


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "x/1.jpg", "y/1.jpg")
    with pytest.raises(DataError, match=r"image id 1 occurs twice: x/1\.jpg and y/1\.jpg"):
        list_images(tmp_path)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "none")


def test_subset_is_stable_and_keeps_pairs() -> None:
    ids = [f"train-{n}-0-img{side}" for n in range(50) for side in (0, 1)]
    chosen = choose_subset(ids, 11)
    assert len(chosen) == 10 and chosen == choose_subset(reversed(ids), 11)
    assert all(image_id[:-1] + ("1" if image_id[-1] == "0" else "0") in chosen for image_id in chosen)
    assert choose_subset(ids, None) == set(ids) == choose_subset(ids, 1000)


def test_listing_restricted_to_ids_names_the_absent(tmp_path: Path) -> None:
    _touch(tmp_path, "n1.jpg", "n2.jpg", "3.jpg")
    assert write_listing("gqa_testdev", tmp_path, {"n1", "n2"}, None, tmp_path / "l.json") == 2
    assert [image["id"] for image in read_listing(tmp_path / "l.json")["images"]] == ["n1", "n2"]
    with pytest.raises(DataError, match=r"1 images of gqa_testdev are missing, first: \['n9'\]"):
        write_listing("gqa_testdev", tmp_path, {"n1", "n9"}, None, tmp_path / "l.json")
