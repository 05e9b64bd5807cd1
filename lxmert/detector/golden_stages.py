"""What every stage of extraction gives for one shipped picture, and how far it is from the shipped numbers.

The picture goes through a narrow detector with seeded weights (`sizes/doctor.yaml`), stage by stage. Its
numbers (`golden/<profile>.json`) are made by tests/golden/detector/make_doctor.py; its seed is one for which
rounding changes no decision, so that they hold on every machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.detector.backends import for_inference
from lxmert.detector.documents import Profile, parse_profile, parse_size
from lxmert.detector.extract import Extractor
from lxmert.detector.preprocess import decode_image
from lxmert.detector.seeded import seeded_detector
from lxmert.errors import DataError
from lxmert.files import explain_os_error
from lxmert.specs.documents import read_document

FOLDER = Path(__file__).with_name("golden")
PICTURE = "picture.png"
SEED = 33
_SAMPLES = 64  # numbers of a large array that are shipped, evenly spaced


@dataclass(frozen=True)
class Stage:
    """A stage, how far its numbers may be from those shipped, and where to look if they are farther."""

    name: str
    tolerance: float
    look: str


# In the order of the work. The blob is in grey levels, boxes are in pixels, scores are probabilities.
STAGES = (
    Stage("pixels", 1e-3, "Pillow's decoder, the order of the colours, the EXIF rule"),
    Stage("blob", 2e-3, "the mean, the resize and how sides are rounded (profile: image)"),
    Stage("feature map", 1e-3, "the convolutions, pooling and norms of the backbone (profile: network)"),
    Stage("proposals", 2e-2, "anchors, decoding, clipping, least side, suppression (profile: proposals)"),
    Stage("features", 1e-3, "pooling of regions and the dilated last stage (profile: pooling, feature)"),
    Stage("scores", 1e-3, "softmax, and the class that conditions attributes (profile: classes, attributes)"),
    Stage("kept boxes", 2e-2, "suppression by class, threshold, bounds and row order (profile: selection)"),
)


def doctor_extractor(
    profile: Profile, backend: str = "torchvision", convolutions: str = "rearranged", device: str = "cpu"
) -> Extractor:
    """An extractor with the seeded weights of the shipped numbers."""
    model = seeded_detector(parse_size(read_document("detector_size", "doctor")), SEED).requires_grad_(False)
    return Extractor(for_inference(model.to(device), backend, convolutions), profile)


def run_stages(extractor: Extractor) -> dict[str, list[np.ndarray]]:
    """Arrays of each stage for the shipped picture, by the stage's name."""
    path = FOLDER / PICTURE
    pixels = decode_image(path, extractor.profile.image.exif)
    blob = extractor.read(path)
    found = extractor.stages(blob)
    regions = found.regions
    return {
        "pixels": [pixels],
        "blob": [blob.pixels, np.array([blob.scale])],
        "feature map": [found.feature_map.cpu().numpy()],
        "proposals": [found.proposals.cpu().numpy()],
        "features": [found.found.features.cpu().numpy()],
        "scores": [scores.cpu().numpy() for scores in extractor.scores(found.found)],
        "kept boxes": [
            regions.boxes_px, regions.object_ids, regions.attribute_ids, regions.selection_scores,
        ],
    }  # fmt: skip


def summary(array: np.ndarray) -> dict[str, Any]:
    """What is shipped of an array: shape, mean size, and some of its numbers."""
    flat = array.astype(np.float64).ravel()
    return {
        "shape": list(array.shape),
        "mean_size": float(np.abs(flat).mean()) if flat.size else 0.0,
        "numbers": flat[_places(flat.size)].tolist(),
    }


def _places(size: int) -> np.ndarray:
    """Which numbers of an array of `size` are shipped: all of a small one."""
    count = size if size <= 8 * _SAMPLES else _SAMPLES
    return np.linspace(0, size - 1, count).round().astype(np.int64) if size else np.zeros(0, np.int64)


def shipped(profile: str) -> dict[str, Any]:
    """The shipped numbers of a profile.

    Raises:
        DataError: there are none, or the file is damaged.
    """
    path = FOLDER / f"{profile}.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise explain_os_error(error, path) from error
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({error}); install the package again.") from error
    return document


def shipped_profiles() -> list[str]:
    """Names of the profiles that numbers are shipped for."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Finding:
    """How a stage compares with the shipped numbers.

    Attributes:
        stage: which.
        difference: largest one of a number; infinite where the shapes differ.
        text: what differs, empty where nothing does.
    """

    stage: Stage
    difference: float
    text: str

    @property
    def same(self) -> bool:
        """Whether it is within the tolerance."""
        return not self.text


def compare(profile: str, extractor: Extractor) -> list[Finding]:
    """Every stage against the shipped numbers, in the order of the work."""
    document, found = shipped(profile), run_stages(extractor)
    if document["version"] != extractor.profile.version:
        raise DataError(
            f"{FOLDER / profile}.json: is of version {document['version']}, the profile of version"
            f" {extractor.profile.version}; make it again: python tests/golden/detector/make_doctor.py"
        )
    return [
        _compared(stage, [summary(array) for array in found[stage.name]], document["stages"][stage.name])
        for stage in STAGES
    ]


def _compared(stage: Stage, found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> Finding:
    largest = 0.0
    for here, there in zip(found, expected, strict=True):
        if here["shape"] != there["shape"]:
            text = f"shape {here['shape']} instead of {there['shape']}"
            return Finding(stage, float("inf"), text)
        places = _places(int(np.prod(here["shape"])))
        differences = np.abs(np.subtract(here["numbers"], there["numbers"]))
        if differences.size and not differences.max() <= stage.tolerance:
            at = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
            place = np.unravel_index(places[at], here["shape"])
            return Finding(
                stage, float(differences[at]),
                f"{here['numbers'][at]:.6g} instead of {there['numbers'][at]:.6g} at"
                f" {[int(part) for part in place]}",
            )  # fmt: skip
        size = abs(here["mean_size"] - there["mean_size"])
        if not size <= stage.tolerance:
            return Finding(
                stage, size, f"mean size {here['mean_size']:.6g} instead of {there['mean_size']:.6g}"
            )
        largest = max(largest, size, float(differences.max(initial=0.0)))
    return Finding(stage, largest, "")


def read_profile(name: str) -> Profile:
    """A shipped extraction profile."""
    return parse_profile(read_document("profile", name))
