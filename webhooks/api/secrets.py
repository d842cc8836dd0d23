"""Secrets of namespaces: keys are listed, values are set and removed, and none is ever given back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from starlette.responses import Response

from runner.access import Permission
from runner.errors import AccessError, InvalidError, MainstemError, NotFoundError
from runner.secrets.file import around
from runner.secrets.stored import About, StoredSecrets
from runner.store.records import StoredSecret
from webhooks.answers.instance import SECRET, SECRET_META
from webhooks.api.namespaces import BASE, NAMESPACE_NAME, names_of
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order
from webhooks.parameters import filters, paging
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, MAP, TEXT, WHOLE, listed, mapped, nullable, optional, record
from webhooks.search import SECRET_FIELDS

log = logging.getLogger(__name__)

_LONGEST_DESCRIPTION: Final = 1_000
_MOST_TAGS: Final = 50


def inherited(call: Call) -> dict[str, list[str]]:
    """Answer with the keys of the secrets that a namespace sees, by the namespace they are first seen in."""
    secrets, seen, found = call.services.host.secrets, set[str](), {}
    for name in list(around(call.path("namespace")))[::-1]:
        found[name] = [key for key in secrets.keys(name) if key not in seen]
        seen.update(found[name])
    return {name: keys for name, keys in found.items() if keys and call.sees(name)}


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of keys: those set here by their namespace, others by each namespace that sees them."""
    return _page(call, list(_rows(call)))


def of_namespace(call: Call) -> dict[str, Any]:
    """Answer with a page of the keys of exactly one namespace."""
    name = call.path("namespace")
    kept = [_shown(row) for row in _kept(call) if row.namespace == name]
    return _page(call, [*kept, *_given(call, name)])


def put(call: Call) -> list[dict[str, Any]]:
    """Set a secret; answers with what is said about those of the namespace.

    What the body leaves out of description and tags stays as it was.
    """
    namespace, body, own = call.path("namespace"), call.json_map(), _own(call)
    if not NAMESPACE_NAME.fullmatch(namespace):
        raise InvalidError("namespace.invalid", f"{namespace[:200]!r} cannot be a namespace")
    key, value = body.get("key"), body.get("value")
    if not isinstance(key, str) or not isinstance(value, str):
        raise InvalidError("secret.body.invalid", "the body must be {key: …, value: …}, both texts")
    about = _about(body, _known(own, namespace, key))
    own.put(namespace, key, value, call.services.host.clock(), about)
    call.note(f"{namespace}/{key.upper()}", verb="set")
    try:
        call.services.host.secrets.renew()  # masked from here on, before any task reads it
    except MainstemError as error:  # what is wrong with others is told to who asks for them: this one is kept
        log.warning("a secret was set while others cannot be read: %s", error)
    return _metas(own, namespace)


def patch(call: Call) -> list[dict[str, Any]]:
    """Change what is said about a secret."""
    namespace, key, own = call.path("namespace"), call.path("key"), _own(call)
    found = own.find(namespace, key)
    about = _about(call.json_map(), About(found.description, found.tags))
    own.describe(namespace, key, about, call.services.host.clock())
    call.note(f"{namespace}/{found.key}", verb="describe")
    return _metas(own, namespace)


def delete(call: Call) -> Response:
    """Remove a secret that was set here."""
    namespace, key, own = call.path("namespace"), call.path("key"), _own(call)
    try:
        own.delete(namespace, key)
    except NotFoundError:
        if key.upper() in call.services.host.secrets.given(namespace):
            message = f"the secret {key!r} comes from the files, backends or environment of the server"
            raise AccessError("secret.readonly", message, hint="remove it there") from None
        raise
    call.note(f"{namespace}/{key.upper()}", verb="remove")
    return Response(status_code=204)


def _own(call: Call) -> StoredSecrets:
    own = call.services.host.secrets.own
    if own is None:
        raise AccessError("secret.readonly", "this server keeps no secrets that can be set")
    return own


def _known(own: StoredSecrets, namespace: str, key: str) -> About:
    """Return what is said about a secret so far, nothing about one that is new."""
    try:
        found = own.find(namespace, key)
    except NotFoundError:
        return About()
    return About(found.description, found.tags)


def _about(body: dict[str, Any], now: About) -> About:
    """Return what a body says about a secret; what it leaves out stays as it is."""
    description, pairs = body.get("description", now.description), body.get("tags")
    tags = now.tags if pairs is None else _tags(pairs)
    is_text = isinstance(description, str | None) and len(description or "") <= _LONGEST_DESCRIPTION
    if not is_text or tags is None or len(tags) > _MOST_TAGS:
        limits = f"a text of up to {_LONGEST_DESCRIPTION:,} characters, `tags` up to {_MOST_TAGS} pairs"
        hint = "tags: [{key: team, value: data}]"
        raise InvalidError("secret.body.invalid", f"`description` is {limits}", hint=hint)
    return About(description or None, tags)


def _tags(pairs: Any) -> dict[str, str] | None:
    if not isinstance(pairs, list) or not all(_is_tag(pair) for pair in pairs):
        return None
    return {pair["key"]: pair["value"] for pair in pairs}


def _is_tag(pair: Any) -> bool:
    return isinstance(pair, dict) and all(isinstance(pair.get(name), str) for name in ("key", "value"))


def _metas(own: StoredSecrets, namespace: str) -> list[dict[str, Any]]:
    shown = [_shown(row) for row in own.all() if row.namespace == namespace]
    return [{name: row[name] for name in ("key", "description", "tags")} for row in shown]


def _kept(call: Call) -> list[StoredSecret]:
    own = call.services.host.secrets.own
    return [row for row in own.all() if call.sees(row.namespace)] if own is not None else []


def _rows(call: Call) -> Iterator[dict[str, Any]]:
    kept = _kept(call)
    yield from map(_shown, kept)
    for name in names_of(call):
        yield from _given(call, name)


def _given(call: Call, name: str) -> Iterator[dict[str, Any]]:
    for key in call.services.host.secrets.given(name):
        yield {"key": key, "namespace": name, "description": None, "tags": [], "readOnly": True}


def _shown(row: StoredSecret) -> dict[str, Any]:
    tags = [{"key": key, "value": value} for key, value in row.tags.items()]
    about = {"description": row.description, "tags": tags, "readOnly": False}
    return {"key": row.key, "namespace": row.namespace, **about}


def _page(call: Call, rows: list[dict[str, Any]]) -> dict[str, Any]:
    pages, conditions, now = call.paging(), call.conditions(), call.services.host.clock()
    wanted = [row for row in rows if holds(conditions, {"q": row["key"], "namespace": row["namespace"]}.get, now)]
    keys = {"key": lambda row: row["key"], "namespace": lambda row: row["namespace"]}
    some = in_order(wanted, pages.sort, keys)[pages.offset : pages.offset + pages.size]
    return {"readOnly": call.services.host.secrets.own is None, **page_of(some, len(wanted))}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.SECRET_READ, Permission.SECRET_WRITE, "secrets"
    some, one, json = BASE + "/{namespace}/secrets", BASE + "/{namespace}/secrets/{key}", "application/json"
    keys = record(readOnly=FLAG, results=listed(SECRET), total=WHOLE)
    said = {"description": optional(nullable(TEXT)), "tags": optional(nullable(listed(MAP)))}
    new = record(key=TEXT, value=TEXT, **said)
    about, every, metas = record(key=optional(TEXT), **said), (filters(SECRET_FIELDS), *paging()), listed(SECRET_META)
    seen = "Secrets that a namespace sees, by name"
    line = BASE + "/{namespace}/inherited-secrets"
    return [
        Endpoint("GET", line, read, inherited, seen, tag, answer=mapped(listed(TEXT))),
        Endpoint("GET", "/api/v1/{tenant}/secrets", read, search, "Names of secrets", tag, query=every, answer=keys),
        Endpoint("GET", some, read, of_namespace, "Names of a namespace's secrets", tag, query=every, answer=keys),
        Endpoint("PUT", some, write, put, "Set a secret", tag, takes=json, body=new, answer=metas),
        Endpoint("PATCH", one, write, patch, "Describe a secret", tag, takes=json, body=about, answer=metas),
        Endpoint("DELETE", one, write, delete, "Remove a secret", tag, status=204),
    ]
