"""The API of Gitea and Forgejo: commit statuses and issue comments.

Facts: forgejo.org/docs/latest/user/api-usage and the API's own page `/api/swagger`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from sync.forges.answers import identity
from sync.forges.api import Change, Opened
from sync.forges.check_states import CheckState, state_of, states_of
from sync.forges.pulls_api import PullsApi, opened

_AGIT: Final = 1
_PAGE: Final = 50
_MOST_PAGES: Final = 20
_PULLS_A_PAGE: Final = 50


class GiteaApi(PullsApi):
    """Gitea and Forgejo."""

    pulls: ClassVar[str] = "pulls"
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
            is_fork=not is_own_branch(found),
            head_ref=f"refs/pull/{number}/head",
        )

    def find_open(self, branch: str, base: str) -> Opened | None:
        """Return the open pull request between two branches; the list cannot be asked for a head."""
        for row in self.pages(f"repos/{self.path}/pulls", state="open", limit=_PULLS_A_PAGE):
            if row["head"].get("ref") == branch and row["base"]["ref"] == base and is_own_branch(row):
                return opened(row)
        return None

    def check_states(self, commit: str, names: Collection[str]) -> Mapping[str, CheckState]:
        """Return the newest commit statuses of these names, as the combined status lists them."""
        place, found = f"repos/{self.path}/commits/{commit}/status", []
        for page in range(1, _MOST_PAGES + 1):
            rows = self.call("GET", place, params={"page": page, "limit": _PAGE}).get("statuses") or []
            found += [(str(row.get("context")), state_of(row.get("status"))) for row in rows]
            if len(rows) < _PAGE:
                break
        return states_of(names, found)

    def find_comment(self, number: int, marker: str) -> str | None:
        """Return our comment; the list comes whole."""
        own = identity(self.call("GET", "user")["id"])
        for row in self.call("GET", f"repos/{self.path}/issues/{number}/comments"):
            if str((row.get("user") or {}).get("id")) == own and str(row.get("body") or "").startswith(marker):
                return identity(row["id"])
        return None


def is_own_branch(found: Mapping[str, Any]) -> bool:
    """Return whether a pull request comes from a branch of the repository, which only those push who may write.

    One of the AGit flow (`git push origin HEAD:refs/for/main`) is open to everybody who may read. It names the
    repository itself as its head's, but no branch; Forgejo says `flow` besides.
    """
    head, base = found["head"], found["base"]
    is_same = head.get("repo_id") is not None and head["repo_id"] == base.get("repo_id")
    ref = head.get("ref") or ""
    has_branch = bool(head.get("label")) and bool(ref) and not ref.startswith("refs/")
    return is_same and has_branch and found.get("flow") != _AGIT
