"""YAML made to break a loader, and the code that each is refused with."""

from __future__ import annotations


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
    "10,000 keys of one name": ("a: 1\n" * 10_000, "yaml.key.duplicate"),
    "unclosed quote": ('a: "b', "yaml.syntax.invalid"),
    "unclosed quote of 1 MB": ("a: '" + "x" * 1_000_000, "yaml.syntax.invalid"),
    "unclosed bracket": ("a: [1, 2", "yaml.syntax.invalid"),
    "closed twice": ("a: [1]]", "yaml.syntax.invalid"),
    "colon in a plain value": ("a: b: c", "yaml.syntax.invalid"),
    "nested braces of expressions": ("a: {{ inputs.x }}", "yaml.key.complex"),
    "reserved mark": ("a: `b`", "yaml.syntax.invalid"),
    "unknown escape": ('a: "\\q"', "yaml.syntax.invalid"),
    "half an escape": ('a: "\\u12"', "yaml.syntax.invalid"),
    "escape beyond Unicode": ('a: "\\UFFFFFFFF"', "yaml.syntax.invalid"),
    "directive of another version": ("%YAML 9.9\n---\na: 1", "yaml.syntax.invalid"),
    "directive without document": ("%TAG ! tag:x,2000:\n", "yaml.syntax.invalid"),
    "only an end mark": ("...\n", "yaml.syntax.invalid"),
    "anchor without name": ("a: & b", "yaml.syntax.invalid"),
    "two anchors": ("a: &x &y b", "yaml.syntax.invalid"),
    "alias with an anchor": ("a: &x 1\nb: &y *x", "yaml.syntax.invalid"),
    "object of a module": ("a: !!python/name:os.system", "yaml.tag.refused"),
    "omap": ("a: !!omap [{b: 1}]", "yaml.tag.refused"),
    "set": ("a: !!set {b, c}", "yaml.tag.refused"),
    "timestamp by tag": ("a: !!timestamp 2024-01-01", "yaml.tag.refused"),
    "bell": ("a: b\x07", "yaml.syntax.invalid"),
    "escape sequence of a terminal": ("a: \x1b[2J", "yaml.syntax.invalid"),
    "byte order mark in the middle": ("a: 1\n\ufeffb: 2", "yaml.syntax.invalid"),
    "UTF-32": ("a: 1".encode("utf-32"), "yaml.encoding.invalid"),
    "overlong UTF-8": (b"a: \xc0\xaf", "yaml.encoding.invalid"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "yaml.encoding.invalid"),
    "merge of a list of scalars": ("a: {<<: [1, 2]}", "yaml.merge.invalid"),
    "merge of text": ("a: {<<: text}", "yaml.merge.invalid"),
}
