"""The detector's documents: sizes, extraction profiles and training recipes, read and checked."""

from __future__ import annotations

import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lxmert.errors import SpecError, suggest

T = TypeVar("T")

Backend = Literal["torchvision", "detectron2"]
Convolutions = Literal["rearranged", "plain"]


@dataclass(frozen=True)
class ImageSize:
    """How large the network sees a picture, and the mean colour taken off it."""

    short_side_px: int
    long_side_px: int
    mean_bgr: tuple[float, ...]


@dataclass(frozen=True)
class Stem:
    """The first convolution."""

    channels: int
    kernel: int


@dataclass(frozen=True)
class Stage:
    """A row of bottleneck blocks; the stride sits in the first 1x1 convolution."""

    name: str
    blocks: int
    bottleneck: int
    channels: int
    stride: int


@dataclass(frozen=True)
class ProposalHead:
    """The region proposal network."""

    width: int
    anchor_ratios: tuple[float, ...]
    anchor_scales: tuple[float, ...]


@dataclass(frozen=True)
class RegionHead:
    """The last stage, run on every pooled region; `channels` is the region-feature width."""

    pool: int
    blocks: int
    bottleneck: int
    channels: int
    dilation: int


@dataclass(frozen=True)
class Predictor:
    """Widths of the attribute branch."""

    embedding: int
    attribute_hidden: int


@dataclass(frozen=True)
class Classes:
    """How many objects and attributes, without background and without "none"."""

    objects: int | None
    attributes: int | None


@dataclass(frozen=True)
class ProposalCounts:
    """Boxes kept before and after suppression, and its overlap threshold."""

    before_nms: int
    after_nms: int
    nms: float


@dataclass(frozen=True)
class Proposals:
    """Proposal counts; the least side is in pixels of the original image."""

    min_side_px: float
    test: ProposalCounts
    train: ProposalCounts


@dataclass(frozen=True)
class DetectorSize:
    """Every width and count of a detector (`sizes/*.yaml`)."""

    size: str
    version: int
    image: ImageSize
    stem: Stem
    stages: tuple[Stage, ...]
    rpn: ProposalHead
    head: RegionHead
    predictor: Predictor
    classes: Classes
    proposals: Proposals

    @property
    def stride(self) -> int:
        """Pixels of network input per cell of the feature map."""
        product = 4
        for stage in self.stages:
            product *= stage.stride
        return product

    @property
    def anchors(self) -> int:
        """Anchors per cell."""
        return len(self.rpn.anchor_ratios) * len(self.rpn.anchor_scales)


@dataclass(frozen=True)
class ImageRule:
    """How a file becomes network input.

    Attributes:
        exif: whether the picture is turned by its EXIF tag.
        channels: order of the colours, and of the mean.
        resize: "factor_after_mean": the mean goes off first, then a bilinear resize of floats by the factor
            itself, without antialiasing (Caffe). "pillow_before_mean": Pillow's antialiased resize of 8-bit
            pixels to a size in whole pixels, then the mean (detectron2 and its ports).
        sides: how the sides are rounded: "half_to_even" (562.5 is 562) or "half_up" (563).
    """

    exif: Literal["apply", "ignore"]
    channels: Literal["bgr"]
    resize: Literal["factor_after_mean", "pillow_before_mean"]
    sides: Literal["half_to_even", "half_up"]


@dataclass(frozen=True)
class NetworkRule:
    """The parts of the network that other ports got wrong; each has one value here.

    Attributes:
        stem_pool: 3x3, stride 2, no padding, rounding up.
        stride_in: the first 1x1 convolution of a stage, and its shortcut.
        last_stage: stride 1, every 3x3 dilated by 2, so that a region keeps its cells.
        norms: fixed statistics, epsilon 1e-5.
        anchors: integer windows, ratios before scales, centred 8 pixels into the cell; unless the weights
            name their own.
    """

    stem_pool: Literal["unpadded_ceil"]
    stride_in: Literal["first_1x1"]
    last_stage: Literal["dilated"]
    norms: Literal["frozen"]
    anchors: Literal["integer_windows"]


@dataclass(frozen=True)
class ProposalRule:
    """The conventions of the proposal layer.

    Attributes:
        ranked_by: "probability", whose ties at 1.0 keep their order, or "logit".
        decode: widths count one more pixel on the way in, nothing is taken off on the way out.
        log_sides: whether a corrected side may grow without limit, or by 1000 / 16 at most.
        clip: to the last pixel ("inclusive", W - 1) or to the edge behind it ("exclusive", W).
        min_side: "before_cut": small boxes go before the best are taken; "not_empty": only empty ones, after.
        nms: overlaps counted with one more pixel, or without.
        when_none: what an image without proposals gives.
    """

    ranked_by: Literal["probability", "logit"]
    decode: Literal["no_minus_one"]
    log_sides: Literal["unlimited", "limited"]
    clip: Literal["inclusive", "exclusive"]
    min_side: Literal["before_cut", "not_empty"]
    nms: Literal["plus_one", "plain"]
    when_none: Literal["whole_image", "bad_image"]


@dataclass(frozen=True)
class SelectionRule:
    """Which proposals become regions, and in what order.

    Attributes:
        rule: "class_nms": suppression in every class over the same proposals, then a threshold with bounds;
            rows in proposal order if the count fell within the bounds by itself, else best first.
            "class_nms_then_cut": the `max_boxes` best of that, of which the first are kept whose score in
            half precision is above the threshold, at least `min_boxes` (UNITER).
            "max_nms": suppression over every proposal's best corrected box, at ever higher overlaps from
            `nms` to 0.9, until `min_boxes` are left; best first (the detectron2 fork).
        min_boxes: fewer are filled up with the best of the others.
        max_boxes: more are cut to the best.
        threshold: least score, compared in double precision.
        nms: overlap at which a box goes.
    """

    rule: Literal["class_nms", "class_nms_then_cut", "max_nms"]
    min_boxes: int
    max_boxes: int
    threshold: float
    nms: float


@dataclass(frozen=True)
class StoreRule:
    """How features are kept.

    Attributes:
        dtype: of the stored features.
        order: rows as the selection gives them, or as the proposals stood: then any smaller selection of
            the same rule can be read from the store, rows in the same order.
        class_scores: whether each region keeps the probabilities of background and of every object, which
            UNITER's pretraining and VLP read; two bytes each.
    """

    dtype: Literal["float16", "float32"]
    order: Literal["selection", "proposal"] = "selection"
    class_scores: bool = False


@dataclass(frozen=True)
class Profile:
    """A named, versioned list of detector quirks (`profiles/*.yaml`).

    Attributes:
        weights: the published weights it is meant for: "caffe_36" (resnet101_faster_rcnn_final_iter_320000
            and its conversions), "caffe_10_100" (resnet101_faster_rcnn_final) or "any".
        pooling: "roi_pool", the quantised maximum, or "roi_align".
        feature: the mean over the cells of the proposal, never of a corrected box.
        boxes: which boxes are stored: the proposals, or the best class's corrected ones.
        classes: probabilities over background and objects, background then dropped.
        attribute_class: the class that conditions attributes: the likeliest, background allowed.
        attributes: probabilities over "none" and attributes, or over attributes alone.
    """

    profile: str
    version: int
    source: str
    weights: Literal["caffe_36", "caffe_10_100", "any"]
    image: ImageRule
    network: NetworkRule
    proposals: ProposalRule
    pooling: Literal["roi_pool", "roi_align"]
    feature: Literal["mean_of_proposal"]
    boxes: Literal["proposal", "corrected"]
    classes: Literal["softmax_all"]
    attribute_class: Literal["likeliest_with_background"]
    attributes: Literal["softmax_all", "softmax_without_none"]
    selection: SelectionRule
    store: StoreRule
    bad_images: Literal["stop", "quarantine"] = "quarantine"


@dataclass(frozen=True)
class Optimizer:
    """SGD or AdamW.

    Attributes:
        name: which.
        lr: rate of everything, where nothing multiplies it.
        momentum: SGD's.
        weight_decay: of all weights but norms'.
        head_lr: multiplies the rate of the class, box and attribute layers.
        head_bias_lr: multiplies that of their biases and of the proposal network's.
    """

    name: Literal["sgd", "adamw"]
    lr: float
    momentum: float
    weight_decay: float
    head_lr: float
    head_bias_lr: float


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps."""

    name: Literal["steps", "cosine"]
    warmup_steps: int
    drop_at: tuple[int, ...]
    drop: float


@dataclass(frozen=True)
class NormRule:
    """Norms in training: frozen, or on batch statistics until `freeze_after` of all steps."""

    train: Literal["frozen", "batch"]
    freeze_after: float


@dataclass(frozen=True)
class Init:
    """Where the first weights come from.

    Attributes:
        backbone: "weights" needs a file, "random" draws them.
        head_std: standard deviation of the new layers.
        residual_gain: gain of each block's last norm when drawn; at 0 a block begins as its shortcut.
    """

    backbone: Literal["weights", "random"]
    head_std: float
    residual_gain: float


@dataclass(frozen=True)
class AnchorSampling:
    """Which anchors the proposal network learns from."""

    batch: int
    positive_fraction: float
    positive_iou: float
    negative_iou: float
    zero_overlap_ties: bool


@dataclass(frozen=True)
class RegionSampling:
    """Which regions the heads learn from; box targets are divided by `box_std`."""

    batch: int
    foreground_fraction: float
    foreground_iou: float
    background_iou: tuple[float, ...]
    box_std: tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained (`recipes/*.yaml`)."""

    recipe: str
    version: int
    images_per_step: int
    steps: int
    optimizer: Optimizer
    schedule: Schedule
    clip_norm: float | None
    norm: NormRule
    frozen: tuple[str, ...]
    init: Init
    flip: bool
    rpn: AnchorSampling
    roi: RegionSampling
    loss_weights: dict[str, float]
    log_every_steps: int
    save_every_seconds: float
    cache_mb: float


LOSSES = ("rpn_class", "rpn_box", "class", "box", "attribute")


def parse(kind: type[T], document: Any, where: str) -> T:
    """A document as a checked dataclass.

    Raises:
        SpecError: a setting is unknown, missing or of the wrong kind.
    """
    if not isinstance(document, dict):
        raise SpecError(f"{where}: must be a mapping, is {_kind(document)}.")
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in document:
        if name not in hints:
            raise SpecError(f"{where}/{name}: unknown setting.{suggest(name, names)}")
    optional = {field.name for field in fields(kind) if field.default is not MISSING}  # type: ignore[arg-type]
    missing = [name for name in names if name not in document and name not in optional]
    if missing:
        raise SpecError(f"{where}/{missing[0]}: missing; add it ({', '.join(missing)} are needed).")
    given = [name for name in names if name in document]
    return kind(**{name: _value(hints[name], document[name], f"{where}/{name}") for name in given})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return parse(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments:
            raise SpecError(f"{where}: unknown value {value!r}.{suggest(str(value), arguments)}")
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SpecError(f"{where}: must be a list, is {_kind(value)}.")
        return tuple(_value(arguments[0], item, f"{where}/{i}") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise SpecError(f"{where}: must be a mapping, is {_kind(value)}.")
        return {name: _value(arguments[1], item, f"{where}/{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise SpecError(f"{where}: must be of kind {hint.__name__}, is {_kind(value)}.")
    return value


def _kind(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def parse_size(document: Any, where: str = "size") -> DetectorSize:
    """A checked size."""
    return parse(DetectorSize, document, where)


def parse_profile(document: Any, where: str = "profile") -> Profile:
    """A checked extraction profile."""
    profile = parse(Profile, document, where)
    rule = profile.selection
    if not 0 < rule.min_boxes <= rule.max_boxes:
        raise SpecError(
            f"{where}/selection: min_boxes {rule.min_boxes} and max_boxes {rule.max_boxes} must rise from 1."
        )
    if (rule.rule == "max_nms") != (profile.boxes == "corrected"):
        raise SpecError(
            f"{where}/boxes: {profile.boxes} does not go with selection rule {rule.rule}; corrected boxes"
            " and max_nms need each other."
        )
    return profile


def parse_recipe(document: Any, where: str = "recipe") -> Recipe:
    """A checked recipe."""
    recipe = parse(Recipe, document, where)
    for name in recipe.loss_weights:
        if name not in LOSSES:
            raise SpecError(f"{where}/loss_weights/{name}: unknown loss.{suggest(name, LOSSES)}")
    for name in LOSSES:
        if name not in recipe.loss_weights:
            raise SpecError(f"{where}/loss_weights/{name}: missing; give its weight, or 0.")
    return recipe
