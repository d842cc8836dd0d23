"""The badge of a flow: an image to put into a README, and the same as JSON for badge services."""

from __future__ import annotations

import html
from typing import Any, Final

from runner.reports.rows import RunRow
from runner.states import State

_GREEN, _YELLOW, _RED, _GREY = "#2ea44f", "#bf8700", "#cf222e", "#6e7781"
_COLOURS: Final = {
    State.SUCCESS: _GREEN,
    State.WARNING: _YELLOW,
    State.FAILED: _RED,
    State.KILLED: _RED,
    State.CANCELLED: _GREY,
}
_CHAR_PX: Final = 6.6
_PADDING_PX: Final = 12


def badge_json(flow: str, last: RunRow | None) -> dict[str, Any]:
    """Return the badge in the shape of the shields.io endpoint (schema version 1)."""
    return {"schemaVersion": 1, "label": flow, "message": _message(last), "color": _colour(last)}


def badge_svg(flow: str, last: RunRow | None) -> str:
    """Return the badge as an image without script, link or font of elsewhere."""
    message = _message(last)
    left, right = (round(len(text) * _CHAR_PX + _PADDING_PX) for text in (flow, message))
    name, state, width = html.escape(flow), html.escape(message), left + right
    font = 'fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" '
        f'aria-label="{name}: {state}">'
        f"<title>{name}: {state}</title>"
        f'<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#24292f"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{_colour(last)}"/></g>'
        f'<g {font}><text x="{left / 2:g}" y="14">{name}</text>'
        f'<text x="{left + right / 2:g}" y="14">{state}</text></g></svg>\n'
    )


def _message(last: RunRow | None) -> str:
    return last.state.value.lower() if last else "no runs"


def _colour(last: RunRow | None) -> str:
    return _COLOURS.get(last.state, _GREY) if last else _GREY
