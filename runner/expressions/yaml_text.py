"""YAML for the `yaml` filter and function: values of JSON only, no tags, no dates.

It reads libyaml's events and builds the values itself. An alias is the anchored value once more, not a copy; what
aliases would multiply is counted before anybody can print it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from runner.errors import ExpressionError
from runner.expressions.limits import Limits
from runner.expressions.values import is_list, is_number, to_text, weigh

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH: Final = 100
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_RESERVED: Final = frozenset(
    {*_WORDS, "yes", "no", "on", "off", "y", "n", "Yes", "No", "On", "Off", "YES", "NO", "ON", "OFF"}
)
_TAGS: Final = frozenset(
    {"!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))}
)
_MAX_DIGITS: Final = 400
_SPECIAL: Final = re.compile(r"^[-?:,\[\]{}#&*!|>'\"%@`]|: |:$| #|^\s|\s$|[\x00-\x08\x0b-\x1f\x7f]")


def parse_yaml(text: str, limits: Limits) -> Any:
    """Return the value of one YAML document.

    Raises:
        ExpressionError: `expression.value`, with the parser's words, or what is refused.
    """
    _refuse_depth(text)
    try:
        return weigh(_Builder(yaml.parse(text, Loader=_Loader)).document(), limits)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ExpressionError("expression.value", f"Invalid yaml: {reason[:300]}") from None


def _refuse_depth(text: str) -> None:
    # libyaml needs time that grows with the square of unclosed brackets; they are counted before it sees them.
    depth = deepest = 0
    for mark in re.findall(r"[\[\]{}]", text):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > 10 * _MAX_DEPTH:
        raise ExpressionError("expression.limit", "the yaml is nested too deep")


class _Builder:
    """Builds values from events."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.depth = 0
        self.anchors: dict[str, Any] = {}

    def document(self) -> Any:
        value: Any = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise ExpressionError("expression.value", "Invalid yaml: more than one document")
                value = self._value(next(self.events))
        return value

    def _value(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise ExpressionError(
                    "expression.value", f"Invalid yaml: no anchor {event.anchor!r} stands before its alias"
                )
            return self.anchors[event.anchor]
        value = _scalar(event) if isinstance(event, yaml.ScalarEvent) else self._collection(event)
        if event.anchor:
            self.anchors[event.anchor] = value
        return value

    def _collection(self, event: Any) -> Any:
        _refuse_tag(event.tag)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ExpressionError("expression.limit", "the yaml is nested too deep")
        value: Any = self._list() if isinstance(event, yaml.SequenceStartEvent) else self._map()
        self.depth -= 1
        return value

    def _list(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event))
        return items

    def _map(self) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._value(event)
            if isinstance(key, (list, dict)):
                raise ExpressionError("expression.value", "Invalid yaml: a key has to be a scalar")
            name = to_text(key) if isinstance(event, yaml.AliasEvent) else event.value  # as written: keys are text
            if name in entries:
                raise ExpressionError("expression.value", f"Invalid yaml: duplicate key {name!r}")
            value = self._value(next(self.events))
            if name == "<<" and not event.style:
                merged.append(value)
            else:
                entries[name] = value
        for source in merged:
            for part in source if isinstance(source, list) else [source]:
                if not isinstance(part, dict):
                    raise ExpressionError("expression.value", "Invalid yaml: only maps can be merged with `<<`")
                entries = {**part, **entries}
        return entries


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.style or event.tag == "!":
        return text
    _refuse_tag(event.tag)
    if event.tag == "tag:yaml.org,2002:str":
        return text
    return plain_value(text)


def _refuse_tag(tag: str | None) -> None:
    if tag and tag not in _TAGS:
        raise ExpressionError("expression.value", f"Invalid yaml: the tag {tag} is not supported")


def plain_value(text: str) -> Any:
    """Return what a plain scalar means in YAML's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _MAX_DIGITS:
        if _INT.fullmatch(text):
            return int(text.replace("_", ""), 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def dump_yaml(value: Any) -> str:
    """Return `value` as block YAML with as few quotes as possible, lists indented by one, ended by a line break."""
    if isinstance(value, Mapping) and value:
        return "".join(line + "\n" for line in _map_lines(value, 0))
    if is_list(value) and value:
        return "".join(line + "\n" for line in _list_lines(value, 0))
    return _inline(value, 0) + "\n"


def _map_lines(value: Mapping[Any, Any], indent: int) -> Iterator[str]:
    for key, item in value.items():
        head = f"{' ' * indent}{_quoted(to_text(key))}:"
        if isinstance(item, Mapping) and item:
            yield head
            yield from _map_lines(item, indent + 2)
        elif is_list(item) and item:
            yield head
            yield from _list_lines(item, indent)
        else:
            yield f"{head} {_inline(item, indent + 2)}"


def _list_lines(value: Any, indent: int) -> Iterator[str]:
    for item in value:
        head = f"{' ' * indent} - "
        if isinstance(item, Mapping) and item:
            yield from _hanging(head, _map_lines(item, indent + 3))
        elif is_list(item) and item:
            yield from _hanging(head, _list_lines(item, indent + 2))
        else:
            yield head + _inline(item, indent + 3)


def _hanging(head: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield `lines` with the margin of the first one replaced by `head`."""
    first = next(lines)
    yield head + first[len(head) :]
    yield from lines


def _inline(value: Any, indent: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{}"
    if is_list(value):
        return "[]"
    if isinstance(value, bool) or is_number(value):
        return to_text(value)
    text = to_text(value)
    if "\n" in text and not _SPECIAL.search(text.replace("\n", "")) and not text.startswith((" ", "\n")):
        margin = " " * max(indent, 2)
        mark = "|-" if not text.endswith("\n") else "|" if not text.endswith("\n\n") else "|+"
        body = text.removesuffix("\n")
        return "\n".join([mark, *(margin + line if line else "" for line in body.split("\n"))])
    return _quoted(text)


def _quoted(text: str) -> str:
    safe = (
        not _SPECIAL.search(text) and text not in _RESERVED and isinstance(plain_value(text), str) and "\n" not in text
    )
    if safe and not text.startswith(("---", "...")):
        return text
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    )
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", escaped) + '"'
