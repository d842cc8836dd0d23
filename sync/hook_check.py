"""Whether a webhook would arrive: a signed sample is sent to the public address, as a forge would send it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner import __version__
from sync.forges.signatures import signing_key, standard_signature

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S: Final = 10.0
_REDIRECTS: Final = range(300, 400)


@dataclass(frozen=True, slots=True)
class HookCheck:
    """What became of the sample. `problem` is None when it arrived and was believed; `advice` says what to do."""

    url: str
    status: int | None
    problem: str | None = None
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the check as the API shows it."""
        return {"url": self.url, "status": self.status, "problem": self.problem, "advice": self.advice}


def check_hook(url: str, secret: str) -> HookCheck:
    """Send a signed ping to a receiver's address and return how it was answered."""
    import httpx

    body = json.dumps({"type": "ping"}).encode()
    message, now = str(uuid.uuid4()), str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "user-agent": f"Mainstem/{__version__}",
        "webhook-id": message,
        "webhook-timestamp": now,
        "webhook-signature": standard_signature(signing_key(secret) or b"", message, now, body),
    }
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False)
    except httpx.HTTPError as error:
        problem = f"nobody answers there: {str(error) or type(error).__name__}"
        advice = (
            "the setting `url` must be the address at which forges reach this server, through every proxy and firewall"
        )
        return HookCheck(url, None, problem, advice)
    return HookCheck(url, answer.status_code, *_judged(answer))


def _judged(answer: httpx.Response) -> tuple[str | None, str | None]:
    """Return what is wrong with an answer, and what to do about it."""
    code = _field(answer, "code")
    if answer.is_success and _field(answer, "result") is not None:
        return None, None
    if answer.is_success:
        return (
            "somebody else answers there",
            "the setting `url` names another server, or a proxy answers in place of this one",
        )
    if answer.status_code in _REDIRECTS:
        place = answer.headers.get("location", "elsewhere")
        return f"it is sent on to {place}", "forges follow no redirects: give them, and the setting `url`, that address"
    if code == "hook.unproven":
        return (
            "the signature is not believed",
            "a proxy changes bodies or drops the headers `webhook-*`, or clocks differ",
        )
    if answer.status_code in {401, 403, 404}:
        return f"it is answered with {answer.status_code}", "a proxy in front does not let /hooks/ pass without a login"
    return (
        f"it is answered with {answer.status_code} {code or ''}".rstrip(),
        "see the server's log and that of the proxy",
    )


def _field(answer: httpx.Response, name: str) -> str | None:
    try:
        content = answer.json()
    except ValueError:
        return None
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) else None
