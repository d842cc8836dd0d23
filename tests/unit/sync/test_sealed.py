"""Secrets in git: opened by the key of the server, kept sealed in the store, named and never shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runner.errors import ExpressionError
from runner.flows.catalogue import Catalogue
from runner.secrets.age import AgeKeys
from runner.services import Host
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.stored_key_values import StoredKeyValues
from sync.activation import Outcome, RevisionResult
from sync.needs import is_known
from sync.plan import Plan
from sync.plan_text import body_lines
from sync.reviews.text import Reviewed, comment_of
from sync.service import SyncService
from tests.servers import sops
from tests.servers.store import fresh_store

FLOW = "id: say\nnamespace: team\ntasks: [{id: s, type: core.log.Log, message: \"{{ secret('token') }}\"}]\n"
FILE = "flows/team/_secrets.yaml"
FIRST = {"token": "first of all", "other": "other words"}


class Server:
    """A server with a key, over a work tree that is followed in place."""

    def __init__(self, home: Path, url: str, key_file: Path | None) -> None:
        self.settings = Settings(
            home=home,
            age_key_file=key_file,
            repositories=(RepositorySettings(name="r", url=url),),
            environments=(EnvironmentSettings(name="prod", repository="r", ref="refs/heads/main"),),
        )
        home.mkdir(exist_ok=True)
        self.store = fresh_store(self.settings.database_url, durability="off")
        catalogue = Catalogue(self.store)
        self.kv = StoredKeyValues(self.store, _never)
        self.sync = SyncService(
            self.store,
            catalogue,
            self.settings,
            holds=lambda *need: need[0] == "kv" or is_known(self.host.secrets, self.kv, *need),
        )
        self.host = Host.open(
            self.settings, self.kv, environment={"SECRET_TOKEN": "ZW52aXJvbm1lbnQ="}, store=self.store
        )
        self.sync.ensure_declared()

    def look(self) -> RevisionResult:
        return self.sync.reconcile_repository("r", actor="test", reason="api")[0]

    def close(self) -> None:
        self.sync.close()
        self.store.close()


def _never() -> NoReturn:
    raise AssertionError


@pytest.fixture
def pyrage(optional: Callable[[str, str], NoReturn]) -> Any:
    try:
        import pyrage
    except ImportError:
        optional("age", "pyrage is not installed")
    return pyrage


@pytest.fixture
def encrypt(pyrage: Any) -> Callable[..., str]:
    return lambda values, **how: sops.encrypted(values, pyrage, **how)


@pytest.fixture
def server(tmp_path: Path, work_tree: Any) -> Iterator[Server]:
    found = Server(tmp_path / "home", f"file://{work_tree.path}", sops.key_file(tmp_path))
    yield found
    found.close()


def shown(plan: Plan | None) -> list[str]:
    assert plan is not None
    return [line.rstrip() for line in body_lines(plan) if " secret " in line]


def test_secrets_come_change_and_go_with_the_file(server: Server, work_tree: Any, encrypt: Any) -> None:
    text = encrypt(FIRST, key=b"k" * 32)
    work_tree.write({"flows/team/say.yaml": FLOW, FILE: text})
    first = server.look()
    seen = server.host.secrets.get("team.deep", "Token")
    masked = server.host.masker.mask("told: first of all")
    work_tree.write({FILE: encrypt({"token": "second thought", "new": "new words"})})
    second = server.look()

    assert shown(first.plan) == ["  + secret team.OTHER  new", "  + secret team.TOKEN  new"]
    assert shown(second.plan) == [
        "  + secret team.NEW    new",
        "  - secret team.OTHER  removed",
        "  ~ secret team.TOKEN  changed",
    ]
    assert (seen, masked) == ("first of all", "told: ******")
    assert server.host.secrets.get("team", "TOKEN") == "second thought"
    assert server.host.secrets.keys("team") == ["NEW", "TOKEN"]
    assert server.host.secrets.keys("elsewhere") == ["TOKEN"]
    with pytest.raises(ExpressionError):
        server.host.secrets.get("team", "OTHER")


def test_what_is_set_on_the_server_wins_over_git_and_git_over_the_environment(
    server: Server, work_tree: Any, encrypt: Any
) -> None:
    own = server.host.secrets.own
    assert own is not None
    own.put("team", "OTHER", "of the operator", server.host.clock())
    work_tree.write({"flows/team/say.yaml": FLOW, FILE: encrypt(FIRST)})
    before = server.host.secrets.get("team", "TOKEN")
    result = server.look()
    after = server.host.secrets.get("team", "TOKEN")
    stays = server.host.secrets.get("team", "OTHER")
    own.delete("team", "OTHER")
    work_tree.write({"flows/team/say.yaml": FLOW + "# again\n"})
    server.look()

    assert shown(result.plan)[0] == "  . secret team.OTHER  kept     set on the server, which wins over git"
    assert (before, after, stays) == ("environment", "first of all", "of the operator")
    assert server.host.secrets.get("team", "OTHER") == "other words"


def test_a_secret_of_git_cannot_be_removed_on_the_server(server: Server, work_tree: Any, encrypt: Any) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, FILE: encrypt(FIRST)})
    server.look()
    own = server.host.secrets.own
    assert own is not None

    with pytest.raises(Exception, match="no secret 'TOKEN' was set"):
        own.delete("team", "TOKEN")

    assert (own.all(), server.host.secrets.given("team")) == ([], ["OTHER", "TOKEN"])
    assert server.host.secrets.get("team", "TOKEN") == "first of all"


def test_a_rollback_puts_the_secrets_of_that_revision_back(server: Server, work_tree: Any, encrypt: Any) -> None:
    first = work_tree.write({"flows/team/say.yaml": FLOW, FILE: encrypt(FIRST)})
    server.look()
    work_tree.write({FILE: encrypt({"token": "second thought"})})
    server.look()
    server.sync.stay("prod", first, action="rollback", actor="ann", reason="it breaks")

    assert [server.host.secrets.get("team", key) for key in FIRST] == list(FIRST.values())


def test_a_rollback_past_a_change_of_the_servers_key_keeps_the_secrets_of_today(
    server: Server, work_tree: Any, encrypt: Any, pyrage: Any
) -> None:
    first = work_tree.write({"flows/team/say.yaml": FLOW, FILE: encrypt(FIRST)})
    server.look()
    work_tree.write({"flows/team/say.yaml": FLOW + "# bad\n", FILE: encrypt({"token": "second thought"})})
    server.look()
    assert server.settings.age_key_file is not None
    server.settings.age_key_file.write_text(f"{pyrage.x25519.Identity.generate()}\n")

    back = server.sync.stay("prod", first, action="rollback", actor="ann", reason="it breaks")

    assert (back.outcome, back.active) == (Outcome.ACTIVE, first)
    assert back.plan is not None
    assert back.plan.unchecked == ("the keys and secrets that git wants",)
    assert server.host.secrets.get("team", "TOKEN") == "second thought"


def test_nothing_is_written_anywhere_in_the_clear(
    server: Server, work_tree: Any, encrypt: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    work_tree.write({"flows/team/say.yaml": FLOW, FILE: encrypt(FIRST)})
    result = server.look()
    assert result.plan is not None
    told = f"{result!r} {result.as_json()} {result.lines} {body_lines(result.plan)} {caplog.text}"
    rows = repr(server.store.read(lambda db: (db.secrets.all(), db.audit.list(), db.revisions.list("prod", 9))))
    server.close()
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert result.outcome is Outcome.ACTIVE
    assert "TOKEN" in told
    for value in FIRST.values():
        assert value not in told + rows
        assert value.encode() not in files


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda encrypt: encrypt(FIRST).replace("token: ENC", "tokem: ENC"), "secret.sealed.mac"),
        (lambda _encrypt: "token: correct horse\n", "secret.sealed.invalid"),
        (lambda _encrypt: "token: 'correct horse\n", "yaml.syntax.invalid"),
        (lambda _encrypt: sops.payload("for_another"), "secret.sealed.key"),
        (lambda encrypt: encrypt({"token": "abc"}), "secret.value.invalid"),
        (lambda encrypt: encrypt({"not a key": "correct horse"}), "secret.key.invalid"),
    ],
)
def test_a_file_that_cannot_be_trusted_keeps_the_revision_out_and_all_secrets_as_they_are(
    server: Server, work_tree: Any, encrypt: Any, make: Callable[[Any], str], code: str
) -> None:
    work_tree.write({"flows/team/say.yaml": FLOW, FILE: encrypt(FIRST), "flows/team/_kv.yaml": "rate: 1\n"})
    server.look()
    work_tree.write({FILE: make(encrypt), "flows/team/_kv.yaml": "rate: 2\n"})
    result = server.look()

    assert result.plan is not None
    assert (result.outcome, shown(result.plan)) == (Outcome.INVALID, [])
    assert [(each.code, each.file) for each in result.plan.errors] == [(code, FILE)]
    assert "correct horse" not in repr(result.plan)
    assert server.host.secrets.get("team", "TOKEN") == "first of all"
    assert server.store.read(lambda db: [row.value for row in db.kv.list().items]) == [1]


def test_a_server_without_a_key_activates_nothing_that_needs_one(tmp_path: Path, work_tree: Any) -> None:
    server = Server(tmp_path / "home", f"file://{work_tree.path}", None)
    work_tree.write({"flows/team/say.yaml": FLOW, FILE: sops.payload("every_type")})
    result = server.look()
    server.close()

    assert result.plan is not None
    assert [(each.code, each.file, each.hint) for each in result.plan.errors] == [
        ("secret.sealed.key", FILE, "set ageKeyFile to a file of age-keygen")
    ]


def test_of_a_fork_names_are_read_and_nothing_is_opened(
    server: Server, work_tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = work_tree.write({"flows/team/say.yaml": FLOW, FILE: sops.payload("mac_only_encrypted")})
    source = server.sync.repository("r")
    source.fetch("refs/heads/main", commit)
    opened: list[str] = []

    def note(_keys: AgeKeys, armoured: str) -> bytes:
        opened.append(armoured)
        return b""

    monkeypatch.setattr(AgeKeys, "open", note)
    plan = server.sync._planner.plan(source, "prod", commit, is_trusted=False)
    comment = comment_of([Reviewed("prod", plan)], commit, [], 60_000)

    assert (opened, plan.errors, plan.problems) == ([], (), ())
    assert shown(plan) == ["  + secret team.TOKEN  new"]
    assert plan.seeds is not None
    assert [getattr(seed, "sealed", None) for seed in plan.seeds.by_place.values()] == [None]
    assert ("`secret team.TOKEN`" in comment, "abcdefgh" in comment) == (True, False)
