"""Where a job computes."""

from __future__ import annotations

import logging

import torch

from lxmert.errors import SpecError

log = logging.getLogger(__name__)


def pick_device(gpus: int, threads: int) -> torch.device:
    """The device of this process, with its number of threads set.

    Raises:
        SpecError: more devices are asked for than are visible.
    """
    torch.set_num_threads(threads)
    if gpus == 0:
        device = torch.device("cpu")
    elif gpus > 1:
        raise SpecError(f"--gpus {gpus}: one process uses one device so far. Ask for 1.")
    elif gpus > torch.cuda.device_count():
        raise SpecError(
            f"--gpus {gpus}: {torch.cuda.device_count()} devices are visible."
            " Ask for fewer, or set CUDA_VISIBLE_DEVICES."
        )
    else:
        device = torch.device("cuda", 0)
    log.info("torch %s on %s, %d threads", torch.__version__, device, threads)
    return device
