"""The table of scores: one row a run and split, beside what a blind model and guessing would get."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from lxmert.errors import DataError
from lxmert.files import atomic_write_text, explain_os_error
from lxmert.report.results import Family, Results

COLUMNS = ["run", "task", "split", "score", "blind", "scratch", "chance", "examples", "seconds"]
_SHARES = ["score", "blind", "scratch", "chance"]
_DETAIL = "detail:"
# Official figures that people quote beside the score; score files hold all there are.
_QUOTED = ("binary", "open", "consistency")
_QUOTED_KIND = "answer_type/"
# Beside a split whose questions were learnt from, since its score would be taken for a result.
_LEAKY = " (learnt from)"
_HEADINGS = {"blind": "blind", "scratch": "from scratch", "seconds": "seconds"}
NOTHING = "–"


def summary_table(results: Results) -> pd.DataFrame:
    """One row for each run, its twins left out, and each split it was scored on."""
    rows = [_row(family, split) for family in results.families for split in family.scored_splits()]
    details = dict.fromkeys(name for row in rows for name in row if name.startswith(_DETAIL))
    return pd.DataFrame(rows, columns=[*COLUMNS, *details])


def _row(family: Family, split: str) -> dict[str, object]:
    score = family.run.scores[split]
    row: dict[str, object] = {
        "run": family.run.name,
        "task": family.run.task,
        "split": f"{split}{_LEAKY if score.leaks else ''}",
        "score": score.accuracy,
        "chance": score.chance,
        "examples": score.count,
        "seconds": family.run.seconds,
    }
    for name, twin in (("blind", family.blind), ("scratch", family.scratch)):
        row[name] = twin.scores[split].accuracy if twin and split in twin.scores else None
    for name, value in sorted(score.official.items()):
        if name in _QUOTED or name.startswith(_QUOTED_KIND):
            row[_DETAIL + name.removeprefix(_QUOTED_KIND)] = value
    return row


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes the table as tab-separated text; scores are shares, seconds whole."""
    out = table.copy()
    for name in out.columns:
        if name in _SHARES or name.startswith(_DETAIL):
            out[name] = out[name].map(lambda value: "" if pd.isna(value) else f"{value:.6f}")
        elif name in ("examples", "seconds"):
            out[name] = out[name].map(lambda value: "" if pd.isna(value) else f"{value:.0f}")
    atomic_write_text(path, out.to_csv(sep="\t", index=False, lineterminator="\n"))


def read_table(path: Path) -> pd.DataFrame:
    """A table as `write_table` wrote it.

    Raises:
        DataError: the file is missing or is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}. Make the report again.") from error
    try:
        table = pd.read_csv(io.StringIO(text), sep="\t", dtype={"run": str, "task": str, "split": str})
        absent = [name for name in COLUMNS if name not in table.columns]
        table = table.astype({name: float for name in COLUMNS[3:] if name in table.columns})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataError(
            f"{path}: not a table of scores ({' '.join(str(error).split())}). Make the report again."
        ) from error
    if absent:
        raise DataError(f"{path}: not a table of scores (no column {absent[0]}). Make the report again.")
    return table


def shown_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells as people read them: scores in per cent, details in one cell.

    Columns without a single value are left out, and so is the run where it says what the task says.
    """
    details = [name for name in table.columns if name.startswith(_DETAIL)]
    columns = [name for name in COLUMNS if name in ("task", "split", "score") or table[name].notna().any()]
    if len(table) and (table["run"] == table["task"]).all():
        columns.remove("run")
    headings = [_HEADINGS.get(name, name) + (" %" if name in _SHARES else "") for name in columns]
    rows = [[_cell(row[name], name) for name in columns] for _, row in table.iterrows()]
    if details:
        headings.append("details %")
        for cells, (_, row) in zip(rows, table.iterrows(), strict=True):
            known = [(name.removeprefix(_DETAIL), row[name]) for name in details if pd.notna(row[name])]
            cells.append(", ".join(f"{name} {100 * value:.1f}" for name, value in known) or NOTHING)
    return headings, rows


def _cell(value: object, column: str) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return NOTHING
    if column in _SHARES:
        return f"{100 * float(value):.1f}"  # type: ignore[arg-type]
    if column in ("examples", "seconds"):
        return f"{float(value):.0f}"  # type: ignore[arg-type]
    return str(value)


def is_number(column: str) -> bool:
    """Whether a column of `shown_rows` is set flush right."""
    return column.removesuffix(" %") in {*_SHARES, "from scratch", "examples", "seconds"}


def plain_text(table: pd.DataFrame) -> str:
    """The table in plain characters, columns aligned, a line a row."""
    headings, rows = shown_rows(table)
    if not rows:
        return "No split has been scored yet.\n"
    right = [is_number(name) for name in headings]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [_line(headings, widths, right), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths, right) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Iterable[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if flush else cell.ljust(width)
        for cell, width, flush in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()
