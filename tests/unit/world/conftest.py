"""Two worlds for the tests: a tiny one with pictures, and a middling one of annotation files only."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lxmert.world.generate import generate_world
from lxmert.world.plan import plan_world
from lxmert.world.raw import RawFolder
from lxmert.world.spec import resolve
from lxmert.world.write_coco import write_coco
from lxmert.world.write_genome import write_genome
from lxmert.world.write_gqa import write_gqa
from lxmert.world.write_nlvr2 import write_nlvr2
from lxmert.world.write_vqa import write_vqa

TINY = {
    "seed": 3,
    "coco": {"train2014": 5, "val2014": 4, "minival": 2, "test2015": 6},
    "vg": {"images": 7, "train2014_twins": 2, "val2014_twins": 2, "detector_val": 1, "detector_test": 1},
    "gqa": {"val": 2, "testdev": 2, "test": 1, "challenge": 1, "questions": 8},
    "nlvr2": {"train_sets": 2, "dev_sets": 1, "test1_sets": 1, "directories": 2},
}
MIDDLING = {
    "coco": {"train2014": 400, "val2014": 160, "minival": 90, "test2015": 80},
    "vg": {"images": 260, "train2014_twins": 60, "val2014_twins": 30},
    "gqa": {"val": 40, "testdev": 60, "test": 5, "challenge": 5},
    "nlvr2": {"train_sets": 40, "dev_sets": 20, "test1_sets": 10},
}


def write_annotations(world: Any, root: Path) -> RawFolder:
    """The annotation files of a planned world, without pictures."""
    raw = RawFolder(root)
    for write in (write_coco, write_vqa, write_gqa, write_nlvr2, write_genome):
        write(world, raw)
    return raw


class Raw:
    """A raw folder, read."""

    def __init__(self, root: Path, world: Any, manifest: dict[str, Any] | None = None) -> None:
        self.root, self.world, self.manifest = root, world, manifest

    def json(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / name).read_text().splitlines()]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    root = tmp_path_factory.mktemp("tiny") / "raw"
    manifest = generate_world(TINY, root, root / "world.json")
    return Raw(root, plan_world(resolve(TINY)), manifest)


@pytest.fixture(scope="session")
def middling(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    root = tmp_path_factory.mktemp("middling")
    world = plan_world(resolve(MIDDLING))
    write_annotations(world, root)
    return Raw(root, world)


@pytest.fixture(scope="session")
def world_tools() -> SimpleNamespace:
    return SimpleNamespace(tiny=TINY, middling=MIDDLING, write_annotations=write_annotations)
