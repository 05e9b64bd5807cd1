"""What the graph asks of a configuration: files and image sets of each job, and its job spec."""

from __future__ import annotations

from lxmert.specs.files import CRAWL
from lxmert.specs.job_specs import JobSpecs
from lxmert.specs.runs import Document

__all__ = ["CRAWL", "Plan", "load_plan"]


class Plan(JobSpecs):
    """A resolved configuration, and what follows from it for the graph."""


def load_plan(config: Document, where: str = "config.yaml") -> Plan:
    """A configuration, resolved against the documents it names.

    Args:
        config: what config.yaml holds, overlays merged.
        where: the name of the file in messages.

    Raises:
        SpecError: something in it is wrong; every mistake that can be seen, one a line.
    """
    return Plan(config, where)
