"""Connections that never lead to a machine of this network, whatever name or redirect says so."""

from __future__ import annotations

import ipaddress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class LocalAddress(OSError):
    """A name of the open web led to a machine of this network."""


def is_local(host: str) -> bool:
    """Whether a numeric address is none of the open web; names are not looked up."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not address.is_global or address.is_multicast


class GuardedAdapter(HTTPAdapter):
    """Connections that hang up before the first byte if they lead to a local machine of any name."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._pools = {
            "http": _guarded_pool(HTTPConnectionPool, HTTPConnection, trusted),
            "https": _guarded_pool(HTTPSConnectionPool, HTTPSConnection, trusted),
        }
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
        """Pools whose connections are looked at as they are made."""
        super().init_poolmanager(*arguments, **settings)
        self.poolmanager.pool_classes_by_scheme = self._pools


def _guarded_pool(pool: Any, connection: Any, trusted: frozenset[str]) -> Any:
    class Guarded(connection):  # type: ignore[misc]
        def _new_conn(self) -> Any:
            made = super()._new_conn()
            peer = str(made.getpeername()[0])
            if is_local(peer) and f"{self.host}:{self.port}" not in trusted:
                made.close()
                raise LocalAddress(f"{self.host} is a local address")
            return made

    class GuardedPool(pool):  # type: ignore[misc]
        ConnectionCls = Guarded

    return GuardedPool
