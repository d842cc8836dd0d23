"""The API of Gitea and Forgejo: commit statuses and issue comments.

Facts: forgejo.org/docs/latest/user/api-usage and the API's own page `/api/swagger`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from sync.forges.api import Change
from sync.forges.pulls_api import PullsApi


class GiteaApi(PullsApi):
    """Gitea and Forgejo."""

    most_description: ClassVar[int] = 255

    def default_url(self) -> str:
        """Return the API of the installation."""
        return f"{self.site}/api/v1"

    def authorization(self, token: str, username: str | None) -> Mapping[str, str]:  # noqa: ARG002 - tokens name their owner
        """Return the token."""
        return {"Authorization": f"token {token}"} if token else {}

    def change(self, number: int) -> Change:
        """Return a pull request as it is now."""
        found = self.call("GET", f"repos/{self.path}/pulls/{number}")
        head, base = found["head"], found["base"]
        return Change(
            number=number,
            head=head["sha"],
            base=f"refs/heads/{base['ref']}",
            is_open=found["state"] == "open",
            is_fork=head.get("repo_id") != base.get("repo_id"),
            head_ref=f"refs/pull/{number}/head",
        )

    def find_comment(self, number: int, marker: str) -> str | None:
        """Return our comment; the list comes whole."""
        own = self.call("GET", "user")["id"]
        for row in self.call("GET", f"repos/{self.path}/issues/{number}/comments"):
            if (row.get("user") or {}).get("id") == own and str(row.get("body") or "").startswith(marker):
                return str(row["id"])
        return None
