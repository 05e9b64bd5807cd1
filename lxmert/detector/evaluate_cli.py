"""Average precision of a detector's boxes and attributes, and pictures of what it sees."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from lxmert.detector.evaluate import evaluate
from lxmert.detector.model import load_detector
from lxmert.detector.panels import draw_panel
from lxmert.detector.train_cli import set_up, vocabularies
from lxmert.detector.vg_data import load_rows
from lxmert.errors import WeightsError
from lxmert.files import atomic_path, atomic_write_json, make_folder

log = logging.getLogger(__name__)

PANELS = 8

USES_WORKERS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate-detector`."""
    parser.add_argument("--spec", default="{}", help="accepted for uniformity; weights carry their own")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument(
        "--raw", type=Path, required=True, help="folder of raw files; Visual Genome is in its vg"
    )
    parser.add_argument("--listing", type=Path, required=True, help="image listing of Visual Genome")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument(
        "--through-text", action="store_true",
        help="round detections and count their pixels from 1, as the published figures do",
    )  # fmt: skip
    parser.add_argument("--out-metrics", type=Path, required=True)
    parser.add_argument("--out-panels", type=Path, help="folder for pictures with boxes and labels")


def run(args: argparse.Namespace) -> None:
    """Writes metrics, and pictures if asked."""
    device = set_up(args)
    objects, attributes = vocabularies(args.raw)
    model, meta = load_detector(args.weights)
    for name, vocabulary in (("objects", objects), ("attributes", attributes)):
        if meta.get(f"{name}_sha256", vocabulary.sha256) != vocabulary.sha256:
            raise WeightsError(
                f"{args.weights}: trained with another {name} vocabulary than {args.raw}/vg has; train again."
            )
    rows = load_rows(args.raw, args.split, args.listing, objects, attributes)
    model.to(device).fold_norms()
    panels = PANELS if args.out_panels else 0
    result = evaluate(
        model, rows, objects.names, attributes.names, args.workers, panels, args.through_text
    )  # fmt: skip
    if args.out_panels:
        make_folder(args.out_panels)
        for number, example in enumerate(result.examples):
            with atomic_path(args.out_panels / f"{args.split}_{number}.png") as path:
                draw_panel(example, objects.names, attributes.names).save(path, "PNG")
    atomic_write_json(
        args.out_metrics, {"split": args.split, "through_text": args.through_text, **result.metrics}
    )
    log.info(
        "%s: mAP@0.5 %.1f %%, weighted %.1f %%; attributes %.1f %%, weighted %.1f %%, accuracy %.1f %%",
        args.split,
        *(100 * result.metrics[t][m] for t in ("objects", "attributes") for m in ("map", "weighted_map")),
        100 * result.metrics["attribute_accuracy"],
    )
