"""A push to a repository elsewhere, its webhook, and the flow that is active soon after."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def test_a_pushed_flow_is_active_as_soon_as_its_webhook_came(followed: Any, forges: Any) -> None:
    commit = followed.push("second")
    assert followed.active != commit  # nobody has told the server, and it looks by itself once an hour

    answer = followed.deliver(forges.SENDERS["gitea"].send(after=commit))

    assert (answer.status_code, answer.json()["result"]) == (202, "ACCEPTED")
    assert followed.wait_until_active(commit) < 10
    revision = followed.get("/api/v1/main/environments/production/revisions")["results"][0]
    assert (revision["commit"], revision["actor"], revision["sender"]) == (commit, "ann", "ann")
    assert revision["delivery"] == answer.json()["deliveryId"]
    assert {flow["id"] for flow in followed.get("/api/v1/main/flows/company.team")} == {"first", "second"}


def test_twenty_deliveries_during_a_look_are_one_more_look_and_the_newest_commit(followed: Any, forges: Any) -> None:
    commits = [followed.push(f"flow-{number}") for number in range(20)]
    sent = [forges.SENDERS["gitea"].send(after=commit) for commit in commits]
    followed.git.is_open.clear()

    with ThreadPoolExecutor(len(sent)) as threads:
        codes = [answer.status_code for answer in threads.map(followed.deliver, sent)]
    followed.git.is_open.set()

    assert codes == [202] * 20
    followed.wait_until_active(commits[-1])
    assert 1 <= followed.looks() <= 2
    assert len(followed.get("/api/v1/main/deliveries?repository=team")["results"]) == 20


def test_both_secrets_count_during_a_rotation(followed: Any, forges: Any) -> None:
    sender = forges.SENDERS["gitea"]
    before, after = followed.push("before"), followed.push("after")

    codes = [
        followed.deliver(sender.send(after=commit, secret=secret)).status_code
        for commit, secret in ((before, "the secret before"), (after, forges.SECRET), (after, "yet another"))
    ]

    assert codes == [202, 202, 401]
    followed.wait_until_active(after)


def test_deliveries_are_read_and_done_again_from_the_command_line(followed: Any, forges: Any) -> None:
    sender = forges.SENDERS["gitea"]
    tag = followed.deliver(sender.send("tag", delivery="d-1")).json()
    followed.deliver(sender.send(secret="wrong"))
    missed = followed.push("missed")

    listed = followed.mainstem("sync", "deliveries", "team")
    refused = followed.mainstem_json("sync", "deliveries", "--result", "refused")
    shown = followed.mainstem("sync", "delivery", str(tag["delivery"]))
    again = followed.mainstem("sync", "replay", str(tag["delivery"]))
    not_again = followed.mainstem("sync", "replay", str(refused[0]["id"]))
    unknown = followed.mainstem("sync", "replay", "999999")

    assert "no environment follows refs/tags/v1.0.0" in listed.stdout
    assert "fits no secret" in refused[0]["reason"]
    assert "x-gitea-delivery: d-1" in shown.stdout
    assert '"full_name": "acme/flows"' in shown.stdout
    assert (again.returncode, followed.active) == (0, missed), again
    assert missed[:7] in again.stdout
    assert (not_again.returncode, unknown.returncode) == (1, 3)
    assert "was refused" in not_again.stderr
    assert followed.mainstem_json("sync", "delivery", str(tag["delivery"]))["reason"] == "replayed by admin"


def test_the_server_tells_its_hook_and_counts_what_came(followed: Any, forges: Any) -> None:
    sender = forges.SENDERS["gitea"]
    followed.deliver(sender.send("uninteresting"))
    followed.deliver(sender.send(secret="wrong"))

    figures = followed.get("/metrics")

    assert f"{followed.url}/hooks/team" in followed.banner
    assert 'mainstem_deliveries_total{result="IGNORED"} 1' in figures
    assert 'mainstem_deliveries_total{result="REFUSED"} 1' in figures
    assert 'mainstem_deliveries_total{result="ACCEPTED"} 0' in figures
    assert 'mainstem_deliveries_logged{result="IGNORED"} 1' in figures


def test_the_documented_hook_of_a_bare_repository_tells_of_a_push_by_itself(followed: Any, forges: Any) -> None:
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    script = page.partition("```python\n")[2].partition("```")[0]
    secret = followed.folder / "hook-secret"
    secret.write_text(forges.SECRET + "\n")
    script = script.replace("https://mainstem.example.org/hooks/team", f"{followed.url}/hooks/team")
    hook = followed.bare / "hooks" / "post-receive"
    hook.write_text(script.replace("/etc/mainstem/hook-secret", str(secret)))
    hook.chmod(0o755)

    commit = followed.push("second")

    followed.wait_until_active(commit)
    [row] = followed.mainstem_json("sync", "deliveries", "team")
    assert (row["result"], row["event"], row["after"]) == ("ACCEPTED", "push", commit)


def test_the_address_of_webhooks_is_tried_by_a_command(followed: Any) -> None:
    by_environment = followed.mainstem("webhook", "test", "production")
    by_repository = followed.mainstem_json("webhook", "test", "team")
    unknown = followed.mainstem("webhook", "test", "nothing")

    assert by_environment.returncode == 0, by_environment
    assert by_environment.stdout == f"{followed.url}/hooks/team: 200, the sample arrived and was believed\n"
    assert (by_repository["status"], by_repository["problem"]) == (200, None)
    assert unknown.returncode == 3
