"""Icons and versions of types. An icon is drawn from the name: a tile in a colour of its group, with its initials."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import Any, Final
from xml.sax.saxutils import escape

from starlette.responses import Response

import runner
from runner.access import Permission
from runner.errors import NotFoundError
from runner.flows.models import TaskKind
from runner.flows.registry import TypeKind, find, short, types
from webhooks.answers.instance import DOCUMENTATION, ICON
from webhooks.api.catalogue import BASE, documentation
from webhooks.call import Call
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT, listed, mapped, record

_PREFIX: Final = "io.kestra.plugin."
_SVG: Final = "image/svg+xml"
_TILE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
    '<rect width="24" height="24" rx="5" fill="hsl({hue},45%,40%)"/>'
    '<text x="12" y="16" font-family="sans-serif" font-size="10" text-anchor="middle" fill="#fff">{text}</text></svg>'
)
_CAPITALS: Final = re.compile(r"[A-Z]")
_TURN: Final = 360  # degrees of a circle of colours


def icons(_call: Call) -> dict[str, Any]:
    """Answer with the icons of all types, by their names."""
    return {f"{_PREFIX}{name}": _icon(name, kind) for kind in TypeKind for name in types(kind)}


def group_icons(_call: Call) -> dict[str, Any]:
    """Answer with the icons of all groups of types."""
    groups = {name.rpartition(".")[0] for kind in TypeKind for name in types(kind)}
    return {f"{_PREFIX}{group}": _described(group, is_flowable=False) for group in sorted(groups)}


def icon(call: Call) -> dict[str, Any]:
    """Answer with the icon of one type."""
    return _icon(*_known(call))


def icon_svg(call: Call) -> Response:
    """Answer with the icon of one type as an image."""
    name, _ = _known(call)
    return Response(_drawn(name), media_type=_SVG)


def versions(call: Call) -> dict[str, Any]:
    """Answer with the versions of a type that are there: that of this server, which brings them all."""
    name, _ = _known(call)
    return {"type": f"{_PREFIX}{name}", "versions": [runner.__version__]}


def documentation_of_version(call: Call) -> dict[str, Any]:
    """Answer with the text and the schema of a type in a version."""
    if call.path("version") != runner.__version__:
        raise NotFoundError("schema.type.unknown", f"there is no version {call.path('version')[:40]!r} of it")
    return documentation(call)


def _known(call: Call) -> tuple[str, TypeKind]:
    name = call.path("cls")
    for kind in TypeKind:
        if find(kind, name) is not None:
            return short(name), kind
    raise NotFoundError("schema.type.unknown", f"there is no type {name[:200]!r}")


def _icon(name: str, kind: TypeKind) -> dict[str, Any]:
    cls = find(kind, name)
    return _described(name, is_flowable=getattr(cls, "kind", None) is TaskKind.FLOWABLE)


def _described(name: str, *, is_flowable: bool) -> dict[str, Any]:
    image = _drawn(name).encode()
    return {
        "name": name.rpartition(".")[2],
        "icon": base64.b64encode(image).decode(),
        "flowable": is_flowable,
        "monochrome": False,
        "hash": hashlib.sha256(image).hexdigest()[:16],
    }


@cache
def _drawn(name: str) -> str:
    group, _, word = name.rpartition(".")
    hue = int.from_bytes(hashlib.sha256((group or name).encode()).digest()[:2], "big") % _TURN
    initials = "".join(_CAPITALS.findall(word))[:2] or word[:2]
    return _TILE.format(hue=hue, text=escape(initials))


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag, every = Permission.CONFIG_READ, "catalogue", mapped(ICON)
    found = record(type=TEXT, versions=listed(TEXT))
    one, type_of = BASE + "/icons/{cls}", "The text and schema of a type in a version"
    return [
        Endpoint("GET", BASE + "/icons", read, icons, "Icons of all types", tag, answer=every),
        Endpoint("GET", BASE + "/icons/groups", read, group_icons, "Icons of groups of types", tag, answer=every),
        Endpoint("GET", one, read, icon, "The icon of a type", tag, answer=ICON),
        Endpoint("GET", one + "/icon.svg", read, icon_svg, "The icon as an image", tag, gives=_SVG, answer=TEXT),
        Endpoint("GET", BASE + "/{cls}/versions", read, versions, "Versions of a type", tag, answer=found),
        Endpoint(
            "GET",
            BASE + "/{cls}/versions/{version}",
            read,
            documentation_of_version,
            type_of,
            tag,
            answer=DOCUMENTATION,
        ),
    ]
