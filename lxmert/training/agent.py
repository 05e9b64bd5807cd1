"""`torchrun` for the ranks of one command: it starts them and ends them together.

By itself it would print a page of tracebacks when a rank ends badly. What became of the ranks goes into
a file instead, of which the command that started this makes one line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

FOLDER = "LXMERT_RANKS_FOLDER"  # of one command's ranks, for what they have to say
ENDED = "ended.json"  # statuses of the ranks that failed, by rank; below 0 for a signal


def main() -> None:
    """Runs `torchrun` with this process's arguments."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        statuses = {rank: failure.exitcode for rank, failure in error.failures.items()}
        (Path(os.environ[FOLDER]) / ENDED).write_text(json.dumps(statuses))
        sys.exit(1)
    except SignalException:  # the command that started this is gone
        sys.exit(1)


if __name__ == "__main__":
    main()
