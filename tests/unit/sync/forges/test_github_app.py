"""A GitHub App reads a repository, opens a change request and gets new tokens, over sockets."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.settings import EnvironmentSettings, GitHubAppSettings, RepositorySettings, Settings
from sync.forges.api import ApiError
from sync.forges.github_app import GitHubApp, read_key
from sync.proposals import Proposal
from sync.service import SyncService
from tests.servers.forge import Forge
from tests.servers.git import git
from tests.servers.github_app import APP, INSTALLATION, AppDoor

FLOW = "id: a\nnamespace: w\ntasks:\n  - {id: say, type: core.log.Log, message: hello}\n"
URL = "https://git.example.org/acme/flows.git"


@pytest.fixture
def door(forge: Forge, git_server: Any) -> AppDoor:
    """An app whose newest token is the only one that git takes, and the only kind that the API takes."""

    def heard(token: str) -> None:
        pair = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        git_server.authorization = f"Basic {pair}"

    forge.tokens.clear()
    forge.app = AppDoor(forge.tokens, heard=heard)
    git_server.authorization = "Basic nobody"
    return forge.app


@pytest.fixture
def service(
    start: Callable[..., SyncService], git_server: Any, forge: Forge, door: AppDoor, work_tree: Any, tmp_path: Path
) -> SyncService:
    work_tree.write({"flows/w/a.yaml": FLOW})
    git(work_tree.path, "push", "-q", str(forge.bare), "main")
    key = tmp_path / "app.pem"
    key.write_text(door.pem)
    app = GitHubAppSettings(id=int(APP), private_key=str(key))
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind="github", api_url=forge.url, github_app=app
    )
    return start(EnvironmentSettings(name="e", repository="r", writes="propose"), repositories=(repository,))


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_an_app_reads_pushes_and_opens_with_one_token(
    service: SyncService, door: AppDoor, forge: Forge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made: list[Proposal] = []

    found = service.reconcile_repository("r", actor="poll")
    service.write_flow(FLOW.replace("hello", "x"), actor="ann", proposed=made.append)

    assert [result.outcome.value for result in found] == ["ACTIVE"]
    assert [pull.number for pull in forge.opened] == [made[0].number]
    assert (len(door.issued), door.refused) == (1, [])
    assert not any(door.issued[0] in text or "PRIVATE KEY" in text for text in caplog.messages)


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_token_that_is_believed_no_longer_is_renewed_for_git_and_the_api(
    service: SyncService, door: AppDoor, forge: Forge, git_server: Any
) -> None:
    made: list[Proposal] = []
    service.reconcile_repository("r", actor="poll")
    door.revoke()
    git_server.authorization = "Basic nobody"

    service.write_flow(FLOW.replace("hello", "x"), actor="ann", proposed=made.append)
    forge.pulls[made[0].number or 0].state = "closed"
    git_server.authorization = "Basic nobody"
    [result] = service.reconcile_repository("r", actor="poll")

    assert made[0].url is not None
    assert result.outcome.value == "UNCHANGED"
    assert len(door.issued) == 3


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_token_is_kept_until_shortly_before_its_end(forge: Forge, door: AppDoor) -> None:
    now = [time.time()]
    app = GitHubApp(URL, APP, read_key(door.pem), INSTALLATION, forge.url, clock=lambda: now[0])

    first = app.token()
    now[0] += 20
    second = app.token()
    door.lasts = timedelta(hours=2)
    app.clock = lambda: time.time() + 3600 - 200
    with pytest.raises(ApiError) as late:
        app.token()

    assert first == second
    assert len(door.issued) == 1
    assert late.value.code == "forge.access.denied"
    assert "is the clock right" in (late.value.hint or "")


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_token_about_to_run_out_is_not_used(forge: Forge, door: AppDoor) -> None:
    door.lasts = timedelta(minutes=4)
    app = GitHubApp(URL, APP, read_key(door.pem), None, forge.url)

    tokens = [app.token(), app.token()]

    assert tokens == door.issued


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_an_app_that_was_installed_anew_is_found_again(forge: Forge, door: AppDoor) -> None:
    app = GitHubApp(URL, APP, read_key(door.pem), None, forge.url)
    first = app.token()
    door.revoke()
    door.installation += 1

    second = app.renewed(first)

    assert [first, second] == door.issued


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://github.com/acme/flows.git", "https://api.github.com"),
        ("https://git.example.org:8443/acme/flows.git", "https://git.example.org:8443/api/v3"),
    ],
)
def test_the_claim_goes_to_the_api_of_the_repositorys_own_host(url: str, place: str) -> None:
    app = GitHubApp(url, APP, AppDoor(set()).key)

    assert app._base() == place


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_an_app_asks_for_the_checks_that_a_repository_requires(
    service: SyncService, forge: Forge, work_tree: Any
) -> None:
    service.reconcile_repository("r", actor="poll")
    work_tree.write({".mainstem.yaml": "checks: {required: [lint]}\n", "flows/w/a.yaml": FLOW + "# more\n"})
    git(work_tree.path, "push", "-q", str(forge.bare), "main")
    [waits] = service.reconcile_repository("r", actor="poll")
    assert waits.commit is not None
    forge.results[waits.commit, "lint"] = "green"

    [green] = service.reconcile_repository("r", actor="poll")

    assert (waits.outcome.value, green.outcome.value) == ("WAITING", "ACTIVE")
    assert (waits.message or "").endswith("lint is open")


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_key_that_is_not_the_apps_reads_nothing_and_is_not_shown(
    start: Callable[..., SyncService], forge: Forge, door: AppDoor, git_server: Any
) -> None:
    other = AppDoor(set()).pem
    app = GitHubAppSettings(id=APP, private_key=other, installation=INSTALLATION)
    repository = RepositorySettings(
        name="r", url=f"{git_server.url}/acme/flows.git", kind="github", api_url=forge.url, github_app=app
    )
    service = start(EnvironmentSettings(name="e", repository="r"), repositories=(repository,))

    [result] = service.reconcile_repository("r", actor="poll")

    assert (result.outcome.value, result.code) == ("FAILED", "repository.access.denied")
    assert "[forge.access.denied]" in (result.message or "")
    assert "PRIVATE KEY" not in (result.message or "")
    assert door.refused == ["A JSON web token could not be decoded"]


@pytest.mark.parametrize("given", ["/nowhere/app.pem", "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n", "", "SHA256:abc"])
def test_what_is_no_key_is_refused_without_being_repeated(given: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read_key(given)

    assert caught.value.code == "repository.app.invalid"
    assert "c2VjcmV0" not in f"{caught.value} {caught.value.__cause__}"


def test_an_app_is_for_github_over_https(start: Callable[..., SyncService]) -> None:
    app = GitHubAppSettings(id=APP, private_key=AppDoor(set()).pem)
    repository = RepositorySettings(name="r", url=URL, kind="gitlab", github_app=app)

    with pytest.raises(InvalidError) as caught:
        start(EnvironmentSettings(name="e", repository="r"), repositories=(repository,))

    assert caught.value.code == "repository.app.invalid"


def test_the_key_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "mainstem.yaml"
    file.write_text(
        "repositories:\n- {name: r, url: 'https://github.com/a/b', kind: github,"
        " githubApp: {id: 7, privateKey: '${APP_KEY}'}}\n"
    )

    settings = Settings.load(file, {"APP_KEY": "the key"})

    assert settings.repositories[0].github_app == GitHubAppSettings(id=7, private_key="the key")
