"""Spec documents: where they lie, how they are read, and how one is laid over another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lxmert.errors import SpecError, suggest

PACKAGE = Path(__file__).resolve().parents[1]
SCHEMAS = PACKAGE.parent / "workflow" / "schemas"

# kind of document -> pattern below the package. The name is the file's stem, or the folder's for systems.
KINDS = {
    "corpus": "corpora/*.yaml",
    "dataset": "datasets/*.yaml",
    "system": "systems/*/system.yaml",
    "task": "tasks/*.yaml",
    "detector_size": "detector/sizes/*.yaml",
    "detector_recipe": "detector/recipes/*.yaml",
    "profile": "detector/profiles/*.yaml",
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which a key may stand only once."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f'"{key.value}" stands twice', problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, shown: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: the file.
        shown: how messages name it; its path by default.

    Raises:
        SpecError: it cannot be read, is not YAML (with line and column), repeats a key or is no mapping.
    """
    shown = shown or str(path)
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a safe loader)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{shown}: cannot be read ({error}).") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(f"{shown}{place}: not valid YAML: {error.problem}. Mend that line.") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{shown}: not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(value, dict):
        raise SpecError(f"{shown}: must hold `name: value` lines, holds {type(value).__name__}.")
    return value


def document_path(kind: str, name: str) -> Path:
    """The file of a document, there or not."""
    return PACKAGE / KINDS[kind].replace("*", name)


def document_names(kind: str) -> list[str]:
    """Names of the documents of a kind, sorted."""
    paths = PACKAGE.glob(KINDS[kind])
    return sorted(path.parent.name if kind == "system" else path.stem for path in paths)


def recipe_path(system: str, name: str) -> Path:
    """The recipe of a system for a task or for `pretrain`."""
    return PACKAGE / "systems" / system / "recipes" / f"{name}.yaml"


def recipe_names(system: str) -> list[str]:
    """Tasks, and `pretrain`, for which a system has a recipe, sorted."""
    return sorted(path.stem for path in recipe_path(system, "any").parent.glob("*.yaml"))


def objective_names() -> list[str]:
    """Pretraining objectives, sorted: each has a file of its name."""
    return sorted(path.stem for path in (PACKAGE / "objectives").glob("[a-z]*.py"))


def shown(path: Path) -> str:
    """A document's path as messages show it, from the root of the checkout."""
    return path.relative_to(PACKAGE.parent).as_posix()


def read_document(kind: str, name: str) -> dict[str, Any]:
    """A shipped document, unchecked.

    Raises:
        SpecError: there is none of that name, or it is no YAML mapping.
    """
    path = document_path(kind, name)
    if not path.is_file():
        raise SpecError(f"{name}: unknown {kind.replace('_', ' ')}.{suggest(name, document_names(kind))}")
    return read_yaml(path, shown(path))


def merge(base: Any, over: Any) -> Any:
    """`over` laid on `base` key by key; anything that is not a mapping on both sides is replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}
