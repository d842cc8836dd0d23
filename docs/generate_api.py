"""Writes the table of routes in `docs/reference/api.md` from the application: `python docs/generate_api.py`."""  # noqa: INP001 - a program, no package

from __future__ import annotations

from pathlib import Path

from runner.access import INSTANCE_WIDE, WEAKEST_ROLE, Permission
from webhooks.api import endpoints
from webhooks.routes import Endpoint

PAGE = Path(__file__).parent / "reference" / "api.md"
BEGIN, END = "<!-- routes: begin -->", "<!-- routes: end -->"


def tables() -> str:
    """Return the part of the page between its two marks."""
    by_tag: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints():
        by_tag.setdefault(endpoint.tag, []).append(endpoint)
    parts = []
    for tag, rows in sorted(by_tag.items()):
        lines = [_row(item) for item in sorted(rows, key=lambda item: (item.path, item.method))]
        parts.append("\n".join([f"### {tag}", "", "| route | who | what |", "|---|---|---|", *lines]))
    return "\n\n".join(parts)


def page(text: str) -> str:
    """Return `text` with its tables brought up to date."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _row(endpoint: Endpoint) -> str:
    path = endpoint.path.replace(":path}", "}")
    return f"| `{endpoint.method} {path}` | {_who(endpoint.permission)} | {endpoint.summary} |"


def _who(permission: Permission | None) -> str:
    if permission is Permission.PUBLIC:
        return "anybody"
    if permission is None or permission is Permission.OWN_PROOF:
        return "who has the key"
    role = WEAKEST_ROLE[permission]
    return f"{role}, all namespaces" if permission in INSTANCE_WIDE else str(role)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
