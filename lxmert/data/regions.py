"""Region features for batches: image keys of several region stores in, padded arrays out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.halves import copy_features
from lxmert.data.region_cut import Cut, in_proposal_order, parse_cut
from lxmert.data.region_store import RegionStore, find_ids
from lxmert.errors import DataError
from lxmert.types import Regions

log = logging.getLogger(__name__)

Images = Sequence[str] | np.ndarray  # keys, or places
_POSITION_BITS = 40
_POSITION = (1 << _POSITION_BITS) - 1  # the bits of a place that count within its store
LABELS = ("object_ids", "object_scores", "attribute_ids", "attribute_scores")


@dataclass
class RegionBatch:
    """Regions of B images, padded to the longest.

    Attributes:
        features: [B, R, F], of the type of the stores.
        boxes_norm: float32 [B, R, 4], corners as shares of image width and height.
        region_mask: int64 [B, R], 1 where a region is real.
        object_ids: int64 [B, R]; the other three likewise, scores float32. None unless asked for.
    """

    features: np.ndarray
    boxes_norm: np.ndarray
    region_mask: np.ndarray
    object_ids: np.ndarray | None = None
    object_scores: np.ndarray | None = None
    attribute_ids: np.ndarray | None = None
    attribute_scores: np.ndarray | None = None

    def empty(self, row: int, start: int) -> None:
        """Makes `start` regions of a row real, and fills the places after them with zeros."""
        self.region_mask[row, :start] = 1
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                value[row, start:] = 0

    def cut(self, regions: int) -> RegionBatch:
        """The same with `regions` places an image; the others must be empty."""
        shorter: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            shorter[item.name] = None if value is None else np.ascontiguousarray(value[:, :regions])
        return RegionBatch(**shorter)


class RegionSource:
    """Reads images by key, "image_set/stem", from the stores of their image sets.

    Images that extraction quarantined, and those that examples know to be missing, have no regions; they
    read as one empty region, which is all that a blind model sees. Who trains leaves their examples out,
    who answers answers them like that.

    Args:
        paths: one store for each image set; the file's stem is the set's name.
        cut: a cut document (see `lxmert.data.region_cut`); None reads every stored box.

    Raises:
        DataError: the stores disagree on the extraction profile, the detector or the feature width, or
            cannot serve the cut.
        SpecError: the cut is none.
    """

    def __init__(self, paths: Sequence[Path], cut: dict[str, Any] | None = None) -> None:
        self._stores = {Path(path).stem: RegionStore(path) for path in paths}
        first_name, first = next(iter(self._stores.items()))
        for name, store in self._stores.items():
            if store.schema.profile != first.schema.profile:
                raise DataError(
                    f"{store.path}: made with extraction profile {_profile(store)}, but {first.path} with"
                    f" {_profile(first)}. Features of two profiles do not mix; extract one of them again."
                )
            if store.schema.feature_width != first.schema.feature_width:
                raise DataError(
                    f"{store.path}: features are {store.schema.feature_width} wide, but"
                    f" {first.schema.feature_width} in {first.path}. Extract {name} or {first_name} again."
                )
        _check_one_detector(list(self._stores.values()))
        self.profile: dict[str, Any] = {
            "name": first.schema.profile_name,
            "version": first.schema.profile.get("version"),
        }
        self.feature_width: int = first.schema.feature_width
        # Half the bytes to move where stores hold float16; models convert on their device.
        self.dtype = np.result_type(*(store.schema.numpy_dtype for store in self._stores.values()))
        self._cut: Cut | None = parse_cut(cut)
        self.max_boxes: int = max(store.schema.max_boxes for store in self._stores.values())
        if self._cut is not None:
            for store in self._stores.values():
                self._cut.check(store.schema, str(store.path))
            self.max_boxes = min(self.max_boxes, self._cut.max_boxes)
            # Weights name what they were trained on; other boxes of the same store are other features.
            self.profile["name"] = f"{first.schema.profile_name} cut to {self._cut.name}"
            self._proposal_order = in_proposal_order(first.schema)
        self._absent: dict[str, str] = {
            f"{name}/{entry['id']}": str(entry.get("reason", "no reason given"))
            for name, store in self._stores.items()
            for entry in store.provenance.get("quarantined", [])
        }
        self.object_classes: int = first.schema.object_classes
        self.attribute_classes: int = first.schema.attribute_classes

    def require(self, keys: Iterable[str], source: Path, absent: Iterable[str] = ()) -> np.ndarray:
        """Checks that every image has regions or was quarantined, and says where they are.

        Args:
            keys: N image keys.
            source: the file that asks for them, for the message.
            absent: keys of those that it knows to be missing; from now on they read as quarantined ones.

        Returns:
            int64 [N], the place of each image, which `read` takes; -1 where it was quarantined or is absent.

        Raises:
            DataError: some have none; the first is named with its store and the remedy.
        """
        keys = list(keys)
        for key in keys:
            image_set, _, stem = key.partition("/")
            if image_set not in self._stores:
                raise DataError(
                    f"{source}: needs image {stem} of image set {image_set}, but the stores given are"
                    f" {', '.join(sorted(self._stores))}. Add the store of {image_set} to --features."
                )
        places = self._places(keys)
        for key in absent:
            self._absent.setdefault(key, "not in its image set")
        missing = [row for row in np.flatnonzero(places < 0).tolist() if keys[row] not in self._absent]
        if missing:
            image_set, _, stem = keys[missing[0]].partition("/")
            path = self._stores[image_set].path
            raise DataError(
                f"{path}: no regions for image {stem}, needed by {source}"
                f" ({len(missing)} of {len(keys)} images are missing)."
                f" Remove {path} and run: snakemake {path}"
            )
        return places

    def describe_absent(self, keys: Iterable[str]) -> str:
        """How many images have no regions, and why: "2 images without regions, first vg/7 (reason)"."""
        ordered = sorted(keys)
        return f"{len(ordered)} images without regions, first {ordered[0]} ({self._absent[ordered[0]]})"

    def read(self, images: Images, labels: bool = False) -> RegionBatch:
        """Regions of B images.

        Args:
            images: B image keys, or their places from `require`, which saves looking them up.
            labels: whether object and attribute ids and scores are wanted, too.
        """
        shape = (len(images), self.max_boxes)
        batch = RegionBatch(
            features=np.empty((*shape, self.feature_width), self.dtype),
            boxes_norm=np.empty((*shape, 4), np.float32),
            region_mask=np.empty(shape, np.int64),
        )
        if labels:
            batch.object_ids, batch.attribute_ids = np.empty((2, *shape), np.int64)
            batch.object_scores, batch.attribute_scores = np.empty((2, *shape), np.float32)
        longest = 1
        for store, positions, rows in self._located(images, batch):
            if self._cut is not None:
                longest = max(longest, self._read_cut(store, positions, rows, batch))
                continue
            counts = store.read_batch(
                positions,
                batch.features,
                batch.boxes_norm,
                batch.region_mask,
                batch.object_ids,
                batch.object_scores,
                batch.attribute_ids,
                batch.attribute_scores,
                rows=rows.tolist(),
            )
            longest = max(longest, int(counts.max()))
        return batch if longest == self.max_boxes else batch.cut(longest)

    def _read_cut(
        self, store: RegionStore, positions: np.ndarray, rows: np.ndarray, batch: RegionBatch
    ) -> int:
        """Fills rows of a batch with the boxes that the cut keeps; returns the largest number of them."""
        longest = 1
        for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
            regions = store.regions_at(position)
            chosen = self._chosen(store, position, regions)
            count = len(chosen)
            copy_features(batch.features[row, :count], regions.features[chosen])
            size = np.array([regions.width, regions.height] * 2, np.float32)
            batch.boxes_norm[row, :count] = regions.boxes_px[chosen] / size
            for name in LABELS:
                if (target := getattr(batch, name)) is not None:
                    target[row, :count] = getattr(regions, name)[chosen]
            batch.empty(row, count)
            longest = max(longest, count)
        return longest

    def _chosen(self, store: RegionStore, position: int, regions: Regions) -> np.ndarray:
        """Rows of an image that the cut keeps."""
        assert self._cut is not None
        try:
            return self._cut.rows(regions.selection_scores, self._proposal_order)
        except ValueError as error:
            raise DataError(
                f"{store.path}: image {store.ids[position]} {error}; read it without a cut, or extract again."
            ) from error

    def random_features(self, images: Images, lots: np.ndarray) -> np.ndarray:
        """One region feature from each of some images: float32 [n, F]; zeros where an image has none.

        Args:
            images: n image keys or places.
            lots: float [n] in [0, 1), which region to take.
        """
        out = np.zeros((len(images), self.feature_width), np.float32)
        for store, positions, rows in self._grouped(self._placed(images)):
            if self._cut is None:
                out[rows] = store.one_feature(positions, lots[rows], self.max_boxes)
                continue
            for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
                regions = store.regions_at(position)
                features = regions.features[self._chosen(store, position, regions)]
                out[row] = features[int(lots[row] * len(features))]
        return out

    def _located(
        self, images: Images, batch: RegionBatch
    ) -> Iterator[tuple[RegionStore, np.ndarray, np.ndarray]]:
        """Each store that is needed, the positions of its images, and their rows in the batch.

        Rows of quarantined images are filled with one empty region.
        """
        places = self._placed(images)
        for row in np.flatnonzero(places < 0).tolist():
            batch.empty(row, 0)
            batch.region_mask[row, 0] = 1
        return self._grouped(places)

    def _grouped(self, places: np.ndarray) -> Iterator[tuple[RegionStore, np.ndarray, np.ndarray]]:
        """Each store that is needed, the positions of its images, and where they stand in `places`."""
        numbers = places >> _POSITION_BITS
        for number, store in enumerate(self._stores.values()):
            rows = np.flatnonzero(numbers == number)
            if len(rows):
                yield store, places[rows] & _POSITION, rows

    def _placed(self, images: Images) -> np.ndarray:
        """Places of some images: int64 [n], -1 where they were quarantined.

        Raises:
            DataError: an image has no regions and was not quarantined.
        """
        if isinstance(images, np.ndarray):
            return images
        places = self._places(images)
        for row in np.flatnonzero(places < 0).tolist():
            if images[row] not in self._absent:
                image_set, _, stem = images[row].partition("/")
                self._stores[image_set].positions([stem])  # raises, with the remedy
        return places

    def _places(self, keys: Sequence[str]) -> np.ndarray:
        """Store and position of each image as one number, -1 where there are no regions."""
        rows: dict[str, list[int]] = {}
        stems: dict[str, list[str]] = {}
        for row, key in enumerate(keys):
            image_set, _, stem = key.partition("/")
            rows.setdefault(image_set, []).append(row)
            stems.setdefault(image_set, []).append(stem)
        places = np.full(len(keys), -1, np.int64)
        for number, (image_set, store) in enumerate(self._stores.items()):
            if image_set in rows:
                found = find_ids(store.ids.array, stems[image_set])
                places[rows[image_set]] = np.where(found < 0, -1, (number << _POSITION_BITS) + found)
        return places


def _profile(store: RegionStore) -> str:
    return f"{store.schema.profile_name} (version {store.schema.profile.get('version', '?')})"


def _check_one_detector(stores: Sequence[RegionStore]) -> None:
    """Imported stores may not say which detector made them; those that do must agree."""
    stated = [(store, digest) for store in stores if (digest := _detector(store)) is not None]
    for store, digest in stated[1:]:
        first, expected = stated[0]
        if digest != expected:
            raise DataError(
                f"{store.path}: made with detector weights {digest[:12]}, but {first.path} with"
                f" {expected[:12]}. Features of two detectors do not mix; extract one of them again."
            )


def _detector(store: RegionStore) -> str | None:
    weights = store.provenance.get("weights")
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    return digest if isinstance(digest, str) else None
