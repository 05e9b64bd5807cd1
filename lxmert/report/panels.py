"""Example panels: an image with boxes, the question, the right answer, and what was answered."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from lxmert.progress import track
from lxmert.report.cases import Case
from lxmert.report.drawing import font
from lxmert.report.figures import Picture
from lxmert.report.regions import ImageDrawer

_SIDE_PX = 400
_QUALITY = 86
# The sheet that is a picture file.
_TEXT_PX, _GAP_PX, _COLUMN_PX = 17, 18, 400
_GREEN, _RED, _INK, _FAINT, _LINE = "#1b7f4f", "#c0303f", "#1c2127", "#68717b", "#d5dade"


@dataclass(frozen=True)
class Panel:
    """A case with its images drawn.

    Attributes:
        case: what was asked and answered.
        images: RGB, one for each image of the case that can be drawn.
    """

    case: Case
    images: list[Image.Image]


def make_panels(cases: Sequence[Case], drawer: ImageDrawer, label: str) -> list[Panel]:
    """Draws the images of some cases.

    Raises:
        DataError: an image is missing or cannot be read.
    """
    drawer.look_up(key for case in cases for key in case.images)
    panels = []
    for case in track(cases, len(cases), "panels", label):
        words = " ".join([case.text, case.answer, *(answer for answer, _ in case.truth)])
        drawn = (drawer.draw(key, words, _SIDE_PX) for key in case.images)
        panels.append(Panel(case, [image for image in drawn if image is not None]))
    return panels


def webp(image: Image.Image) -> bytes:
    """An image as WebP, for a page."""
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_QUALITY, method=4)
    return out.getvalue()


def truth_text(case: Case, most: int = 3) -> str:
    """The label as people read it; scores only where they are soft."""
    shown = case.truth[:most]
    if len(shown) == 1 and shown[0][1] >= 1:
        return shown[0][0]
    return ", ".join(f"{answer} ({100 * score:.0f} %)" for answer, score in shown)


def verdict(score: float) -> str:
    """A mark with a word: right, partly right or wrong."""
    if score >= 1:
        return "✓ right"
    return f"✓ {100 * score:.0f} %" if score >= 0.5 else f"✗ {100 * score:.0f} %" if score > 0 else "✗ wrong"


def sheet(panels: Sequence[Panel], name: str, caption: str) -> Picture:
    """All panels as one picture file."""
    pairs = max((len(panel.images) for panel in panels), default=1) > 1
    columns = 2 if pairs else 4
    width = _COLUMN_PX * (2 if pairs else 1)
    cards = [_card(panel, width) for panel in panels]
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) for row in rows]
    size = (
        min(columns, len(cards)) * (width + _GAP_PX) + _GAP_PX,
        sum(heights) + _GAP_PX * (len(rows) + 1),
    )
    canvas = Image.new("RGB", size, "white")
    top = _GAP_PX
    for row, height in zip(rows, heights, strict=True):
        for place, card in enumerate(row):
            canvas.paste(card, (_GAP_PX + place * (width + _GAP_PX), top))
        top += height + _GAP_PX
    out = io.BytesIO()
    canvas.save(out, "PNG", optimize=True)
    return Picture(name, caption, out.getvalue(), width=canvas.width, height=canvas.height)


def _card(panel: Panel, width: int) -> Image.Image:
    """One panel as a picture `width` wide."""
    case, inner = panel.case, width - 24
    images = _side_by_side(panel.images, inner)
    lines: list[tuple[str, str, bool]] = [(line, _INK, True) for line in _wrapped(case.text, inner)]
    colour = _GREEN if case.is_right else _RED
    facts = [(f"right answer: {truth_text(case)}", _FAINT, False),
             (f"answered: {case.answer}   {verdict(case.score)}", colour, True)]  # fmt: skip
    if case.blind_answer is not None:
        facts.append((f"without image: {case.blind_answer}   {verdict(case.blind_score)}", _FAINT, False))
    for text, ink, bold in facts:
        lines += [(line, ink, bold) for line in _wrapped(text, inner, bold)]
    height = 12 + (images.height + 10 if images else 0) + len(lines) * (_TEXT_PX + 7) + 10
    card = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), 8, outline=_LINE, width=1)
    draw.rectangle((0, 8, 4, height - 9), fill=colour)
    top = 12
    if images:
        card.paste(images, (12, top))
        top += images.height + 10
    for text, ink, bold in lines:
        draw.text((12, top), text, font=font(_TEXT_PX, bold), fill=ink)
        top += _TEXT_PX + 7
    return card


def _side_by_side(images: Sequence[Image.Image], width: int) -> Image.Image | None:
    """Images in a row, all at one scale, at most `width` wide."""
    if not images:
        return None
    gap = 8 * (len(images) - 1)
    scale = min(1.0, (width - gap) / sum(image.width for image in images))
    sized = [
        image.resize((int(image.width * scale), max(1, int(image.height * scale))), Image.Resampling.LANCZOS)
        for image in images
    ]
    height = max(image.height for image in sized)
    row = Image.new("RGB", (sum(image.width for image in sized) + gap, height), "white")
    left = 0
    for image in sized:
        row.paste(image, (left, (height - image.height) // 2))
        left += image.width + 8
    return row


def _wrapped(text: str, width: int, bold: bool = True) -> list[str]:
    """Lines of a text that are at most `width` pixels long."""
    face, lines = font(_TEXT_PX, bold), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and face.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
