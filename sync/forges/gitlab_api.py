"""GitLab's API, version 4: commit statuses and notes of merge requests.

Facts: docs.gitlab.com/api/commits, /api/notes, /api/merge_requests. A status of a commit that lies in a fork is written
to the fork's project where we may, else to the followed one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from sync.forges.answers import identity
from sync.forges.api import PAGE, ApiError, Change, Check, Draft, ForgeApi, Opened, Remark, escaped, moment_of
from sync.forges.check_states import CheckState, state_of, states_of

_MOST_DESCRIPTION: Final = 255
_DEVELOPER: Final = 30
_BOT: Final = re.compile(r"(project|group)_\d+_bot")  # the accounts of access tokens


class GitLabApi(ForgeApi):
    """gitlab.com and GitLab's own installations."""

    def default_url(self) -> str:
        """Return the API of the installation."""
        return f"{self.site}/api/v4"

    def authorization(self, token: str, username: str | None) -> Mapping[str, str]:  # noqa: ARG002 - tokens name their owner
        """Return the token."""
        return {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def _project(self) -> str:
        return f"projects/{escaped(self.path)}"

    def change(self, number: int) -> Change:
        """Return a merge request as it is now."""
        found = self.call("GET", f"{self._project}/merge_requests/{number}")
        return Change(
            number=number,
            head=found["sha"],
            base=f"refs/heads/{found['target_branch']}",
            is_open=found["state"] == "opened",
            is_fork=str(found["source_project_id"]) != identity(found["target_project_id"]),
            head_ref=f"refs/merge-requests/{number}/head",
            merged_ref=f"refs/merge-requests/{number}/merge",
        )

    def set_status(self, commit: str, check: Check) -> None:
        """Write a commit status. Writing the state that it has already is an error there, and none here."""
        body: dict[str, Any] = {
            "state": check.word("success", "failed", "running"),
            "name": check.name,
            "description": check.summary[:_MOST_DESCRIPTION],
            **({"target_url": check.url} if check.url else {}),
        }
        try:
            self.call("POST", f"{self._project}/statuses/{commit}", json=body, again=True)
        except ApiError as error:
            if error.status != 400 or "cannot transition" not in error.message.lower():
                raise

    def find_open(self, branch: str, base: str) -> Opened | None:
        """Return the open merge request between two branches of the project; forks have branches of that name too."""
        params = {"state": "opened", "source_branch": branch, "target_branch": base}
        for row in self.pages(f"{self._project}/merge_requests", **params, per_page=PAGE):
            if row["source_project_id"] == row["target_project_id"]:
                return _opened(row)
        return None

    def open_change(self, draft: Draft) -> Opened:
        """Open a merge request, whose branch goes with its merge."""
        body = {
            "source_branch": draft.branch,
            "target_branch": draft.base,
            "title": draft.title,
            "description": draft.text,
            "remove_source_branch": True,
        }
        return _opened(self.call("POST", f"{self._project}/merge_requests", json=body))

    def edit_change(self, number: int, draft: Draft) -> None:
        """Write a merge request anew."""
        body = {"title": draft.title, "description": draft.text}
        self.call("PUT", f"{self._project}/merge_requests/{number}", json=body)

    def check_states(self, commit: str, names: Collection[str]) -> Mapping[str, CheckState]:
        """Return the latest statuses of these names: of jobs of pipelines, and of other programs."""
        place = f"{self._project}/repository/commits/{commit}/statuses"
        rows = self.pages(place, per_page=PAGE)
        return states_of(names, [(str(row["name"]), state_of(row["status"])) for row in rows])

    def add_comment(self, number: int, text: str) -> str:
        """Write a note."""
        place = f"{self._project}/merge_requests/{number}/notes"
        return identity(self.call("POST", place, json={"body": text})["id"])

    def comment_url(self, number: int, comment: str) -> str:
        """Return the place of a note on the page of its merge request."""
        return f"{self.site}/{self.path}/-/merge_requests/{number}#note_{comment}"

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        """Write a note anew."""
        self.call("PUT", f"{self._project}/merge_requests/{number}/notes/{comment}", json={"body": text})

    def find_comment(self, number: int, marker: str) -> str | None:
        """Return our note."""
        own = identity(self.call("GET", "user")["id"])
        for row in self.pages(f"{self._project}/merge_requests/{number}/notes", per_page=PAGE):
            if str(row["author"]["id"]) == own and str(row.get("body") or "").startswith(marker):
                return identity(row["id"])
        return None

    def remark(self, number: int, comment: str) -> Remark:
        """Return a note."""
        found = self.call("GET", f"{self._project}/merge_requests/{number}/notes/{comment}")
        author = found["author"]
        return Remark(
            text=str(found.get("body") or ""),
            account=identity(author["id"]),
            name=author["username"],
            created_at=moment_of(found["created_at"]),
            is_bot=bool(found.get("system")) or _BOT.match(author["username"]) is not None,
        )

    def may_write(self, remark: Remark) -> bool:
        """Return whether an account is a developer of the project or more, itself or by its groups."""
        try:
            found = self.call("GET", f"{self._project}/members/all/{escaped(remark.account)}")
        except ApiError as error:
            if error.code != "forge.missing":
                raise
            return False
        is_same, is_active = str(found.get("id")) == remark.account, found.get("state", "active") == "active"
        return is_same and is_active and int(found.get("access_level") or 0) >= _DEVELOPER

    def react(self, number: int, comment: str, *, is_good: bool) -> None:
        """Award a thumb up, or a puzzled face. One that was awarded before is an error there, and none here."""
        place = f"{self._project}/merge_requests/{number}/notes/{comment}/award_emoji"
        try:
            self.call("POST", place, json={"name": "thumbsup" if is_good else "confused"}, again=True)
        except ApiError as error:
            if error.code != "forge.missing":
                raise


def _opened(found: Any) -> Opened:
    return Opened(int(found["iid"]), str(found["web_url"]))
