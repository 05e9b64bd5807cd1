"""Task heads and the warm start of answers."""

from __future__ import annotations

import pytest
import torch

from lxmert.errors import SpecError
from lxmert.models.heads import ClassificationHead, PairClassificationHead, build_head, warm_start_answers
from lxmert.models.layers import initialise
from lxmert.training.building import build_task_model
from lxmert.types import Encoded


def test_a_pair_joins_neighbouring_rows() -> None:
    head = build_head("pair_classification", 4, 2)
    assert isinstance(head, PairClassificationHead)
    initialise(head, 1)
    pooled = torch.randn(6, 4)
    logits = head(Encoded(None, None, pooled))
    assert logits.shape == (3, 2)
    assert torch.allclose(logits[1], head.score(torch.cat([pooled[2], pooled[3]])[None])[0], atol=1e-6)


def test_warm_start_takes_rows_and_zeroes_the_rest() -> None:
    source, target = ClassificationHead(4, 5), ClassificationHead(4, 3)
    initialise(source, 1)
    initialise(target, 2)
    source.outer.bias.data = torch.arange(5.0)
    assert warm_start_answers(target, source, [4, -1, 0]) == 2
    assert torch.equal(target.outer.weight[0], source.outer.weight[4])
    assert torch.equal(target.outer.weight[2], source.outer.weight[0])
    assert target.outer.weight[1].abs().max() == 0
    assert target.outer.bias.tolist() == [4.0, 0.0, 0.0]
    assert torch.equal(target.inner.weight, source.inner.weight)
    assert torch.equal(target.norm.bias, source.norm.bias)


def test_an_unknown_head_is_explained() -> None:
    with pytest.raises(SpecError, match='Did you mean "classification"'):
        build_head("clasification", 4, 2)


class Doubled(ClassificationHead):
    """A head of a system's own."""

    def score(self, pooled: torch.Tensor) -> torch.Tensor:
        return 2 * super().score(pooled)


def test_a_system_names_heads_of_its_own() -> None:
    spec = {
        "seed": 3,
        "system": {"system": "mine", "encoder": "lxmert.models.lxmert:LxmertEncoder"},
        "size": {"hidden": 8, "heads": 2, "intermediate": 8, "language_layers": 1, "relation_layers": 0}
        | {"cross_layers": 1, "max_positions": 4},
        "task": {"head": "classification"},
    }
    assert type(build_task_model(spec, 9, 5, 3).head) is ClassificationHead
    spec["system"]["heads"] = {"classification": f"{__name__}:Doubled"}
    assert type(build_task_model(spec, 9, 5, 3).head) is Doubled
    spec["system"]["heads"] = {"classification": "lxmert.models.heads:Trebled"}
    with pytest.raises(
        SpecError, match='mine/system.yaml: heads/classification: "lxmert.models.heads:Trebled"'
    ):
        build_task_model(spec, 9, 5, 3)
