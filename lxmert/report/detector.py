"""What the detector finds: its average precision as a table, and class by class."""

from __future__ import annotations

from typing import Any

from lxmert.report.figures import BLUE, PURPLE, Picture, axes_grid, finish, style
from lxmert.report.results import DetectorResults

_MOST_BARS = 30


def precision_rows(detector: DetectorResults) -> list[list[str]]:
    """Rows of (figure, objects, attributes) in per cent."""
    objects, attributes = (detector.evaluation[table] for table in ("objects", "attributes"))
    rows = [
        ["mean average precision at overlap 0.5", _per_cent(objects["map"]), _per_cent(attributes["map"])],
        [
            "weighted by the number of boxes",
            _per_cent(objects["weighted_map"]),
            _per_cent(attributes["weighted_map"]),
        ],
        ["classes", str(len(objects["classes"])), str(len(attributes["classes"]))],
        ["true boxes", str(_boxes(objects)), str(_boxes(attributes))],
    ]
    if "attribute_accuracy" in detector.evaluation:
        accuracy = _per_cent(detector.evaluation["attribute_accuracy"])
        rows.append(["attribute right, of objects found", "", accuracy])
    return rows


def precision_picture(detector: DetectorResults) -> Picture | None:
    """A bar for each class, best first; of many classes, those with the most boxes."""
    tables = (("objects", "objects", BLUE), ("attributes", "attributes, true boxes given", PURPLE))
    shown = [(label, ink, _largest(detector.evaluation[key]["classes"])) for key, label, ink in tables]
    most = max(len(rows) for _, _, rows in shown)
    if not most:
        return None
    with style():
        figure, grid = axes_grid(2, 2, 5.0, 0.7 + 0.21 * most)
        for axes, (label, colour, rows) in zip(grid, shown, strict=True):
            places = range(len(rows))
            axes.barh(places, [100 * row["ap"] for row in rows], height=0.68, color=colour)
            for place, row in zip(places, rows, strict=True):
                axes.annotate(
                    f"{100 * row['ap']:.0f}",
                    (100 * row["ap"], place),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                )
            axes.set_yticks(list(places), [f"{row['name']} ({row['boxes']})" for row in rows])
            axes.set_ylim(most - 0.4, -0.6)
            axes.set_xlim(0, 108)
            axes.grid(visible=False, axis="y")
            axes.set_title(label)
            axes.set_xlabel("average precision at overlap 0.5, %")
        return finish(
            figure,
            "detector_precision",
            "Average precision of each class, with its number of true boxes"
            + (f"; the {_MOST_BARS} classes with the most boxes." if _was_cut(detector) else "."),
        )


def _largest(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The classes with the most boxes, best first; those without any are left out."""
    known = sorted((row for row in classes if row["boxes"]), key=lambda row: (-row["boxes"], row["name"]))
    return sorted(known[:_MOST_BARS], key=lambda row: (-row["ap"], row["name"]))


def _was_cut(detector: DetectorResults) -> bool:
    return any(
        sum(1 for row in detector.evaluation[table]["classes"] if row["boxes"]) > _MOST_BARS
        for table in ("objects", "attributes")
    )


def _boxes(table: dict[str, Any]) -> int:
    return sum(int(row["boxes"]) for row in table["classes"])


def _per_cent(value: float) -> str:
    return f"{100 * value:.1f}"
