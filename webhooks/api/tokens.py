"""API tokens: the secret is shown once, when a token is created."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from runner.access import ALL_NAMESPACES, Permission, Role
from runner.durations import parse_duration
from runner.errors import ConflictError, InvalidError
from webhooks.answers.instance import NEW_TOKEN, ROLE, TOKEN
from webhooks.call import Call, page_of
from webhooks.routes import Endpoint
from webhooks.schemas import DURATION, TEXT, listed, optional, page, record
from webhooks.shapes import token_json

_BASE: Final = "/api/v1/{tenant}/tokens"
_LONGEST_NAME: Final = 100


def everyone(call: Call) -> dict[str, Any]:
    """Answer with all tokens, without their secrets."""
    rows = call.services.access.tokens()
    return page_of((token_json(row) for row in rows), len(rows))


def create(call: Call) -> dict[str, Any]:
    """Create a token; the answer holds its secret, which cannot be read again."""
    body = call.json_map()
    name = body.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidError("token.name.invalid", f"a token needs a name of 1 to {_LONGEST_NAME} characters")
    namespaces = body.get("namespaces", [ALL_NAMESPACES])
    if not isinstance(namespaces, list) or not all(isinstance(item, str) for item in namespaces):
        raise InvalidError("token.namespaces.invalid", "namespaces must be a list of names")
    expires_at = None
    if (age := body.get("maxAge")) is not None:
        expires_at = datetime.now(UTC) + parse_duration(str(age))
    secret, token = call.services.access.create(
        name, str(body.get("role", Role.VIEWER)), namespaces=namespaces, expires_at=expires_at, actor=call.actor
    )
    return {**token_json(token), "fullToken": secret}


def revoke(call: Call) -> Response:
    """Remove a token; it is refused from now on."""
    name = call.path("name")
    if name == call.actor:
        raise ConflictError("token.own", "a token cannot revoke itself", hint="use another admin token")
    call.services.access.revoke(name, actor=call.actor)
    return Response(status_code=204)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    manage, tag = Permission.TOKEN_MANAGE, "tokens"
    wanted = record(name=TEXT, role=optional(ROLE), namespaces=optional(listed(TEXT)), maxAge=optional(DURATION))
    return [
        Endpoint("GET", _BASE, manage, everyone, "All tokens", tag, answer=page(TOKEN)),
        Endpoint(
            "POST",
            _BASE,
            manage,
            create,
            "Create a token",
            tag,
            takes="application/json",
            body=wanted,
            answer=NEW_TOKEN,
        ),
        Endpoint("DELETE", _BASE + "/{name}", manage, revoke, "Revoke a token", tag, status=204),
    ]
