"""What GitHub, Gitea and GitLab answer to the routes of their APIs, in the shapes of their documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from tests.servers.forge import Forge

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
    title: str = ""
    text: str = ""


def comment_on(
    rows: list[dict[str, Any]], number: int, text: str, author: int, at: datetime | None = None
) -> dict[str, Any]:
    # A forge tells whole seconds; this one looks ahead, so that what is said after a look is also dated after it.
    moment = (at or datetime.now(UTC) + timedelta(seconds=1)).replace(microsecond=0)
    row = {"id": 100 * number + len(rows), "author": author, "body": text, "at": moment.isoformat()}
    rows.append(row)
    return row


def missing() -> Response:
    return JSONResponse({"message": "Not Found"}, status_code=404)


class Dialect:
    """What all dialects share: comments by number and id."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        raise NotImplementedError  # each forge has its own

    def shape(self, pull: Pull) -> Any:
        """Return a change request as the forge shows it."""
        raise NotImplementedError  # each forge has its own

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        """Return a comment as the forge shows it."""
        raise NotImplementedError  # each forge has its own

    def get(self, request: Request, _: Any) -> Any:
        pull = self.pull(request)
        return self.shape(pull) if pull else missing()

    def comments(self, request: Request, _: Any) -> Any:
        rows = self.forge.comments.get(int(request.path_params["number"]), [])
        page, size = int(request.query_params["page"]), int(request.query_params["per_page"])
        return [self._row(row) for row in rows[(page - 1) * size : page * size]]

    def comment(self, request: Request, body: Any) -> Any:
        return self._row(self.add(int(request.path_params["number"]), body["body"]))

    def change(self, request: Request, body: Any) -> Any:
        row = self.edit(request.path_params["id"], body["body"])
        return self._row(row) if row else missing()

    def pull(self, request: Request) -> Pull | None:
        return self.forge.pulls.get(int(request.path_params["number"]))

    def add(self, number: int, text: str, author: int = OWN) -> dict[str, Any]:
        return comment_on(self.forge.comments[number], number, text, author)

    def said(self, request: Request) -> dict[str, Any] | None:
        """Return the comment that a request names, whoever wrote it."""
        for number, rows in self.forge.comments.items():
            for row in rows:
                if row["id"] == request.path_params["id"]:
                    return {**row, "number": number}
        return None

    def find(self, branch: str, base: str) -> list[Pull]:
        """Return the open change requests from a branch to another; all of them for no branch."""
        return [
            pull
            for pull in self.forge.pulls.values()
            if pull.state == "open" and branch in {"", pull.branch} and base in {"", "main"}
        ]

    def make(self, branch: str, base: str, title: str, text: str) -> Pull | None:
        """Open a change request as the forge does for branches that are there; None when there is one already."""
        assert base == "main", "the repository has no other branch that anything goes to"
        if self.find(branch, base):
            return None
        number = max(self.forge.pulls, default=40) + 1
        self.forge.open(number, branch)
        self.describe(number, title, text)
        return self.forge.pulls[number]

    def describe(self, number: int, title: str, text: str) -> Pull:
        pull = self.forge.pulls[number]
        assert title, "a change request has a title"
        pull.title, pull.text = title, text
        return pull

    def results(self, request: Request) -> list[tuple[str, str]]:
        """Return the checks of the commit that a request names, each `green`, `open` or `red`."""
        wanted = request.path_params["sha"]
        return [(name, state) for (commit, name), state in self.forge.results.items() if commit == wanted]

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

    def keep(
        self,
        commit: str,
        name: str,
        *,
        is_good: bool | None,
        summary: str,
        annotations: Any = (),
        url: str | None = None,
    ) -> None:
        """Keep a status; `is_good` is None while it is undecided."""
        self.forge.statuses[commit, name] = {
            "is_good": is_good,
            "url": url,
            "summary": summary,
            "annotations": [tuple(each) for each in annotations],
        }


class GitHub(Dialect):
    prefix = "/repos/acme/flows"
    exists = 422

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        yield "GET", "/user", lambda *_: {"id": OWN, "login": "mainstem", "type": "User"}
        yield "GET", self.prefix + "/pulls", self.pulls
        yield "POST", self.prefix + "/pulls", self.open
        yield "GET", self.prefix + "/pulls/{number:int}", self.get
        yield "PATCH", self.prefix + "/pulls/{number:int}", self.rename
        yield "POST", self.prefix + "/check-runs", self.check
        yield "PATCH", self.prefix + "/check-runs/{id:int}", self.more
        yield "POST", self.prefix + "/statuses/{sha}", self.status
        yield "GET", self.prefix + "/commits/{sha}/statuses", self.told
        yield "GET", self.prefix + "/commits/{sha}/check-runs", self.runs
        yield "GET", self.prefix + "/issues/{number:int}/comments", self.comments
        yield "POST", self.prefix + "/issues/{number:int}/comments", self.comment
        yield "PATCH", self.prefix + "/issues/comments/{id:int}", self.change
        yield "GET", self.prefix + "/issues/comments/{id:int}", self.one
        yield "POST", self.prefix + "/issues/comments/{id:int}/reactions", self.react
        yield "GET", self.prefix + "/collaborators/{name}/permission", self.permission

    def one(self, request: Request, _: Any) -> Any:
        row = self.said(request)
        return self._row(row) | {"issue_url": f"{self.prefix}/issues/{row['number']}"} if row else missing()

    def react(self, request: Request, body: Any) -> Any:
        assert body["content"] in {"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}
        return self.mark(request, body["content"])

    def permission(self, request: Request, _: Any) -> Any:
        account = next((id_ for id_, name in NAMES.items() if name == request.path_params["name"]), None)
        if account is None:
            return missing()
        user = {"id": account, "login": NAMES[account]}
        return {"permission": self.forge.members.get(account, "none"), "user": user}

    def pulls(self, request: Request, _: Any) -> Any:
        owner, _, branch = request.query_params["head"].partition(":")
        assert (owner, request.query_params["state"]) == ("acme", "open"), "GitHub finds no head without its owner"
        return [self.shape(pull) for pull in self.find(branch, request.query_params["base"])]

    def open(self, _: Request, body: Any) -> Any:
        pull = self.make(body["head"], body["base"], body["title"], body["body"])
        if pull is None:
            errors = [{"message": f"A pull request already exists for acme:{body['head']}."}]
            return JSONResponse({"message": "Validation Failed", "errors": errors}, status_code=self.exists)
        return self.shape(pull)

    def rename(self, request: Request, body: Any) -> Any:
        return self.shape(self.describe(request.path_params["number"], body["title"], body["body"]))

    def shape(self, pull: Pull) -> Any:
        theirs = None if pull.is_fork else {"id": 1}
        head = {"ref": pull.branch, "sha": self.forge.head(pull.number), "repo": theirs}
        return {
            "number": pull.number,
            "html_url": f"{self.forge.url}/acme/flows/pull/{pull.number}",
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
            is_good=body["conclusion"] == "success" if body["status"] == "completed" else None,
            url=body.get("details_url"),
            summary=output["title"],
            annotations=rows,
        )
        self._last = (body["head_sha"], body["name"])
        return {"id": 5}

    def told(self, request: Request, _: Any) -> Any:
        words = {"green": "success", "open": "pending", "red": "failure"}
        newest = [{"context": name, "state": words[state]} for name, state in self.results(request) if state in words]
        return newest + [{"context": row["context"], "state": "error"} for row in newest]  # an older one of each

    def runs(self, request: Request, _: Any) -> Any:
        shown = {"run green": "neutral", "run red": "timed_out", "run open": None}
        rows = [
            {"name": name, "status": "completed" if shown[state] else "queued", "conclusion": shown[state]}
            for name, state in self.results(request)
            if state in shown and name == request.query_params["check_name"]
        ]
        return {"total_count": len(rows), "check_runs": rows}

    def more(self, _: Request, body: Any) -> Any:
        rows = [(each["path"], each["start_line"]) for each in body["output"]["annotations"]]
        self.forge.statuses[self._last]["annotations"] += rows
        return {"id": 5}

    def status(self, request: Request, body: Any) -> Any:
        assert len(body["description"]) <= 140
        good = {"success": True, "failure": False, "pending": None}[body["state"]]
        named = {"summary": body["description"], "url": body.get("target_url")}
        self.keep(request.path_params["sha"], body["context"], is_good=good, **named)
        return {"id": 6}

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        kind, name = "Bot" if row["author"] == ROBOT else "User", NAMES[row["author"]]
        user = {"id": row["author"], "type": kind, "login": name}
        return {"id": row["id"], "body": row["body"], "user": user, "created_at": row["at"]}


class Gitea(GitHub):
    exists = 409

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        skipped = {"/check-runs", "/check-runs/{id:int}", "/commits/{sha}/statuses", "/commits/{sha}/check-runs"}
        for method, path, answer in super().routes():
            if path.removeprefix(self.prefix) not in skipped:
                yield method, path, answer
        yield "GET", self.prefix + "/commits/{sha}/status", self.combined

    def combined(self, request: Request, _: Any) -> Any:
        words = {"green": "success", "open": "pending", "red": "failure"}
        rows = [{"context": name, "status": words[state]} for name, state in self.results(request)]
        page, size = int(request.query_params["page"]), int(request.query_params["limit"])
        return {"state": "pending", "statuses": rows[(page - 1) * size : page * size]}

    def pulls(self, request: Request, _: Any) -> Any:
        page, size = int(request.query_params["page"]), int(request.query_params["limit"])
        found = [self.shape(pull) for pull in self.find("", "")]
        return found[(page - 1) * size : page * size]

    def shape(self, pull: Pull) -> Any:
        named = ("", self.forge.head_ref.format(pull.number)) if pull.is_agit else (pull.branch, pull.branch)
        head = {"label": named[0], "ref": named[1], "repo_id": 2 if pull.is_fork else 1}
        return {
            "number": pull.number,
            "html_url": f"{self.forge.url}/acme/flows/pulls/{pull.number}",
            "state": pull.state,
            "head": {**head, "sha": self.forge.head(pull.number)},
            "base": {"label": "main", "ref": "main", "repo_id": 1},
        }

    def comments(self, request: Request, _: Any) -> Any:
        return [self._row(row) for row in self.forge.comments.get(int(request.path_params["number"]), [])]


class GitLab(Dialect):
    # The server decodes `acme%2Fflows` before it looks for a route.
    prefix = "/projects/acme/flows"

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        merge_request = self.prefix + "/merge_requests/{number:int}"
        yield "GET", "/user", lambda *_: {"id": OWN, "username": "mainstem"}
        yield "GET", self.prefix + "/merge_requests", self.requests
        yield "POST", self.prefix + "/merge_requests", self.open
        yield "PUT", merge_request, self.rename
        yield "GET", merge_request, self.get
        yield "POST", self.prefix + "/statuses/{sha}", self.status
        yield "GET", self.prefix + "/repository/commits/{sha}/statuses", self.told
        yield "GET", merge_request + "/notes", self.comments
        yield "POST", merge_request + "/notes", self.comment
        yield "PUT", merge_request + "/notes/{id:int}", self.change
        yield "GET", merge_request + "/notes/{id:int}", self.one
        yield "POST", merge_request + "/notes/{id:int}/award_emoji", self.award
        yield "GET", self.prefix + "/members/all/{id:int}", self.member

    def one(self, request: Request, _: Any) -> Any:
        row = self.said(request)
        return self._row(row) if row and row["number"] == request.path_params["number"] else missing()

    def told(self, request: Request, _: Any) -> Any:
        words = {"green": "success", "open": "running", "red": "canceled"}
        return [{"name": name, "status": words[state]} for name, state in self.results(request)]

    def award(self, request: Request, body: Any) -> Any:
        return self.mark(request, body["name"])

    def member(self, request: Request, _: Any) -> Any:
        account = request.path_params["id"]
        level = {"read": 20, "write": 30, "admin": 40}.get(self.forge.members.get(account, ""))
        return {"id": account, "state": "active", "access_level": level} if level else missing()

    def requests(self, request: Request, _: Any) -> Any:
        asked = request.query_params
        assert asked["state"] == "opened"
        return [self.shape(pull) for pull in self.find(asked["source_branch"], asked["target_branch"])]

    def open(self, _: Request, body: Any) -> Any:
        pull = self.make(body["source_branch"], body["target_branch"], body["title"], body["description"])
        if pull is None:
            text = "Another open merge request already exists for this source branch"
            return JSONResponse({"message": [text]}, status_code=409)
        return self.shape(pull)

    def rename(self, request: Request, body: Any) -> Any:
        return self.shape(self.describe(request.path_params["number"], body["title"], body["description"]))

    def shape(self, pull: Pull) -> Any:
        return {
            "iid": pull.number,
            "web_url": f"{self.forge.url}/acme/flows/-/merge_requests/{pull.number}",
            "state": {"open": "opened"}.get(pull.state, pull.state),
            "sha": self.forge.head(pull.number),
            "target_branch": "main",
            "source_project_id": 45 if pull.is_fork else 44,
            "target_project_id": 44,
        }

    def status(self, request: Request, body: Any) -> Any:
        sha, name = request.path_params["sha"], body["name"]
        good = {"success": True, "failed": False, "running": None}[body["state"]]
        if self.forge.statuses.get((sha, name), {}).get("is_good", ...) in {good, True if good is None else good}:
            text = f"Cannot transition status via :{body['state']} from :{body['state']}"
            return JSONResponse({"message": text}, status_code=400)
        self.keep(sha, name, is_good=good, summary=body["description"], url=body.get("target_url"))
        return {"id": 6}

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        author = {"id": row["author"], "username": NAMES[row["author"]]}
        return {"id": row["id"], "body": row["body"], "author": author, "system": False, "created_at": row["at"]}
