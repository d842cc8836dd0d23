"""Writes the tables of types in `docs/compatibility.md` from the registry: `python docs/generate_types.py`."""  # noqa: INP001 - a program, no package

from __future__ import annotations

from pathlib import Path

from runner.flows.registry import ABSENT, TypeKind, find, types

PAGE = Path(__file__).parent / "compatibility.md"
BEGIN, END = "<!-- types: begin -->", "<!-- types: end -->"


def tables() -> str:
    """Return the part of the page between its two marks."""
    parts = []
    for kind in TypeKind:
        rows = [f"| `{name}` | {_sentence(kind, name)} |" for name in types(kind)]
        parts.append(
            "\n".join([f"### {kind.value.capitalize()} types", "", "| type | what it does |", "|---|---|", *rows])
        )
        absent = sorted(ABSENT[kind].difference(types(kind)))
        if absent:
            parts.append("Not there yet: " + ", ".join(f"`{name}`" for name in absent) + ".")
    return "\n\n".join(parts)


def page(text: str) -> str:
    """Return `text` with its tables brought up to date."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _sentence(kind: TypeKind, name: str) -> str:
    lines = (getattr(find(kind, name), "__doc__", "") or "").strip().splitlines()
    return lines[0].rstrip(".").replace("|", "\\|") if lines else ""


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
