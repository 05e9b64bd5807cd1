"""Where a job computes."""

from __future__ import annotations

import pytest
import torch

from lxmert.devices import pick_device
from lxmert.errors import SpecError


def test_no_gpu_is_the_cpu_with_its_threads() -> None:
    assert pick_device(0, 1).type == "cpu" and torch.get_num_threads() == 1


def test_devices_that_cannot_be_had_are_one_line() -> None:
    with pytest.raises(SpecError, match="--gpus 2: one process uses one device so far"):
        pick_device(2, 1)
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match="--gpus 1: 0 devices are visible"):
            pick_device(1, 1)
