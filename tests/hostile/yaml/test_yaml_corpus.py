"""YAML made to break a loader: each ends at once, with a code, and without the process."""

from __future__ import annotations

import time

import pytest

from runner.errors import FlowError
from runner.flows.loader import load


def _laughs(levels: int = 9, width: int = 9) -> str:
    lines = ["a0: &a0 [" + ",".join(["x"] * width) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * width) + "]" for n in range(1, levels)]
    return "\n".join(lines)


def _merge_bomb(levels: int = 7) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n}\n  <<: [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, levels)]
    return "\n".join(lines)


def _deep_aliases() -> str:
    lines = ["a0: &a0 " + "[" * 50 + "x" + "]" * 50]
    lines += [f"a{n}: &a{n} " + "[" * 50 + f"*a{n - 1}" + "]" * 50 for n in range(1, 190)]
    return "\n".join(lines)


CORPUS: dict[str, tuple[str | bytes, str]] = {
    "100,000 open brackets": ("[" * 100_000, "yaml.depth.exceeded"),
    "10,000 nested lists": ("[" * 10_000 + "]" * 10_000, "yaml.depth.exceeded"),
    "70 nested lists": ("[" * 70 + "]" * 70, "yaml.depth.exceeded"),
    "70 nested maps": ("".join(" " * n + "k:\n" for n in range(70)), "yaml.depth.exceeded"),
    "nested compact lists": ("- " * 5_000 + "x", "yaml.depth.exceeded"),
    "depth through aliases": (_deep_aliases(), "yaml.depth.exceeded"),
    "billion laughs": (_laughs(), "yaml.nodes.exceeded"),
    "merge key bomb": (_merge_bomb(), "yaml.nodes.exceeded"),
    "200,000 values": ("[" + "1," * 200_000 + "]", "yaml.nodes.exceeded"),
    "many aliases": ("a: &a 1\nb: [" + "*a," * 300 + "]", "yaml.alias.many"),
    "anchor that holds itself": ("a: &a [*a]", "yaml.alias.recursive"),
    "anchor that merges itself": ("a: &a {<<: *a}", "yaml.alias.recursive"),
    "alias of nothing": ("a: *b", "yaml.alias.unknown"),
    "merge of a scalar": ("a: {<<: 1}", "yaml.merge.invalid"),
    "python object": ("!!python/object/apply:os.system ['id']", "yaml.tag.refused"),
    "own tag": ("a: !Foo bar", "yaml.tag.refused"),
    "binary tag": ("a: !!binary aGVsbG8=", "yaml.tag.refused"),
    "duplicate key": ("a: 1\na: 2", "yaml.key.duplicate"),
    "duplicate merge": ("x: &x {a: 1}\ny:\n  <<: *x\n  <<: *x\n", "yaml.key.duplicate"),
    "list as key": ("? [a]\n: b", "yaml.key.complex"),
    "map as key": ("{a: 1}: b", "yaml.key.complex"),
    "list as key through a merge": ("x: &x\n  ? [a]\n  : b\ny: {<<: *x}", "yaml.key.complex"),
    "alias as key": ("a: &a x\n*a : 1", "yaml.key.complex"),
    "5,000 digits": ("a: " + "9" * 5_000, "yaml.number.long"),
    "1 MB of digits": ("a: " + "9" * 1_000_000, "yaml.scalar.long"),
    "10 MB of text": ("a: |\n" + "  x\n" * 2_500_000, "yaml.file.large"),
    "NUL": ("a: b\0c", "yaml.syntax.invalid"),
    "right-to-left override in a key": ("a\u202e: b", "yaml.key.invisible"),
    "zero width space in a key": ("ad\u200bmin: b", "yaml.key.invisible"),
    "lone surrogate": ("a: \ud800", "yaml.encoding.invalid"),
    "UTF-16": (b"\xff\xfea\x00:\x00 \x001\x00", "yaml.encoding.invalid"),
    "broken UTF-8": (b"a: \xff", "yaml.encoding.invalid"),
    "tab as indent": ("a:\n\t- b", "yaml.syntax.invalid"),
    "nothing": ("", "yaml.document.empty"),
    "a comment only": ("# nothing\n", "yaml.document.empty"),
    "two documents": ("a: 1\n---\nb: 2\n", "yaml.document.multiple"),
    "2,000 documents": ("---\na\n" * 2_000, "yaml.document.multiple"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_hostile_yaml_is_refused_with_its_code_and_in_time(name: str) -> None:
    source, code = CORPUS[name]
    started = time.monotonic()

    with pytest.raises(FlowError) as caught:
        load(source, file="hostile.yaml")

    assert caught.value.code == code
    assert all(problem.line and problem.column and problem.file for problem in caught.value.problems)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("text", ["a: 1:" + ":".join(["59"] * 2_000), "a: 9999-99-99", "a: 12:30:45"])
def test_what_other_loaders_turn_into_numbers_or_dates_stays_text(text: str) -> None:
    assert load(text).value == {"a": text.removeprefix("a: ")}
