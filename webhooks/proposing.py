"""Answers to writes that became proposals: 202, with what is proposed and the change request that waits for review."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from webhooks.problems import Json

if TYPE_CHECKING:
    from webhooks.call import Call

_ACCEPTED: Final = 202


def accepted(call: Call, result: Any) -> Response:
    """Return the answer of a handler whose write was proposed: its own with `draft` and `pullRequest` in each object.

    `Location` names the page of the change request, where its forge has one.
    """
    proposal = call.proposals[0]
    mark = {"draft": True, "pullRequest": proposal.as_json()}
    headers = {"x-mainstem-commit": proposal.commit}
    if proposal.url and proposal.url.isascii() and proposal.url.isprintable():
        headers["location"] = proposal.url
    if isinstance(result, list):
        content: Any = [{**row, **mark} if isinstance(row, dict) else row for row in result]
    else:
        content = {**(result if isinstance(result, dict) else {}), **mark}
    return Json(content, status_code=_ACCEPTED, headers=headers)
