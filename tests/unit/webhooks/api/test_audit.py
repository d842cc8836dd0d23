"""The audit log: who did what, what was refused, and that nobody fills the disk with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from runner.secrets.encryption import Encryption
from runner.settings import RepositorySettings, Settings
from webhooks.settings_log import note_settings

AUDIT = "/api/v1/main/audit"
HOOKED = """id: hello
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: hi}
triggers:
  - {id: hook, type: core.trigger.Webhook, key: s3cret-key}
"""


def rows(api: Any, query: str = "") -> list[dict[str, Any]]:
    api.services.store.flush()
    found: list[dict[str, Any]] = api.get(f"{AUDIT}?limit=1000{query}").json()["results"]
    return found


def test_what_nobody_may_is_written_with_who_asked_and_for_what(api: Any) -> None:
    api.get("/api/v1/main/flows/search", token=None)
    api.get("/api/v1/main/flows/search", token="stolen-and-revoked")
    api.delete("/api/v1/main/flows/company.team/hello", token="viewer")
    api.put("/api/v1/main/namespaces/company/kv/a", content="1", headers={"sec-fetch-site": "cross-site"})

    found = rows(api, "&result=REFUSED")

    assert [(row["actor"], row["action"], row["target"]) for row in reversed(found)] == [
        ("unknown", "token.use", "GET /api/v1/main/flows/search"),
        ("unknown", "token.use", "GET /api/v1/main/flows/search"),
        ("viewer", "flow.write", "company.team"),
        ("admin", "kv.write", "/api/v1/main/namespaces/company/kv/a"),
    ]
    assert [row["detail"].get("code") for row in found[2:]] == ["access.token.invalid", "access.token.missing"]
    assert found[2]["detail"]["client"] == "127.0.0.1"
    assert "stolen" not in str(found)


@pytest.mark.parametrize("token", [None, "viewer"])
def test_who_is_refused_again_and_again_fills_no_disk(api: Any, token: str | None) -> None:
    for number in range(200):
        api.delete(f"/api/v1/main/flows/company.team/{number}{'x' * 500}", token=token)

    found = rows(api, "&result=REFUSED")

    assert len(found) == 60
    assert max(len(row["target"]) for row in found) <= 300


def test_starts_by_a_webhook_are_written_sixty_times_a_minute_at_most(api: Any) -> None:
    api.store_flow(HOOKED)
    place = "/api/v1/main/executions/webhook/company.team/hello/s3cret-key"

    first = api.post(place, token=None).json()["id"]
    for _ in range(70):
        api.post(place, token=None)

    found = rows(api, "&actor=webhook")
    assert len(found) == 60
    assert (found[-1]["action"], found[-1]["target"]) == ("execution.run", "company.team.hello")
    assert found[-1]["detail"]["execution"] == first
    assert found[-1]["detail"]["trigger"] == "hook"
    assert "s3cret-key" not in str(found)


def test_the_log_is_read_by_action_target_and_time(api: Any) -> None:
    api.post("/api/v1/main/tokens", json={"name": "ci", "role": "operator"})
    api.delete("/api/v1/main/tokens/ci")
    api.delete("/api/v1/main/tokens/nothing")

    found = rows(api, "&action=token&target=ci")

    assert [row["action"] for row in found] == ["token.revoke", "token.create"]
    assert Counter(row["actor"] for row in found) == {"admin": 2}
    assert rows(api, "&action=token.create&since=2999-01-01") == []
    assert api.get(f"{AUDIT}?since=yesterday").status_code == 400
    assert api.get(f"{AUDIT}?result=MAYBE").status_code == 400
    assert api.get(AUDIT, token="developer").status_code == 403


def test_a_change_of_the_settings_is_written_without_their_values(api: Any) -> None:
    secret = RepositorySettings(name="team", url="https://git.example.org/x.git", password="hunter2-hunter2")
    settings = Settings(home=api.services.settings.home)
    encryption = Encryption(b"k" * 32)

    def note(current: Settings) -> list[str]:
        return note_settings(api.services.store, api.services.access, current, encryption, "up")

    first, same = note(settings), note(settings)
    changed = note(settings.model_copy(update={"workers": 3, "repositories": (secret,)}))

    found = rows(api, "&action=settings.change")
    assert (first, same, changed) == ([], [], ["repositories", "workers"])
    assert [row["detail"]["changed"] for row in found] == [["repositories", "workers"], []]
    assert "hunter2" not in str(found)
