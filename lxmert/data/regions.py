"""Region features for batches: image keys of several region stores in, padded arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.region_store import RegionStore
from lxmert.errors import DataError


@dataclass
class RegionBatch:
    """Regions of B images, padded to the longest.

    Attributes:
        features: float32 [B, R, F].
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

    def cut(self, regions: int) -> RegionBatch:
        """The same with `regions` places an image; the others must be empty."""
        shorter: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            shorter[item.name] = None if value is None else np.ascontiguousarray(value[:, :regions])
        return RegionBatch(**shorter)


class RegionSource:
    """Reads images by key, "image_set/stem", from the stores of their image sets.

    Args:
        paths: one store for each image set; the file's stem is the set's name.

    Raises:
        DataError: the stores disagree on the extraction profile, the detector or the feature width.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
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
        self.max_boxes: int = max(store.schema.max_boxes for store in self._stores.values())
        self.object_classes: int = first.schema.object_classes
        self.attribute_classes: int = first.schema.attribute_classes

    def require(self, keys: Iterable[str], source: Path) -> None:
        """Checks that every image has regions.

        Args:
            keys: image keys.
            source: the file that asks for them, for the message.

        Raises:
            DataError: some have none; the first is named with its store and the remedy.
        """
        missing: list[str] = []
        total = 0
        for key in keys:
            total += 1
            image_set, _, stem = key.partition("/")
            store = self._stores.get(image_set)
            if store is None:
                raise DataError(
                    f"{source}: needs image {stem} of image set {image_set}, but the stores given are"
                    f" {', '.join(sorted(self._stores))}. Add the store of {image_set} to --features."
                )
            if stem not in store:
                missing.append(key)
        if missing:
            image_set, _, stem = missing[0].partition("/")
            path = self._stores[image_set].path
            reason = _quarantined(self._stores[image_set], stem)
            if reason is not None:
                raise DataError(
                    f"{path}: no regions for image {stem}, needed by {source}: extraction quarantined it"
                    f" ({reason}). Repair the image and extract again, or remove the examples that ask for it"
                    f" ({len(missing)} of {total} images are missing)."
                )
            raise DataError(
                f"{path}: no regions for image {stem}, needed by {source}"
                f" ({len(missing)} of {total} images are missing). Remove {path} and run: snakemake {path}"
            )

    def read(self, keys: Sequence[str], labels: bool = False) -> RegionBatch:
        """Regions of B images.

        Args:
            keys: B image keys.
            labels: whether object and attribute ids and scores are wanted, too.
        """
        shape = (len(keys), self.max_boxes)
        batch = RegionBatch(
            features=np.empty((*shape, self.feature_width), np.float32),
            boxes_norm=np.empty((*shape, 4), np.float32),
            region_mask=np.empty(shape, np.int64),
        )
        if labels:
            batch.object_ids, batch.attribute_ids = np.empty((2, *shape), np.int64)
            batch.object_scores, batch.attribute_scores = np.empty((2, *shape), np.float32)
        longest = 1
        for store, positions, rows in self._located(keys):
            counts = store.read_batch(
                positions,
                batch.features,
                batch.boxes_norm,
                batch.region_mask,
                batch.object_ids,
                batch.object_scores,
                batch.attribute_ids,
                batch.attribute_scores,
                rows=rows,
            )
            longest = max(longest, int(counts.max()))
        return batch if longest == self.max_boxes else batch.cut(longest)

    def random_features(self, keys: Sequence[str], lots: np.ndarray) -> np.ndarray:
        """One region feature from each of some images: float32 [n, F].

        Args:
            keys: n image keys.
            lots: float [n] in [0, 1), which region to take.
        """
        out = np.empty((len(keys), self.feature_width), np.float32)
        for position, (key, lot) in enumerate(zip(keys, lots, strict=True)):
            image_set, _, stem = key.partition("/")
            features = self._stores[image_set].regions(stem).features
            out[position] = features[int(lot * len(features))] if len(features) else 0.0
        return out

    def _located(self, keys: Sequence[str]) -> Iterator[tuple[RegionStore, np.ndarray, list[int]]]:
        """Each store that is needed, the positions of its images, and their rows in the batch."""
        rows: dict[str, list[int]] = {}
        stems: dict[str, list[str]] = {}
        for row, key in enumerate(keys):
            image_set, _, stem = key.partition("/")
            rows.setdefault(image_set, []).append(row)
            stems.setdefault(image_set, []).append(stem)
        for image_set, wanted in stems.items():
            store = self._stores[image_set]
            yield store, store.positions(wanted), rows[image_set]


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


def _quarantined(store: RegionStore, stem: str) -> str | None:
    """Why extraction left an image out; None if it did not."""
    for entry in store.provenance.get("quarantined", []):
        if str(entry["id"]) == stem:
            return str(entry.get("reason", "no reason given"))
    return None
