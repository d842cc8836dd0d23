"""What Bitbucket Cloud answers to the routes of its API, in the shapes of its documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tests.servers.dialects import NAMES, OWN, ROBOT, Dialect, Pull, missing


class Bitbucket(Dialect):
    prefix = "/repositories/acme/flows"

    def routes(self) -> Iterator[tuple[str, str, Any]]:
        pull = self.prefix + "/pullrequests/{number:int}"
        report = self.prefix + "/commit/{sha}/reports/{key}"
        yield "GET", "/user", lambda *_: {"uuid": f"{{{OWN}}}", "nickname": "mainstem"}
        yield "GET", self.prefix + "/pullrequests", self.requests
        yield "POST", self.prefix + "/pullrequests", self.open
        yield "PUT", pull, self.rename
        yield "GET", pull, self.get
        yield "POST", self.prefix + "/commit/{sha}/statuses/build", self.status
        yield "GET", self.prefix + "/commit/{sha}/statuses", self.told
        yield "DELETE", report, self.remove
        yield "PUT", report, lambda *_: {}
        yield "POST", report + "/annotations", self.annotate
        yield "GET", pull + "/comments", self.comments
        yield "POST", pull + "/comments", self.comment
        yield "PUT", pull + "/comments/{id:int}", self.change
        yield "GET", pull + "/comments/{id:int}", self.one
        yield "GET", "/workspaces/acme/permissions/repositories/flows", self.permissions

    def one(self, request: Request, _: Any) -> Any:
        row = self.said(request)
        return self._row(row) if row and row["number"] == request.path_params["number"] else missing()

    def told(self, request: Request, _: Any) -> Any:
        words = {"green": "SUCCESSFUL", "open": "INPROGRESS", "red": "STOPPED"}
        return {"values": [{"key": f"k-{n}", "name": n, "state": words[state]} for n, state in self.results(request)]}

    def permissions(self, request: Request, _: Any) -> Any:
        rows = [
            {"permission": permission, "user": {"uuid": f"{{{account}}}"}}
            for account, permission in self.forge.members.items()
            if request.query_params["q"] == f'user.uuid="{{{account}}}"'
        ]
        return {"values": rows}

    def requests(self, request: Request, _: Any) -> Any:
        asked = re.fullmatch(
            r'source\.branch\.name="(.+?)" AND destination\.branch\.name="(.+?)" AND state="OPEN"',
            request.query_params["q"],
        )
        assert asked is not None
        return {"values": [self.shape(pull) for pull in self.find(asked[1], asked[2])]}

    def open(self, _: Request, body: Any) -> Any:
        source, target = body["source"]["branch"]["name"], body["destination"]["branch"]["name"]
        made = self.make(source, target, body["title"], body["description"])
        return self.shape(
            made or self.describe(self.find(source, target)[0].number, body["title"], body["description"])
        )

    def rename(self, request: Request, body: Any) -> Any:
        return self.shape(self.describe(request.path_params["number"], body["title"], body["description"]))

    def shape(self, pull: Pull) -> Any:
        return {
            "id": pull.number,
            "links": {"html": {"href": f"{self.forge.url}/acme/flows/pull-requests/{pull.number}"}},
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
        sha, good = request.path_params["sha"], {"SUCCESSFUL": True, "FAILED": False}.get(body["state"])
        self.keep(sha, body["name"], is_good=good, summary=body["description"], url=body["url"])
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

    def comments(self, request: Request, _: Any) -> Any:
        rows = self.forge.comments.get(int(request.path_params["number"]), [])
        return {"values": [self._row(row) for row in rows]}

    def comment(self, request: Request, body: Any) -> Any:
        return self._row(self.add(int(request.path_params["number"]), body["content"]["raw"]))

    def change(self, request: Request, body: Any) -> Any:
        row = self.edit(request.path_params["id"], body["content"]["raw"])
        return self._row(row) if row else missing()

    @staticmethod
    def _row(row: dict[str, Any]) -> dict[str, Any]:
        kind, name = "AppUser" if row["author"] == ROBOT else "user", NAMES[row["author"]]
        user = {"uuid": f"{{{row['author']}}}", "nickname": name, "type": kind}
        return {"id": row["id"], "content": {"raw": row["body"]}, "user": user, "created_on": row["at"]}
