"""The key-value store of namespaces."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from starlette.responses import Response

from runner.access import Permission, covers
from runner.durations import parse_duration
from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.key_values import checked_key, typed_value
from runner.store import Session
from runner.store.records import KeyValue
from webhooks.answers.instance import KEY, KEYS, VALUE
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order
from webhooks.parameters import filters, paging
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, TEXT, listed, page
from webhooks.search import KEY_FIELDS
from webhooks.shapes import key_value_json

_BASE: Final = "/api/v1/{tenant}/namespaces/{namespace}/kv"
_MOST_KEYS: Final = 10_000
_NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,149}")
_BARE_KINDS: Final = ("DATETIME", "DATE", "DURATION")


class ExpiredError(MainstemError):
    """The key had a value that is over (410)."""

    status = 410


def put(call: Call) -> Response:
    """Store a value given as JSON text, or as a bare time, date or duration."""
    namespace, key = call.path("namespace"), checked_key(call.path("key"))
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidError("namespace.invalid", f"{namespace[:200]!r} cannot be a namespace")
    kind, value = _typed(call.text().strip())
    now = datetime.now(UTC)
    ttl = _ttl(call.request.headers.get("ttl"))
    row = KeyValue(
        namespace=namespace,
        key=key,
        kind=kind,
        value=value,
        created_at=now,
        updated_at=now,
        expires_at=now + ttl if ttl else None,
        description=(call.request.headers.get("description") or "")[:1000] or None,
    )
    call.services.store.write(lambda db: db.kv.put(row))
    call.note(f"{namespace}/{key}", verb="put")
    return Response(status_code=200)


def get(call: Call) -> dict[str, Any]:
    """Answer with a value and its type."""
    namespace, key = call.path("namespace"), call.path("key")
    now = datetime.now(UTC)

    def read(db: Session) -> tuple[KeyValue | None, bool]:
        return db.kv.get(namespace, key, now), db.kv.expired(namespace, key, now)

    row, is_over = call.services.store.read(read)
    if is_over:
        raise ExpiredError("kv.key.expired", f"the key {key!r} of {namespace} has expired")
    if row is None:
        raise NotFoundError("kv.key.missing", f"no key {key!r} in {namespace}")
    updated = key_value_json(row)["updateDate"]
    return {"type": row.kind, "value": row.value, "revision": row.revision, "updated": updated}


def delete(call: Call) -> bool:
    """Remove a key; answers whether it was there."""
    namespace, key = call.path("namespace"), call.path("key")
    was_there = call.services.store.write(lambda db: db.kv.delete(namespace, key))
    call.note(f"{namespace}/{key}", verb="delete")
    return was_there


def delete_some(call: Call) -> dict[str, list[str]]:
    """Remove several keys; answers with those that were there."""
    namespace = call.path("namespace")
    keys = call.json_map().get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise InvalidError("kv.keys.invalid", "the body must be {keys: [...]} with names")

    def remove(db: Session) -> list[str]:
        return [key for key in keys if db.kv.delete(namespace, key)]

    removed = call.services.store.write(remove)
    call.note(namespace, verb="delete", keys=removed)
    return {"keys": removed}


def of_namespace(call: Call) -> list[dict[str, Any]]:
    """Answer with the keys of one namespace (the 1.x shape)."""
    namespace, now = call.path("namespace"), datetime.now(UTC)
    found = call.services.store.read(lambda db: db.kv.list(namespace, size=_MOST_KEYS, now=now))
    return [key_value_json(row) for row in found.items]


def inherited(call: Call) -> list[dict[str, Any]]:
    """Answer with the keys of the namespaces around one, as far as the caller may see them."""
    parts, now = call.path("namespace").split("."), datetime.now(UTC)
    around = [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]

    def read(db: Session) -> list[KeyValue]:
        return [row for item in around if call.sees(item) for row in db.kv.list(item, size=_MOST_KEYS, now=now).items]

    return [key_value_json(row) for row in call.services.store.read(read)]


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of keys of all namespaces, never with values."""
    pages, conditions, now = call.paging(), call.conditions(), datetime.now(UTC)
    prefixes = call.namespaces()
    found = call.services.store.read(lambda db: db.kv.list(size=_MOST_KEYS, now=now))

    def is_wanted(row: KeyValue) -> bool:
        values = {"q": f"{row.namespace} {row.key}", "namespace": row.namespace, "updated": row.updated_at}
        return (prefixes is None or covers(prefixes, row.namespace)) and holds(conditions, values.get, now)

    wanted = [row for row in found.items if is_wanted(row)]
    keys = {
        "key": lambda row: row.key,
        "namespace": lambda row: row.namespace,
        "creationDate": lambda row: row.created_at,
        "updateDate": lambda row: row.updated_at,
        "expirationDate": lambda row: row.expires_at,
    }
    rows = in_order(wanted, pages.sort, keys)[pages.offset : pages.offset + pages.size]
    return page_of((key_value_json(row) for row in rows), len(wanted))


def _typed(text: str) -> tuple[str, Any]:
    for kind in _BARE_KINDS:
        try:
            return typed_value(text, kind)
        except InvalidError:
            continue
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidError(
            "kv.value.invalid",
            "the body is neither JSON nor a time, date or duration",
            hint='text needs quotes: "text"',
        ) from None
    if value is None:
        raise InvalidError("kv.value.invalid", "null is no value", hint="delete the key instead")
    return typed_value(value)


def _ttl(text: str | None) -> timedelta | None:
    if not text:
        return None
    ttl = parse_duration(text)
    if ttl <= timedelta(0):
        raise InvalidError("kv.ttl.invalid", f"ttl {text!r} is not a time to come")
    return ttl


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.KV_READ, Permission.KV_WRITE, "kv"
    one, some = _BASE + "/{key}", (filters(KEY_FIELDS), *paging())
    around = "The keys of the namespaces around"
    return [
        Endpoint("PUT", one, write, put, "Store a value", tag, takes="text/plain", body=TEXT),
        Endpoint("GET", one, read, get, "One value", tag, answer=VALUE),
        Endpoint("DELETE", one, write, delete, "Remove a key", tag, answer=FLAG),
        Endpoint("GET", _BASE, read, of_namespace, "The keys of a namespace", tag, answer=listed(KEY)),
        Endpoint(
            "DELETE",
            _BASE,
            write,
            delete_some,
            "Remove several keys",
            tag,
            takes="application/json",
            body=KEYS,
            answer=KEYS,
        ),
        Endpoint("GET", _BASE + "/inheritance", read, inherited, around, tag, answer=listed(KEY)),
        Endpoint("GET", "/api/v1/{tenant}/kv", read, search, "A page of keys", tag, query=some, answer=page(KEY)),
    ]
