"""A forge: git's own server with change requests, and a stand-in for the part of its API that reviews use.

Each dialect answers the routes of the real API in the shapes of its documentation: GitHub (REST 2022-11-28), GitLab
(v4), Gitea and Forgejo (v1), Bitbucket Cloud (2.0). It keeps what it was told, refuses a wrong token, and can be made
to fail. Commits and refs are real: `head` of a change request is what its ref names in the repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.servers.bitbucket import Bitbucket
from tests.servers.dialects import MEMBER, OWN, STRANGER, TOKEN, Gitea, GitHub, GitLab, Pull, comment_on
from tests.servers.git import git
from tests.servers.github_app import DOORS, AppDoor
from tests.servers.stand_in import serving

DIALECTS = {"github": GitHub, "gitlab": GitLab, "gitea": Gitea, "forgejo": Gitea, "bitbucket": Bitbucket}
_CHANGES = ("/pulls", "/merge_requests", "/pullrequests")


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
    results: dict[tuple[str, str], str] = field(default_factory=dict)
    reactions: dict[int, list[str]] = field(default_factory=dict)
    refuses: str | None = None
    refuses_to_open: bool = False
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    app: AppDoor | None = None

    @property
    def opened(self) -> list[Pull]:
        """Return the change requests that somebody opened through the API."""
        return [pull for pull in self.pulls.values() if pull.title]

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
        row = comment_on(self.comments[number], number, text, author, at)
        return int(row["id"])

    def _try_merge(self, number: int) -> None:
        base, head = git(self.bare, "rev-parse", "main"), self.head(number)
        tree = git(self.bare, "merge-tree", "--write-tree", base, head)
        commit = git(self.bare, "commit-tree", tree, "-p", base, "-p", head, "-m", "merge")
        git(self.bare, "update-ref", f"refs/pull/{number}/merge", commit)


class ForgeApp:
    """The API of a forge over HTTP."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        dialect = DIALECTS[forge.kind](forge)
        routes = [Route(path, self._guarded(answer), methods=[method]) for method, path, answer in dialect.routes()]
        doors = [Route(path, self._door, methods=[method]) for method, path in DOORS]
        self.app = Starlette(routes=[*doors, *routes])

    async def _door(self, request: Request) -> Response:
        """Answer to an app, where one is installed."""
        self.forge.calls.append((request.method, request.url.path))
        if self.forge.app is None:
            return JSONResponse({"message": "Not Found"}, status_code=404)
        return await self.forge.app.answer(request)

    def _guarded(self, answer: Any) -> Any:
        async def guarded(request: Request) -> Response:
            forge = self.forge
            forge.calls.append((request.method, request.url.path))
            if forge.failures:
                status, headers = forge.failures.pop(0)
                return JSONResponse({"message": "not now"}, status_code=status, headers=headers)
            if forge.refuses_to_open and request.method == "POST" and request.url.path.endswith(_CHANGES):
                return JSONResponse({"message": "Resource not accessible by integration"}, status_code=403)
            if forge.refuses and request.url.path.endswith(forge.refuses):
                return JSONResponse({"message": "Must have push access to view permission."}, status_code=403)
            if not any(token in request.headers.get("authorization", "") for token in forge.tokens):
                return JSONResponse({"message": "Bad credentials"}, status_code=401)
            body = await request.json() if await request.body() else None
            done: Any = answer(request, body)
            if isinstance(done, Response):
                return done
            status = 201 if request.method == "POST" else 200
            return JSONResponse(done, status_code=status, headers=forge.limits)

        return guarded


def serve(forge: Forge) -> Iterator[Forge]:
    """Serve the API of a forge until the generator is closed; its `url` is set."""
    with serving(ForgeApp(forge).app, "forge") as forge.url:
        yield forge


@pytest.fixture
def forge(request: pytest.FixtureRequest, git_server: Any) -> Iterator[Forge]:
    """A forge of the kind that the test is parametrised with, with a repository `acme/flows`."""
    (git_server.root / "acme").mkdir(exist_ok=True)
    bare = git_server.repository("acme/flows.git")
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    yield from serve(Forge(request.param, bare))
