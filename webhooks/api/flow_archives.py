"""Flows as files: out as a zip or a table, in from a zip or a file of several documents."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from runner.access import Permission
from runner.errors import AccessError, FlowError, InvalidError
from runner.store.records import FlowVersion
from sync.plan import FlowKey
from webhooks.answers.flows import NAME
from webhooks.api.flow_bulk import named_flows, queried_flows
from webhooks.api.flows import BASE, FLOW_SEARCH, documents, found_flows, parsed_flow, sync_of
from webhooks.call import Call
from webhooks.parameters import flag
from webhooks.problems import RequestError
from webhooks.routes import Endpoint
from webhooks.schemas import BYTES, TEXT, listed, record
from webhooks.shapes import instant
from webhooks.tables import as_csv

_ZIP: Final = "application/octet-stream"
_MULTIPART: Final = "multipart/form-data"
_FLOW_BYTES: Final = 1024 * 1024
# Others of Python fail in ways of their own, and one lets the archive say how much memory it needs.
_COMPRESSIONS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ARCHIVE_BYTES: Final = 16 * 1024 * 1024  # unpacked
_ENTRIES: Final = 1_000
_COLUMNS: Final = ("id", "namespace", "revision", "disabled", "updated", "environment")


def export_named(call: Call) -> Response:
    """Answer with a zip of the flows that the body lists, one file each."""
    return _archive(named_flows(call))


def export_found(call: Call) -> Response:
    """Answer with a zip of the flows that the filters find."""
    return _archive(queried_flows(call))


def export_table(call: Call) -> Response:
    """Answer with the flows that the filters find as CSV with a header."""
    rows = [
        (each.flow_id, each.namespace, each.revision, each.disabled, instant(each.created_at), each.environment)
        for each in found_flows(call)
    ]
    return as_csv("flows.csv", _COLUMNS, rows)


async def import_flows(call: Call) -> list[str]:
    """Commit the flows of an uploaded `.yml` or `.zip`; answers with the names of those that failed.

    With `failOnError=true` one that fails keeps all out.
    """
    form = await call.request.form(max_files=1)
    upload = form.get("fileUpload")
    if not isinstance(upload, UploadFile):
        raise RequestError("request.parameter.missing", "the part `fileUpload` with a file is missing")
    name, content = upload.filename or "", await upload.read()
    return await run_in_threadpool(_take_in, call, name, content)


def _take_in(call: Call, name: str, content: bytes) -> list[str]:
    entries = _unpacked(content) if name.lower().endswith(".zip") else _parted(name, content)
    failed: dict[str, FlowError | AccessError] = {}
    sources: dict[FlowKey, str] = {}
    for entry, source in entries:
        try:
            flow = parsed_flow(call, source)
            call.require(flow.namespace)
            sources[flow.namespace, flow.id] = source
        except (FlowError, AccessError) as error:
            failed[entry] = error
    if failed and call.flag("failOnError"):
        raise next(iter(failed.values()))
    if sources:
        sync_of(call).write_flows(list(sources.values()), actor=call.actor, proposed=call.proposals.append)
        call.services.catalogue.invalidate()
        call.note(f"{len(sources)} flows", verb="import", flows=[".".join(key) for key in sources])
    return list(failed)


def _parted(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    parts = documents(content.decode(errors="replace"))
    for number, part in enumerate(parts):
        yield (name if len(parts) == 1 else f"{name}#{number + 1}"), part


def _unpacked(content: bytes) -> Iterator[tuple[str, str]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [each for each in archive.infolist() if each.filename.endswith((".yml", ".yaml"))]
            if len(files) > _ENTRIES:
                raise InvalidError("flow.archive.invalid", f"the archive holds {len(files)} files, at most {_ENTRIES}")
            if any(each.compress_type not in _COMPRESSIONS for each in files):
                raise InvalidError("flow.archive.invalid", "the archive is compressed by another method than deflate")
            left = _ARCHIVE_BYTES
            for each in files:
                # What the directory of a zip says of sizes is only a claim; what is read counts.
                with archive.open(each) as file:
                    text = file.read(_FLOW_BYTES + 1)
                left -= len(text)
                if len(text) > _FLOW_BYTES or left < 0:
                    raise InvalidError("flow.archive.invalid", f"{each.filename[:200]!r} makes the archive too large")
                yield each.filename, text.decode(errors="replace")
    # RuntimeError is an encrypted member, NotImplementedError an unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InvalidError("flow.archive.invalid", f"the zip cannot be read: {error}") from None


def _archive(versions: Sequence[FlowVersion]) -> Response:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for version in versions:
            entry = zipfile.ZipInfo(f"{version.namespace}.{version.flow_id}.yml", version.created_at.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, version.source)
    headers = {"content-disposition": 'attachment; filename="flows.zip"'}
    return Response(packed.getvalue(), media_type=_ZIP, headers=headers)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.FLOW_READ, Permission.FLOW_WRITE, "flows"
    out, zipped = BASE + "/export", "Flows as a zip"
    archive = {"gives": _ZIP, "answer": BYTES}
    return [
        Endpoint(
            "POST",
            out + "/by-ids",
            read,
            export_named,
            zipped,
            tag,
            takes="application/json",
            body=listed(NAME),
            **archive,
        ),
        Endpoint("GET", out + "/by-query", read, export_found, zipped, tag, query=FLOW_SEARCH, **archive),
        Endpoint(
            "GET",
            out + "/by-query/csv",
            read,
            export_table,
            "Flows as CSV",
            tag,
            gives="text/csv",
            query=FLOW_SEARCH,
            answer=TEXT,
        ),
        Endpoint(
            "POST",
            BASE + "/import",
            write,
            import_flows,
            "Take in flows from a file or zip (one commit)",
            tag,
            proposes=True,
            takes=_MULTIPART,
            reads_body=False,
            query=(flag("failOnError", "One flow that fails keeps all out."),),
            body=record(fileUpload=BYTES),
            answer=listed(TEXT),
        ),
    ]
