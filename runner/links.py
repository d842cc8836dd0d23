"""Addresses of pages of the server, as answers, reports and statuses name them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

PAGES: Final = "/ui/main"
"""What the path of each page begins with; `main` is the tenant."""


def execution_page(namespace: str, flow_id: str, execution_id: str) -> str:
    """Return the path of the page of an execution."""
    return f"{PAGES}/executions/" + "/".join(quote(part, safe="") for part in (namespace, flow_id, execution_id))


def plan_page(environment: str, commit: str) -> str:
    """Return the path of the page of what a commit changed, or would change, in an environment."""
    return f"{PAGES}/environments/{quote(environment, safe='')}/plan?commit={quote(commit, safe='')}"
