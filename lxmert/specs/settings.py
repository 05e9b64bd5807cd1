"""A configuration under examination: its mistakes as they gather, and its settings laid over documents."""

from __future__ import annotations

from lxmert.errors import SpecError, suggest
from lxmert.specs.checks import checked, mistakes, partial
from lxmert.specs.documents import document_path, merge, read_document, shown
from lxmert.specs.runs import Document


class Settings:
    """What config.yaml holds, with what is wrong in it; `Resolved` says what its attributes are."""

    config: Document
    _where: str
    _mistakes: list[str]
    _overrides: Document

    @property
    def corpus_name(self) -> str:
        """The corpus, as it stands in paths."""
        return str(self.config["corpus"])

    def _stop_on_mistakes(self) -> None:
        if self._mistakes:
            raise SpecError("\n".join(dict.fromkeys(self._mistakes)))

    def _complain(self, path: str, text: str) -> None:
        self._mistakes.append(f"{self._where}: {path}: {text}")

    def _known(self, path: str, what: str, name: str, known: list[str]) -> bool:
        if name not in known:
            self._complain(path, f'unknown {what} "{name}".{suggest(name, known)}')
        return name in known

    def _document(self, kind: str, name: str) -> Document:
        document: Document = checked(read_document(kind, name), kind, shown(document_path(kind, name)))
        return document

    def _overridden(self, document: Document, rules: Document, system: str, part: str) -> Document:
        """The document with config's overrides laid over it; what is wrong with them is put down."""
        over = self._overrides.get(system, {}).get(part, {})
        return self._laid_over(document, over, rules, f"overrides/{system}/{part}")

    def _laid_over(self, document: Document, over: Document, rules: Document, path: str) -> Document:
        found = mistakes(over, partial(rules), self._where, path)
        merged: Document = merge(document, over)
        # A setting may be right by itself and wrong with the others, such as an optimiser without its rate.
        self._mistakes += found or (mistakes(merged, rules, self._where, path) if over else [])
        return merged
