"""What a conversion did with every tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """The account of one conversion; its document is written beside the weights.

    Attributes:
        source: kind, files with size and checksum.
        tensors: one row a tensor: from, to, both shapes, rule.
        ignored: tensors that are in the file and not in the network, each with the reason.
        permutations: what was done to rows, by tensor.
        counts: elements by part of the network.
        warnings: what a reader should look at.
    """

    source: dict[str, Any]
    tensors: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[dict[str, Any]] = field(default_factory=list)
    permutations: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def took(self, source: str, target: str, source_shape: Any, target_shape: Any, rule: str) -> None:
        """Notes one tensor that was used."""
        self.tensors.append(
            {
                "from": source,
                "to": target,
                "from_shape": list(source_shape),
                "to_shape": list(target_shape),
                "rule": rule,
            }
        )
        if rule not in ("same", "divided by the norm's factor"):
            self.permutations[target] = rule

    def ignore(self, source: str, shape: Any, why: str) -> None:
        """Notes one tensor that the network does not have."""
        self.ignored.append({"from": source, "shape": list(shape), "why": why})

    def document(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "source": self.source,
            "tensors": self.tensors,
            "ignored": self.ignored,
            "permutations": self.permutations,
            "counts": self.counts,
            "facts": self.facts,
            "warnings": self.warnings,
        }
