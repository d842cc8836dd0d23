"""Namespaces: those that have flows, and their files as they are at the active commit."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from runner.access import Permission
from runner.errors import InvalidError, NotFoundError
from runner.store import Session
from runner.store.records import FlowVersion
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order, parse_filters
from webhooks.routes import Endpoint
from webhooks.search import NAMESPACE_FIELDS

_BASE: Final = "/api/v1/{tenant}/namespaces"
_OCTETS: Final = "application/octet-stream"
_MOST_FILES: Final = 2_000
_MOST_BYTES: Final = 256 * 1024 * 1024


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of the namespaces that have flows."""
    paging, q = call.paging(), (call.query("q") or "").lower()
    filters = parse_filters(call.request.query_params.multi_items(), NAMESPACE_FIELDS)
    now = call.services.host.clock()

    def is_wanted(name: str) -> bool:
        values = {"q": name, "namespace": name}
        return q in name.lower() and holds(filters, values.get, now)

    wanted = [name for name in _names(call) if is_wanted(name)]
    page = in_order(wanted, paging.sort, {"id": lambda name: name})[paging.offset : paging.offset + paging.size]
    return page_of((_namespace_json(name) for name in page), len(wanted))


def autocomplete(call: Call) -> list[str]:
    """Answer with the namespaces whose name holds `q`; those of `ids` are left out."""
    body = call.json() or {}
    if not isinstance(body, dict):
        raise InvalidError("request.json.invalid", "the body must be a JSON object")
    q, left_out = str(body.get("q") or "").lower(), body.get("ids") or []
    return [name for name in _names(call) if q in name.lower() and name not in left_out]


def get(call: Call) -> dict[str, Any]:
    """Answer with one namespace: one that has flows, or that has some below it."""
    name = call.path("namespace")
    if not any(each == name or each.startswith(f"{name}.") for each in _names(call)):
        raise NotFoundError("namespace.missing", f"no flow is in the namespace {name!r} or below it")
    return _namespace_json(name)


def _names(call: Call) -> list[str]:
    found = call.services.store.read(lambda db: db.flows.namespaces())
    return sorted(name for name in found if call.sees(name))


def _namespace_json(name: str) -> dict[str, Any]:
    return {"id": name, "deleted": False, "description": None, "variables": {}, "pluginDefaults": []}


# -------------------------------------------------------------------- files


def content(call: Call) -> Response:
    """Answer with a file of a namespace, always as an attachment."""
    path = _path(call)
    data = call.services.host.files.read(*_place(call), call.path("namespace"), path)
    name = quote(PurePosixPath(path).name, safe="")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return Response(data, media_type=_OCTETS, headers=headers)


def stats(call: Call) -> dict[str, Any]:
    """Answer with what a file or folder is."""
    path = _path(call)
    found = _listing(call)
    if path in found:
        return _file_json(call, path)
    if not path or any(each.startswith(f"{path}/") for each in found):
        return _folder_json(PurePosixPath(path).name)
    raise NotFoundError("namespace.file.missing", f"the namespace {call.path('namespace')!r} has no file {path!r}")


def directory(call: Call) -> list[dict[str, Any]]:
    """Answer with what lies in a folder, the root without `path`."""
    folder = (call.query("path") or "").strip("/")
    start = f"{folder}/" if folder else ""
    below = [path.removeprefix(start) for path in _listing(call) if path.startswith(start)]
    if len(below) > _MOST_FILES:
        raise InvalidError("namespace.files.many", f"{len(below)} files are too many", hint="name a folder")
    if folder and not below:
        raise NotFoundError("namespace.file.missing", f"there is no folder {folder!r}")
    folders = sorted({path.partition("/")[0] for path in below if "/" in path})
    files = [path for path in below if "/" not in path]
    return [*map(_folder_json, folders), *(_file_json(call, start + name) for name in files)]


def find(call: Call) -> list[str]:
    """Answer with the paths that hold `q`."""
    q = call.required("q").lower()
    return [f"/{path}" for path in _listing(call) if q in path.lower()]


def export(call: Call) -> Response:
    """Answer with all files of a namespace as a zip."""
    namespace, packed, left = call.path("namespace"), io.BytesIO(), _MOST_BYTES
    paths = _listing(call)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            data = call.services.host.files.read(*_place(call), namespace, path)
            left -= len(data)
            if left < 0 or len(paths) > _MOST_FILES:
                raise InvalidError("namespace.files.many", "these are too many files for one archive", hint="clone it")
            archive.writestr(zipfile.ZipInfo(path), data)
    headers = {"content-disposition": 'attachment; filename="files.zip"'}
    return Response(packed.getvalue(), media_type=_OCTETS, headers=headers)


def _listing(call: Call) -> list[str]:
    return call.services.host.files.list(*_place(call), call.path("namespace"))


def _place(call: Call) -> tuple[str | None, str | None]:
    """Return the environment and the commit that the flows of the namespace run with now."""
    namespace = call.path("namespace")

    def read(db: Session) -> FlowVersion | None:
        # Files may lie in a namespace whose flows are all below it.
        return next(iter(db.flows.list(namespace) or db.flows.list(prefix=namespace)), None)

    version = call.services.store.read(read)
    return (version.environment, version.commit) if version else (None, None)


def _path(call: Call) -> str:
    return call.required("path").strip("/")


def _file_json(call: Call, path: str) -> dict[str, Any]:
    data = call.services.host.files.read(*_place(call), call.path("namespace"), path)
    return {**_folder_json(PurePosixPath(path).name), "type": "File", "size": len(data)}


def _folder_json(name: str) -> dict[str, Any]:
    # git keeps no times of files, and a commit's would say nothing of one of them.
    return {"type": "Directory", "fileName": name, "size": 0, "lastModifiedTime": 0, "creationTime": 0}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag, json = Permission.FLOW_READ, "namespaces", "application/json"
    files = _BASE + "/{namespace}/files"
    return [
        Endpoint("GET", _BASE + "/search", read, search, "A page of namespaces", tag),
        Endpoint("POST", _BASE + "/autocomplete", read, autocomplete, "Names of namespaces", tag, takes=json),
        Endpoint("GET", _BASE + "/{namespace}", read, get, "One namespace", tag),
        Endpoint("GET", files, read, content, "A file of a namespace", tag, gives=_OCTETS),
        Endpoint("GET", files + "/stats", read, stats, "What a file of a namespace is", tag),
        Endpoint("GET", files + "/directory", read, directory, "What lies in a folder of a namespace", tag),
        Endpoint("GET", files + "/search", read, find, "Files of a namespace by name", tag),
        Endpoint("GET", files + "/export", read, export, "All files of a namespace as a zip", tag, gives=_OCTETS),
    ]
