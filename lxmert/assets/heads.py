"""What the heads of answers tell, and what is told of a network error."""

from __future__ import annotations

import http.client

import requests
import urllib3

_DIGITS = 20  # of the largest file there can be


def validator(response: requests.Response) -> str | None:
    """What If-Range takes: a strong ETag, else the time of the last change."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return response.headers.get("Last-Modified")


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and whole size of `Content-Range: bytes 5-9/10`."""
    text = response.headers.get("Content-Range", "").removeprefix("bytes").strip()
    span, _, total = text.partition("/")
    return number(span.partition("-")[0]), number(total)


def number(text: str | None) -> int | None:
    """A whole number of a header; None for anything else."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < _DIGITS else None


def retry_after(response: requests.Response) -> float:
    """How many seconds the server asks to be left alone."""
    return float(number(response.headers.get("Retry-After")) or 0)


def network_words(error: Exception) -> str:
    """The cause of a network error without the library's wrapping."""
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "sent nothing for too long"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    if isinstance(cause, (http.client.IncompleteRead, ValueError)):  # ValueError: the length of no chunk
        return "broke off before the end"
    text = " ".join(str(getattr(cause, "strerror", None) or cause).split())
    return f"connection failed ({text[:120] or type(cause).__name__})"
