"""Jobs in the order in which their hosts can be asked: few at a time of each, with pauses between."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
_POLL_SECONDS = 0.2


class Hosts(Generic[Job]):
    """A queue that many threads take from.

    Args:
        per_host: jobs of one host at the same time.
        interval_seconds: between the beginnings of two jobs of one host.
        failures: a host that could not be reached so often in a row is given up.
    """

    def __init__(self, per_host: int, interval_seconds: float, failures: int) -> None:
        self._per_host, self._interval, self._limit = per_host, interval_seconds, failures
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Job]] = {}
        self._busy: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._until: dict[str, float] = {}
        # Hosts with something to do and room for it, by when they may be asked; each at most once.
        self._ready: list[tuple[float, int, str]] = []
        self._listed: set[str] = set()
        self._given_up: set[str] = set()
        self._open = self._number = 0

    def add(self, host: str, job: Job) -> None:
        """Puts a job behind the others of its host."""
        with self._changed:
            self._waiting.setdefault(host, deque()).append(job)
            self._open += 1
            self._list(host)
            self._changed.notify()

    def take(self, stopped: Callable[[], bool]) -> tuple[str, Job] | None:
        """The next job, once its host may be asked; None when all are done or `stopped` says so.

        Whoever takes a job must `release` its host.
        """
        with self._changed:
            while self._open and not stopped():
                host, wait = self._next()
                if host is not None:
                    job = self._waiting[host].popleft()
                    self._busy[host] += 1
                    self._until[host] = time.monotonic() + self._interval
                    self._list(host)
                    return host, job
                self._changed.wait(min(wait, _POLL_SECONDS))
        return None

    def release(
        self,
        host: str,
        reached: bool,
        again: Job | None = None,
        pause_seconds: float = 0.0,
        give_up: bool = False,
    ) -> list[Job]:
        """Ends a job.

        Args:
            host: whose it was.
            reached: whether the host answered at all.
            again: a job to put before the others of the host.
            pause_seconds: how long the host is left alone.
            give_up: no other job of the host is to be taken.

        Returns:
            Jobs that nobody will take, as their host is given up.
        """
        with self._changed:
            self._busy[host] -= 1
            self._open -= 1
            self._failed[host] = 0 if reached else self._failed[host] + 1
            self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + pause_seconds)
            if again is not None:
                self._waiting[host].appendleft(again)
                self._open += 1
            left: list[Job] = []
            if give_up:
                self._given_up.add(host)
            if host in self._given_up or self._failed[host] >= self._limit:
                left = list(self._waiting[host])
                self._waiting[host].clear()
                self._open -= len(left)
            self._list(host)
            self._changed.notify_all()
            return left

    def _list(self, host: str) -> None:
        if host not in self._listed and self._waiting[host] and self._busy[host] < self._per_host:
            self._listed.add(host)
            self._number += 1
            heapq.heappush(self._ready, (self._until.get(host, 0.0), self._number, host))

    def _next(self) -> tuple[str | None, float]:
        """A host that may be asked now, or none and how long that lasts."""
        now = time.monotonic()
        while self._ready:
            when, _, host = self._ready[0]
            if when > now:
                return None, when - now
            heapq.heappop(self._ready)
            self._listed.remove(host)
            if self._until.get(host, 0.0) > now:  # it was given a pause while it stood here
                self._list(host)
            elif self._waiting[host] and self._busy[host] < self._per_host:
                return host, 0.0
        return None, _POLL_SECONDS
