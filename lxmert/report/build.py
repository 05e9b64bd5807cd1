"""The report, section by section: reads what there is, leaves out what there is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lxmert.files import atomic_write_bytes, atomic_write_text
from lxmert.report import curves, detector, facts
from lxmert.report.answers import answers_picture
from lxmert.report.cases import choose_cases
from lxmert.report.drawing import open_image
from lxmert.report.figures import Picture
from lxmert.report.outcomes import predicted_ids, read_labels
from lxmert.report.page import Page
from lxmert.report.panels import make_panels, sheet, webp
from lxmert.report.regions import ImageDrawer, read_names
from lxmert.report.results import Family, Results, RunResults, read_results
from lxmert.report.tables import is_number, shown_rows, summary_table, write_table
from lxmert.specs import read_document

log = logging.getLogger(__name__)

_DETECTOR_PANELS, _DETECTOR_PANEL_PX = 6, (480, 480)


@dataclass(frozen=True)
class ReportInputs:
    """What a report reads; only `results` must be given.

    Attributes:
        results: folder that holds one folder a run.
        runs: which runs, in which order; None for all that have ended.
        detector: the detector's results; `results`/detector by default.
        examples: folders of examples, each named as its task; a task without one has no panels.
        listings: of image sets; without its listing an image is not shown.
        features: region stores; without its store an image is shown without boxes.
        objects: object vocabulary.
        attributes: attribute vocabulary.
        panels: how many examples of a split are shown.
    """

    results: Path
    runs: Sequence[str] | None = None
    detector: Path | None = None
    examples: Sequence[Path] = ()
    listings: Sequence[Path] = ()
    features: Sequence[Path] = ()
    objects: Path | None = None
    attributes: Path | None = None
    panels: int = 8


@dataclass
class _Report:
    """A report being made: the page, and the figures for the folder beside it."""

    inputs: ReportInputs
    results: Results
    table: pd.DataFrame
    page: Page
    figures: list[Picture] = field(default_factory=list)

    def show(self, picture: Picture | None) -> None:
        """Puts a figure on the page and into the folder; nothing where there is none."""
        if picture is not None:
            self.page.picture(picture)
            self.figures.append(picture)


def write_report(
    inputs: ReportInputs, out: Path, out_table: Path | None = None, out_figures: Path | None = None
) -> pd.DataFrame:
    """Writes the page, the table and the figures, and returns the table.

    Raises:
        DataError: an input that was given is missing or malformed, or an output cannot be written.
    """
    results = read_results(inputs.results, inputs.runs, inputs.detector)
    report = _Report(
        inputs,
        results,
        summary_table(results),
        Page("Results", "Scores, training curves, examples and provenance."),
    )
    sections: list[tuple[str, bool, Callable[[_Report], None]]] = [
        ("Scores", True, _scores),
        ("Pretraining", bool(results.pretrainings), _pretraining),
        ("Fine-tuning", bool(results.families), _finetuning),
        ("Examples", bool(inputs.examples and results.families), _examples),
        ("Detector", results.detector is not None, _detector),
        ("Throughput", True, _throughput),
        ("Provenance", True, _provenance),
    ]
    for heading, wanted, fill in sections:
        if wanted:
            log.info("report: %s", heading.lower())
            report.page.section(heading)
            fill(report)
    if out_figures is not None:
        for picture in report.figures:
            atomic_write_bytes(out_figures / f"{picture.name}.png", picture.png)
    if out_table is not None:
        write_table(report.table, out_table)
    atomic_write_text(out, report.page.html())
    log.info("report: %s, %d figures", out, len(report.figures))
    return report.table


def _scores(report: _Report) -> None:
    headings, rows = shown_rows(report.table)
    if not rows:
        report.page.text("No split has been scored yet.")
        return
    report.page.table(headings, rows, [is_number(name) for name in headings])
    answers = {
        f"{family.run.task}: “{score.chance_answer}”": None
        for family in report.results.families
        for score in family.run.scores.values()
        if score.chance_answer is not None
    }
    text = (
        "Score is the publisher's official accuracy. Blind is the same model, trained alike, that never sees"
        " an image; chance is always giving the commonest answer of the training splits"
    )
    text += f" ({', '.join(answers)})." if answers else "."
    report.page.text(text + " Seconds are those of fine-tuning.")


def _pretraining(report: _Report) -> None:
    for run in report.results.pretrainings:
        rows = _objective_rows(run)
        if rows:
            if len(report.results.pretrainings) > 1:
                report.page.heading(run.name)
            report.page.table(
                ["objective, held out", "step 0", "last step", "share left"], rows, _OBJECTIVE_NUMBERS
            )
        report.show(curves.pretraining_picture(run))


_OBJECTIVE_NUMBERS = [False, True, True, True]


def _objective_rows(run: RunResults) -> list[list[str]]:
    """Held-out loss of each objective at the first and the last look."""
    rows = []
    for name in [*curves.objectives(run.history), "loss"]:
        _, held = run.history.series(name, evaluations=True)
        if len(held) > 1:
            share = f"{100 * held[-1] / held[0]:.0f} %" if held[0] > 0 else "–"
            title = "sum, weighted" if name == "loss" else curves.title(name)
            rows.append([title, f"{held[0]:.4g}", f"{held[-1]:.4g}", share])
    return rows


def _finetuning(report: _Report) -> None:
    for family in report.results.families:
        score = family.run.scores.get(str(family.run.metrics.get("split")))
        report.show(curves.finetuning_picture(family, score.chance_label_score if score else None))
    report.page.text(
        "While training, the score is the soft label of the answer given, by which the best weights are"
        " chosen; the table above has the official one."
    )


def _examples(report: _Report) -> None:
    inputs = report.inputs
    folders = {folder.name: folder for folder in inputs.examples}
    drawer = ImageDrawer(
        inputs.listings, inputs.features, read_names(inputs.objects), read_names(inputs.attributes)
    )
    report.page.text(
        "Drawn in the order of a hash of their ids, right answers first; nobody picked them. Boxes are the"
        " detector's: those that the words name, then its surest others. A per cent beside an answer is its"
        " soft score, since people differ."
    )
    shown = 0
    for family in report.results.families:
        folder = folders.get(str(family.run.task))
        for split in family.scored_splits() if folder is not None else ():
            shown += _split_examples(report, family, split, drawer, folder)
    if not shown:
        report.page.text("No scored split has its predictions and examples beside it.")


def _split_examples(report: _Report, family: Family, split: str, drawer: ImageDrawer, folder: Path) -> bool:
    path = family.run.predictions(split)
    if path is None:
        return False
    task = read_document("task", str(family.run.task))
    labels = read_labels(folder, split)
    predicted = predicted_ids(task, labels, path)
    blind_path = family.blind.predictions(split) if family.blind else None
    blind = predicted_ids(task, labels, blind_path) if blind_path else None
    name = f"{family.run.name}, {split}"
    report.page.heading(name)
    wrong = report.inputs.panels // 2
    cases = choose_cases(labels, predicted, blind, report.inputs.panels - wrong, wrong)
    panels = make_panels(cases, drawer, f"report: {name}")
    if panels:
        report.page.panels(panels)
        caption = f"{name}: examples with the detector's boxes, the right answer and the run's."
        report.figures.append(sheet(panels, f"examples_{family.run.name}_{split}", caption))
    report.show(answers_picture(family.run.name, split, labels, predicted, blind))
    return True


def _detector(report: _Report) -> None:
    found = report.results.detector
    assert found is not None
    split = found.evaluation.get("split", "val")
    images = found.evaluation.get("images")
    report.page.table(
        [f"{split} split" + (f", {images} images" if images else ""), "objects %", "attributes %"],
        detector.precision_rows(found),
        [False, True, True],
    )
    report.show(detector.precision_picture(found))
    report.show(curves.detector_losses_picture(found))
    pictures = [_detector_panel(path) for path in found.panels[:_DETECTOR_PANELS]]
    if pictures:
        report.page.heading("What it sees")
        report.page.pictures(pictures)


def _detector_panel(path: Path) -> tuple[bytes, str, int, int]:
    image = open_image(path)
    image.thumbnail(_DETECTOR_PANEL_PX)
    return webp(image), f"detections on {path.stem}", image.width, image.height


def _throughput(report: _Report) -> None:
    results = report.results
    runs = [*results.pretrainings, *(run for family in results.families for _, run in family.members)]
    picture = curves.throughput_picture(runs)
    if picture is None:
        report.page.text("No run has recorded its speed.")
    report.show(picture)


def _provenance(report: _Report) -> None:
    report.page.heading("Runs")
    report.page.table(facts.RUN_HEADINGS, facts.run_rows(report.results))
    if report.inputs.features:
        report.page.heading("Region stores")
        report.page.table(facts.STORE_HEADINGS, facts.store_rows(report.inputs.features))
    missing = facts.missing_rows(report.inputs.examples)
    if missing:
        report.page.heading("Missing images")
        report.page.table(facts.MISSING_HEADINGS, missing, [False, True, False, False])
    report.page.heading("Programs")
    report.page.table(["program", "version"], facts.versions(), [False, False])
