"""COCO captions and image lists in their official form."""

from __future__ import annotations

from typing import Any

from lxmert.world.captions import captions_for
from lxmert.world.plan import CocoImage, World
from lxmert.world.raw import RawFolder
from lxmert.world.rng import Stream
from lxmert.world.scenes import KINDS

INFO = {
    "description": "Drawn scenes in the form of COCO",
    "url": "http://cocodataset.org",
    "version": "1.0",
    "year": 2014,
    "contributor": "lxmert.world",
    "date_created": "2014/01/01",
}
LICENSES = [{"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}]


def image_record(image: CocoImage) -> dict[str, Any]:
    """One entry of ``images``."""
    return {
        "license": 1,
        "file_name": image.file_name,
        "coco_url": f"http://images.example.org/coco/{image.split}/{image.file_name}",
        "height": image.scene.height,
        "width": image.scene.width,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://images.example.org/{4_000_000 + image.id}_{image.index}.jpg",
        "id": image.id,
    }


def write_coco(world: World, raw: RawFolder) -> None:
    """Captions of train2014 and val2014, the list of test2015 images, and the minival ids."""
    seed, amount = world.spec["seed"], world.spec["coco"]["captions"]
    for split in ("train2014", "val2014"):
        annotations = []
        for image in world.coco[split]:
            stream = Stream(seed, "captions", split, image.index)
            for position, text in enumerate(captions_for(image.scene, stream, amount)):
                annotations.append({"image_id": image.id, "id": image.id * 10 + position, "caption": text})
        images = [image_record(image) for image in world.coco[split]]
        value = {"info": INFO, "images": images, "licenses": LICENSES, "annotations": annotations}
        raw.put_json(f"coco/annotations/captions_{split}.json", value, len(annotations))
    categories = [{"id": at + 1, "name": kind, "supercategory": "thing"} for at, kind in enumerate(KINDS)]
    images = [image_record(image) for image in world.coco["test2015"]]
    value = {"info": INFO, "images": images, "licenses": LICENSES, "categories": categories}
    raw.put_json("coco/annotations/image_info_test2015.json", value, len(images))
    raw.put_json("vqa/minival_ids.json", sorted(world.minival), len(world.minival))
