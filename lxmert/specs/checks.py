"""Documents against their JSON Schemas: every mistake as one line, and the defaults filled in."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

from lxmert.errors import SpecError, suggest
from lxmert.specs.documents import SCHEMAS, read_yaml

TYPE_WORDS = {
    "object": "`name: value` lines",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
# What other programs call our settings, too far in spelling to be found by likeness.
SYNONYMS = {
    "learning_rate": "lr",
    "batch_size": "global_batch",
    "epochs": "max_epochs",
    "hidden_size": "hidden",
    "max_grad_norm": "clip_norm",
    "warmup": "warmup_fraction",
}


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema `workflow/schemas/<name>.schema.yaml`, with references put in place."""
    document = _read_schema(f"{name}.schema.yaml")
    resolved = _inline(document, document)
    assert isinstance(resolved, dict)
    return resolved


@functools.cache
def _read_schema(file: str) -> dict[str, Any]:
    return read_yaml(SCHEMAS / file, f"workflow/schemas/{file}")


def _inline(node: Any, root: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {key: _inline(value, root) for key, value in node.items() if key != "$defs"}
    file, _, pointer = node["$ref"].partition("#")
    source = _read_schema(file) if file else root
    target: Any = source
    for key in pointer.strip("/").split("/"):
        target = target[key]
    # Keywords beside a reference (such as its own default) count more than the referred ones.
    rest = {key: value for key, value in node.items() if key != "$ref"}
    return {**_inline(target, source), **_inline(rest, root)}


def partial(node: Any) -> Any:
    """A schema that asks for nothing and fills in nothing: for settings laid over a whole document."""
    if isinstance(node, list):
        return [partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: partial(value)
        for key, value in node.items()
        if key not in ("required", "default", "minProperties")
    }


def fill_defaults(value: Any, rules: dict[str, Any]) -> Any:
    """A copy of the value with the schema's defaults where it is silent."""
    if isinstance(value, dict):
        properties = rules.get("properties", {})
        filled = {name: fill_defaults(item, _rules_of(name, rules)) for name, item in value.items()}
        for name, rule in properties.items():
            if name not in filled and "default" in rule:
                filled[name] = fill_defaults(copy.deepcopy(rule["default"]), rule)
        return filled
    if isinstance(value, list) and isinstance(rules.get("items"), dict):
        return [fill_defaults(item, rules["items"]) for item in value]
    return value


def _rules_of(name: str, rules: dict[str, Any]) -> dict[str, Any]:
    found = rules.get("properties", {}).get(name, rules.get("additionalProperties", {}))
    return found if isinstance(found, dict) else {}


def mistakes(value: Any, rules: dict[str, Any], where: str, prefix: str = "") -> list[str]:
    """Every mistake of a document as one line `where: path: what is wrong, what to do`.

    Args:
        value: the document.
        rules: its schema, references already in place.
        where: the file's name.
        prefix: path of the value inside the file.
    """
    import jsonschema

    found = jsonschema.Draft202012Validator(rules).iter_errors(value)
    lines = [line for error in found for line in _lines(error, where, prefix)]
    return sorted(dict.fromkeys(lines))


def _lines(error: Any, where: str, prefix: str) -> Iterator[str]:
    path = "/".join([prefix] * bool(prefix) + [str(step) for step in error.absolute_path])
    place, inside = (f"{where}: {path}: ", f"{where}: {path}/") if path else (f"{where}: ", f"{where}: ")
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        for name in error.instance:
            if name not in known:
                yield f"{inside}{name}: unknown setting.{suggest(SYNONYMS.get(str(name), str(name)), known)}"
    elif error.validator == "required":
        name = next(name for name in error.validator_value if f"'{name}'" in error.message.split(" is ")[0])
        yield f"{inside}{name}: missing; add it."
    elif error.validator == "type":
        yield f"{place}{_wrong_type(error.instance, error.validator_value)}"
    elif error.validator == "enum":
        known = map(_word, error.validator_value)
        yield f'{place}unknown value "{_word(error.instance)}".{suggest(_word(error.instance), known)}'
    elif error.validator in ("anyOf", "oneOf") and error.context:
        branches = [sub for sub in error.context if sub.validator != "type"] or error.context
        yield from _lines(branches[0], where, prefix)
    else:
        yield f"{place}{_bound(error)}"


def _bound(error: Any) -> str:
    limit, value = error.validator_value, _shown(error.instance)
    texts = {
        "minimum": f"{value} is too small; give {limit} or more.",
        "exclusiveMinimum": f"{value} is too small; give more than {limit}.",
        "maximum": f"{value} is too large; give {limit} or less.",
        "exclusiveMaximum": f"{value} is too large; give less than {limit}.",
        "minItems": f"the list is too short; give {limit} or more.",
        "maxItems": f"the list is too long; give {limit} or fewer.",
        "uniqueItems": f"{value} names something twice; once is enough.",
        "pattern": f"{value} may not be written so; it must match {limit}.",
        "propertyNames": f"{error.message}; use letters, digits and underscores.",
        "const": f"{value} must be {_shown(limit)}.",
    }
    return texts.get(error.validator, f"{error.message}.")


def _wrong_type(value: Any, wanted: str | list[str]) -> str:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    words = " or ".join(TYPE_WORDS[kind] for kind in kinds)
    text = f"must be {words}, is {_shown(value)}."
    if isinstance(value, str) and {"number", "integer"} & set(kinds):
        try:
            number = float(value)
        except ValueError:
            return text
        return f"{text} YAML reads that as text; write {_yaml_number(number, kinds)}."
    return text


def _yaml_number(number: float, kinds: list[str]) -> str:
    if number == int(number) and ("number" not in kinds or abs(number) >= 1):
        return str(int(number))
    mantissa, _, exponent = f"{number:e}".partition("e")
    digits = mantissa.rstrip("0")
    digits = f"{digits}0" if digits.endswith(".") else digits
    return f"{digits}e{int(exponent)}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'the text "{value}"'
    if isinstance(value, dict):
        return "`name: value` lines"
    if isinstance(value, list):
        return f"the list [{', '.join(map(_word, value))}]"
    return _word(value)


def _word(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value)) if _plain(value) else str(value)
    )


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def checked(value: Any, name: str, where: str) -> Any:
    """The document with defaults filled in.

    Raises:
        SpecError: it does not fit its schema; every mistake, one a line.
    """
    found = mistakes(value, schema(name), where)
    if found:
        raise SpecError("\n".join(found))
    return fill_defaults(value, schema(name))
