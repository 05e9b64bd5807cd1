"""Web addresses that people write: whether they can be asked at all."""

from __future__ import annotations

from urllib.parse import urlsplit

from lxmert.errors import SpecError

SCHEMES = ("https", "http", "file")


def refuse_address(url: str, where: str) -> None:
    """Nothing, or an error if an address is none.

    Args:
        url: what is written.
        where: which setting it is written in.

    Raises:
        SpecError: it has no host, another scheme, or cannot be taken apart.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SpecError(f"{where}: {url!r} is no web address ({error}). {_REMEDY}") from error
    if parts.scheme not in SCHEMES:
        raise SpecError(f"{where}: {url!r} begins with none of {', '.join(SCHEMES)}. {_REMEDY}")
    if not host and parts.scheme != "file":
        raise SpecError(f"{where}: {url!r} names no host. {_REMEDY}")


_REMEDY = "Write https://HOST/FOLDER, file:///FOLDER or the path of a folder."
