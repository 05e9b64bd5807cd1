"""How every figure looks, and how it becomes a file: PNG on white, SVG that takes the page's ink."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that read on white and on near-black alike, told apart by colour-blind people, too.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#2f7fc1", "#dd7a1f", "#2f9e6e", "#d1495b", "#8d6cc0", "#868e96"
ROLE_COLOURS = {"seeing": BLUE, "blind": GREY, "from scratch": ORANGE}
# Text and axes have this colour on white; in SVG it becomes whatever colour the page's text has.
INK = "#1c2127"
_STYLE: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "savefig.transparent": False,
    "figure.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "path",
}
_DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Picture:
    """A figure, ready for a page and for a folder of pictures.

    Attributes:
        name: of its file, without ending.
        caption: what it shows, in a sentence.
        png: file bytes, on white.
        svg: an <svg> element with `currentColor` as ink; empty for what is made of pixels.
        width: of the PNG, in pixels.
        height: likewise.
    """

    name: str
    caption: str
    png: bytes
    svg: str = ""
    width: int = 0
    height: int = 0


@contextmanager
def style() -> Iterator[None]:
    """Figures drawn in the block look like the report's; nothing outlives it."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def axes_grid(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in rows of at most `columns`; one axes is width x height inches."""
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    figure = new_figure(width * columns, height * rows)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def finish(figure: Figure, name: str, caption: str) -> Picture:
    """The figure's files; equal figures give equal bytes, since no date or version is written."""
    # Laid out once for both files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    svg = io.StringIO()
    # The salt keeps the ids of two figures on one page apart.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = svg.getvalue()
    width, height = (round(inches * _DOTS_PER_INCH) for inches in figure.get_size_inches())
    text = _private_ids(text[text.index("<svg") :], name).replace(INK, "currentColor")
    return Picture(name, caption, png.getvalue(), text, width, height)


def _private_ids(svg: str, name: str) -> str:
    """Ids with the figure's name before them: glyphs and groups are called alike in every figure."""
    for mark, end in (('id="', '"'), ('href="#', '"'), ("url(#", ")")):
        del end
        svg = svg.replace(mark, f"{mark}{name}-")
    return svg


def steps_label(axes: Axes, most: float) -> None:
    """Names the axis of steps, which begins at 0, and writes its thousands short."""
    axes.set_xlim(-0.02 * most, 1.04 * max(most, 1.0))
    axes.set_xlabel("step")
    if most >= 10000:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
