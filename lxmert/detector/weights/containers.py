"""The files around published tensors: detectron2's pickle and the Hugging Face folder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lxmert.detector.documents import DetectorSize
from lxmert.errors import WeightsError
from lxmert.files import atomic_path, atomic_write_text, make_folder
from lxmert.pickles import read_arrays_pickle

HF_WEIGHTS = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
HF_CONFIG = "config.yaml"


def read_detectron_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors of `faster_rcnn_from_caffe*.pkl`: a dictionary with "model", built without running it.

    Raises:
        DataError: the pickle holds anything but plain arrays.
        WeightsError: it holds no model.
    """
    document = read_arrays_pickle(path)
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or not model:
        raise WeightsError(f'{path}: has no "model" of arrays; is it a detectron2 checkpoint?')
    for name, value in model.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise WeightsError(f'{path}: "model" has {str(name)[:80]!a}, which is no array; fetch it again.')
    return model


def write_detectron_pickle(path: str | Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes a pickle detectron2's checkpointer takes as its own (it looks for an author)."""
    document = {"model": tensors, "__author__": "lxmert", "matching_heuristics": False}
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        pickle.dump(document, handle, protocol=2)


def read_hf_folder(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
    """Tensors, configuration and weights file of a downloaded `unc-nlp/frcnn-vg-finetuned`.

    Args:
        folder: with `config.yaml` and one of pytorch_model.bin, model.safetensors.

    Raises:
        WeightsError: a file is missing, cut, or holds anything but tensors.
    """
    folder = Path(folder)
    weights = next((folder / name for name in HF_WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{folder}: holds none of {', '.join(HF_WEIGHTS)}; fetch the weights there.")
    if not (folder / HF_CONFIG).is_file():
        raise WeightsError(
            f"{folder}: holds no {HF_CONFIG}; fetch it too, for it says what the anchors and box rows mean."
        )
    try:
        config = yaml.safe_load((folder / HF_CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{folder / HF_CONFIG}: cannot be read ({reason}); fetch it again.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{folder / HF_CONFIG}: holds no settings; fetch it again.")
    return read_tensors(weights), config, weights


# What PyTorch's readers raise on torn or foreign files.
_TORN = (OSError, EOFError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError,
         AssertionError, pickle.UnpicklingError)  # fmt: skip


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Named tensors of a safetensors file or of a state dict, which is read without running what is in it.

    Raises:
        WeightsError: the file is torn, or holds anything but tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{path}: cannot be read ({reason}); fetch it again.") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise WeightsError(f"{path}: holds something else than named tensors; fetch it again.")
    return {name: value.detach().numpy() for name, value in state.items()}


def write_hf_folder(
    folder: str | Path, tensors: dict[str, np.ndarray], config: dict[str, Any], weights: str = HF_WEIGHTS[0]
) -> None:
    """Writes weights and configuration as the Hugging Face port reads them, each file whole or not at all."""
    import torch

    from lxmert.files import save_tensors

    folder = make_folder(folder)
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    if weights.endswith(".safetensors"):
        save_tensors(folder / weights, state, {"format": "pt"})
    else:
        with atomic_path(folder / weights) as temporary:
            torch.save(state, temporary)
    atomic_write_text(folder / HF_CONFIG, yaml.safe_dump(config, sort_keys=True))


def check_hf_config(config: dict[str, Any], size: DetectorSize, where: str) -> dict[str, Any]:
    """What a configuration says that conversion depends on.

    Returns:
        `shift_px` of its anchor grid and `divisors` of its box corrections.

    Raises:
        WeightsError: it describes another network than ours.
    """
    wanted = {
        "MODEL.MAX_POOL": (True, "pooling without padding"),
        "MODEL.ROI_BOX_HEAD.RES5HALVE": (False, "a last stage without stride"),
        "MODEL.ROI_HEADS.NUM_CLASSES": (size.classes.objects, "as many objects"),
        "MODEL.ROI_BOX_HEAD.NUM_ATTRS": (size.classes.attributes, "as many attributes"),
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIPool", "quantised pooling"),
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": (size.head.pool, "as many cells a region"),
    }
    for key, (value, meaning) in wanted.items():
        found = _setting(config, key)
        if found is not None and found != value:
            raise WeightsError(f"{where}: {key} is {str(found)[:40]}, should be {value} ({meaning}).")
    mean = _setting(config, "MODEL.PIXEL_MEAN")
    if isinstance(mean, list) and not np.allclose(_numbers(mean, where), size.image.mean_bgr, atol=1e-3):
        raise WeightsError(f"{where}: MODEL.PIXEL_MEAN is {mean}, should be {list(size.image.mean_bgr)}.")
    offset = _setting(config, "MODEL.ANCHOR_GENERATOR.OFFSET")
    divisors = _setting(config, "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS")
    values = _numbers([10.0, 10.0, 5.0, 5.0] if divisors is None else divisors, where)
    shift = _numbers([0.0 if offset is None else offset], where)
    if len(values) != 4 or not (values > 0).all():
        raise WeightsError(f"{where}: BBOX_REG_WEIGHTS must be four numbers above 0, is {divisors}.")
    return {"shift_px": float(shift[0]) * size.stride, "divisors": tuple(map(float, values))}


def _setting(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _numbers(values: Any, where: str) -> np.ndarray:
    try:
        return np.array(values, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{where}: {str(values)[:60]!a} should be numbers; fetch it again.") from error


def hf_config(size: DetectorSize, divisors: tuple[float, ...]) -> dict[str, Any]:
    """A configuration for weights that did not come with one: the settings the port reads of ours."""
    rpn, image = size.rpn, size.image
    return {
        "MODEL": {
            "DEVICE": "cpu",
            "MAX_POOL": True,
            "PIXEL_MEAN": list(image.mean_bgr),
            "PIXEL_STD": [1.0, 1.0, 1.0],
            "ANCHOR_GENERATOR": {
                "SIZES": [[float(scale * size.stride) for scale in rpn.anchor_scales]],
                "ASPECT_RATIOS": [list(rpn.anchor_ratios)],
                "OFFSET": 0.0,
            },
            "PROPOSAL_GENERATOR": {"HIDDEN_CHANNELS": rpn.width, "MIN_SIZE": 0},
            "RPN": {
                "PRE_NMS_TOPK_TEST": size.proposals.test.before_nms,
                "POST_NMS_TOPK_TEST": size.proposals.test.after_nms,
                "NMS_THRESH": size.proposals.test.nms,
            },
            "ROI_HEADS": {
                "NUM_CLASSES": size.classes.objects,
                "NMS_THRESH_TEST": [0.3],
                "SCORE_THRESH_TEST": 0.2,
            },
            "ROI_BOX_HEAD": {
                "ATTR": bool(size.classes.attributes),
                "NUM_ATTRS": size.classes.attributes,
                "RES5HALVE": False,
                "POOLER_TYPE": "ROIPool",
                "POOLER_RESOLUTION": size.head.pool,
                "BBOX_REG_WEIGHTS": list(divisors),
            },
        },
        "INPUT": {
            "FORMAT": "BGR",
            "MIN_SIZE_TEST": image.short_side_px,
            "MAX_SIZE_TEST": image.long_side_px,
        },
    }
