"""No file that someone made can run code when we read it: nothing reads unrestricted pickles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# Modules that rebuild whatever a file names. lxmert/pickles.py reads pickles of plain numbers by itself.
READERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
READS = {"load", "loads", "Unpickler", "_Unpickler", "_load", "_loads", "open"}


def unsafe(source: str) -> list[str]:
    """Line and cause of everything in a module that could run what a file says."""
    tree = ast.parse(source)
    modules = {
        (alias.asname or alias.name): alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    return sorted(f"{node.lineno}: {why}" for node in ast.walk(tree) for why in _causes(node, modules))


def _causes(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in READERS:
        yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name in READS | {"*"})
    if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization"):
        yield from ("torch.load by another name" for alias in node.names if alias.name in ("load", "*"))
    if isinstance(node, ast.Attribute):
        module = modules.get(ast.unparse(node.value), "")
        if module.split(".")[0] in READERS and node.attr in READS:
            yield f"{module}.{node.attr}"
        if node.attr == "read_pickle":
            yield "read_pickle"
    if isinstance(node, ast.Call):
        named = {item.arg: item.value for item in node.keywords}
        allowed = named.get("allow_pickle")
        if allowed is not None and getattr(allowed, "value", None) is not False:
            yield "allow_pickle"
        module, _, name = ast.unparse(node.func).rpartition(".")
        of_torch = module in ("torch", "torch.serialization", "torch.jit") or modules.get(module) == "torch"
        if of_torch and name == "load" and getattr(named.get("weights_only"), "value", None) is not True:
            yield "torch.load without weights_only=True"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "import pickle\nclass U(pickle.Unpickler): pass",
        "from pickle import Unpickler",
        "from _pickle import loads as safe",
        "import joblib\njoblib.load(f)",
        "import marshal\nread = marshal.loads",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import torch\ntorch.load(f, weights_only=trusted)",
        "import torch as t\nt.load(f, map_location='cpu')",
        "from torch import load",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f, allow_pickle=wanted)",
        "import pandas as pd\npd.read_pickle(f)",
    ],
)
def test_it_is_noticed(source: str) -> None:
    assert len(unsafe(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.dump(x, f)\ntry: pass\nexcept pickle.UnpicklingError: pass",
        "import torch\ntorch.load(f, map_location='cpu', weights_only=True)",
        "import numpy as np\nnp.load(f)\nnp.load(f, allow_pickle=False)",
        "import json\njson.load(f)\njson.loads(b)",
    ],
)
def test_what_is_safe_passes(source: str) -> None:
    assert unsafe(source) == []


def test_nothing_of_ours_reads_unrestricted_pickles(root: Path) -> None:
    paths = [*(root / "lxmert").rglob("*.py"), *(root / "workflow").rglob("*.py")]
    assert len(paths) > 200
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}
    assert {f"{name}:{line}" for name, text in texts.items() for line in unsafe(text)} == set()
