"""Looks up what a page names: links and anchors, commands and their options, variables, settings, flows."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import click
import yaml
from pydantic import BaseModel

from bench.__main__ import BENCHES
from runner.cli import group
from runner.errors import MainstemError, Severity
from runner.flows.parse import parse_flow
from runner.settings import Settings
from tests.documentation.pages import Block, Page

ROOT: Final = Path(__file__).parents[2]
_VARIABLE: Final = re.compile(r"MAINSTEM_[A-Z][A-Z_]*[A-Z]")
_KEY: Final = re.compile(r"^([a-z][A-Za-z]+)\.([a-z][A-Za-z]+)$")
_SUBSTITUTED: Final = re.compile(r"\$\(([^()]*)\)")
_TYPED: Final = re.compile(r"^(\$|mainstem|git|make|curl) ", re.MULTILINE)
_BENCH: Final = re.compile(r"python -m bench (\w+)")
_NEAR: Final = 2  # lines
_TOP: Final = frozenset({"tasks", "triggers", "inputs", "outputs", "errors", "finally", "pluginDefaults", "variables"})


def faults(page: Page) -> list[str]:
    """Return what a page claims and is not so, each with its line."""
    checks = (links, commands, unmarked_commands, figures, variables, settings, yaml_blocks)
    return [f"line {line}: {fault}" for check in checks for line, fault in check(page)]


# ---------------------------------------------------------------- links


def links(page: Page) -> Iterator[tuple[int, str]]:
    """Yield relative links that lead nowhere."""
    for line, target in page.links:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        if not path.exists():
            yield line, f"the link {target} leads nowhere"
        elif anchor and path.suffix == ".md" and anchor not in Page.read(path).anchors:
            yield line, f"the link {target} names no heading"


# ---------------------------------------------------------------- commands


def commands(page: Page) -> Iterator[tuple[int, str]]:
    """Yield commands and options that the command line does not have."""
    for line, text in _named_commands(page):
        fault = command_fault(text)
        if fault is not None:
            yield line, fault


def unmarked_commands(page: Page) -> Iterator[tuple[int, str]]:
    """Yield blocks with commands that are no `console` blocks, so that nobody would run them."""
    for block in page.blocks:
        if block.language in {"", "sh", "bash", "shell"} and _TYPED.search(block.text):
            yield block.line, "commands stand in `console` blocks, which are run"


def figures(page: Page) -> Iterator[tuple[int, str]]:
    """Yield measured figures without the program that measures them."""
    for line, text in page.prose:
        near = "\n".join(other for number, other in page.prose if abs(number - line) <= _NEAR)
        named = _BENCH.findall(near)
        if re.search(r"\b[Mm]easured\b", text) and not named:
            yield line, "a figure names the program that measures it: `python -m bench NAME`"
        for name in set(named) - {*BENCHES, "all"}:
            yield line, f"there is no `python -m bench {name}`"


def _named_commands(page: Page) -> Iterator[tuple[int, str]]:
    for line, code in page.codes:
        if code.startswith("mainstem "):
            yield line, code
    for block in page.blocks:
        for number, shown in enumerate(block.text.splitlines(), block.line + 1):
            if shown.startswith("$ "):
                yield from ((number, command) for command in _commands_in(shown[2:]))


def _commands_in(line: str) -> Iterator[str]:
    """Yield the calls of our program in a line of a shell, those inside `$(…)` too."""
    simple = [_SUBSTITUTED.sub("VALUE", line), *_SUBSTITUTED.findall(line)]
    for text in (part.strip() for each in simple for part in re.split(r"[|;&]", each)):
        if text.startswith("mainstem "):
            yield text


def command_fault(text: str) -> str | None:
    """Return what is wrong with a call of our program, such as an option that there is not; None when nothing is."""
    words = re.split(r"[|;&>]", text.replace("[", " ").replace("]", " "))[0]
    try:
        parts = shlex.split(words, comments=True)[1:]
    except ValueError:
        parts = words.split()[1:]
    command: click.Command = group
    context = click.Context(group)
    for part in parts:
        if part.startswith("-"):
            if part.partition("=")[0] not in _options(command, context):
                return f"`{text}`: {command.name or 'mainstem'} has no option {part}"
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", part):
            found = command.get_command(context, part)
            if found is None:
                return f"`{text}`: there is no command {part}"
            command = found
    return None


def _options(command: click.Command, context: click.Context) -> set[str]:
    return {
        name for parameter in command.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"-h", "--help"}


# ---------------------------------------------------------------- variables and settings


def variables(page: Page) -> Iterator[tuple[int, str]]:
    """Yield `MAINSTEM_…` variables that nothing reads."""
    for line, text in enumerate(page.text.splitlines(), 1):
        for name in _VARIABLE.findall(text):
            if name not in known_variables():
                yield line, f"nothing reads the variable {name}"


@cache
def known_variables() -> frozenset[str]:
    """Return the variables that the program or its tests read."""
    product = _read(ROOT / folder for folder in ("runner", "sync", "webhooks", "task_runners"))
    tests = {name for name in _read([ROOT / "tests"]) if name.startswith("MAINSTEM_TEST_")}
    return frozenset(product | tests | {f"MAINSTEM_{name.upper()}" for name in Settings.model_fields})


def _read(folders: Iterable[Path]) -> set[str]:
    files = (path for folder in folders for path in folder.rglob("*.py"))
    return {name for path in files for name in _VARIABLE.findall(path.read_text(encoding="utf-8"))}


def settings(page: Page) -> Iterator[tuple[int, str]]:
    """Yield settings such as `reports.include` that do not exist."""
    parts = {field.alias or name: _model(field.annotation) for name, field in Settings.model_fields.items()}
    for line, code in page.codes:
        found = _KEY.match(code)
        model = parts.get(found[1]) if found else None
        if found and model and found[2] not in {field.alias or name for name, field in model.model_fields.items()}:
            yield line, f"there is no setting {code}"


def _model(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


# ---------------------------------------------------------------- YAML


def yaml_blocks(page: Page) -> Iterator[tuple[int, str]]:
    """Yield YAML blocks that are no settings, flow or part of a flow."""
    for block in page.blocks:
        if block.language == "yaml":
            for fault in _settings_faults(block) if "# mainstem.yaml" in block.text else _flow_faults(block):
                yield block.line, fault


def _settings_faults(block: Block) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mainstem.yaml"
        path.write_text(block.text, encoding="utf-8")
        # A credential may name a variable of the reader's server.
        environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "x")
        try:
            Settings.load(path, environ)
        except MainstemError as error:
            yield str(error)


def _flow_faults(block: Block) -> Iterator[str]:
    try:
        content = yaml.safe_load(block.text)
    except yaml.YAMLError as error:
        yield f"no YAML: {error}"
        return
    source = _completed(content)
    if source is not None:
        text = block.text if source is content else yaml.safe_dump(source, sort_keys=False)
        for problem in parse_flow(text.encode()).problems:
            if problem.severity is Severity.ERROR:
                yield f"{problem.code}: {problem.message}"


def _completed(content: Any) -> dict[str, Any] | None:
    """Return a flow around a part of one; None for YAML of another kind."""
    if isinstance(content, list) and all(isinstance(each, dict) and "type" in each for each in content):
        kind = "triggers" if all(".trigger." in str(each["type"]) for each in content) else "tasks"
        content = {kind: content}
    if not isinstance(content, dict) or not _TOP.intersection(content):
        return None
    if {"id", "namespace", "tasks"} <= content.keys():
        return content
    return {
        "id": "page",
        "namespace": "docs",
        "tasks": [{"id": "the_task_of_the_page", "type": "core.debug.Return", "format": "x"}],
        **content,
    }
