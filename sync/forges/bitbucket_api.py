"""Bitbucket Cloud's API 2.0: build statuses, reports with annotations, comments of pull requests.

Facts: developer.atlassian.com/cloud/bitbucket/rest. There is no ref for a pull request: its source branch is read, and
that of a fork lies in another repository, which is not followed. A comment may have 32 kB.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from sync.forges.answers import identity
from sync.forges.api import ApiError, Change, Check, Draft, ForgeApi, Opened, Remark, moment_of
from sync.forges.check_states import CheckState, state_of, states_of

_MOST_KEY: Final = 40
_MOST_ANNOTATIONS: Final = 100
_PAGE: Final = 100
_PULLS_A_PAGE: Final = 50
_WRITERS: Final = frozenset({"write", "admin"})


class BitbucketApi(ForgeApi):
    """bitbucket.org."""

    most_comment: ClassVar[int] = 30_000

    def default_url(self) -> str:
        """Return the one address that it has."""
        return "https://api.bitbucket.org/2.0"

    def authorization(self, token: str, username: str | None) -> Mapping[str, str]:
        """Return an access token, or the user with an app password."""
        if not token:
            return {}
        if username and username.lower() not in {"bearer", "x-token-auth"}:
            pair = base64.b64encode(f"{username}:{token}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {"Authorization": f"Bearer {token}"}

    def change(self, number: int) -> Change:
        """Return a pull request as it is now; its commits come with their first digits only."""
        found = self.call("GET", f"repositories/{self.path}/pullrequests/{number}")
        source, target = found["source"], found["destination"]
        is_fork = (source.get("repository") or {}).get("uuid") != identity(target["repository"]["uuid"])
        return Change(
            number=number,
            head=source["commit"]["hash"],
            base=f"refs/heads/{target['branch']['name']}",
            is_open=found["state"] == "OPEN",
            is_fork=is_fork,
            head_ref=None if is_fork else f"refs/heads/{source['branch']['name']}",
        )

    def set_status(self, commit: str, check: Check) -> None:
        """Write a build status and, where there are any, the annotations as a report."""
        key = f"mainstem-{hashlib.sha256(check.name.encode()).hexdigest()}"[:_MOST_KEY]
        body = {
            "key": key,
            "state": check.word("SUCCESSFUL", "FAILED", "INPROGRESS"),
            "name": check.name,
            "description": check.summary[:255],
            "url": check.url or f"https://bitbucket.org/{self.path}/commits/{commit}",
        }
        self.call("POST", f"repositories/{self.path}/commit/{commit}/statuses/build", json=body, again=True)
        self._report(commit, key, check)

    def check_states(self, commit: str, names: Collection[str]) -> Mapping[str, CheckState]:
        """Return the build statuses of these names or keys."""
        rows = list(self.pages(f"repositories/{self.path}/commit/{commit}/statuses", pagelen=_PAGE))
        by_name = [(str(row.get(field)), state_of(row["state"])) for row in rows for field in ("name", "key")]
        return states_of(names, by_name)

    def _report(self, commit: str, key: str, check: Check) -> None:
        place = f"repositories/{self.path}/commit/{commit}/reports/{key}"
        report = {
            "title": check.name,
            "details": check.summary[:2000],
            "report_type": "BUG",
            "result": check.word("PASSED", "FAILED", "PENDING"),
        }
        try:
            self.call("DELETE", place)  # its annotations with it
        except ApiError as error:
            if error.code != "forge.missing":
                raise
        self.call("PUT", place, json=report)
        rows = [_annotation(number, each) for number, each in enumerate(check.annotations[:_MOST_ANNOTATIONS], 1)]
        if rows:
            self.call("POST", f"{place}/annotations", json=rows, again=True)

    def find_open(self, branch: str, base: str) -> Opened | None:
        """Return the open pull request between two branches of the repository; forks have branches of that name too."""
        source, target = (name.replace("\\", "\\\\").replace('"', '\\"') for name in (branch, base))
        named = f'source.branch.name="{source}" AND destination.branch.name="{target}" AND state="OPEN"'
        for row in self.pages(f"repositories/{self.path}/pullrequests", q=named, pagelen=_PULLS_A_PAGE):
            if (row["source"].get("repository") or {}).get("uuid") == row["destination"]["repository"]["uuid"]:
                return _opened(row)
        return None

    def open_change(self, draft: Draft) -> Opened:
        """Open a pull request, whose branch goes with its merge. One that is open for the branches is written anew."""
        body = {
            "title": draft.title,
            "description": draft.text,
            "source": {"branch": {"name": draft.branch}},
            "destination": {"branch": {"name": draft.base}},
            "close_source_branch": True,
        }
        return _opened(self.call("POST", f"repositories/{self.path}/pullrequests", json=body))

    def edit_change(self, number: int, draft: Draft) -> None:
        """Write a pull request anew."""
        body = {"title": draft.title, "description": draft.text}
        self.call("PUT", f"repositories/{self.path}/pullrequests/{number}", json=body)

    def add_comment(self, number: int, text: str) -> str:
        """Comment on a pull request."""
        return identity(self.call("POST", self._comments(number), json={"content": {"raw": text}})["id"])

    def comment_url(self, number: int, comment: str) -> str:
        """Return the place of a comment on the page of its pull request."""
        return f"{self.site}/{self.path}/pull-requests/{number}#comment-{comment}"

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        """Write a comment anew."""
        self.call("PUT", f"{self._comments(number)}/{comment}", json={"content": {"raw": text}})

    def find_comment(self, number: int, marker: str) -> str | None:
        """Return our comment. An access token of a repository has no account to ask for; then none is taken as ours."""
        own = self.account("uuid")
        for row in self.pages(self._comments(number), pagelen=_PAGE) if own else ():
            is_ours = (row.get("user") or {}).get("uuid") == own
            if is_ours and not row.get("deleted") and row["content"]["raw"].startswith(marker):
                return identity(row["id"])
        return None

    def remark(self, number: int, comment: str) -> Remark:
        """Return a comment; accounts are told apart by their uuid."""
        found = self.call("GET", f"{self._comments(number)}/{comment}")
        if found.get("deleted"):
            raise ApiError("forge.missing", f"comment {comment} is deleted")
        author = found["user"]
        return Remark(
            text=str(found["content"].get("raw") or ""),
            account=author["uuid"],
            name=author.get("nickname") or author["uuid"],
            created_at=moment_of(found["created_on"]),
            is_bot=author.get("type", "user") != "user",
        )

    def may_write(self, remark: Remark) -> bool:
        """Return whether an account may push, itself or by its groups. Only an administrator's token may ask that."""
        workspace, _, slug = self.path.partition("/")
        place = f"workspaces/{workspace}/permissions/repositories/{slug}"
        found = self.call("GET", place, params={"q": f'user.uuid="{remark.account}"'})
        return any(
            (row.get("user") or {}).get("uuid") == remark.account and row.get("permission") in _WRITERS
            for row in found["values"]
        )

    def _comments(self, number: int) -> str:
        return f"repositories/{self.path}/pullrequests/{number}/comments"


def _annotation(number: int, annotation: Any) -> dict[str, Any]:
    return {
        "external_id": f"problem-{number}",
        "annotation_type": "BUG",
        "severity": "HIGH",
        "path": annotation.path,
        "line": annotation.line,
        "summary": annotation.message[:450],
    }


def _opened(found: Any) -> Opened:
    return Opened(int(found["id"]), str(found["links"]["html"]["href"]))
