"""A forge: git's own server with change requests, and a stand-in for the part of its API that reviews use.

Each dialect answers the routes of the real API in the shapes of its documentation: GitHub (REST 2022-11-28), GitLab
(v4), Gitea and Forgejo (v1), Bitbucket Cloud (2.0). It keeps what it was told, refuses a wrong token, and can be made
to fail. Commits and refs are real: `head` of a change request is what its ref names in the repository.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.servers.git import git

TOKEN = "a-token-of-the-forge"
OWN, STRANGER, MEMBER, ROBOT = 900, 666, 7421, 77
NAMES = {OWN: "mainstem", STRANGER: "mallory", MEMBER: "ann", ROBOT: "project_44_bot_1"}


@dataclass
class Pull:
    """A change request. `is_fork` says that its branch lies in another repository.

    `is_agit` says that it has no branch: its commits were pushed to `refs/for/main`, which Gitea lets everybody do.
    """

    number: int
    branch: str
    is_fork: bool = False
    state: str = "open"
    is_agit: bool = False


@dataclass
class Forge:
    """What the stand-in was told, and how it behaves."""

    kind: str
    bare: Path
    url: str = ""
    can_check: bool = True
    pulls: dict[int, Pull] = field(default_factory=dict)
    statuses: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    members: dict[int, str] = field(default_factory=lambda: {MEMBER: "write", STRANGER: "read"})
    reactions: dict[int, list[str]] = field(default_factory=dict)
    refuses: str | None = None
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def head_ref(self) -> str:
        return "refs/merge-requests/{}/head" if self.kind == "gitlab" else "refs/pull/{}/head"

    def open(self, number: int, branch: str, *, is_fork: bool = False) -> None:
        """Open a change request for a branch that was pushed."""
        self.pulls[number] = Pull(number, branch, is_fork)
        self.comments.setdefault(number, [])
        self.follow(number)

    def follow(self, number: int) -> None:
        """Let the ref of a change request name the newest commit of its branch, as a forge does after a push."""
        git(self.bare, "update-ref", self.head_ref.format(number), self.head(number))
        if self.kind == "github":
            self._try_merge(number)

    def head(self, number: int) -> str:
        return git(self.bare, "rev-parse", f"refs/heads/{self.pulls[number].branch}")

    def status(self, commit: str, name: str = "mainstem/production") -> dict[str, Any]:
        """Return the newest status of a commit: `is_good`, `summary`, `annotations` as (path, line)."""
        return self.statuses[commit, name]

    def ours(self, number: int) -> list[str]:
        """Return the texts of the comments that our account wrote."""
        return [each["body"] for each in self.comments[number] if each["author"] == OWN]

    def say(self, number: int, text: str, author: int = MEMBER, *, at: datetime | None = None) -> int:
        """Let somebody comment, now or at a moment; return the id of the comment."""
        row = _comment(self.comments[number], number, text, author, at)
        return int(row["id"])

    def _try_merge(self, number: int) -> None:
        base, head = git(self.bare, "rev-parse", "main"), self.head(number)
        tree = git(self.bare, "merge-tree", "--write-tree", base, head)
        commit = git(self.bare, "commit-tree", tree, "-p", base, "-p", head, "-m", "merge")
        git(self.bare, "update-ref", f"refs/pull/{number}/merge", commit)


def _comment(
    rows: list[dict[str, Any]], number: int, text: str, author: int, at: datetime | None = None
) -> dict[str, Any]:
    # A forge tells whole seconds; this one looks ahead, so that what is said after a look is also dated after it.
    moment = (at or datetime.now(UTC) + timedelta(seconds=1)).replace(microsecond=0)
    row = {"id": 100 * number + len(rows), "author": author, "body": text, "at": moment.isoformat()}
    rows.append(row)
    return row


class ForgeApp:
    """The API of a forge over HTTP."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        dialect = {"github": _GitHub, "gitlab": _GitLab, "bitbucket": _Bitbucket}.get(forge.kind, _Gitea)(forge)
        self.app = Starlette(
            routes=[Route(path, self._guarded(answer), methods=[method]) for method, path, answer in dialect.routes()]
        )

    def _guarded(self, answer: Any) -> Any:
        async def guarded(request: Request) -> Response:
            forge = self.forge
            forge.calls.append((request.method, request.url.path))
            if forge.failures:
                status, headers = forge.failures.pop(0)
                return JSONResponse({"message": "not now"}, status_code=status, headers=headers)
            if forge.refuses and request.url.path.endswith(forge.refuses):
                return JSONResponse({"message": "Must have push access to view permission."}, status_code=403)
            if TOKEN not in request.headers.get("authorization", ""):
                return JSONResponse({"message": "Bad credentials"}, status_code=401)
            body = await request.json() if await request.body() else None
            done: Any = answer(request, body)
            if isinstance(done, Response):
                return done
            return JSONResponse(done, status_code=201 if request.method == "POST" else 200)

        return guarded


def _missing() -> Response:
    return JSONResponse({"message": "Not Found"}, status_code=404)


class _Dialect:
    """What all dialects share: comments by number and id."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        raise NotImplementedError

    def pull(self, request: Request) -> Pull | None:
        return self.forge.pulls.get(int(request.path_params["number"]))

    def add(self, number: int, text: str, author: int = OWN) -> dict[str, Any]:
        return _comment(self.forge.comments[number], number, text, author)

    def said(self, request: Request) -> dict[str, Any] | None:
        """Return the comment that a request names, whoever wrote it."""
        for number, rows in self.forge.comments.items():
            for row in rows:
                if row["id"] == request.path_params["id"]:
                    return {**row, "number": number}
        return None

    def mark(self, request: Request, name: str) -> dict[str, Any]:
        self.forge.reactions.setdefault(request.path_params["id"], []).append(name)
        return {"id": 1}

    def edit(self, comment: int, text: str) -> dict[str, Any] | None:
        for rows in self.forge.comments.values():
            for row in rows:
                if row["id"] == comment and row["author"] == OWN:
                    row["body"] = text
                    return row
        return None

    def keep(self, commit: str, name: str, *, is_good: bool, summary: str, annotations: Any = ()) -> None:
        self.forge.statuses[commit, name] = {
            "is_good": is_good,
            "summary": summary,
            "annotations": [tuple(each) for each in annotations],
        }


class _GitHub(_Dialect):
    prefix = "/repos/acme/flows"

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        yield "GET", "/user", lambda *_: {"id": OWN, "login": "mainstem", "type": "User"}
        yield "GET", self.prefix + "/pulls/{number:int}", self.get
        yield "POST", self.prefix + "/check-runs", self.check
        yield "PATCH", self.prefix + "/check-runs/{id:int}", self.more
        yield "POST", self.prefix + "/statuses/{sha}", self.status
        yield "GET", self.prefix + "/issues/{number:int}/comments", self.list
        yield "POST", self.prefix + "/issues/{number:int}/comments", self.comment
        yield "PATCH", self.prefix + "/issues/comments/{id:int}", self.change
        yield "GET", self.prefix + "/issues/comments/{id:int}", self.one
        yield "POST", self.prefix + "/issues/comments/{id:int}/reactions", self.react
        yield "GET", self.prefix + "/collaborators/{name}/permission", self.permission

    def one(self, request: Request, _: Any) -> Any:
        row = self.said(request)
        return self._row(row) | {"issue_url": f"{self.prefix}/issues/{row['number']}"} if row else _missing()

    def react(self, request: Request, body: Any) -> Any:
        assert body["content"] in {"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}
        return self.mark(request, body["content"])

    def permission(self, request: Request, _: Any) -> Any:
        account = next((id_ for id_, name in NAMES.items() if name == request.path_params["name"]), None)
        if account is None:
            return _missing()
        user = {"id": account, "login": NAMES[account]}
        return {"permission": self.forge.members.get(account, "none"), "user": user}

    def get(self, request: Request, _: Any) -> Any:
        pull = self.pull(request)
        if pull is None:
            return _missing()
        theirs = None if pull.is_fork else {"id": 1}
        head = {"ref": pull.branch, "sha": self.forge.head(pull.number), "repo": theirs}
        return {
            "number": pull.number,
            "state": pull.state,
            "head": head,
            "base": {"ref": "main", "repo": {"id": 1}},
        }

    def check(self, _: Request, body: Any) -> Any:
        if not self.forge.can_check:
            return JSONResponse({"message": "Resource not accessible by personal access token"}, status_code=403)
        output = body["output"]
        assert len(output["annotations"]) <= 50, "GitHub takes 50 annotations a request"
        rows = [(each["path"], each["start_line"]) for each in output["annotations"]]
        self.keep(
            body["head_sha"],
            body["name"],
            is_good=body["conclusion"] == "success",
            summary=output["title"],
            annotations=rows,
        )
        self._last = (body["head_sha"], body["name"])
        return {"id": 5}

    def more(self, _: Request, body: Any) -> Any:
        rows = [(each["path"], each["start_line"]) for each in body["output"]["annotations"]]
        self.forge.statuses[self._last]["annotations"] += rows
        return {"id": 5}

    def status(self, request: Request, body: Any) -> Any:
        assert len(body["description"]) <= 140
        good = body["state"] == "success"
        self.keep(request.path_params["sha"], body["context"], is_good=good, summary=body["description"])
        return {"id": 6}

    def list(self, request: Request, _: Any) -> Any:
        rows = self.forge.comments.get(int(request.path_params["number"]), [])
        page, size = int(request.query_params["page"]), int(request.query_params["per_page"])
        return [self._row(row) for row in rows[(page - 1) * size : page * size]]

    def comment(self, request: Request, body: Any) -> Any:
        return self._row(self.add(int(request.path_params["number"]), body["body"]))

    def change(self, request: Request, body: Any) -> Any:
        row = self.edit(request.path_params["id"], body["body"])
        return self._row(row) if row else _missing()

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        kind, name = "Bot" if row["author"] == ROBOT else "User", NAMES[row["author"]]
        user = {"id": row["author"], "type": kind, "login": name}
        return {"id": row["id"], "body": row["body"], "user": user, "created_at": row["at"]}


class _Gitea(_GitHub):
    def routes(self) -> Iterator[tuple[str, str, Any]]:
        skipped = {"/check-runs", "/check-runs/{id:int}"}
        for method, path, answer in super().routes():
            if path.removeprefix(self.prefix) not in skipped:
                yield method, path, answer

    def get(self, request: Request, _: Any) -> Any:
        pull = self.pull(request)
        if pull is None:
            return _missing()
        named = ("", self.forge.head_ref.format(pull.number)) if pull.is_agit else (pull.branch, pull.branch)
        head = {"label": named[0], "ref": named[1], "repo_id": 2 if pull.is_fork else 1}
        return {
            "number": pull.number,
            "state": pull.state,
            "head": {**head, "sha": self.forge.head(pull.number)},
            "base": {"label": "main", "ref": "main", "repo_id": 1},
        }

    def list(self, request: Request, _: Any) -> Any:
        return [self._row(row) for row in self.forge.comments.get(int(request.path_params["number"]), [])]


class _GitLab(_Dialect):
    # The server decodes `acme%2Fflows` before it looks for a route.
    prefix = "/projects/acme/flows"

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        merge_request = self.prefix + "/merge_requests/{number:int}"
        yield "GET", "/user", lambda *_: {"id": OWN, "username": "mainstem"}
        yield "GET", merge_request, self.get
        yield "POST", self.prefix + "/statuses/{sha}", self.status
        yield "GET", merge_request + "/notes", self.list
        yield "POST", merge_request + "/notes", self.comment
        yield "PUT", merge_request + "/notes/{id:int}", self.change
        yield "GET", merge_request + "/notes/{id:int}", self.one
        yield "POST", merge_request + "/notes/{id:int}/award_emoji", self.award
        yield "GET", self.prefix + "/members/all/{id:int}", self.member

    def one(self, request: Request, _: Any) -> Any:
        row = self.said(request)
        return self._row(row) if row and row["number"] == request.path_params["number"] else _missing()

    def award(self, request: Request, body: Any) -> Any:
        return self.mark(request, body["name"])

    def member(self, request: Request, _: Any) -> Any:
        account = request.path_params["id"]
        level = {"read": 20, "write": 30, "admin": 40}.get(self.forge.members.get(account, ""))
        return {"id": account, "state": "active", "access_level": level} if level else _missing()

    def get(self, request: Request, _: Any) -> Any:
        pull = self.pull(request)
        if pull is None:
            return _missing()
        return {
            "iid": pull.number,
            "state": {"open": "opened"}.get(pull.state, pull.state),
            "sha": self.forge.head(pull.number),
            "target_branch": "main",
            "source_project_id": 45 if pull.is_fork else 44,
            "target_project_id": 44,
        }

    def status(self, request: Request, body: Any) -> Any:
        sha, name, good = request.path_params["sha"], body["name"], body["state"] == "success"
        if self.forge.statuses.get((sha, name), {}).get("is_good") is good:
            text = f"Cannot transition status via :{body['state']} from :{body['state']}"
            return JSONResponse({"message": text}, status_code=400)
        self.keep(sha, name, is_good=good, summary=body["description"])
        return {"id": 6}

    def list(self, request: Request, _: Any) -> Any:
        rows = self.forge.comments.get(int(request.path_params["number"]), [])
        page, size = int(request.query_params["page"]), int(request.query_params["per_page"])
        return [self._row(row) for row in rows[(page - 1) * size : page * size]]

    def comment(self, request: Request, body: Any) -> Any:
        return self._row(self.add(int(request.path_params["number"]), body["body"]))

    def change(self, request: Request, body: Any) -> Any:
        row = self.edit(request.path_params["id"], body["body"])
        return self._row(row) if row else _missing()

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        author = {"id": row["author"], "username": NAMES[row["author"]]}
        return {"id": row["id"], "body": row["body"], "author": author, "system": False, "created_at": row["at"]}


class _Bitbucket(_Dialect):
    prefix = "/repositories/acme/flows"

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        pull = self.prefix + "/pullrequests/{number:int}"
        report = self.prefix + "/commit/{sha}/reports/{key}"
        yield "GET", "/user", lambda *_: {"uuid": f"{{{OWN}}}", "nickname": "mainstem"}
        yield "GET", pull, self.get
        yield "POST", self.prefix + "/commit/{sha}/statuses/build", self.status
        yield "DELETE", report, self.remove
        yield "PUT", report, lambda *_: {}
        yield "POST", report + "/annotations", self.annotate
        yield "GET", pull + "/comments", self.list
        yield "POST", pull + "/comments", self.comment
        yield "PUT", pull + "/comments/{id:int}", self.change
        yield "GET", pull + "/comments/{id:int}", self.one
        yield "GET", "/workspaces/acme/permissions/repositories/flows", self.permissions

    def one(self, request: Request, _: Any) -> Any:
        row = self.said(request)
        return self._row(row) if row and row["number"] == request.path_params["number"] else _missing()

    def permissions(self, request: Request, _: Any) -> Any:
        rows = [
            {"permission": permission, "user": {"uuid": f"{{{account}}}"}}
            for account, permission in self.forge.members.items()
            if request.query_params["q"] == f'user.uuid="{{{account}}}"'
        ]
        return {"values": rows}

    def get(self, request: Request, _: Any) -> Any:
        pull = self.pull(request)
        if pull is None:
            return _missing()
        return {
            "id": pull.number,
            "state": pull.state.upper(),
            "source": {
                "branch": {"name": pull.branch},
                "commit": {"hash": self.forge.head(pull.number)[:12]},
                "repository": {"uuid": "{fork}" if pull.is_fork else "{1}"},
            },
            "destination": {"branch": {"name": "main"}, "repository": {"uuid": "{1}"}},
        }

    def status(self, request: Request, body: Any) -> Any:
        assert len(body["key"]) <= 40
        sha, good = request.path_params["sha"], body["state"] == "SUCCESSFUL"
        self.keep(sha, body["name"], is_good=good, summary=body["description"])
        self._names = {**getattr(self, "_names", {}), body["key"]: body["name"]}
        return {}

    def remove(self, request: Request, _: Any) -> Any:
        key = (request.path_params["sha"], self._names[request.path_params["key"]])
        self.forge.statuses[key]["annotations"] = []
        return Response(status_code=204)

    def annotate(self, request: Request, body: Any) -> Any:
        assert len(body) <= 100
        key = (request.path_params["sha"], self._names[request.path_params["key"]])
        self.forge.statuses[key]["annotations"] += [(each["path"], each["line"]) for each in body]
        return body

    def list(self, request: Request, _: Any) -> Any:
        rows = self.forge.comments.get(int(request.path_params["number"]), [])
        return {"values": [self._row(row) for row in rows]}

    def comment(self, request: Request, body: Any) -> Any:
        return self._row(self.add(int(request.path_params["number"]), body["content"]["raw"]))

    def change(self, request: Request, body: Any) -> Any:
        row = self.edit(request.path_params["id"], body["content"]["raw"])
        return self._row(row) if row else _missing()

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        kind, name = "AppUser" if row["author"] == ROBOT else "user", NAMES[row["author"]]
        user = {"uuid": f"{{{row['author']}}}", "nickname": name, "type": kind}
        return {"id": row["id"], "content": {"raw": row["body"]}, "user": user, "created_on": row["at"]}


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Leave the signals to pytest."""


def serve(forge: Forge) -> Iterator[Forge]:
    """Serve the API of a forge until the generator is closed; its `url` is set."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(ForgeApp(forge).app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    forge.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield forge
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def forge(request: pytest.FixtureRequest, git_server: Any) -> Iterator[Forge]:
    """A forge of the kind that the test is parametrised with, with a repository `acme/flows`."""
    (git_server.root / "acme").mkdir(exist_ok=True)
    bare = git_server.repository("acme/flows.git")
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    yield from serve(Forge(request.param, bare))
