"""Tasks: documents (`<task>.yaml`), and a module of the same name for what data cannot say.

A task's module offers `build_answers(raw, spec)` and `read_examples(raw, spec, split, answers)`, or
`prepare(...)` where its examples are of another kind, `score_official(raw, part, examples, predictions)`, and
`left_out_scores(official)` where the publisher's script gives more.
Names are file stems; adding a file adds a task.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from lxmert.errors import DataError, SpecError, suggest
from lxmert.specs import document_names, read_document


def task_names() -> list[str]:
    """Every task that has a document, sorted."""
    return document_names("task")


def task_spec(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The task's document: the one in the job spec, else the shipped one.

    Raises:
        SpecError: no such task, or the job spec speaks of another one.
    """
    document = spec.get("task")
    if not isinstance(document, dict):
        return read_document("task", name)
    if document.get("task") != name:
        raise SpecError(
            f"--spec describes task {document.get('task')}, while --task says {name}. Give one of them."
        )
    return document


def task_module(task: dict[str, Any]) -> ModuleType:
    """The module of a task: the file of its name, or of the task it says its examples are like."""
    return importlib.import_module(f"lxmert.tasks.{task.get('like', task['task'])}")


def split_module(task: dict[str, Any], split: str) -> ModuleType:
    """The module that reads a split: its task's, unless the split says that it is like another task's."""
    part = task["splits"][split]
    return importlib.import_module(f"lxmert.tasks.{part['like']}") if "like" in part else task_module(task)


def split_spec(task: dict[str, Any], split: str) -> dict[str, Any]:
    """What the document says of one split.

    Raises:
        DataError: the task has no such split.
    """
    splits = task["splits"]
    if split not in splits:
        raise DataError(f"{split}: task {task['task']} has no such split.{suggest(split, splits)}")
    found = splits[split]
    assert isinstance(found, dict)
    return found
