"""Weights of the original code and of transformers into ours, and ours into theirs.

Forms: `reference` is the original code's state_dict (model_LXRT.pth, EpochXX_LXRT.pth, BEST.pth), with or
without `module.`; `transformers` is a folder with config.json; `ours` is what pretrain, finetune and predict
read. What a file is, is recognised from it.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `convert`."""
    forms = ("reference", "transformers", "ours")
    parser.add_argument("--weights", required=True, type=Path, help="file, or folder of transformers")
    parser.add_argument("--from", dest="form", choices=forms, help="whose names the file has; recognised")
    parser.add_argument("--to", choices=forms, default="ours", help="whose names to write; ours by default")
    parser.add_argument("--out", required=True, type=Path, help="file; a folder for transformers")
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt, for a folder of transformers")
    parser.add_argument("--answers", type=Path, help="answers of the head, position = label id")
    parser.add_argument("--heads", type=int, help="attention heads, where the file does not say")
    parser.add_argument("--encoder-only", action="store_true", help="leave every head out")
    parser.add_argument(
        "--data-parallel", action="store_true", help='write "module." as the original does on several GPUs'
    )


def run(args: argparse.Namespace) -> None:
    """Converts one file or folder."""
    from lxmert.convert.converting import Wish, convert

    wish = Wish(
        to=args.to,
        form=args.form,
        vocabulary=args.vocabulary,
        answers=args.answers,
        heads=args.heads,
        encoder_only=args.encoder_only,
        data_parallel=args.data_parallel,
    )
    for line in convert(args.weights, args.out, wish):
        log.info("%s", line)
