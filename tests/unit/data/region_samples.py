"""Made-up regions for the tests of stores and TSV files."""

from __future__ import annotations

import numpy as np

from lxmert.data.region_record import StoreSchema
from lxmert.types import Regions


def make_schema(
    width: int = 16, boxes: int = 4, dtype: str = "float16", profile: str = "test", **changes: object
) -> StoreSchema:
    document = {"profile": profile, "version": 1}
    values = {"object_classes": 1600, "attribute_classes": 400, **changes}
    return StoreSchema(width, dtype, boxes, profile=document, **values)


def make_regions(number: int, boxes: int = 4, width: int = 16, dtype: str = "float16") -> Regions:
    rng = np.random.default_rng(number)
    corners = np.sort(rng.random((boxes, 2, 2)), axis=1) * (640, 480)
    scores = rng.random((3, boxes)).astype(np.float32)
    return Regions(
        boxes_px=corners.reshape(boxes, 4).astype(np.float32),
        features=np.maximum(rng.standard_normal((boxes, width)), 0).astype(dtype),
        object_ids=rng.integers(0, 1600, boxes),
        object_scores=scores[0],
        attribute_ids=rng.integers(0, 400, boxes),
        attribute_scores=scores[1],
        selection_scores=scores[2],
        width=640,
        height=480,
    )


def assert_equal(found: Regions, wanted: Regions) -> None:
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
