"""Writes `docs/reference/expressions.md` from the docstrings: `python docs/generate_expressions.py`."""  # noqa: INP001 - a program, no package

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import runner.expressions as _expressions  # noqa: F401 - registers what is described here
from runner.expressions.registry import FILTERS, FUNCTIONS, TESTS, Builtin
from runner.expressions.statements import TAGS

PAGE = Path(__file__).parent / "reference" / "expressions.md"

_INTRODUCTION = f"""# Expressions

`{{{{ … }}}}` prints a value, `{{% … %}}` is a tag, `{{# … #}}` a comment; other text stays as it is. The language is
Pebble's, with the functions and filters of Kestra.

- **Text of values**: maps and lists print as compact JSON, null as nothing, decimals as `1.0`, instants as ISO 8601.
- **What is missing** is an error that names it. `a.b ?? c` gives `c` where `a.b` is undefined at any depth or null,
  `???` only where it is undefined; `a.b is defined` asks.
- **Names with hyphens** need brackets: `outputs['my-task'].value`.
- **Operators**, the tightest first: `not - +` (before one operand), `.. ?? ???`, `~`, `|`, `* / %`, `+ -`,
  `== != < > <= >=`, `is contains in`, `and`, `or`, `a ? b : c`. So `trigger.date ?? now() | date('yyyy')` formats
  whichever of the two there is. Integers divide to integers.
- **Tags**: {", ".join(f"`{tag}`" for tag in TAGS)}. In loops `loop.index` counts from 0.
- **Values are rendered once.** Text that contains expressions is left alone unless `render()` is asked for.
- **Limits**: a source of 128 KiB, nesting of 100, an output of 1 MiB, lists of 100,000 elements, 0.5 seconds.
- **Patterns** run on RE2: no look-around and no back-references; `$1` in a replacement is the first group.

Arguments are given in order or by name: `date(format='yyyy', timeZone='UTC')`. A name of several words may be
written in snake case too (`replace_pairs`).

The examples are executed. What they find outside: it is 12:00 UTC on 1 June 2024, the namespace `company.team` has
the file `greeting.txt` (`hello`), the key `region` (`eu`), the secrets `API_KEY` and `LOGIN`, and the task `load`
has failed.
"""


def page() -> str:
    """Return the whole page."""
    sections = (("Functions", FUNCTIONS), ("Filters", FILTERS), ("Tests", TESTS))
    return _INTRODUCTION + "".join(_section(title, table) for title, table in sections)


def _section(title: str, table: Mapping[str, Builtin]) -> str:
    builtins = sorted({builtin.name: builtin for builtin in table.values()}.values(), key=lambda one: one.name.lower())
    return f"\n## {title}\n" + "".join(_entry(builtin) for builtin in builtins)


def _entry(builtin: Builtin) -> str:
    prose, _, example = builtin.documentation.partition("Example:\n")
    also = f"\nAlso: {', '.join(f'`{alias}`' for alias in builtin.aliases)}.\n" if builtin.aliases else ""
    shown = f"\n```\n{re.sub('^    ', '', example, flags=re.MULTILINE).rstrip()}\n```\n" if example else ""
    return f"\n### `{_signature(builtin)}`\n\n{prose.strip()}\n{also}{shown}"


def _signature(builtin: Builtin) -> str:
    optional = [f"{name}=" for name in builtin.parameters[builtin.required :]]
    arguments = ", ".join([*builtin.parameters[: builtin.required], *optional, *(["…"] if builtin.variadic else [])])
    if builtin.kind == "function":
        return f"{builtin.name}({arguments})"
    called = f"({arguments})" if arguments else ""
    return f"x is {builtin.name}{called}" if builtin.kind == "test" else f"x | {builtin.name}{called}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
