"""Connections that never lead to a machine of this network, whatever name or redirect says so."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# NAT64, and the old form of an IPv4 address, which ends in it.
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


class LocalAddress(OSError):
    """A name of the open web led to a machine of this network."""


def is_local(host: str) -> bool:
    """Whether an address, in any of its spellings, is none of the open web; names are not looked up."""
    name = host.partition("%")[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            # As resolvers read them: 127.1, 2130706433, 0x7f000001.
            address = ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, UnicodeError):
            return False
    wrapped = _wrapped(address) if isinstance(address, ipaddress.IPv6Address) else []
    return any(not one.is_global or one.is_multicast for one in wrapped or [address])


def _wrapped(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses that one of IPv6 stands for, where some gateway unwraps it."""
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address.sixtofour:
        return [address.sixtofour]
    if address.teredo:
        return list(address.teredo)
    if any(address in network for network in _EMBEDDING):
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return []


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
