"""What Gitea took over from GitHub: commit statuses, and comments of pull requests as those of issues."""

from __future__ import annotations

from typing import ClassVar

from sync.forges.api import Check, ForgeApi


class PullsApi(ForgeApi):
    """The API of a forge whose pull requests are issues too."""

    most_description: ClassVar[int]
    """Characters that the sentence of a status may have."""

    def set_status(self, commit: str, check: Check) -> None:
        """Write a commit status."""
        body = {
            "state": "success" if check.is_good else "failure",
            "context": check.name,
            "description": check.summary[: self.most_description],
            **({"target_url": check.url} if check.url else {}),
        }
        self.call("POST", f"repos/{self.path}/statuses/{commit}", json=body, again=True)

    def add_comment(self, number: int, text: str) -> str:
        """Comment on the conversation of a pull request."""
        return str(self.call("POST", f"repos/{self.path}/issues/{number}/comments", json={"body": text})["id"])

    def edit_comment(self, number: int, comment: str, text: str) -> None:  # noqa: ARG002 - comments have ids of their own
        """Write a comment anew."""
        self.call("PATCH", f"repos/{self.path}/issues/comments/{comment}", json={"body": text})
