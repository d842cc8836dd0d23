"""The flows of a folder on disk: where its flow files, and the tests of flows, stand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.errors import Problem
    from runner.flows.models import Flow
    from runner.flows.namespace_defaults import NamespaceDefaults
    from runner.flows.seeds import SeedFile
    from runner.flows.task_templates import TemplateFile
    from runner.secrets.sealed import SealedFile

SUFFIXES = (".yaml", ".yml")
TESTS = "tests"
DEFAULTS = ("_defaults.yaml", "_defaults.yml")
SEEDS = ("_kv.yaml", "_kv.yml")
SEALED = ("_secrets.yaml", "_secrets.yml")
TEMPLATES = "_templates"
DASHBOARDS = "dashboards"
_MARKERS = frozenset({"_flows", "flows"})
_OTHER_FILES = frozenset({"_files", "files", "_dashboards", "_global", TESTS})
_NO_FLOWS = _OTHER_FILES | {TEMPLATES}
_MOST_BYTES = 1 << 20
_CALL = re.compile(
    r"""(?<![.\w])flowId\b(?:["']?[ \t]*:[ \t]*["']?([\w-][\w.-]*)["']?(?=[ \t]*(?:[,}\r\n]|\Z)|[ \t]+\#))?"""
)
_ID_LINE = re.compile(rb"""^["']?id["']?[ \t]*:[ \t]*["']?([\w-][\w.-]*)["']?[ \t]*\r?$""", re.MULTILINE)
_BRACE_LINE = re.compile(rb"^(?:---[ \t]+)?\{", re.MULTILINE)

Source = tuple["Flow", str, str, "str | None"]
"""A flow, its text, its path, and what it inherits."""


def flow_files(paths: Iterable[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yield the flow files that `paths` name, with the namespace that their folders below a named folder give.

    Hidden folders, those of namespace files (`_files`, `files`), flow tests (`tests`), templates and dashboards (see
    `dashboard_files`) are left out, and so are files of plugin defaults (see `defaults_around`) and of keys (see
    `seeds_of`).
    """
    for path in paths:
        if not path.is_dir():
            yield path, None
            continue
        for folder, files in _walk(path, skip=_NO_FLOWS):
            parts = [part for part in folder.relative_to(path).parts if part not in _MARKERS]
            if path.name == "_" + DASHBOARDS or _is_for_dashboards(folder.relative_to(path).parts):
                continue
            for found in files:
                if found.name not in (*DEFAULTS, *SEEDS, *SEALED):
                    yield found, ".".join(parts) or None


def defaults_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of plugin defaults at or below `paths`."""
    for path in paths:
        if path.is_dir():
            for _, files in _walk(path, skip=_NO_FLOWS):
                yield from (found for found in files if found.name in DEFAULTS)
        elif path.name in DEFAULTS:
            yield path


def seeds_of(paths: Iterable[Path]) -> Iterator[SeedFile | SealedFile]:
    """Yield the files of keys and secrets at or below `paths`, parsed.

    The folders below a named folder give the namespace; the one in a named folder itself is of the namespace that the
    folder is called. Secrets are not opened.
    """
    from runner.flows.seeds import parse_seeds
    from runner.secrets.sealed import parse_sealed

    for path in paths:
        root = path if path.is_dir() else path.parent
        found = _walk(path, skip=_NO_FLOWS) if path.is_dir() else [(root, [path])]
        for folder, files in found:
            parts = folder.relative_to(root).parts or (root.absolute().name,)
            space = ".".join(part for part in parts if part not in _MARKERS) or None
            for file in files:
                if file.name in SEEDS:
                    yield parse_seeds(file.read_bytes()[: _MOST_BYTES + 1], file=str(file), namespace=space)
                elif file.name in SEALED:
                    content = file.read_bytes()[: _MOST_BYTES + 1]
                    yield parse_sealed(content, file=str(file), namespace=space, seal=None)


def templates_of(path: Path, beside: Path | None = None) -> Iterator[TemplateFile]:
    """Yield the templates below a folder, or the one at a path in a folder of templates, parsed.

    Their files are named as `beside` is: relative to the current folder, or not.
    """
    from runner.flows.task_templates import parse_template

    root = path if path.is_dir() else path.parent
    found = _walk(root, skip=_OTHER_FILES) if path.is_dir() else [(root, [path])]
    for folder, files in found:
        if TEMPLATES not in folder.parts:
            continue
        space = ".".join(part for part in folder.relative_to(root).parts if part not in {TEMPLATES, *_MARKERS})
        for file in files:
            content = file.read_bytes()[: _MOST_BYTES + 1]
            name = str(file) if beside is None else _as_given(file, beside)
            yield parse_template(content, file=name, namespace=space or None)


def dashboard_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the dashboards at or below `paths`; a file that is named is one when it stands in a folder of them."""
    for path in paths:
        if path.is_dir():
            for folder, files in _walk(path, skip=_NO_FLOWS - {"_" + DASHBOARDS, "_global"}):
                parts = folder.relative_to(path).parts
                yield from files if _is_for_dashboards(parts) or path.name == "_" + DASHBOARDS else ()
        elif _is_named_dashboard(path):
            yield path


def _is_named_dashboard(path: Path) -> bool:
    folder = path.absolute().parent.name
    if folder != DASHBOARDS or not path.is_file():
        return folder == "_" + DASHBOARDS
    # The folder may be that of a namespace which is called so.
    return not any(line.startswith(b"tasks:") for line in path.read_bytes()[: _MOST_BYTES + 1].splitlines())


def _is_for_dashboards(parts: tuple[str, ...]) -> bool:
    """Whether folders below a named one hold dashboards; at the top `dashboards` could be the name of a namespace."""
    named = [index for index, part in enumerate(parts) if part not in _MARKERS]
    return "_" + DASHBOARDS in parts or DASHBOARDS in (parts[index] for index in named[1:])


def suite_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the YAML files in folders `tests` at or below `paths`, and the files that `paths` name themselves."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        is_inside = TESTS in path.parts or path.absolute().name == TESTS
        for folder, files in _walk(path, skip=_NO_FLOWS - {TESTS}):
            if is_inside or TESTS in folder.relative_to(path).parts:
                yield from files


def _walk(root: Path, *, skip: frozenset[str]) -> Iterator[tuple[Path, list[Path]]]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skip)
        found = (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIXES) and not name.startswith("."))
        yield Path(folder), [path for path in found if path.is_file()]


def flow_root(file: Path, namespace: str) -> Path:
    """Return the folder of the namespaces: above `a.b/` or `a/b/` when the file of `a.b` lies in there."""
    for parts in ((namespace,), tuple(namespace.split("."))):
        folder = file.parent
        while folder.name in _MARKERS:
            folder = folder.parent
        if folder.parts[-len(parts) :] == parts:
            return folder.parents[len(parts) - 1]
    return file.parent


def defaults_around(file: Path, namespace: str, content: bytes = b"") -> tuple[NamespaceDefaults, list[Problem]]:
    """Return the plugin defaults that a flow of `namespace` in `file` gets, and what is wrong with their files.

    They stand in the folders of the namespace and of those around it, dotted or nested, and beside the flow. Templates
    come from all folders of templates, and are only looked for when the flow's `content` speaks of one.
    """
    from runner.flows.namespace_defaults import NamespaceDefaults, parse_defaults

    root, parts = flow_root(file.absolute(), namespace), namespace.split(".")
    folders = {root: ""}
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        for folder in (root / name, root.joinpath(*parts[:count])):
            folders.update(dict.fromkeys((folder, *(folder / marker for marker in _MARKERS)), name))
    folders.setdefault(file.absolute().parent, namespace if file.absolute().parent != root else "")
    found = {folder / name: space for folder, space in folders.items() for name in DEFAULTS}
    shown = {path: _as_given(path, file) for path in found if path.is_file()}
    defaults, problems = NamespaceDefaults.of(
        parse_defaults(path.read_bytes()[: _MOST_BYTES + 1], file=shown[path], namespace=found[path] or None)
        for path in sorted(shown, key=lambda path: len(path.parts))
    )
    if b"templateId" not in content:
        return defaults, problems
    defaults, others = defaults.with_templates(templates_of(root.parent if root.name == "_flows" else root, file))
    return defaults, [*problems, *others]


def _as_given(path: Path, beside: Path) -> str:
    """Return a path relative to the current folder where the one beside it is given so."""
    return str(path) if beside.is_absolute() else os.path.relpath(path)


def flows_below(root: Path, but: Path | None = None) -> list[Source]:
    """Return the flows below a folder that can be run, each with its text, its path and what it inherits.

    The file `but` is left out.
    """
    found = (_flow(path, namespace) for path, namespace in _readable(root, but))
    return [each for each in found if each is not None]


def flows_called(root: Path, file: Path, text: str) -> list[Source]:
    """Return the flows below a folder that the `text` of `file` may call, and those that they may call, as above.

    A flow calls by `flowId`. Where no plain name stands behind the word it may call any, else those of this name in any
    namespace: more flows than are called may be returned, never fewer. A flow that calls none costs no look at the
    folder, which may be a home with all that lies in it.
    """
    found: dict[Path, Source] = {}
    places: list[tuple[Path, str | None, str | None]] | None = None
    wanted = _called(text)
    while wanted:
        if places is None:
            named = ((path, namespace, _stated_id(path)) for path, namespace in _readable(root, file))
            places = [each for each in named if each[2] != ""]
        reached = {each[2] for each in places} if None in wanted else wanted | {None}
        nearest = [each for each in places if each[2] in reached]
        places = [each for each in places if each[2] not in reached]
        flows = {path: flow for path, namespace, _ in nearest if (flow := _flow(path, namespace)) is not None}
        found |= flows
        wanted = {name for _, content, _, around in flows.values() for name in _called(f"{content}\n{around or ''}")}
    return list(found.values())


def _called(text: str) -> set[str | None]:
    """Return the names of the flows that a text calls; None is any."""
    return {name or None for name in _CALL.findall(text)}


def _stated_id(path: Path) -> str | None:
    """Return the id that a line of a file gives a flow; None when none does so plainly, nothing when it is no flow."""
    content = _content(path)
    found: list[bytes] = _ID_LINE.findall(content)
    if len(found) == 1 and not _BRACE_LINE.search(content):
        return found[0].decode("utf-8", "replace")
    return None if b"tasks" in content else ""


def _readable(root: Path, but: Path | None) -> Iterator[tuple[Path, str | None]]:
    own = but.stat() if but is not None and but.exists() else None
    for path, namespace in flow_files((root,)):
        try:
            facts = path.stat()
        except OSError:  # it is gone meanwhile
            continue
        if facts.st_size <= _MOST_BYTES and (own is None or not os.path.samestat(facts, own)):
            yield path, namespace


def _content(path: Path) -> bytes:
    """Return what a file holds; nothing when it cannot be read, as those of others beside a flow in `/tmp`."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _flow(path: Path, namespace: str | None) -> Source | None:
    from runner.flows.inherited import as_text
    from runner.flows.namespace_defaults import stated_namespace
    from runner.flows.parse import parse_flow

    content = _content(path)
    space = stated_namespace(content) or namespace or ""
    around = defaults_around(path, space, content)[0].around(space, content)
    parsed = parse_flow(content, file=str(path), namespace=namespace, strict=False, inherited=around)
    return None if parsed.flow is None else (parsed.flow, content.decode(), str(path), as_text(around))
