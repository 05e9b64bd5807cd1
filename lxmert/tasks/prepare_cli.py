"""Turn official raw files into examples: token ids, image keys and soft labels in memory-mapped columns."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from lxmert.data.answers import read_answers
from lxmert.data.images_cli import MISSING_IMAGES
from lxmert.data.wordpiece import read_vocabulary
from lxmert.errors import DataError
from lxmert.files import atomic_write_json, sha256_file
from lxmert.progress import count
from lxmert.specs import read_job_spec
from lxmert.tasks import split_module, task_module, task_spec
from lxmert.tasks.examples import ExampleFile, Listings, write_examples
from lxmert.tasks.missing_images import ANSWER, STOP, Missing, rule_of, with_own_rules, write_report

log = logging.getLogger(__name__)

# How the graph says --missing-limit, which is no parameter of its jobs: what a stricter rule let pass is the
# same under a laxer one.
MISSING_LIMIT = "LXMERT_MISSING_LIMIT"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `prepare`."""
    parser.add_argument("--task", required=True, help="vqa, gqa, nlvr2 or pretrain")
    parser.add_argument(
        "--spec", default="{}", help="job spec as JSON, or @file: task, max_tokens, min_answer_count"
    )
    parser.add_argument("--raw", required=True, type=Path, help="folder of the official raw files")
    parser.add_argument("--vocabulary", required=True, type=Path, help="vocab.txt")
    parser.add_argument("--listings", required=True, nargs="+", type=Path, help="listings of the image sets")
    parser.add_argument("--answers-table", type=Path, help="use these answers instead of counting them")
    parser.add_argument(
        "--missing-images", choices=(STOP, ANSWER), default=os.environ.get(MISSING_IMAGES) or None,
        help="where images are missing outside of training, stop or have their questions answered without",
    )  # fmt: skip
    parser.add_argument(
        "--missing-limit", type=_share, default=os.environ.get(MISSING_LIMIT) or None,
        help="largest share of a training split that may be left out for it; the spec's unless given",
    )  # fmt: skip
    parser.add_argument(
        "--out-folder", required=True, type=Path, help="gets answers.json and one file a split"
    )


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give a share from 0 to 1")
    return share


def run(args: argparse.Namespace) -> None:
    """Writes answers.json and the examples of every split."""
    spec = read_job_spec(args.spec)
    task = task_spec(args.task, spec)
    trained = task.get("train_on", ["train"])
    spec = with_own_rules(spec, trained, args.missing_limit, args.missing_images)
    prepare(task, spec, args.raw, args.vocabulary, args.listings, args.out_folder, args.answers_table)


def prepare(
    task: dict[str, Any],
    spec: dict[str, Any],
    raw: Path,
    vocabulary: Path,
    listings: list[Path],
    out_folder: Path,
    answers_table: Path | None = None,
) -> None:
    """Writes answers.json and the examples of every split of a task.

    Args:
        task: its document.
        spec: `max_tokens` (20), `min_answer_count` (9), `counts` (what the publisher counts in each split, if
            these are his files), `missing_images` (see `lxmert.tasks.missing_images`; an error by default).
        raw: folder of the official raw files.
        vocabulary: vocab.txt.
        listings: one listing for each image set of the task.
        out_folder: gets `answers.json`, `<split>.safetensors`, and `missing.json` where images are missing.
        answers_table: published answers to use instead of counting.

    Raises:
        DataError: a raw file, listing or vocabulary is faulty.
    """
    module = task_module(task)
    images, tokenizer = Listings(listings), read_vocabulary(vocabulary)
    max_tokens, min_count = int(spec.get("max_tokens", 20)), int(spec.get("min_answer_count", 9))
    meta = {
        "task": task["task"],
        "version": task["version"],
        "max_tokens": max_tokens,
        "vocabulary": sha256_file(vocabulary),
    }
    if hasattr(module, "prepare"):
        rules = {split: rule_of(spec, split) for split in task["splits"]}
        module.prepare(
            task, min_count, max_tokens, meta, raw, tokenizer, images, out_folder, answers_table, rules
        )
        return
    splits = {split: part for split, part in task["splits"].items() if not part.get("further")}
    images.require(part["image_set"] for part in splits.values())
    answers = read_answers(answers_table) if answers_table else module.build_answers(raw, task, min_count)
    if not answers:
        raise DataError(
            f"{raw}: no answer of {task['task']} is given {min_count} times. Lower min_answer_count."
        )
    atomic_write_json(out_folder / "answers.json", answers)
    log.info("%s: %s answers", task["task"], count(len(answers)))
    lacking: dict[str, tuple[Missing, int]] = {}
    for split, part in splits.items():
        file = ExampleFile(
            out_folder / f"{split}.safetensors",
            images,
            tokenizer,
            max_tokens,
            {
                **meta,
                "split": split,
                "labelled": part["labelled"],
                "answers": len(answers),
                "subset": images.subsets[part["image_set"]],
            },
            task["images_per_example"],
            rule=rule_of(spec, split),
        )
        write_examples(
            lambda split=split: split_module(task, split).read_examples(  # type: ignore[misc]
                raw, task, split, answers
            ),
            file,
            f"{task['task']} {split}",
        )
        log.info("%s %s: %s", task["task"], split, _summary(file, part["labelled"]))
        if split in spec.get("counts", {}):
            _check_count(file.read, spec["counts"][split], raw / part["questions"], task, split)
        file.missing.tell(f"{task['task']} {split}", file.count)
        lacking[split] = (file.missing, file.count)
    write_report(lacking, out_folder)


def _check_count(found: int, published: dict[str, Any], path: Path, task: dict[str, Any], split: str) -> None:
    """Tells a cut or foreign file before hours are spent on it: a server refuses what does not fit.

    Raises:
        DataError: the number of examples is another one, and the published one is beyond doubt.
    """
    if found == published["examples"]:
        return
    text = (
        f"{path}: gives {count(found)} examples of {task['task']} {split}, and the publisher's file"
        f" {count(published['examples'])}."
    )
    if published["certain"]:
        raise DataError(f"{text} Fetch the file again, or put the right one there.")
    log.warning("%s Is it the right file?", text)


def _summary(file: ExampleFile, labelled: bool) -> str:
    text = f"{count(file.count)} examples on {count(file.images)} images"
    if labelled:
        text += f", {count(file.count - file.answered)} without an answer of the vocabulary"
    if file.dropped:
        text += f"; {count(file.dropped)} dropped, their images are outside the subset"
    return text
