"""Which library the network is built from: torchvision by default, detectron2 where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, get_args

from torch import Tensor, nn

from lxmert.detector.documents import Backend, Convolutions, DetectorSize, ProposalRule
from lxmert.detector.model import Detections, Detector
from lxmert.errors import SpecError

BACKENDS: tuple[str, ...] = get_args(Backend)
CONVOLUTIONS: tuple[str, ...] = get_args(Convolutions)


class Network(Protocol):
    """What extraction asks of a network; both backends answer alike to 1e-3."""

    size: DetectorSize

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights; their device is the network's."""

    def feature_map(self, pixels: Tensor) -> Tensor:
        """See `Detector.feature_map`."""

    def proposals(
        self, feature_map: Tensor, blob_height: int, blob_width: int, scale: float, rule: ProposalRule = ...
    ) -> tuple[Tensor, Tensor]:
        """See `Detector.proposals`."""

    def describe(
        self, feature_map: Tensor, boxes: Tensor, pooling: str = ..., chunk: int = ...
    ) -> Detections:
        """See `Detector.describe`."""

    def corrections(self, features: Tensor) -> Tensor:
        """See `Detector.corrections`."""


def for_inference(model: Detector, backend: str = "torchvision", convolutions: str = "rearranged") -> Network:
    """The network of a backend with the weights of a detector, which must not be used any further.

    Args:
        model: as `load_detector` gives it, on its device.
        backend: one of BACKENDS.
        convolutions: of torchvision's on a processor: "rearranged" (see `Detector.rearrange`) or "plain".

    Raises:
        SpecError: detectron2 is asked for and cannot be imported.
    """
    if backend == "torchvision":
        model.fold_norms()
        if convolutions == "rearranged" and next(model.parameters()).device.type == "cpu":
            model.rearrange()
        return model
    try:
        import detectron2.layers  # noqa: F401
        import detectron2.modeling  # noqa: F401
    except ImportError as error:
        raise SpecError(
            f"--backend detectron2: it cannot be imported here ({error}). Use the environment of"
            " envs/detectron2.yaml, or --backend torchvision, whose results are the same."
        ) from error
    from lxmert.detector.detectron import DetectronDetector

    return DetectronDetector.of(model)
