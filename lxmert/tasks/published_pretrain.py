"""The aggregated pretraining set as LXMERT published it: one record an image, its sentences by source.

    {"img_id": "COCO_val2014_000000000042", "sentf": {"mscoco": ["…"], "vqa": ["…?"]},
     "labelf": {"vqa": [{"yes": 1}]}}

Source: Tan & Bansal 2019, the files that accompany the reference code.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lxmert.data.answers import AnswerTable, read_answer_table, write_answer_table
from lxmert.data.raw_json import list_records
from lxmert.data.wordpiece import WordPieceTokenizer
from lxmert.errors import DataError
from lxmert.progress import count, track
from lxmert.tasks.examples import Example, ExampleFile, Listings
from lxmert.tasks.missing_images import Rule, write_report
from lxmert.tasks.published import label_scores
from lxmert.tasks.records import Place, field, numbered

log = logging.getLogger(__name__)


def prepare(
    task: dict[str, Any],
    min_count: int,
    max_tokens: int,
    meta: dict[str, Any],
    raw: Path,
    tokenizer: WordPieceTokenizer,
    listings: Listings,
    out_folder: Path,
    answers_table: Path | None,
    rules: Mapping[str, Rule],
) -> None:
    """Writes the joint answer table and the examples of both splits.

    Args:
        task: its document, with `parts`: the files of each split.
        min_count: nothing here; the published table is taken as it is.
        max_tokens: longest row of token ids.
        meta: metadata of the columns files.
        raw: folder of the raw files.
        tokenizer: the vocabulary.
        listings: which images exist.
        out_folder: gets `answers.json` and one columns file a split.
        answers_table: the published joint table.
        rules: of each split, what becomes of sentences whose images are missing.

    Raises:
        DataError: a file is faulty, an image is in two splits, or no table is given.
    """
    del min_count
    listings.require(task["image_sets"].values())
    if answers_table is None:
        raise DataError(f"{task['task']}: published examples need --answers-table {raw / task['answers']}.")
    table = read_answer_table(answers_table)
    write_answer_table(table, out_folder / "answers.json")
    log.info("pretrain: %s answers in the joint table", count(len(table)))
    subsets = {name: listings.subsets[name] for name in task["image_sets"].values()}
    meta = {**meta, "labelled": True, "answers": len(table), "sources": task["sources"], "subset": subsets}
    split_of: dict[str, str] = {}
    files: dict[str, ExampleFile] = {}
    with ExitStack() as stack:
        for split, names in task["parts"].items():
            file = stack.enter_context(
                ExampleFile(
                    out_folder / f"{split}.safetensors",
                    listings,
                    tokenizer,
                    max_tokens,
                    {**meta, "split": split},
                    pretraining=True,
                    rule=rules[split],
                )
            )
            files[split] = file
            tally: Counter[str] = Counter()
            for name in names:
                for example in track(
                    _examples(raw / name, task, table), None, "sentences", f"pretrain {name}"
                ):
                    _refuse_two_splits(example, split, split_of)
                    if file.add(example):
                        tally[task["sources"][example.source]] += 1
            file.check()
            file.writer.meta["sentences"] = {source: tally[source] for source in task["sources"]}
            shown = ", ".join(f"{source} {count(tally[source])}" for source in task["sources"])
            log.info("pretrain %s: %s sentences: %s", split, count(file.count), shown)
            file.missing.tell(f"pretrain {split}", file.count)
    write_report({split: (file.missing, file.count) for split, file in files.items()}, out_folder)


def _refuse_two_splits(example: Example, split: str, split_of: dict[str, str]) -> None:
    key = example.images[0]
    if split_of.setdefault(key, split) != split:
        raise DataError(
            f"{example.place}: image {key} is in split {split_of[key]} too. Fetch the files again."
        )


def _examples(path: Path, task: dict[str, Any], table: AnswerTable) -> Iterator[Example]:
    numbers = {source: number for number, source in enumerate(task["sources"])}
    for place, record in numbered(list_records(path), path):
        image_id = field(record, "img_id", str, place)
        place = Place(path, place.record, image_id)
        labels = field(record, "labelf", dict, place)
        key = image_key(image_id, task["image_sets"])
        for source, sentences in field(record, "sentf", dict, place).items():
            if source not in numbers:
                raise DataError(f"{place}: unknown source {source!r}. Known: {', '.join(numbers)}.")
            answered = labels.get(source)
            if answered is not None and len(answered) != len(sentences):
                raise DataError(
                    f"{place}: {len(sentences)} sentences of {source} and {len(answered)} labels."
                    " Fetch the file again."
                )
            for number, sentence in enumerate(sentences):
                scores = label_scores(answered[number], place) if answered is not None else {}
                yield Example(
                    id=f"{image_id}_{source}_{number:03d}",
                    text=sentence,
                    images=(key,),
                    answers=table.convert_labels(scores) if scores else [],
                    type="",
                    place=place,
                    source=numbers[source],
                )


def image_key(image_id: str, image_sets: dict[str, str]) -> str:
    """The key of an image: COCO's by the subset in its name, any other is Visual Genome's."""
    for subset in ("train2014", "val2014"):
        if image_id.startswith(f"COCO_{subset}_"):
            return f"{image_sets[subset]}/{image_id}"
    return f"{image_sets['genome']}/{image_id}"
