"""What Gitea took over from GitHub: commit statuses, and comments of pull requests as those of issues."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sync.forges.answers import identity
from sync.forges.api import ApiError, Check, Draft, ForgeApi, Opened, Remark, escaped, moment_of

_WRITERS: Final = frozenset({"write", "maintain", "admin", "owner"})


class PullsApi(ForgeApi):
    """The API of a forge whose pull requests are issues too."""

    pulls: ClassVar[str]
    """What addresses of pages call pull requests."""
    most_description: ClassVar[int]
    """Characters that the sentence of a status may have."""

    def set_status(self, commit: str, check: Check) -> None:
        """Write a commit status."""
        body = {
            "state": check.word("success", "failure", "pending"),
            "context": check.name,
            "description": check.summary[: self.most_description],
            **({"target_url": check.url} if check.url else {}),
        }
        self.call("POST", f"repos/{self.path}/statuses/{commit}", json=body, again=True)

    def open_change(self, draft: Draft) -> Opened:
        """Open a pull request."""
        body = {"title": draft.title, "body": draft.text, "head": draft.branch, "base": draft.base}
        return opened(self.call("POST", f"repos/{self.path}/pulls", json=body))

    def edit_change(self, number: int, draft: Draft) -> None:
        """Write a pull request anew."""
        self.call("PATCH", f"repos/{self.path}/pulls/{number}", json={"title": draft.title, "body": draft.text})

    def add_comment(self, number: int, text: str) -> str:
        """Comment on the conversation of a pull request."""
        return identity(self.call("POST", f"repos/{self.path}/issues/{number}/comments", json={"body": text})["id"])

    def comment_url(self, number: int, comment: str) -> str:
        """Return the place of a comment on the page of its pull request."""
        return f"{self.site}/{self.path}/{self.pulls}/{number}#issuecomment-{comment}"

    def edit_comment(self, number: int, comment: str, text: str) -> None:  # noqa: ARG002 - comments have ids of their own
        """Write a comment anew."""
        self.call("PATCH", f"repos/{self.path}/issues/comments/{comment}", json={"body": text})

    def remark(self, number: int, comment: str) -> Remark:
        """Return a comment of a pull request: ids count for the repository, so the number is compared."""
        found = self.call("GET", f"repos/{self.path}/issues/comments/{comment}")
        place = str(found.get("issue_url") or found.get("pull_request_url") or "")
        if place.rstrip("/").rpartition("/")[2] != str(number):
            raise ApiError("forge.missing", f"comment {comment} is not on pull request {number}")
        author = found["user"]
        return Remark(
            text=str(found.get("body") or ""),
            account=identity(author["id"]),
            name=author["login"],
            created_at=moment_of(found["created_at"]),
            is_bot=self.is_bot(found),
        )

    def is_bot(self, comment: Any) -> bool:
        """Return whether no person wrote a comment."""
        return bool(comment["user"].get("type") == "Bot" or comment.get("performed_via_github_app"))

    def may_write(self, remark: Remark) -> bool:
        """Return whether an account may push. It is asked by name, so the id that answers must be the author's."""
        try:
            found = self.call("GET", f"repos/{self.path}/collaborators/{escaped(remark.name)}/permission")
        except ApiError as error:
            if error.code != "forge.missing":
                raise
            return False
        is_same = str((found.get("user") or {}).get("id")) == remark.account
        return is_same and found.get("permission") in _WRITERS

    def react(self, number: int, comment: str, *, is_good: bool) -> None:  # noqa: ARG002 - comments have ids of their own
        """Put a thumb up, or a puzzled face."""
        body = {"content": "+1" if is_good else "confused"}
        self.call("POST", f"repos/{self.path}/issues/comments/{comment}/reactions", json=body, again=True)


def opened(found: Any) -> Opened:
    """Return what a pull request of the API is to us."""
    return Opened(int(found["number"]), str(found["html_url"]))
