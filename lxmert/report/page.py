"""The report as one HTML page that needs nothing beside it: no script, no network, no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lxmert.report.figures import Picture
from lxmert.report.panels import Panel, truth_text, verdict, webp

_CSS = Path(__file__).with_name("page.css")


class Page:
    """Gathers sections, then gives the page.

    Args:
        title: of the page.
        lead: a sentence below it.
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title, self._lead = title, lead
        self._sections: list[tuple[str, list[str]]] = []

    def section(self, heading: str) -> None:
        """Begins a section; what follows goes into it."""
        self._sections.append((heading, []))

    def heading(self, text: str) -> None:
        """A heading within the section."""
        self._add(f"<h3>{escape(text)}</h3>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add(f"<p>{escape(text)}</p>")

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool] | None = None
    ) -> None:
        """A table; columns of numbers are flush right, the first column is the row's name.

        Args:
            headings: of the columns.
            rows: cells.
            numbers: which columns hold numbers; those whose every cell looks like one by default.
        """
        flush = numbers or [all(_is_number(row[place]) for row in rows) for place in range(len(headings))]
        marks = [' class="n"' if right else "" for right in flush]
        cells = "".join(
            f"<th{mark} scope=col>{escape(text)}</th>" for mark, text in zip(marks, headings, strict=True)
        )
        body = []
        for row in rows:
            first, *rest = [(mark, escape(text)) for mark, text in zip(marks, row, strict=True)]
            body.append(
                f"<tr><th{first[0]} scope=row>{first[1]}</th>"
                + "".join(f"<td{mark}>{text}</td>" for mark, text in rest)
                + "</tr>"
            )
        self._add(
            f'<div class="wide"><table><thead><tr>{cells}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )

    def picture(self, picture: Picture) -> None:
        """A figure with its caption."""
        if picture.svg:
            caption = escape(picture.caption, quote=True)
            inner = picture.svg.replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
        else:
            inner = _image(picture.png, "image/png", picture.caption, picture.width, picture.height)
        self._add(f"<figure>{inner}<figcaption>{escape(picture.caption)}</figcaption></figure>")

    def pictures(self, files: Sequence[tuple[bytes, str, int, int]]) -> None:
        """WebP pictures in a grid: (file bytes, what it shows, width, height) each."""
        images = "".join(_image(data, "image/webp", alt, width, height) for data, alt, width, height in files)
        self._add(f'<div class="grid pictures">{images}</div>')

    def panels(self, panels: Sequence[Panel]) -> None:
        """Example panels in a grid."""
        pair = any(len(panel.images) > 1 for panel in panels)
        cards = "".join(map(_card, panels))
        self._add(f'<div class="grid{" pairs" if pair else ""}">{cards}</div>')

    def _add(self, html: str) -> None:
        self._sections[-1][1].append(html)

    def html(self) -> str:
        """The whole page."""
        names = [(f"s{number}", heading) for number, (heading, _) in enumerate(self._sections, 1)]
        links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading in names)
        body = "\n".join(
            f'<section id="{name}"><h2>{escape(heading)}</h2>\n' + "\n".join(parts) + "\n</section>"
            for (name, heading), (_, parts) in zip(names, self._sections, strict=True)
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self._title)}</title>\n<style>\n{_CSS.read_text(encoding='utf-8')}</style></head>\n"
            f"<body><header><h1>{escape(self._title)}</h1><p>{escape(self._lead)}</p><nav>{links}</nav></header>\n"
            f"<main>\n{body}\n</main></body></html>\n"
        )


def _card(panel: Panel) -> str:
    case = panel.case
    images = "".join(
        _image(webp(image), "image/webp", f"{case.images[place]} with boxes", image.width, image.height)
        for place, image in enumerate(panel.images)
    )
    rows = [("right answer", escape(truth_text(case)), "")]
    rows.append(("answered", escape(case.answer), _mark(case.score)))
    if case.blind_answer is not None:
        rows.append(("without image", escape(case.blind_answer), _mark(case.blind_score)))
    facts = "".join(f"<dt>{name}</dt><dd>{answer} {mark}</dd>" for name, answer, mark in rows)
    return (
        f'<article class="{"good" if case.is_right else "bad"}"><div class="images">{images}</div>'
        f"<h4>{escape(case.text)}</h4><dl>{facts}</dl><small>{escape(case.id)}</small></article>"
    )


def _mark(score: float) -> str:
    return f'<b class="{"good" if score >= 0.5 else "bad"}">{verdict(score)}</b>'


def _image(data: bytes, kind: str, alt: str, width: int, height: int) -> str:
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    alt = escape(alt, quote=True)
    return f'<img src="{source}" alt="{alt}" width="{width}" height="{height}" loading="lazy">'


def _is_number(text: str) -> bool:
    return text in ("", "–") or text.replace(" ", "").replace(".", "", 1).removesuffix("MB").isdigit()
