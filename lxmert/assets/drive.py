"""Google Drive, which puts a page before large files that it cannot scan for viruses."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import requests

from lxmert.assets.answers import BadContent, refuse_page

_PAGE_BYTES = 1 << 20


def is_drive(url: str) -> bool:
    """Whether an address is one of Google Drive's downloads."""
    return "export=download" in url


def is_page(response: requests.Response) -> bool:
    """Whether an answer is a page rather than data."""
    return response.status_code == 200 and response.headers.get("Content-Type", "").startswith("text/html")


class _Form(HTMLParser):
    """Address and hidden values of the form that confirms a download."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form" and values.get("id") in ("download-form", "downloadForm"):
            self.action = values.get("action")
        elif tag == "input" and values.get("type") == "hidden" and self.action and values.get("name"):
            self.values[str(values["name"])] = values.get("value") or ""
        elif tag == "a" and "confirm=" in (values.get("href") or "") and not self.action:
            self.action = values["href"]


def confirmed(response: requests.Response) -> str:
    """The address behind the page.

    Raises:
        BadContent: the page has none; it is one about quota or access.
    """
    page = response.raw.read(_PAGE_BYTES, decode_content=True) or b""
    form = _Form()
    form.feed(page.decode("utf-8", "replace"))
    if not form.action:
        refuse_page(page)
        raise BadContent("gives a page without a download")
    address = requests.Request("GET", urljoin(response.url, form.action), params=form.values).prepare().url
    if address is None or urlsplit(address).scheme not in ("http", "https"):
        raise BadContent("gives a page whose download is no web address")
    return address
