"""Fetches assets in forked children that kill themselves, as SIGKILL would, before their n-th file operation.

One JSON object a line on stdin, {"catalogue", "root", "kill_at"}; one line on stdout for each: `killed`,
`done` or `failed`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from asset_tools import SHORT

import lxmert.data.raw_json
import lxmert.protobuf  # noqa: F401 (both would be imported in the child, whose file operations count)
from lxmert.assets.asset import Asset
from lxmert.assets.catalogue import load_catalogue
from lxmert.assets.fetch import fetch
from lxmert.assets.places import Places, Settings

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


def child(asset: Asset, root: Path, kill_at: int) -> None:
    left = kill_at

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in OPERATIONS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    fetch(asset, Places(root), Settings(), SHORT)


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        asset = load_catalogue(Path(job["catalogue"]))["thing"]
        process = os.fork()
        if process == 0:
            status = 1
            try:
                child(asset, Path(job["root"]), job["kill_at"])
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(process, 0)
        words = {0: "done", -signal.SIGKILL: "killed"}
        print(words.get(os.waitstatus_to_exitcode(status), "failed"), flush=True)


if __name__ == "__main__":
    main()
