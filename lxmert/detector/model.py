"""The detector as a whole: building, weights in and out, and its parts in their order."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lxmert.detector.backbone import Backbone, ConvNorm, Norm
from lxmert.detector.boxes import decode_boxes
from lxmert.detector.documents import DetectorSize, ProposalRule, parse_size
from lxmert.detector.roi_head import RegionHead
from lxmert.detector.rpn import CAFFE_RULE, ProposalGenerator, propose, ranking_scores
from lxmert.errors import SpecError, WeightsError
from lxmert.files import explain_os_error, save_tensors

LAYOUT = "caffe"  # background and "none" first, two-way objectness; see the names in `load_detector`


@dataclass
class Detections:
    """What the network says of one image's R boxes.

    Attributes:
        boxes: float32 [R, 4] in blob pixels.
        features: float32 [R, F].
        class_logits: float32 [R, objects + 1], background first.
        attribute_logits: float32 [R, attributes + 1], "none" first.
    """

    boxes: Tensor
    features: Tensor
    class_logits: Tensor
    attribute_logits: Tensor


class Detector(nn.Module):
    """Faster R-CNN with an attribute head, after Anderson et al. 2018.

    Module names are detectron2's, which the published conversions also bear.
    """

    def __init__(self, size: DetectorSize) -> None:
        super().__init__()
        self.size = size
        self.backbone = Backbone(size)
        self.proposal_generator = ProposalGenerator(size)
        self.roi_heads = RegionHead(size)
        self.bbox_divisors: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
        self.rearranged = False

    def apply_meta(self, meta: dict[str, Any]) -> None:
        """Takes from the metadata of converted weights what their rows mean.

        `cell_anchors` (inclusive corners, or none for Caffe's) and `bbox_divisors`.
        """
        cells = meta.get("cell_anchors")
        self.proposal_generator.cells = None if cells is None else np.array(cells, np.float32).reshape(-1, 4)
        self.bbox_divisors = tuple(map(float, meta.get("bbox_divisors") or (1.0, 1.0, 1.0, 1.0)))

    def feature_map(self, pixels: Tensor) -> Tensor:
        """The map [B, C, h / stride, w / stride] that proposals and regions share, of pixels [B, 3, h, w]."""
        if self.rearranged:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        shared: Tensor = self.backbone(pixels)
        return shared

    @torch.no_grad()
    def proposals(
        self,
        feature_map: Tensor,
        blob_height: int,
        blob_width: int,
        scale: float,
        rule: ProposalRule = CAFFE_RULE,
    ) -> tuple[Tensor, Tensor]:
        """Test-time proposals of one image: boxes float32 [R, 4] in blob pixels, scores [R]."""
        logits, deltas = self.proposal_generator(feature_map)
        anchors = self.proposal_generator.anchors(feature_map)
        min_side, counts = self.size.proposals.min_side_px * scale, self.size.proposals.test
        return propose(
            anchors,
            ranking_scores(logits[0], rule),
            deltas[0],
            blob_height,
            blob_width,
            min_side,
            counts,
            rule,
        )

    @torch.no_grad()
    def describe(
        self, feature_map: Tensor, boxes: Tensor, pooling: str = "roi_pool", chunk: int = 0
    ) -> Detections:
        """Features, classes and attributes of given boxes float32 [R, 4] (blob pixels) of one image.

        The attribute head reads the embedding of the likeliest class, background included.
        """
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        features = self.roi_heads.features(feature_map, rois, pooling, chunk)
        predictor = self.roi_heads.box_predictor
        logits = predictor.cls_score(features)
        attributes = predictor.attributes(features, logits.argmax(1))
        return Detections(boxes, features, logits, attributes)

    @torch.no_grad()
    def corrections(self, features: Tensor) -> Tensor:
        """Box corrections [R, objects + 1, 4] as the rows give them, background first."""
        rows: Tensor = self.roi_heads.box_predictor.bbox_pred(features)
        return rows.view(len(features), -1, 4)

    @torch.no_grad()
    def regress(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Class-specific boxes float32 [R, objects + 1, 4]; never used for stored regions."""
        deltas = self.corrections(features) / features.new_tensor(self.bbox_divisors)
        return decode_boxes(boxes[:, None, :].expand_as(deltas), deltas)

    def learn_norms(self, learning: bool) -> None:
        """Norms use batch statistics, or their fixed ones."""
        for module in self.modules():
            if isinstance(module, Norm):
                module.learning = learning

    def fold_norms(self) -> None:
        """Folds every norm into its convolution, for inference; equal to float rounding."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()

    def rearrange(self) -> None:
        """Makes a processor's work faster, equal to float rounding; norms must be folded, for good.

        Channels lie innermost, a convolution's sum and ReLU happen in the same pass, and the last stage
        runs as `fast_head` describes.
        """
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.roi_heads.rearrange()
        self.rearranged = True


def with_classes(size: DetectorSize, objects: int, attributes: int, where: str) -> DetectorSize:
    """The size with its class counts taken from vocabularies.

    Raises:
        SpecError: the size states other counts.
    """
    for name, stated, found in (
        ("objects", size.classes.objects, objects),
        ("attributes", size.classes.attributes, attributes),
    ):
        if stated is not None and stated != found:
            raise SpecError(
                f"{where}: {found} {name}, but detector size {size.size} has {stated}; give its own"
                f" vocabulary, or choose another size."
            )
    return replace(size, classes=replace(size.classes, objects=objects, attributes=attributes))


def seeded(*parts: str | int) -> torch.Generator:
    """A generator for one purpose, such as `seeded(seed, "step", 17)`.

    PyTorch's CPU generator reads only 32 bits of its seed, hence the hash.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def build_detector(
    size: DetectorSize, seed: int = 0, head_std: float = 0.01, residual_gain: float = 1.0
) -> Detector:
    """A detector with fresh weights, the same for a seed on every machine.

    Convolutions before norms get He's normal initialisation, the new layers Gaussians of
    `head_std` and no bias, as published. The last norm of each block gets `residual_gain`.
    """
    with torch.device("meta"):
        model = Detector(size)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, Norm):
                module.weight.fill_(residual_gain if name.endswith(".conv3.norm") else 1.0)
                module.bias.zero_()
                module.running_mean.zero_()
                module.running_var.fill_(1.0)
            elif isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                generator = seeded(seed, "weights", name)
                std = head_std
                if isinstance(module, ConvNorm):
                    std = math.sqrt(
                        2.0 / (module.out_channels * module.kernel_size[0] * module.kernel_size[1])
                    )
                module.weight.normal_(0.0, std, generator=generator)
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
    return model.eval()


def count_parameters(model: nn.Module) -> int:
    """Parameters beside those of the norms."""
    return sum(value.numel() for name, value in model.named_parameters() if ".norm." not in name)


def save_detector(path: str | Path, model: Detector, meta: dict[str, Any]) -> None:
    """Writes weights with their size document and `meta` (vocabulary checksums ...), whole or not at all."""
    cells = model.proposal_generator.cells
    document = {
        **meta,
        "layout": LAYOUT,
        "size": asdict(model.size),
        "cell_anchors": None if cells is None else cells.astype(float).tolist(),
        "bbox_divisors": list(model.bbox_divisors),
    }
    save_tensors(path, model.state_dict(), {"meta": json.dumps(document, sort_keys=True)})


def load_detector(path: str | Path) -> tuple[Detector, dict[str, Any]]:
    """A detector and its metadata from a safetensors file.

    Raises:
        WeightsError: the file is not of this kind, or a tensor is missing, unknown, misshapen or not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as handle:
            meta = json.loads((handle.metadata() or {})["meta"])
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            size = parse_size(meta["size"], f"{path}: size")
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path}: not a detector of ours ({error}); train or convert it again.") from error
    with torch.device("meta"):
        model = Detector(size)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    for word, names in (
        ("missing", expected.keys() - tensors.keys()),
        ("unknown", tensors.keys() - expected.keys()),
    ):
        if names:
            raise WeightsError(
                f"{path}: {len(names)} tensors {word}, first: {min(names)}; train or convert it again."
            )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise WeightsError(
                f"{path}: {name} is {list(tensors[name].shape)}, should be {list(shape)}; convert it again."
            )
        # Some of the ReLUs that run on it give 0 for what is not a number, and nobody would see it later.
        if not tensors[name].isfinite().all():
            raise WeightsError(
                f"{path}: {name} holds numbers that are not finite; train or convert it again."
            )
    model.load_state_dict(tensors, assign=True)
    model.apply_meta(meta)
    return model.requires_grad_(False).eval(), meta
