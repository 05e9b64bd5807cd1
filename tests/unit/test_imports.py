"""Imports point one way, and what a dry run imports stays light."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

BASE = {
    *(
        "__init__",
        "errors",
        "files",
        "memory",
        "pickles",
        "pillow",
        "progress",
        "protobuf",
        "slurm",
        "specs",
        "state",
    ),
    "types",
}
# What each folder or module may import beside the base and itself. Verbs (*_cli.py, cli.py) may import
# anything.
LAYERS: dict[str, set[str]] = {
    **{name: set() for name in BASE},
    "devices": set(),
    "world": set(),
    "metrics": set(),
    "assets": {"data"},
    "data": set(),
    "kernels": set(),
    "detector": {"data", "kernels"},
    "models": {"data", "kernels", "objectives"},
    "objectives": {"data", "models"},
    "convert": {"data", "models"},
    "tasks": {"data", "metrics"},
    "splits": {"data", "tasks"},
    "custom": {"data", "detector", "metrics", "tasks"},
    "training": {
        "convert",
        "data",
        "detector",
        "devices",
        "kernels",
        "metrics",
        "models",
        "objectives",
        "tasks",
    },
    "registry": {"tasks"},
    "report": {"data", "detector", "metrics", "models", "tasks"},
    "systems": set(),
}
# A region store answers for its own fingerprint, asked inside the function.
EXCEPTIONS = {("files", "lxmert.data")}
# Never at import: the base and the scorers run without them.
HEAVY = {"torch", "torchvision", "transformers", "pandas", "matplotlib", "tokenizers", "snakemake"}
LIGHT = BASE | {"metrics"}


@functools.cache
def sources(root: Path) -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name below `lxmert`."""
    found = {}
    for path in sorted((root / "lxmert").rglob("*.py")):
        name = ".".join(path.relative_to(root / "lxmert").with_suffix("").parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    assert len(found) > 60
    return found


def imported(tree: ast.AST, top_level_only: bool = False) -> set[str]:
    """Dotted names of the modules that a module imports."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and "TYPE_CHECKING" in ast.dump(node.test)
        or top_level_only
        and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            names |= {node.module or ""}
            if node.module == "lxmert":
                names |= {f"lxmert.{alias.name}" for alias in node.names}
    return names


def test_imports_point_one_way(root):
    wrong = []
    for name, tree in sources(root).items():
        layer = name.split(".")[0]
        if name in ("cli", "__main__") or name.endswith("cli"):
            continue
        assert layer in LAYERS, f"lxmert/{layer} has no layer; give it one here"
        allowed = LAYERS[layer] | BASE | {layer}
        for other in imported(tree):
            if other.startswith("lxmert."):
                target = other.split(".")[1]
                if target not in allowed | {"__version__"} and (name, other) not in EXCEPTIONS:
                    wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_nothing_but_verbs_imports_a_verb(root):
    wrong = [
        f"{name} imports {other}"
        for name, tree in sources(root).items()
        for other in imported(tree)
        if other.startswith("lxmert.")
        and other.endswith("cli")
        and not name.endswith("cli")
        and name != "__main__"
    ]
    assert wrong == []


def test_light_modules_import_nothing_heavy(root):
    wrong = [
        f"{name} imports {other}"
        for name, tree in sources(root).items()
        if name.split(".")[0] in LIGHT
        for other in imported(tree, top_level_only=True)
        if other.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_metrics_never_import_torch(root):
    trees = {name: tree for name, tree in sources(root).items() if name.startswith("metrics.")}
    assert len(trees) >= 3
    assert not [
        name for name, tree in trees.items() if any(o.split(".")[0] == "torch" for o in imported(tree))
    ]


@pytest.mark.parametrize(
    "module", ["lxmert.specs", "lxmert.cli", "lxmert.metrics", "lxmert.world.cli", "lxmert.data.images_cli"]
)
def test_torch_stays_out(root, module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_a_plan_is_made_without_torch_or_numpy(root):
    code = (
        "import sys\n"
        "from lxmert.specs import load_plan\n"
        "load_plan({})\n"
        "sys.exit(bool({'torch', 'numpy', 'pandas', 'snakemake'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_verbs_say_whether_they_start_workers(root):
    """The command line warns where --workers would do nothing."""
    saying, using = set(), set()
    for name, tree in sources(root).items():
        if name.endswith("_cli"):
            nodes = list(ast.walk(tree))
            saying |= {name for node in nodes if isinstance(node, ast.Name) and node.id == "USES_WORKERS"}
            using |= {name for node in nodes if isinstance(node, ast.Attribute) and node.attr == "workers"}
    assert saying == using and len(using) == 6
