"""GitHub's REST API: check runs where the token may write them, else commit statuses; issue comments.

Facts: docs.github.com/rest, "Check runs", "Commit statuses", "Issue comments", "Pull requests". Check runs are for
GitHub Apps and the token of Actions only; others get 403 and their commits a status instead. A check run takes 50
annotations a request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Final

from sync.forges.answers import identity
from sync.forges.api import PAGE, ApiError, Change, Check, Opened
from sync.forges.check_states import CheckState, state_of, states_of
from sync.forges.pulls_api import PullsApi, opened

_ANNOTATIONS_A_CALL: Final = 50
_MOST_ANNOTATIONS: Final = 500
_MOST_TEXT: Final = 60_000
_NO_CHECKS: Final = frozenset({403, 404, 422})


class GitHubApi(PullsApi):
    """github.com and GitHub Enterprise."""

    pulls: ClassVar[str] = "pull"
    most_description: ClassVar[int] = 140

    def default_url(self) -> str:
        """Return the API of github.com, or that of an installation of one's own."""
        return "https://api.github.com" if self.host == "github.com" else f"{self.site}/api/v3"

    def authorization(self, token: str, username: str | None) -> Mapping[str, str]:  # noqa: ARG002 - tokens name their owner
        """Return the token and the version of the API."""
        version = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return {"Authorization": f"Bearer {token}", **version} if token else version

    def change(self, number: int) -> Change:
        """Return a pull request as it is now."""
        found = self.call("GET", f"repos/{self.path}/pulls/{number}")
        head, base = found["head"], found["base"]
        return Change(
            number=number,
            head=head["sha"],
            base=f"refs/heads/{base['ref']}",
            is_open=found["state"] == "open",
            is_fork=str((head["repo"] or {}).get("id")) != identity(base["repo"]["id"]),
            head_ref=f"refs/pull/{number}/head",
            merged_ref=f"refs/pull/{number}/merge",
        )

    def set_status(self, commit: str, check: Check) -> None:
        """Write a check run with its annotations, or a status when this token may not."""
        try:
            self._check_run(commit, check)
        except ApiError as error:
            if error.status not in _NO_CHECKS:
                raise
            super().set_status(commit, check)

    def _check_run(self, commit: str, check: Check) -> None:
        rows = [_annotation(each.path, each.line, each.message) for each in check.annotations[:_MOST_ANNOTATIONS]]
        output = {"title": check.summary[:255], "summary": check.text[:_MOST_TEXT] or check.summary}
        body: dict[str, Any] = {
            "name": check.name,
            "head_sha": commit,
            "status": "in_progress" if check.is_pending else "completed",
            **({} if check.is_pending else {"conclusion": check.word("success", "failure", "neutral")}),
            "output": {**output, "annotations": rows[:_ANNOTATIONS_A_CALL]},
        }
        if check.url:
            body["details_url"] = check.url
        made = self.call("POST", f"repos/{self.path}/check-runs", json=body, again=True)
        for start in range(_ANNOTATIONS_A_CALL, len(rows), _ANNOTATIONS_A_CALL):
            more = {**output, "annotations": rows[start : start + _ANNOTATIONS_A_CALL]}
            self.call("PATCH", f"repos/{self.path}/check-runs/{made['id']}", json={"output": more})

    def find_open(self, branch: str, base: str) -> Opened | None:
        """Return the open pull request between two branches; a head is named with its owner."""
        owner = self.path.split("/")[0]
        params = {"state": "open", "head": f"{owner}:{branch}", "base": base}
        found = self.call("GET", f"repos/{self.path}/pulls", params=params)
        return opened(found[0]) if found else None

    def check_states(self, commit: str, names: Collection[str]) -> Mapping[str, CheckState]:
        """Return the newest commit statuses and the latest check runs of these names."""
        newest: dict[str, CheckState] = {}
        for row in self.pages(f"repos/{self.path}/commits/{commit}/statuses", per_page=PAGE):
            newest.setdefault(str(row["context"]), state_of(row["state"]))  # the newest comes first
        runs = [(name, state) for name in names for state in self._runs(commit, name)]
        return states_of(names, [*newest.items(), *runs])

    def _runs(self, commit: str, name: str) -> Iterator[CheckState]:
        params = {"check_name": name, "filter": "latest", "per_page": PAGE}
        try:
            found = self.call("GET", f"repos/{self.path}/commits/{commit}/check-runs", params=params)
        except ApiError as error:
            if error.status not in _NO_CHECKS:
                raise
            return  # this token may not read them: what counts must be a status then
        for run in found["check_runs"]:
            yield state_of(run.get("conclusion")) if run["status"] == "completed" else CheckState.OPEN

    def find_comment(self, number: int, marker: str) -> str | None:
        """Return our comment: that of our account, or of our app, whose token has no account.

        A token of another app does not say whose it is; then no comment is taken as ours, since anybody's may begin so.
        """
        own = self.account("id") if self._tokens is None else None
        app = self._tokens.app_id if self._tokens is not None else None
        if own is None and app is None:
            return None
        for row in self.pages(f"repos/{self.path}/issues/{number}/comments", per_page=PAGE):
            is_ours = _is_of_app(row, app) if app else str((row.get("user") or {}).get("id")) == own
            if is_ours and str(row.get("body") or "").startswith(marker):
                return identity(row["id"])
        return None


def _is_of_app(comment: Any, app: str) -> bool:
    """Return whether an app wrote a comment itself: what it does in a person's name is that person's."""
    is_bot = (comment.get("user") or {}).get("type") == "Bot"
    by = comment.get("performed_via_github_app") or {}
    return is_bot and app in {str(by.get("id")), by.get("client_id")}


def _annotation(path: str, line: int, message: str) -> dict[str, Any]:
    return {"path": path, "start_line": line, "end_line": line, "annotation_level": "failure", "message": message}
