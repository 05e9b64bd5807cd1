"""Names of other programs' tensors and ours: a key map document, and translation both ways.

Translation moves :class:`Stored` tensors, which know their shape and are read when they are written, so
that a model is converted without being held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lxmert.errors import SpecError, WeightsError

_THIRDS = {"query": 0, "key": 1, "value": 2}


@dataclass(frozen=True)
class Stored:
    """A tensor that lies somewhere.

    Attributes:
        shape: its lengths.
        dtype: its number format.
        read: gives it; may read a file.
        parts: the tensors it is stacked from, along the first axis; empty if it lies in one piece.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    parts: tuple[Stored, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, tensor: Tensor) -> Stored:
        """A tensor in memory; reading it gives the very same."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    @classmethod
    def stack(cls, parts: Sequence[Stored]) -> Stored:
        """Three tensors of equal width and format, one below the other."""
        first = parts[0]
        shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
        return cls(shape, first.dtype, lambda: torch.cat([part.read() for part in parts]), tuple(parts))

    def third(self, number: int) -> Stored:
        """One of three equal parts along the first axis; a view where the tensor is in memory."""
        if self.parts:
            return self.parts[number]
        shape = (self.shape[0] // 3, *self.shape[1:])
        return Stored(shape, self.dtype, lambda: self.read().chunk(3)[number])


@dataclass(frozen=True)
class KeyRule:
    """One line of a key map: a pattern of another program's names and where it goes.

    Attributes:
        theirs: name with {} for a number.
        ours: our name with {} for the same number.
        rows: which third of our tensor's rows it fills (0, 1, 2), or None for the whole.
        tied_with: for a second name of a tensor that another rule fills: our tensor that must be there
            for the second name to be written.
    """

    theirs: str
    ours: str
    rows: int | None = None
    tied_with: str | None = None


class KeyMap:
    """A key map document, ready to translate names and tensors both ways.

    Args:
        document: {names: {theirs: ours or {to, rows, tied_with}}, prefixes: [{from, to}], suffixes: [{from,
            to}], dialects: {name: {prefix: prefix}}, ignored: {theirs: reason}}.
        shown: how messages name the document.

    Raises:
        SpecError: a rule that cannot be read.
    """

    def __init__(self, document: Mapping[str, Any], shown: str = "keys.yaml") -> None:
        self.shown = shown
        self.prefixes = [(item["from"], item["to"]) for item in document.get("prefixes", [])]
        self.suffixes = [(item["from"], item["to"]) for item in document.get("suffixes", [])]
        self.dialects: dict[str, dict[str, str]] = dict(document.get("dialects", {}))
        self.rules = [self._rule(theirs, value) for theirs, value in document["names"].items()]
        self._ignored = [(_pattern(name), why) for name, why in document.get("ignored", {}).items()]
        self._rules = [(_pattern(rule.theirs), rule) for rule in self.rules]
        self._ours: dict[str, list[KeyRule]] = {}
        for rule in self.rules:
            self._ours.setdefault(rule.ours, []).append(rule)

    def _rule(self, theirs: str, value: str | Mapping[str, Any]) -> KeyRule:
        if isinstance(value, str):
            return KeyRule(theirs, value)
        rows = value.get("rows")
        if "to" not in value or (rows is not None and rows not in _THIRDS):
            raise SpecError(f'{self.shown}: names/{theirs}: needs "to", and rows query, key or value.')
        third = None if rows is None else _THIRDS[rows]
        return KeyRule(theirs, value["to"], third, value.get("tied_with"))

    def normalise(self, name: str) -> str:
        """The name without what other writers put before it, its ending in the usual spelling."""
        for before, after in self.prefixes:
            if name.startswith(before):
                name = after + name[len(before) :]
        for before, after in self.suffixes:
            if name.endswith(before):
                name = name[: -len(before)] + after
        return name

    def ignored(self, name: str) -> str | None:
        """Why a (normalised) name is left out knowingly; None if it is not."""
        return next((why for pattern, why in self._ignored if pattern.fullmatch(name)), None)

    def find(self, theirs: str) -> tuple[KeyRule, str] | None:
        """The rule for one of their (normalised) names, and our name; None if no rule fits."""
        for pattern, rule in self._rules:
            match = pattern.fullmatch(theirs)
            if match:
                return rule, rule.ours.format(*match.groups())
        return None

    def theirs(self, ours: str) -> list[tuple[KeyRule, str]]:
        """Rules and their names for one of our names, in the order of the document."""
        general = re.sub(r"(?<=\.)\d+(?=\.)", "{}", ours)
        numbers = re.findall(r"(?<=\.)(\d+)(?=\.)", ours)
        return [(rule, rule.theirs.format(*numbers)) for rule in self._ours.get(general, [])]

    def spell(self, name: str, dialect: str) -> str:
        """One of their usual names as a dialect spells it."""
        for before, after in self.dialects[dialect].items():
            if name.startswith(before):
                return after + name[len(before) :]
        return name


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(re.escape(part) for part in name.split("{}")))


def stored_to_ours(
    state: Mapping[str, Stored], keys: KeyMap, task_head: bool = False
) -> tuple[dict[str, Stored], list[str]]:
    """Another program's tensors under our names; see :func:`to_ours`."""
    whole: dict[str, Stored] = {}
    thirds: dict[str, list[Stored | None]] = {}
    tied: list[tuple[str, str, Stored]] = []
    unknown: list[str] = []
    for original, stored in state.items():
        name = keys.normalise(original)
        if task_head:
            name = name.removeprefix("answer_head.")
        found = keys.find(name)
        if found is None:
            if keys.ignored(name) is None:
                unknown.append(original)
            continue
        rule, ours = found
        if rule.tied_with is not None:
            tied.append((original, ours, stored))
        elif rule.rows is not None:
            parts = thirds.setdefault(ours, [None, None, None])
            if parts[rule.rows] is not None:
                raise WeightsError(f"{original}: given twice under different names; keep one of them.")
            parts[rule.rows] = stored
        elif ours in whole:
            raise WeightsError(f"{original}: given twice under different names; keep one of them.")
        else:
            whole[ours] = stored
    for ours, parts in thirds.items():
        absent = [name for name, row in _THIRDS.items() if parts[row] is None]
        if absent:
            raise WeightsError(f"{ours}: no tensor for {', '.join(absent)}; the weights are incomplete.")
        thirds_found = [part for part in parts if part is not None]
        if len({(part.dtype, part.shape[1:]) for part in thirds_found}) > 1:
            raise WeightsError(
                f"{ours}: query, key and value differ in width or number format; the weights are damaged."
            )
        whole[ours] = Stored.stack(thirds_found)
    for original, ours, stored in tied:
        if ours not in whole:
            whole[ours] = stored
        elif not _same(stored, whole[ours]):
            raise WeightsError(
                f"{original}: differs from the tensor it is tied to ({ours}); export the weights again."
            )
    return whole, unknown


def _same(left: Stored, right: Stored) -> bool:
    if left.shape != right.shape:
        return False
    one, other = left.read(), right.read()
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)


def stored_from_ours(
    state: Mapping[str, Stored], keys: KeyMap, dialect: str, repeat_tied: bool = True
) -> dict[str, Stored]:
    """Our tensors under another program's names; see :func:`from_ours`.

    Args:
        state: tensors by our name.
        keys: the key map.
        dialect: one of the key map's dialects.
        repeat_tied: whether a tied tensor appears under its second name, too.
    """
    named: dict[str, Stored] = {}
    for ours, stored in state.items():
        found = keys.theirs(ours)
        if not found:
            raise WeightsError(f"{ours}: has no name in {keys.shown}; add a line for it.")
        for rule, name in found:
            if rule.tied_with is not None and (not repeat_tied or rule.tied_with not in state):
                continue
            name = keys.spell(name, dialect)
            named[name] = stored if rule.rows is None else stored.third(rule.rows)
    return named


def to_ours(
    state: Mapping[str, Tensor], keys: KeyMap, task_head: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """Another program's tensors under our names, bit for bit.

    Args:
        state: tensors by their name, in any spelling the key map's prefixes cover.
        keys: the key map.
        task_head: take `answer_head.*` for a fine-tuned head (the transformers spelling), not for the
            pretraining one.

    Returns:
        Tensors by our name, and the (original) names no rule covers.

    Raises:
        WeightsError: query, key or value of a layer is missing; a tied tensor differs from its twin;
            two names mean the same tensor.
    """
    stored = {name: Stored.of(tensor) for name, tensor in state.items()}
    found, unknown = stored_to_ours(stored, keys, task_head)
    return {name: value.read() for name, value in found.items()}, unknown


def from_ours(state: Mapping[str, Tensor], keys: KeyMap, dialect: str) -> dict[str, Tensor]:
    """Our tensors under another program's names, bit for bit; the inverse of :func:`to_ours`.

    Thirds of stacked matrices are views; a tied tensor appears under both names.

    Args:
        state: tensors by our name.
        keys: the key map.
        dialect: one of the key map's dialects.

    Raises:
        WeightsError: a tensor has no name there.
    """
    stored = {name: Stored.of(tensor) for name, tensor in state.items()}
    return {name: value.read() for name, value in stored_from_ours(stored, keys, dialect).items()}


def usual_names(names: Iterable[str], keys: KeyMap, task_head: bool = False) -> dict[str, str]:
    """Their names in the usual spelling -> as they stand in the file.

    Raises:
        WeightsError: two names mean the same tensor.
    """
    usual: dict[str, str] = {}
    for name in names:
        normal = keys.normalise(name)
        if task_head:
            normal = normal.removeprefix("answer_head.")
        if normal in usual:
            raise WeightsError(f"{name}: given twice under different names; keep one of them.")
        usual[normal] = name
    return usual
