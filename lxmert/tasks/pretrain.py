"""The aggregated pretraining set: five kinds of sentence about COCO and Visual Genome images.

One example is one sentence about one image. Examples stand in the order of the sources, and
within a source in file order, so that nothing has to be gathered by image; training shuffles.

Source: Tan & Bansal 2019, section 3.1; its files were never accompanied by the script that made
them. Where they leave a choice open: of several Visual Genome twins of a COCO image the last in
file order speaks for it, and texts are stripped.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxmert.data.answers import (
    AnswerTable,
    build_answer_table,
    convert_answer,
    read_answer_table,
    soft_scores,
    write_answer_table,
)
from lxmert.data.raw_json import list_records
from lxmert.data.wordpiece import WordPieceTokenizer
from lxmert.errors import DataError
from lxmert.files import atomic_write_json
from lxmert.progress import count, track
from lxmert.tasks import gqa, vqa
from lxmert.tasks.aggregated_images import SPLITS, Images
from lxmert.tasks.composition import Composition
from lxmert.tasks.examples import Example, ExampleFile, Listings
from lxmert.tasks.missing_images import Rule, write_report
from lxmert.tasks.records import Place, field, numbered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sentence:
    """One sentence of one source.

    Attributes:
        image: image key; None if another Visual Genome image speaks for the same COCO image.
        text: stripped.
        labels: raw answer string -> score; None where the source has no answers.
        place: where it was read.
        id: for messages.
    """

    image: str | None
    text: str
    labels: dict[str, float] | None
    place: Place
    id: str


def read_captions(raw: Path, task: dict[str, Any], images: Images) -> Iterator[Sentence]:
    """COCO captions."""
    for subset, name in task["captions"].items():
        path = raw / name
        for place, record in numbered(list_records(path, "annotations"), path):
            key = images.coco_key(subset, field(record, "image_id", int, place))
            text = field(record, "caption", str, place)
            yield Sentence(key, text.strip(), None, place, str(record.get("id", "")))


def read_regions(raw: Path, task: dict[str, Any], images: Images) -> Iterator[Sentence]:
    """Visual Genome's region phrases, each as a caption of the whole image; empty ones left out."""
    path = raw / task["regions"]
    for place, record in numbered(list_records(path), path):
        for region in field(record, "regions", list, place):
            key = images.genome_key(_genome_id(record, region, place))
            text = field(region, "phrase", str, place).strip()
            if text:
                yield Sentence(key, text, None, place, str(region.get("region_id", "")))


def read_genome_questions(raw: Path, task: dict[str, Any], images: Images) -> Iterator[Sentence]:
    """Visual Genome's questions."""
    path = raw / task["genome_questions"]
    for place, record in numbered(list_records(path), path):
        for pair in field(record, "qas", list, place):
            key = images.genome_key(_genome_id(record, pair, place))
            answer, question = field(pair, "answer", str, place), field(pair, "question", str, place)
            yield Sentence(key, question.strip(), {answer: 1.0}, place, str(pair.get("qa_id", "")))


def _genome_id(record: dict[str, Any], inner: dict[str, Any], place: Place) -> int:
    """Versions differ in where the image id stands."""
    for holder, name in ((record, "id"), (record, "image_id"), (inner, "image_id")):
        if isinstance(holder, dict) and name in holder:
            return int(field(holder, name, int, place))
    raise DataError(
        f'{place}: has neither "id" nor "image_id". Is it another file or version? Fetch the file again.'
    )


def read_vqa(raw: Path, task: dict[str, Any], images: Images, vocabulary: list[str]) -> Iterator[Sentence]:
    """VQA questions with the soft scores of the answer vocabulary."""
    index = {answer: number for number, answer in enumerate(vocabulary)}
    for subset, files in task["vqa"].items():
        part = {**files, "image_set": task["image_sets"][subset]}
        for place, question, annotation in vqa.read_questions(raw, part):
            scores = soft_scores(vqa.human_answers(annotation, place), index)
            yield Sentence(
                images.coco_key(subset, field(question, "image_id", int, place)),
                field(question, "question", str, place).strip(),
                {vocabulary[answer]: score for answer, score in scores},
                place,
                str(place.id),
            )


def read_gqa(raw: Path, task: dict[str, Any], images: Images) -> Iterator[Sentence]:
    """Balanced GQA questions of the training and validation splits."""
    for place, record in gqa.read_questions(raw, task["gqa"]):
        image_id = field(record, "imageId", str, place)
        if not image_id.isdigit():
            raise DataError(f"{place}: image {image_id} is a test image and may not enter pretraining.")
        answer = field(record, "answer", str, place)
        text = field(record, "question", str, place).strip()
        yield Sentence(images.genome_key(int(image_id)), text, {answer: 1.0}, place, str(place.id))


def sources(
    raw: Path, task: dict[str, Any], images: Images, min_count: int
) -> dict[str, Callable[[], Iterator[Sentence]]]:
    """Name of each source -> what reads it, in the document's order."""
    annotations = [raw / files["annotations"] for files in task["vqa"].values()]
    vocabulary = vqa.majority_vocabulary(annotations, min_count)
    readers: dict[str, Callable[[], Iterator[Sentence]]] = {
        "mscoco": lambda: read_captions(raw, task, images),
        "vg": lambda: read_regions(raw, task, images),
        "vqa": lambda: read_vqa(raw, task, images, vocabulary),
        "gqa": lambda: read_gqa(raw, task, images),
        "visual7w": lambda: read_genome_questions(raw, task, images),
    }
    return {name: readers[name] for name in task["sources"]}


def build_table(readers: Mapping[str, Callable[[], Iterable[Sentence]]], min_count: int) -> AnswerTable:
    """The joint answer table of the sources that have answers."""
    counts: dict[str, Counter[str]] = {}
    for name in ("vqa", "gqa", "visual7w"):
        if name not in readers:
            continue
        found = counts.setdefault(name, Counter())
        for sentence in track(readers[name](), None, "questions", f"answers of {name}"):
            if sentence.image is not None and sentence.labels:
                found.update({convert_answer(answer) for answer in sentence.labels})
    return build_answer_table(counts, min_count)


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
        task: its document.
        min_count: how often an answer must occur to enter a vocabulary or the joint table.
        max_tokens: longest row of token ids.
        meta: metadata of the columns files.
        raw: folder of the official raw files.
        tokenizer: the vocabulary.
        listings: which images exist.
        out_folder: gets `answers.json`, `train.safetensors`, `valid.safetensors` and `composition.json`.
        answers_table: a published joint table to use instead of building one.
        rules: of each split, what becomes of sentences whose images are missing.

    Raises:
        DataError: a raw file or listing is faulty.
    """
    listings.require(task["image_sets"].values())
    images = Images(raw, task)
    readers = sources(raw, task, images, min_count)
    table = read_answer_table(answers_table) if answers_table else build_table(readers, min_count)
    write_answer_table(table, out_folder / "answers.json")
    log.info("pretrain: %s answers in the joint table", count(len(table)))

    subsets = {name: listings.subsets[name] for name in task["image_sets"].values()}
    meta = {**meta, "labelled": True, "answers": len(table), "sources": task["sources"], "subset": subsets}
    tally: Counter[tuple[str, str, str]] = Counter()
    composition = Composition(list(readers), images.counts())
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(
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
            for split in SPLITS
        }
        for number, (name, read) in enumerate(readers.items()):
            for sentence in track(read(), None, "sentences", f"pretrain {name}"):
                if sentence.image is None:
                    tally[name, "", "twin"] += 1
                    continue
                split = images.split(sentence.image)
                example = _example(sentence, table, number)
                if files[split].add(example):
                    tally[name, split, "sentences"] += 1
                    composition.add(name, images.part(sentence.image), images.group(sentence.image))
                    tally[name, split, "answered"] += bool(example.answers)
                else:
                    tally[name, split, "dropped"] += 1
        for split, file in files.items():
            file.check()  # all of them before the first takes its name
            file.writer.meta["sentences"] = {name: tally[name, split, "sentences"] for name in readers}
    for split, file in files.items():
        file.missing.tell(f"pretrain {split}", file.count)
    write_report({split: (file.missing, file.count) for split, file in files.items()}, out_folder)
    for line in _table(list(readers), tally, files):
        log.info("%s", line)
    _report(composition, task if all(number is None for number in subsets.values()) else {}, out_folder)


def _report(composition: Composition, task: dict[str, Any], out_folder: Path) -> None:
    """Writes the composition, and says where it is not the published one if that is known."""
    atomic_write_json(out_folder / "composition.json", composition.to_json())
    for line in composition.lines():
        log.info("%s", line)
    if "composition" in task:
        wrong = composition.deviations(task["composition"])
        for text in wrong:
            log.warning("pretrain: %s", text)
        log.info("pretrain: %s", "not the published composition" if wrong else "the published composition")


def _example(sentence: Sentence, table: AnswerTable, source: int) -> Example:
    assert sentence.image is not None
    return Example(
        id=sentence.id,
        text=sentence.text,
        images=(sentence.image,),
        answers=table.convert_labels(sentence.labels) if sentence.labels else [],
        type="",
        place=sentence.place,
        source=source,
    )


def _table(
    names: list[str], tally: Counter[tuple[str, str, str]], files: dict[str, ExampleFile]
) -> Iterator[str]:
    """What went in, for the log: one line a source."""
    heads = ("train", "answered", "valid", "answered", "dropped", "2nd twin")
    yield f"{'source':10s}" + "".join(f"{head:>12s}" for head in heads)
    for name in names:
        cells = [tally[name, split, kind] for split in SPLITS for kind in ("sentences", "answered")]
        cells += [sum(tally[name, split, "dropped"] for split in SPLITS), tally[name, "", "twin"]]
        yield f"{name:10s}" + "".join(f"{count(cell):>12s}" for cell in cells)
    counts = [value for split in SPLITS for value in (files[split].count, files[split].answered)]
    yield f"{'all':10s}" + "".join(f"{count(cell):>12s}" for cell in counts)
    yield f"{'images':10s}{count(files['train'].images):>12s}{'':12s}{count(files['valid'].images):>12s}"
