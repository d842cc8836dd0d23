"""Files of namespaces: as they are at the active commit, and written as commits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from runner.access import Permission
from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.namespace_files import MOST_BYTES, missing
from runner.store import Session
from runner.store.records import FlowVersion
from sync.sifting import owns
from webhooks.answers.instance import FILE
from webhooks.api.flows import sync_of
from webhooks.call import Call
from webhooks.parameters import number, required, text
from webhooks.routes import Endpoint
from webhooks.schemas import BYTES, TEXT, WHOLE, listed, optional, record

_BASE: Final = "/api/v1/{tenant}/namespaces/{namespace}/files"
_OCTETS: Final = "application/octet-stream"
_MULTIPART: Final = "multipart/form-data"
_MOST_FILES: Final = 2_000
_MOST_ZIPPED: Final = 256 * 1024 * 1024
_LONGEST_PATH: Final = 512
_KEEPER: Final = ".gitkeep"  # git keeps no empty folders


def content(call: Call) -> Response:
    """Answer with a file of a namespace, always as an attachment; `revision` counts the commits that changed it."""
    path, revision = _path(call), call.number("revision")
    environment, commit = _place(call)
    if revision is not None:
        commits = _history(call, path)
        if revision > len(commits):
            raise NotFoundError("namespace.file.missing", f"the file {path!r} has no revision {revision}")
        commit = commits[revision - 1]
    data = call.services.host.files.read(environment, commit, call.path("namespace"), path)
    name = quote(PurePosixPath(path).name, safe="")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return Response(data, media_type=_OCTETS, headers=headers)


def stats(call: Call) -> dict[str, Any]:
    """Answer with what a file or folder is."""
    path = (call.query("path") or "").strip("/")
    found = _listing(call)
    if path in found:
        return _file_json(call, path)
    if not path or any(each.startswith(f"{path}/") for each in found):
        return _folder_json(PurePosixPath(path).name)
    raise missing(call.path("namespace"), path)


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
    namespace, packed, left = call.path("namespace"), io.BytesIO(), _MOST_ZIPPED
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


def revisions(call: Call) -> list[dict[str, Any]]:
    """Answer with the revisions of a file, the oldest first: the commits that changed it, as far as they are here."""
    commits = _history(call, _path(call))
    return [{"revision": number, "commit": commit} for number, commit in enumerate(commits, start=1)]


def _history(call: Call, path: str) -> list[str]:
    namespace = call.path("namespace")
    environment, commit = _place(call)
    commits = sync_of(call).file_reader().history(environment, commit, namespace, path)
    if not commits:
        raise missing(namespace, path)
    return commits


# -------------------------------------------------------------------- writes


async def put(call: Call) -> Response:
    """Commit a file: the part `fileContent`, or an empty file without one."""
    form = await call.request.form(max_files=1, max_fields=1, max_part_size=MOST_BYTES)
    part = form.get("fileContent")
    if isinstance(part, UploadFile):
        data = await part.read(MOST_BYTES + 1)
    else:
        data = (part or "").encode()
    if len(data) > MOST_BYTES:
        raise InvalidError("namespace.file.large", f"a file may have {MOST_BYTES} bytes at the most")
    return await run_in_threadpool(_put, call, _written_path(call), data)


def make_directory(call: Call) -> Response:
    """Commit a folder, kept by an empty file `.gitkeep` in it, because git keeps none that is empty."""
    if not (call.query("path") or "").strip("/"):
        return Response(status_code=200)  # the root is always there
    return _put(call, f"{_written_path(call)}/{_KEEPER}", b"")


def _put(call: Call, path: str, data: bytes) -> Response:
    namespace = call.path("namespace")
    environment, hears = _writing_environment(call), call.proposals.append
    sync_of(call).file_writer().write(environment, namespace, {path: data}, actor=call.actor, proposed=hears)
    return _done(call, "write file", path=path)


def move(call: Call) -> Response:
    """Commit the move of a file, or of a folder with all that lies in it."""
    old, new, namespace = _written_path(call, "from"), _written_path(call, "to"), call.path("namespace")
    environment, hears = _writing_environment(call), call.proposals.append
    moved = sync_of(call).file_writer().move(environment, namespace, old, new, actor=call.actor, proposed=hears)
    if not moved:
        raise missing(namespace, old)
    return _done(call, "move file", path=old, to=new)


def delete(call: Call) -> Response:
    """Commit the removal of a file, or of a folder with all that lies in it."""
    path, namespace = _written_path(call), call.path("namespace")
    environment, hears, wanted = _writing_environment(call), call.proposals.append, _at_or_below(path)
    removed = sync_of(call).file_writer().delete(environment, namespace, wanted, actor=call.actor, proposed=hears)
    if not removed:
        raise missing(namespace, path)
    return _done(call, "delete file", path=path)


def _done(call: Call, verb: str, **detail: str) -> Response:
    call.services.catalogue.invalidate()
    call.note(call.path("namespace"), verb=verb, **detail)
    return Response(status_code=200)


def _at_or_below(path: str) -> Callable[[str], bool]:
    return lambda each: each == path or each.startswith(f"{path}/")


def _written_path(call: Call, name: str = "path") -> str:
    """Return a path that may be written. Raises `InvalidError` `namespace.path.invalid`."""
    path = _path(call, name)
    parts = path.split("/")
    if len(path) > _LONGEST_PATH or not path.isprintable() or "\\" in path or {"", ".", ".."} & {*parts}:
        raise InvalidError("namespace.path.invalid", f"{path[:100]!r} cannot be a file of a namespace")
    if any(part.lower() in {".git", "git~1"} for part in parts):
        raise InvalidError("namespace.path.invalid", f"{path[:100]!r} names a folder of git's own")
    return path


def _writing_environment(call: Call) -> str:
    """Return the environment that the files of the namespace are written to.

    Raises:
        ConflictError: `flow.owner.none` or `flow.owner.many`.
    """
    environment, namespace = _place(call)[0], call.path("namespace")
    if environment is not None:
        return environment
    rows = call.services.store.read(lambda db: db.environments.all())
    owners = [row.name for row in rows if owns(row, namespace)]
    if not owners:
        raise ConflictError("flow.owner.none", f"no environment owns the namespace {namespace!r}")
    if len(owners) > 1:
        raise ConflictError("flow.owner.many", f"several environments own the namespace {namespace!r}: {owners}")
    return owners[0]


# -------------------------------------------------------------------- places


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


def _path(call: Call, name: str = "path") -> str:
    return call.required(name).strip("/")


def _file_json(call: Call, path: str) -> dict[str, Any]:
    data = call.services.host.files.read(*_place(call), call.path("namespace"), path)
    return {**_folder_json(PurePosixPath(path).name), "type": "File", "size": len(data)}


def _folder_json(name: str) -> dict[str, Any]:
    # git keeps no times of files, and a commit's would say nothing of one of them.
    return {"type": "Directory", "fileName": name, "size": 0, "lastModifiedTime": 0, "creationTime": 0}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.FLOW_READ, Permission.FLOW_WRITE, "namespaces"
    path, root = required("path", "Path of the file."), text("path", "Path of the folder; the root without it.")
    moves = (required("from", "Path of the file or folder."), required("to", "Its new path."))
    revision = number("revision", "The n-th commit that changed it; as it is now without it.", least=1)
    commits = listed(record(revision=WHOLE, commit=TEXT))
    folder, make = "What lies in a folder of a namespace", "Make a folder in a namespace (a commit)"
    return [
        Endpoint(
            "GET",
            _BASE,
            read,
            content,
            "A file of a namespace",
            tag,
            gives=_OCTETS,
            query=(path, revision),
            answer=BYTES,
        ),
        Endpoint(
            "POST",
            _BASE,
            write,
            put,
            "Write a file of a namespace (a commit)",
            tag,
            proposes=True,
            takes=_MULTIPART,
            reads_body=False,
            query=(path,),
            body=record(fileContent=optional(BYTES)),
        ),
        Endpoint("PUT", _BASE, write, move, "Move a file or folder (a commit)", tag, query=moves, proposes=True),
        Endpoint(
            "DELETE", _BASE, write, delete, "Delete a file or folder (a commit)", tag, query=(path,), proposes=True
        ),
        Endpoint("GET", _BASE + "/stats", read, stats, "What a file is", tag, query=(root,), answer=FILE),
        Endpoint("GET", _BASE + "/directory", read, directory, folder, tag, query=(root,), answer=listed(FILE)),
        Endpoint("POST", _BASE + "/directory", write, make_directory, make, tag, query=(root,), proposes=True),
        Endpoint(
            "GET", _BASE + "/revisions", read, revisions, "Revisions of a file", tag, query=(path,), answer=commits
        ),
        Endpoint(
            "GET",
            _BASE + "/search",
            read,
            find,
            "Files of a namespace by name",
            tag,
            query=(required("q", "A part of the path."),),
            answer=listed(TEXT),
        ),
        Endpoint(
            "GET",
            _BASE + "/export",
            read,
            export,
            "All files of a namespace as a zip",
            tag,
            gives=_OCTETS,
            answer=BYTES,
        ),
    ]
