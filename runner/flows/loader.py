"""YAML comes in through this one door: bounded, without surprises, and with the place of every value.

The tree is built from the events of libyaml's parser, so that each limit holds before anything is allocated for it.
Scalars follow the core schema of YAML 1.2: `true` and `false` are booleans, `on`, `no`, dates and `12:30` are text,
`012` is twelve, `0o12` ten, `0x1f` thirty-one. What JSON cannot carry (`.inf`, `.nan`) stays text. Keys are always
text. Tags are refused, aliases and merge keys (`<<`) work within a budget.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from runner.errors import FlowError, Problem
from runner.flows.positions import Mark, Path, Positions
from runner.flows.syntax import EXPRESSION_HINT, encoding_problem, syntax_problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 100_000
MAX_ALIASES = 200
MAX_SCALAR = 256 * 1024
MAX_NUMBER = 100
MAX_BRACKETS = 500
MAX_DOCUMENTS = 1_000
MAX_PROBLEMS = 50

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL = re.compile(r"0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co"})
_BRACKET = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: plain maps, lists and scalars, and where each of them stands."""

    value: Any
    positions: Positions


def load(source: str | bytes, *, file: str | None = None) -> Document:
    """Return the one document that `source` holds.

    Raises:
        FlowError: `yaml.*`, with every problem that was found and its place.
    """
    return _only(load_all(source, file=file), file)


def examine(
    source: str | bytes, *, file: str | None = None, companion: Callable[[Any], bool] = lambda _value: False
) -> tuple[Document, list[Problem]]:
    """Return the one document of `source` with the problems that still let it be read (keys that stand twice, tags).

    Whoever looks for all problems of a file goes on with the document; to use it, call `load`. Documents after the
    first whose value is a `companion` may stand in the same file.

    Raises:
        FlowError: as `load`, when the problems leave no document.
    """
    documents, problems = _read(source, file)
    if problems and not documents:
        raise _gathered(problems)
    counted = [each for number, each in enumerate(documents) if number == 0 or not companion(each.value)]
    return _only(counted, file), problems


def _only(documents: list[Document], file: str | None) -> Document:
    if not documents:
        raise _error("yaml.document.empty", "the file holds no YAML document", Mark(1, 1), file)
    if len(documents) > 1:
        second = documents[1].positions.at(())
        raise _error("yaml.document.multiple", f"one document expected, {len(documents)} found", second, file)
    return documents[0]


def load_value(source: str | bytes, *, file: str | None = None) -> Any:
    """Return the value of the one document that `source` holds; errors as `load`."""
    return load(source, file=file).value


def load_all(source: str | bytes, *, file: str | None = None) -> list[Document]:
    """Return all documents of `source`; empty ones are left out.

    Raises:
        FlowError: `yaml.*`, with every problem that was found and its place.
    """
    documents, problems = _read(source, file)
    if problems:
        raise _gathered(problems)
    return documents


def _read(source: str | bytes, file: str | None) -> tuple[list[Document], list[Problem]]:
    text = _text(source, file)
    _count_brackets(text, file)
    reader = _Reader(file)
    try:
        parser = yaml.CSafeLoader(text)
        documents = list(reader.documents(iter(parser.get_event, None)))
    except _Stop:
        documents = []
    except yaml.YAMLError as error:
        reader.problems.append(syntax_problem(error, text, file))
        documents = []
    return documents, reader.problems


def _gathered(problems: list[Problem]) -> FlowError:
    first = problems[0]
    return FlowError(first.code, first.message, hint=first.hint, problems=problems)


def scalar(text: str) -> Any:
    """Return the value that the plain (unquoted) scalar `text` stands for in the core schema of YAML 1.2.

    Raises:
        ValueError: it is a number with more than 100 characters.
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    for pattern, base in ((_INTEGER, 10), (_HEXADECIMAL, 16), (_OCTAL, 8)):
        if pattern.fullmatch(text):
            _check_length(text)
            return int(text, 10) if base == 10 else int(text[2:], base)
    if _FLOAT.fullmatch(text):
        _check_length(text)
        number = float(text)
        return text if number in (float("inf"), float("-inf")) else number
    return text


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER:
        msg = f"a number of {len(text)} characters is too long"
        raise ValueError(msg)


def _error(code: str, message: str, mark: Mark, file: str | None, hint: str | None = None) -> FlowError:
    problem = Problem(code, message, file=file, line=mark.line, column=mark.column, hint=hint)
    return FlowError(code, message, hint=hint, problems=[problem])


def _text(source: str | bytes, file: str | None) -> str:
    start = Mark(1, 1)
    try:
        size = len(source) if isinstance(source, bytes) else len(source.encode())
        text = source.decode() if isinstance(source, bytes) else source
    except UnicodeError as error:
        raise _gathered([encoding_problem(error, source, file)]) from None
    if size > MAX_BYTES:
        raise _error("yaml.file.large", f"the file has {size} bytes, more than 1 MiB", start, file)
    return text.removeprefix("\ufeff")


def _count_brackets(text: str, file: str | None) -> None:
    # libyaml and PyYAML recurse on flow collections: 100,000 open brackets end the process. Counting does not know
    # about quotes, so the bound is generous (a script may open brackets in text) and the exact one comes later.
    depth = 0
    for found in _BRACKET.finditer(text):
        depth = depth + 1 if found[0] in "[{" else max(0, depth - 1)
        if depth > MAX_BRACKETS:
            line = text.count("\n", 0, found.start()) + 1
            column = found.start() - text.rfind("\n", 0, found.start())
            message = f"more than {MAX_BRACKETS} brackets are open at once"
            raise _error("yaml.depth.exceeded", message, Mark(line, column), file)


def _mark_of(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


class _Stop(Exception):  # noqa: N818 - no error: it ends the reading once a limit is reached
    """A limit was passed; the problem is on the list."""


@dataclass(slots=True)
class _Frame:
    """A map or list that is being filled."""

    value: dict[str, Any] | list[Any]
    path: Path
    anchor: str | None
    first_node: int
    height: int = 1
    key: str | None = None
    key_mark: Mark | None = None
    lines: dict[str, int] | None = None
    merges: list[tuple[Any, Mark]] | None = None


class _Reader:
    """Builds documents from parser events and keeps to the limits."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._nodes = 0
        self._aliases = 0
        self._start()

    def _start(self) -> None:
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._positions = Positions()
        self._root: Any = None
        self._empty = True

    def documents(self, events: Iterable[Any]) -> Iterator[Document]:
        """Yield the documents that `events` describe; problems gather in `problems`."""
        count = 0
        for event in events:
            kind = type(event)
            if kind is yaml.DocumentStartEvent:
                self._start()
            elif kind is yaml.DocumentEndEvent:
                count += 1
                if count > MAX_DOCUMENTS:
                    self._stop("yaml.document.multiple", f"more than {MAX_DOCUMENTS} documents", Mark(1, 1))
                if not self._empty:
                    yield Document(self._root, self._positions)
            else:
                self._node(kind, event)

    def _node(self, kind: type[Any], event: Any) -> None:
        # By identity, the most frequent first: a file is some hundred events, and the parser makes no others.
        if kind is yaml.ScalarEvent:
            self._scalar(event, _mark_of(event))
        elif kind is yaml.MappingStartEvent:
            self._open({}, event, _mark_of(event))
        elif kind is yaml.SequenceStartEvent:
            self._open([], event, _mark_of(event))
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._close()
        elif kind is yaml.AliasEvent:
            self._alias(event, _mark_of(event))

    def _report(self, code: str, message: str, mark: Mark, hint: str | None = None) -> None:
        self.problems.append(Problem(code, message, file=self.file, line=mark.line, column=mark.column, hint=hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def _stop(self, code: str, message: str, mark: Mark, hint: str | None = None) -> None:
        self._report(code, message, mark, hint)
        raise _Stop

    def _count(self, nodes: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._stop("yaml.nodes.exceeded", f"the file expands to more than {MAX_NODES:,} values", mark)

    def _refuse_tag(self, event: Any, mark: Mark) -> None:
        if event.tag is not None:
            self._report("yaml.tag.refused", f"the tag {event.tag!r} is not allowed", mark, "write the plain value")

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> None:
        self._count(1, mark)
        self._refuse_tag(event, mark)
        text = event.value
        if len(text) > MAX_SCALAR:
            self._stop("yaml.scalar.long", f"a text of {len(text)} characters is longer than 256 KiB", mark)
        plain = not event.style and event.tag is None
        if self._awaits_key():
            self._key(text, mark, merge=plain and text == "<<")
            return
        if not self._stack and plain and text == "":
            return  # an empty document
        value: Any = text
        if plain:
            try:
                value = scalar(text)
            except ValueError as error:
                self._report("yaml.number.long", str(error), mark, "put it in quotes")
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, 0)
        self._put(value, mark)

    def _key(self, text: str, mark: Mark, *, merge: bool) -> None:
        frame = self._stack[-1]
        lines = frame.lines = frame.lines if frame.lines is not None else {}
        # What Python calls printable is none of these; asking for each character costs ten times as much.
        hidden = not text.isprintable() and any(unicodedata.category(char) in _INVISIBLE for char in text)
        if hidden:
            self._report("yaml.key.invisible", f"the key {text!a} holds an invisible character", mark)
        if text in lines:
            message = f"Duplicate field '{text}', lines {lines[text]} and {mark.line}"
            self._report("yaml.key.duplicate", message, mark, f"the first one is in line {lines[text]}")
        lines.setdefault(text, mark.line)
        frame.key, frame.key_mark = text, mark
        if merge and frame.merges is None:
            frame.merges = []

    def _open(self, value: dict[str, Any] | list[Any], event: Any, mark: Mark) -> None:
        self._count(1, mark)
        self._refuse_tag(event, mark)
        if self._awaits_key():
            hint = EXPRESSION_HINT if self._doubled(event, mark) else None
            self._stop("yaml.key.complex", "a key must be a plain text, not a map or a list", mark, hint)
        if len(self._stack) >= MAX_DEPTH:
            self._stop("yaml.depth.exceeded", f"nested deeper than {MAX_DEPTH} levels", mark)
        path = self._path()
        self._mark(path, mark)
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._stack.append(_Frame(value, path, event.anchor, self._nodes))

    def _doubled(self, event: Any, mark: Mark) -> bool:
        """Return whether a map begins right behind the brace of the one around it, as an expression does."""
        around = self._positions.values.get(self._stack[-1].path)
        return bool(event.flow_style) and around == Mark(mark.line, mark.column - 1)

    def _close(self) -> None:
        frame = self._stack.pop()
        if isinstance(frame.value, dict) and frame.merges:
            self._merge(frame)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.value, self._nodes - frame.first_node + 1, frame.height)
        self._put(frame.value, None, frame.height)

    def _alias(self, event: yaml.AliasEvent, mark: Mark) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop("yaml.alias.many", f"more than {MAX_ALIASES} aliases", mark)
        if self._awaits_key():
            self._stop("yaml.key.complex", "a key must be a plain text, not an alias", mark)
        anchor = str(event.anchor)
        if any(frame.anchor == anchor for frame in self._stack) and anchor not in self._anchors:
            self._stop("yaml.alias.recursive", f"the anchor {anchor!r} holds itself", mark)
        if anchor not in self._anchors:
            self._stop("yaml.alias.unknown", f"there is no anchor {anchor!r} above", mark)
        value, nodes, height = self._anchors[anchor]
        self._count(nodes, mark)
        if len(self._stack) + height > MAX_DEPTH:
            self._stop("yaml.depth.exceeded", f"nested deeper than {MAX_DEPTH} levels through aliases", mark)
        # A copy: whoever changes the tree later must not change two places at once.
        self._put(_copy(value), mark, height)

    def _path(self) -> Path:
        if not self._stack:
            return ()
        frame = self._stack[-1]
        return (*frame.path, frame.key if isinstance(frame.value, dict) else len(frame.value))  # type: ignore[arg-type]  # a value in a map comes after its key

    def _mark(self, path: Path, mark: Mark) -> None:
        # Of a key that stands twice the first value is kept, and so is its place.
        self._positions.values.setdefault(path, mark)
        if self._stack and self._stack[-1].key_mark is not None:
            self._positions.keys.setdefault(path, self._stack[-1].key_mark)

    def _put(self, value: Any, mark: Mark | None, height: int = 0) -> None:
        if mark is not None:
            self._mark(self._path(), mark)
        if not self._stack:
            self._root, self._empty = value, False
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        key = frame.key
        assert key is not None, "the parser gives a key before its value"
        if key == "<<" and frame.merges is not None:
            frame.merges.append((value, frame.key_mark or Mark(1, 1)))
        else:
            frame.value.setdefault(key, value)
        frame.key = frame.key_mark = None

    def _merge(self, frame: _Frame) -> None:
        own = frame.value
        assert isinstance(own, dict)
        for merged, mark in frame.merges or ():
            for source in merged if isinstance(merged, list) else [merged]:
                if not isinstance(source, dict):
                    self._report("yaml.merge.invalid", "`<<` takes a map or a list of maps", mark)
                    continue
                self._count(len(source), mark)
                for key, value in source.items():
                    own.setdefault(key, value)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
