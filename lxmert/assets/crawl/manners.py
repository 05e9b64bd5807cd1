"""How the web is asked, towards every host alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from lxmert.assets.crawl.web import Bounds

# Unrelated pictures of dev and test1 are as near as this in 1 pair of 7 000, by the published hashes; another
# decoder, or a copy at another size, changes fewer bits.
TOLERANCE_BITS = 4


@dataclass(frozen=True)
class Manners:
    """How the web is asked.

    Attributes:
        connections: addresses asked at the same time.
        per_host: of these, of one host.
        interval_seconds: between two of one host.
        attempts: for an address that may do better.
        backoff_seconds: how long its host is left alone then; doubled for each further attempt.
        backoff_limit_seconds: never longer; a host that asks for more is left to the next crawl, whatever
            else is wanted of it.
        host_failures: a host out of reach so often in a row is given up for this crawl.
        first_failures: if so many addresses are out of reach and none was ever reached, nothing will be.
        tolerance_bits: of the hash.
        bounds: of one address.
    """

    connections: int = 48
    per_host: int = 2
    interval_seconds: float = 0.2
    attempts: int = 3
    backoff_seconds: float = 4.0
    backoff_limit_seconds: float = 120.0
    host_failures: int = 4
    first_failures: int = 200
    tolerance_bits: int = TOLERANCE_BITS
    bounds: Bounds = field(default_factory=Bounds)
