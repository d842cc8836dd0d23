"""The routes of core/v1 that a runner of tasks needs, and some that only people need."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.servers.kubernetes.answers import Refusal
from tests.servers.kubernetes.channels import chosen_protocol, serve_process
from tests.servers.kubernetes.checks import admit
from tests.servers.kubernetes.containers import Container
from tests.servers.kubernetes.gate import Right
from tests.servers.kubernetes.objects import KINDS, Change, Object, now
from tests.servers.kubernetes.selection import Matches, selection

if TYPE_CHECKING:
    from tests.servers.kubernetes.server import KubernetesServer

__all__ = ["Api"]

_BOOKMARK_S = 1.0  # an API server sends one a minute
_VERBS = {"POST": "create", "DELETE": "delete", "GET": "get"}
_COLLECTION, _ITEM = "/api/v1/namespaces/{namespace}/{resource}", "/api/v1/namespaces/{namespace}/{resource}/{name}"

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """Answers requests from what the server keeps."""

    def __init__(self, server: KubernetesServer) -> None:
        self._server = server
        self.routes = [
            Route("/version", self._guarded(self._version), methods=["GET"]),
            Route(_COLLECTION, self._guarded(self._list), methods=["GET"]),
            Route(_COLLECTION, self._guarded(self._create), methods=["POST"]),
            Route("/api/v1/{resource}", self._guarded(self._list), methods=["GET"]),
            Route(_ITEM, self._guarded(self._get), methods=["GET"]),
            Route(_ITEM, self._guarded(self._delete), methods=["DELETE"]),
            Route(_ITEM + "/log", self._guarded(self._log), methods=["GET"]),
            WebSocketRoute(_ITEM + "/exec", self._exec),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                self._admit(request, request.method)
                return await handler(request)
            except Refusal as refusal:
                return refusal.response()

        return handle

    def _admit(self, connection: HTTPConnection, method: str) -> None:
        place, query = connection.path_params, connection.query_params
        resource = place.get("resource")
        if resource is not None and resource not in KINDS:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        part = connection.url.path.rsplit("/", 1)[1]
        verb = _VERBS[method]
        if verb == "get" and "name" not in place:
            verb = "watch" if query.get("watch") in {"true", "1"} else "list"
        sub = f"{resource}/{part}" if part in {"log", "exec"} and "name" in place else resource
        right = None if resource is None else Right(verb, str(sub))
        line = f"{method} {connection.url.path}?{connection.url.query}"
        self._server.gate.pass_through(
            line, connection.headers.get("authorization", ""), right, place.get("namespace", "")
        )

    @staticmethod
    async def _version(_request: Request) -> Response:
        words = dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion"), "")
        return JSONResponse(words | {"major": "1", "minor": "37", "gitVersion": "v1.37.0", "platform": "linux/amd64"})

    # --- objects ------------------------------------------------------------------------------------------------------

    async def _create(self, request: Request) -> Response:
        namespace, resource = request.path_params["namespace"], request.path_params["resource"]
        try:
            body = await request.json()
        except ValueError:
            raise Refusal(400, "BadRequest", "the object provided is unrecognized") from None
        made = self._server.objects.create(resource, namespace, admit(resource, body))
        if resource == "pods":
            self._server.node.run(made)
        if resource == "pods" and self._server.lost_answers:
            self._server.lost_answers -= 1
            raise Refusal(504, "Timeout", "the test keeps this answer")
        return JSONResponse(made, 201)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._object(request))

    def _object(self, connection: HTTPConnection) -> Object:
        place = connection.path_params
        return self._server.objects.get(place["resource"], place["namespace"], place["name"])

    async def _delete(self, request: Request) -> Response:
        found = self._object(request)
        resource, namespace, meta = request.path_params["resource"], request.path_params["namespace"], found["metadata"]
        body = await request.body()
        options = json.loads(body) if body else {}
        uid = (options.get("preconditions") or {}).get("uid")
        if uid not in {None, meta["uid"]}:
            raise Refusal(409, "Conflict", f"the UID in the precondition ({uid}) does not match ({meta['uid']})")
        if resource != "pods":
            self._server.objects.remove(resource, namespace, meta["name"])
            return JSONResponse({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        asked = request.query_params.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
        grace = int(found["spec"]["terminationGracePeriodSeconds"] if asked is None else asked)
        return JSONResponse(self._end_pod(found, grace))

    def _end_pod(self, pod: Object, grace: int) -> Object:
        objects, meta = self._server.objects, pod["metadata"]

        def mark(obj: Object) -> None:
            obj["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}

        marked = objects.update("pods", meta["namespace"], meta["name"], mark) or pod
        self._server.node.delete(pod, grace)
        if grace == 0:
            objects.remove("pods", meta["namespace"], meta["name"])
        return marked

    # --- lists and watches --------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        query, resource = request.query_params, request.path_params["resource"]
        matches = selection(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if query.get("watch") in {"true", "1"}:
            return StreamingResponse(self._watch(request, matches), media_type="application/json")
        version, found = self._server.objects.list(resource, request.path_params.get("namespace"))
        items = [obj for obj in found if matches(obj)]
        return JSONResponse(self._page(resource, version, items, query.get("limit"), query.get("continue")))

    def _page(self, resource: str, version: int, items: list[Object], limit: str | None, token: str | None) -> Object:
        start = 0
        if token:
            given = json.loads(base64.b64decode(token))
            version, start = given["version"], given["start"]
            list(self._server.objects.changes_since(version))  # refuses what is too old
        end = start + int(limit) if limit and int(limit) else len(items)
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if end < len(items):
            rest = json.dumps({"version": version, "start": end}).encode()
            meta |= {"continue": base64.b64encode(rest).decode(), "remainingItemCount": len(items) - end}
        return {"kind": f"{KINDS[resource]}List", "apiVersion": "v1", "metadata": meta, "items": items[start:end]}

    async def _watch(self, request: Request, matches: Matches) -> AsyncIterator[bytes]:
        query = request.query_params
        wants_bookmarks = query.get("allowWatchBookmarks") == "true"
        seconds = float(query.get("timeoutSeconds") or 1800)
        server, generation = self._server, self._server.watch_generation
        loop = asyncio.get_running_loop()
        version, first = self._start_of_watch(request, matches)
        for obj in first:
            yield _event("ADDED", obj)
        bookmark_at = loop.time() + _BOOKMARK_S
        async for _ in server.wakeups.each(seconds):
            if server.watch_generation != generation:
                server.how_watches_end()
                return
            if server.watches_are_frozen:
                continue
            try:
                for change in server.objects.changes_since(version):
                    version = change.version
                    if self._is_watched(change, request, matches):
                        yield _event(change.kind, change.object)
            except Refusal as refusal:
                yield _event("ERROR", refusal.status)
                return
            if wants_bookmarks and loop.time() > bookmark_at:
                bookmark_at = loop.time() + _BOOKMARK_S
                kind = KINDS[request.path_params["resource"]]
                bookmark = {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": str(version)}}
                yield _event("BOOKMARK", bookmark)

    def _start_of_watch(self, request: Request, matches: Matches) -> tuple[int, list[Object]]:
        asked = request.query_params.get("resourceVersion", "")
        if asked not in {"", "0"}:
            return int(asked), []
        place = request.path_params
        version, found = self._server.objects.list(place["resource"], place.get("namespace"))
        return version, [obj for obj in found if matches(obj)]

    @staticmethod
    def _is_watched(change: Change, request: Request, matches: Matches) -> bool:
        place = request.path_params
        is_here = place.get("namespace") in {None, change.object["metadata"]["namespace"]}
        return change.resource == place["resource"] and is_here and matches(change.object)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _container(self, pod: Object, name: str | None) -> Container:
        specs = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        names, title = [spec["name"] for spec in specs], pod["metadata"]["name"]
        if name is None and len(names) > 1:
            message = f"a container name must be specified for pod {title}, choose one of: {names}"
            raise Refusal(400, "BadRequest", message)
        wanted = name or names[0]
        if wanted not in names:
            raise Refusal(400, "BadRequest", f"container {wanted} is not valid for pod {title}")
        container = self._server.node.container(pod, wanted)
        if container is None or not (container.id or container.state):
            message = f'container "{wanted}" in pod "{title}" is waiting to start: ContainerCreating'
            raise Refusal(400, "BadRequest", message)
        return container

    async def _log(self, request: Request) -> Response:
        query, pod = request.query_params, self._object(request)
        container = self._container(pod, query.get("container"))
        if self._server.node.is_lost:
            raise Refusal(500, "InternalError", "dial tcp 10.0.0.1:10250: i/o timeout")
        if query.get("previous") == "true":
            message = f'previous terminated container "{container.name}" in pod "{pod["metadata"]["name"]}" not found'
            raise Refusal(400, "BadRequest", message)
        lines = self._lines(request, container)
        first = await anext(lines, b"")  # the answer of a kubelet begins with its first line, and no earlier

        async def all_of_it() -> AsyncIterator[bytes]:
            yield first
            async for piece in lines:
                yield piece

        return StreamingResponse(all_of_it(), media_type="text/plain")

    async def _lines(self, request: Request, container: Container) -> AsyncIterator[bytes]:
        query, server = request.query_params, self._server
        since = datetime.fromisoformat(query["sinceTime"]) if "sinceTime" in query else None
        tail = int(query["tailLines"]) if "tailLines" in query else None
        generation, index = server.log_generation, container.log.start_of(since, tail)
        async for _ in server.wakeups.each():
            has_ended = container.log.has_ended
            for after, piece in container.log.read(index, with_stamps=query.get("timestamps") == "true"):
                index = after
                yield piece
            if query.get("follow") != "true" or (has_ended and server.followed_logs_end):
                return
            if server.log_generation != generation:
                raise ConnectionAbortedError("the test cuts this log")

    async def _exec(self, ws: WebSocket) -> None:
        query = ws.query_params
        try:
            self._admit(ws, "GET")
            self._admit(ws, "POST")  # since 1.35 a websocket needs the right of a POST as well
            container = self._container(self._object(ws), query.get("container"))
            if container.state is not None:
                raise Refusal(500, "InternalError", f'container not found ("{container.name}")')
        except Refusal as refusal:
            await ws.send_denial_response(refusal.response())
            return
        protocol = chosen_protocol(ws.scope["subprotocols"], self._server.exec_protocols)
        if protocol is None:
            await ws.send_denial_response(Refusal(400, "BadRequest", "no protocol in common").response())
            return
        await ws.accept(subprotocol=protocol)
        await self._thawed(" ".join(query.getlist("command")))
        wanted = {number for number, name in ((1, "stdout"), (2, "stderr")) if query.get(name) in {"true", "True", "1"}}
        with_input = query.get("stdin") in {"true", "True", "1"}
        process = await asyncio.to_thread(container.execute, query.getlist("command"), with_input=with_input)
        with contextlib.suppress(asyncio.CancelledError):
            await serve_process(ws, process, protocol, streams=wanted)

    async def _thawed(self, command: str) -> None:
        async for _ in self._server.wakeups.each():
            if not (self._server.frozen_execs and re.search(self._server.frozen_execs, command)):
                return


def _event(kind: str, obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"
