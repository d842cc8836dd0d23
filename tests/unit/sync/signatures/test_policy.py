"""Environments that take signed commits alone, followed over HTTP as they would be at a forge."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.errors import AccessError
from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, RepositorySettings, Settings, SignatureSettings
from runner.store import Store
from sync.activation import Outcome, RevisionResult
from sync.plan_text import plan_lines
from sync.proposals import Proposal
from sync.service import SyncService
from tests.servers.git import git
from tests.servers.signers import Signers, run
from tests.servers.store import fresh_store

LIST = ".mainstem.signers"


def flow(message: str) -> str:
    return f"id: a\nnamespace: w\ntasks: [{{id: say, type: core.log.Log, message: {message}}}]\n"


@dataclass
class World:
    """A served repository that an environment `prod` follows, and people who push to it."""

    signers: Signers
    folder: Path
    served: Path
    url: str
    home: Path
    opened: list[tuple[SyncService, Store]] = field(default_factory=list)

    def follow(self, *, writes: Any = "commit", **policy: Any) -> SyncService:
        """Start a server with a policy, again where there was one: what was active stays active."""
        self.close()
        signatures = SignatureSettings(**policy) if policy else None
        environment = EnvironmentSettings(name="prod", repository="r", signatures=signatures, writes=writes)
        settings = Settings(
            home=self.home, environments=(environment,), repositories=(RepositorySettings(name="r", url=self.url),)
        )
        is_new = not self.home.exists()
        self.home.mkdir(exist_ok=True)
        store = fresh_store(settings.database_url, durability="off") if is_new else Store.open(settings.database_url)
        service = SyncService(store, Catalogue(store), settings)
        service.ensure_declared()
        self.opened.append((service, store))
        return service

    def push(self, message: str, *, files: dict[str, str] | None = None, **keys: str | None) -> str:
        commit = self.commit(message, files=files, **keys)
        git(self.folder, "push", "-q", "-f", str(self.served), "HEAD:refs/heads/main")
        return commit

    def commit(self, message: str, *, files: dict[str, str] | None = None, **keys: str | None) -> str:
        return self.signers.write(self.folder, {"flows/a.yaml": flow(message), **(files or {})}, **keys)

    def look(self, reason: str = "poll") -> RevisionResult:
        [result] = self.opened[-1][0].reconcile_repository("r", actor="test", reason=reason)
        return result

    def close(self) -> None:
        for service, store in self.opened:
            service.close()
            store.close()
        self.opened.clear()


@pytest.fixture
def world(ssh_signers: Signers, git_server: Any, work_tree: Any, tmp_path: Path) -> Iterator[World]:
    served = git_server.repository("flows.git")
    made = World(ssh_signers, work_tree.path, served, f"{git_server.url}/flows.git", tmp_path / "home")
    yield made
    made.close()


def codes(result: RevisionResult) -> list[str]:
    assert result.plan is not None
    return [problem.code for problem in result.plan.problems]


def test_a_signed_commit_becomes_active_and_the_ledger_says_who_signed_it(world: World) -> None:
    service = world.follow(required=True, keys=[world.signers.listed("ann")])
    commit = world.push("one", ssh="ann")

    result = world.look()

    assert result.outcome is Outcome.ACTIVE
    assert result.plan is not None
    assert plan_lines(result.plan)[-1].startswith("  * signed by ann@example.org (ssh SHA256:")
    [row] = service.history("prod")
    assert row.signature is not None
    assert (row.signature["state"], row.signature["signer"], row.signature["commit"]) == (
        "good",
        "ann@example.org",
        commit,
    )
    assert world.opened[-1][1].read(lambda db: db.revisions.broken("prod")) is None


def test_what_is_not_signed_by_a_listed_key_is_refused_and_what_was_active_stays(world: World) -> None:
    service = world.follow(required=True, keys=[world.signers.listed("ann")])
    first = world.push("one", ssh="ann")
    world.look()
    world.push("two")

    unsigned = world.look()
    world.push("three", ssh="ben")
    unknown = world.look()
    settled = world.look()

    assert (unsigned.outcome, codes(unsigned)) == (Outcome.INVALID, ["signature.missing"])
    assert (unknown.outcome, codes(unknown)) == (Outcome.INVALID, ["signature.key.unknown"])
    assert settled.outcome is Outcome.UNCHANGED
    found = service.environment("prod")
    assert (found.active, found.state) == (first, "DEGRADED")
    assert [row.signature and row.signature["state"] for row in service.history("prod")] == [
        "unknown_key",
        "missing",
        "good",
    ]


def test_without_requiring_it_a_missing_signature_is_a_warning(world: World) -> None:
    world.follow(keys=[world.signers.listed("ann")])
    world.push("one")

    result = world.look()

    assert (result.outcome, codes(result)) == (Outcome.ACTIVE, ["signature.missing"])


def test_without_a_policy_no_signature_is_looked_at(world: World) -> None:
    service = world.follow()
    world.push("one", ssh="ben")

    result = world.look()

    assert (result.outcome, codes(result)) == (Outcome.ACTIVE, [])
    assert service.history("prod")[0].signature is None


def test_nobody_can_add_a_key_and_sign_with_it_in_the_same_push(world: World) -> None:
    listed = world.signers.listed
    world.follow(required=True, keys=[listed("ann")])
    world.push("one", ssh="ann")
    world.look()
    both = f"{listed('ann')}\n{listed('ben', 'ben@example.org')}\n"
    world.push("two", files={LIST: both}, ssh="ben")

    early = world.look()
    world.push("three", ssh="ann")
    added = world.look()
    world.push("four", ssh="ben")
    later = world.look()

    assert codes(early) == ["signature.key.unknown"]
    assert [added.outcome, later.outcome] == [Outcome.ACTIVE, Outcome.ACTIVE]
    assert later.plan is not None
    assert later.plan.signature is not None
    assert later.plan.signature.signer == "ben@example.org"


def test_while_nothing_is_active_only_the_keys_of_the_settings_count(world: World) -> None:
    world.follow(required=True)
    world.push("one", files={LIST: world.signers.listed("ann")}, ssh="ann")

    result = world.look()

    assert (result.outcome, codes(result)) == (Outcome.INVALID, ["signature.keys.none"])


def test_a_repository_may_be_kept_from_listing_keys(world: World) -> None:
    world.follow(required=True, keys=[world.signers.listed("ann")], in_repository=False)
    world.push("one", files={LIST: world.signers.listed("ben")}, ssh="ann")
    first = world.look()
    world.push("two", ssh="ben")

    second = world.look()

    assert first.outcome is Outcome.ACTIVE
    assert codes(second) == ["signature.key.unknown"]


def test_a_list_that_cannot_be_read_is_named_by_file_and_line_before_it_is_active(world: World, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# ours\n{world.signers.listed('ann')}\nnonsense\n")
    world.follow(required=True, key_files=[keys, tmp_path / "lost"])
    world.push("one", files={LIST: f"{world.signers.listed('ann')}\n\nann ssh-ed25519 AAAA\n"}, ssh="ann")

    result = world.look()

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    told = {(each.file, each.line, each.severity.value) for each in result.plan.problems}
    assert told == {
        ("keys", 3, "warning"),
        ("lost", None, "warning"),
        (LIST, 3, "error"),
    }


def test_a_commit_after_which_no_key_would_be_left_is_refused(world: World) -> None:
    world.follow(keys=[world.signers.listed("ann")])
    world.push("one", files={LIST: world.signers.listed("ann")}, ssh="ann")
    world.look()
    world.follow(required=True)
    world.push("two", files={LIST: "# nobody\n"}, ssh="ann")

    result = world.look()

    assert (result.outcome, codes(result)) == (Outcome.INVALID, ["signature.keys.none"])


def test_a_key_that_is_lost_counts_no_more_whoever_lists_it(world: World) -> None:
    world.follow(required=True, keys=[world.signers.listed("ann")])
    world.push("one", ssh="ann")
    good = world.look()
    assert good.plan is not None
    assert good.plan.signature is not None
    world.follow(required=True, keys=[world.signers.listed("ann")], revoked=[good.plan.signature.fingerprint])
    world.push("two", ssh="ann")

    result = world.look()

    assert codes(result) == ["signature.key.revoked"]


def test_the_fingerprint_of_a_lost_openpgp_key_may_be_written_in_groups(world: World, signers: Signers) -> None:
    whole = signers.fingerprint("ann").lower()
    groups = " ".join(whole[start : start + 4] for start in range(0, 40, 4))
    world.follow(required=True, keys=[signers.armored("ann"), signers.armored("ben")], revoked=[groups])
    signers.write(world.folder, {"flows/a.yaml": flow("one")}, pgp="ann")
    git(world.folder, "push", "-q", str(world.served), "HEAD:refs/heads/main")
    lost = world.look()
    signers.write(world.folder, {"flows/a.yaml": flow("two")}, pgp="ben")
    git(world.folder, "push", "-q", str(world.served), "HEAD:refs/heads/main")

    taken = world.look()

    assert codes(lost) == ["signature.key.revoked"]
    assert taken.outcome is Outcome.ACTIVE


def test_what_a_lost_authority_certified_counts_no_more(world: World) -> None:
    authority = world.signers.listed("ca", "ben@example.org", "cert-authority")
    shown = run("ssh-keygen", "-l", "-f", str(world.signers.ssh("ca").with_suffix(".pub")), folder=world.folder)
    world.follow(required=True, keys=[authority, world.signers.listed("ann")])
    world.push("one", ssh="cert")
    before = world.look()
    world.follow(required=True, keys=[authority, world.signers.listed("ann")], revoked=[shown.split()[1]])
    world.push("two", ssh="cert")

    after = world.look()

    assert before.outcome is Outcome.ACTIVE
    assert (after.outcome, codes(after)) == (Outcome.INVALID, ["signature.key.unknown"])


@pytest.mark.parametrize(("scope", "expected"), [("tip", []), ("all", ["signature.missing"])])
def test_the_scope_says_whether_commits_below_the_tip_need_signatures(
    world: World, scope: str, expected: list[str]
) -> None:
    world.follow(required=True, keys=[world.signers.listed("ann")], scope=scope)
    world.commit("before")
    world.push("one", ssh="ann")
    first = world.look()
    unsigned = world.commit("between")
    world.push("two", ssh="ann")

    second = world.look()

    assert first.outcome is Outcome.ACTIVE, "what was before is trusted"
    assert codes(second) == expected
    assert second.plan is not None
    assert second.plan.signature is not None
    assert (second.plan.signature.commit == unsigned) is bool(expected)
    assert second.plan.signature.commits == (2 if expected else 1)


def test_with_all_commits_a_rewritten_history_is_verified_from_where_it_parts(world: World) -> None:
    world.follow(required=True, keys=[world.signers.listed("ann")], scope="all")
    base = world.push("one", ssh="ann")
    world.look()
    world.push("two", ssh="ann")
    world.look()
    git(world.folder, "reset", "-q", "--hard", base)
    world.commit("unsigned")
    world.push("three", ssh="ann")
    refused = world.look()
    git(world.folder, "reset", "-q", "--hard", base)
    world.commit("other", ssh="ann")
    world.push("four", ssh="ann")

    taken = world.look()

    assert codes(refused) == ["signature.missing"]
    assert taken.outcome is Outcome.ACTIVE
    assert taken.plan is not None
    assert taken.plan.signature is not None
    assert taken.plan.signature.commits == 2


@pytest.mark.parametrize("allow_filter", ["true", "false"])
def test_a_mirror_that_was_lost_fetches_the_commits_that_must_be_verified(world: World, allow_filter: str) -> None:
    git(world.served, "config", "uploadpack.allowFilter", allow_filter)
    policy: dict[str, Any] = {"required": True, "keys": [world.signers.listed("ann")], "scope": "all"}
    world.follow(**policy)
    world.push("one", files={LIST: world.signers.listed("ben")}, ssh="ann")
    world.look()
    world.close()
    for message in ("two", "three", "four"):
        world.push(message, ssh="ben")
    shutil.rmtree(world.home / "mirrors")
    world.follow(**policy)

    result = world.look()

    assert result.outcome is Outcome.ACTIVE, codes(result)
    assert result.plan is not None
    assert result.plan.signature is not None
    assert (result.plan.signature.commits, result.plan.signature.signer) == (3, "ann@example.org")


def test_what_was_active_once_is_gone_back_to_without_asking_its_keys_again(world: World) -> None:
    service = world.follow(required=True, keys=[world.signers.listed("ann")])
    first = world.push("one", ssh="ann")
    world.look()
    world.push("two", ssh="ann")
    world.look()
    service = world.follow(required=True, keys=[world.signers.listed("ben")])

    result = service.stay("prod", None, action="rollback", actor="ann", reason="it breaks")

    assert (result.outcome, result.active) == (Outcome.ACTIVE, first)
    assert service.history("prod", 1)[0].signature == service.history("prod")[-1].signature


def test_a_pin_to_a_commit_that_was_never_active_asks_for_its_signature(world: World) -> None:
    service = world.follow(required=True, keys=[world.signers.listed("ann")])
    world.push("one", ssh="ann")
    world.look()
    unsigned = world.push("two")
    world.look()

    with pytest.raises(Exception, match="is not signed") as refused:
        service.stay("prod", unsigned, action="pin", actor="ann", reason="try")

    assert getattr(refused.value, "code", None) == "environment.revision.invalid"


def test_a_branch_that_goes_back_to_an_old_unsigned_commit_is_refused(world: World) -> None:
    world.follow()
    old = world.push("one")
    world.look()
    world.push("two", ssh="ann")
    world.look()
    world.follow(required=True, keys=[world.signers.listed("ann")], scope="all")
    git(world.folder, "push", "-q", "-f", str(world.served), f"{old}:refs/heads/main")

    result = world.look()

    assert (result.outcome, codes(result)) == (Outcome.INVALID, ["signature.missing"])


@pytest.mark.parametrize("absent", ["lost", "forbidden"])
def test_without_the_program_a_signed_commit_is_refused_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: str
) -> None:
    world.follow(required=True, keys=[world.signers.listed("ann")])
    world.push("one", ssh="ann")
    programs = tmp_path / "programs"
    programs.mkdir()
    if absent == "forbidden":
        (programs / "ssh-keygen").write_text("no program")
        (programs / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    result = world.look()

    assert (result.outcome, codes(result)) == (Outcome.INVALID, ["signature.verifier.missing"])
    assert result.plan is not None
    assert result.plan.signature is not None
    assert result.plan.signature.state == "unverified"


def test_the_api_writes_signed_commits_or_none(world: World) -> None:
    service = world.follow(required=True, keys=[world.signers.listed("ann")])
    world.push("one", ssh="ann")
    world.look()
    with pytest.raises(AccessError) as refused:
        service.write_flow(flow("by hand"), actor="ben")
    listed = [world.signers.listed("ann"), world.signers.listed("ca", "mainstem")]
    service = world.follow(required=True, keys=listed, signing_key=world.signers.ssh("ca"), scope="all")

    version = service.write_flow(flow("by hand"), actor="ben")

    assert refused.value.code == "signature.writes.refused"
    assert "by hand" in version.source
    row = service.history("prod", 1)[0]
    assert row.signature is not None
    assert (row.signature["state"], row.signature["signer"]) == ("good", "mainstem")
    allowed = world.signers.folder / "allowed"
    allowed.write_text("\n".join(listed))
    told = git(world.served, "-c", f"gpg.ssh.allowedSignersFile={allowed}", "log", "-1", "--format=%G? %GS", "main")
    assert told == "G mainstem", "git agrees"


def test_a_row_from_before_there_were_signatures_keeps_its_digest(world: World) -> None:
    service = world.follow()
    world.push("one")
    world.look()

    [row] = service.history("prod")

    with sqlite3.connect(world.home / "state.db") as database:
        database.row_factory = sqlite3.Row
        stored = dict(database.execute("SELECT * FROM revisions").fetchone())
    database.close()
    came_later = {"signature", "delivery", "sender", "digest", "id"}
    before = [value for name, value in stored.items() if name not in came_later]
    assert row.digest == hashlib.sha256(orjson.dumps(before)).hexdigest()


def test_the_server_signs_nothing_on_top_of_what_nobody_signed(world: World) -> None:
    listed = [world.signers.listed("ann"), world.signers.listed("ca", "mainstem")]
    service = world.follow(required=True, keys=listed, signing_key=world.signers.ssh("ca"))
    first = world.push("one", ssh="ann")
    world.look()
    smuggled = world.push("two", files={"flows/b.yaml": flow("smuggled").replace("id: a", "id: b")})
    refused = world.look()

    with pytest.raises(AccessError) as error:
        service.write_flow(flow("by hand"), actor="ben")
    undisturbed = git(world.served, "rev-parse", "main"), service.environment("prod").active
    world.push("three", ssh="ann")
    version = service.write_flow(flow("by hand"), actor="ben")

    assert (refused.outcome, error.value.code) == (Outcome.INVALID, "signature.writes.refused")
    assert f"on top of {smuggled[:7]}: commit {smuggled[:7]} is not signed" in error.value.message
    assert undisturbed == (smuggled, first)
    assert "by hand" in version.source


def test_where_signatures_are_not_required_the_server_vouches_for_no_unsigned_commit(world: World) -> None:
    listed = [world.signers.listed("ann"), world.signers.listed("ca", "mainstem")]
    service = world.follow(keys=listed, signing_key=world.signers.ssh("ca"))
    world.push("one")
    world.look()
    service.write_flow(flow("two"), actor="ben")
    world.push("three", ssh="ann")
    world.look()
    service.write_flow(flow("four"), actor="ben")

    states = [row.signature and row.signature["state"] for row in service.history("prod")]

    assert states == ["good", "good", "missing", "missing"], "another environment may ask for signatures"


def test_a_proposal_does_not_go_on_from_what_somebody_pushed_to_its_branch_unsigned(world: World) -> None:
    listed = [world.signers.listed("ann"), world.signers.listed("ca", "mainstem")]
    service = world.follow(writes="propose", required=True, keys=listed, signing_key=world.signers.ssh("ca"))
    world.push("one", ssh="ann")
    world.look()
    made: list[Proposal] = []
    service.write_flow(flow("two"), actor="ben", proposed=made.append)
    service.write_flow(flow("three"), actor="ben", proposed=made.append)
    git(world.folder, "pull", "-q", "--ff-only", str(world.served), made[-1].branch)
    unsigned = world.commit("smuggled")
    git(world.folder, "push", "-q", str(world.served), f"HEAD:refs/heads/{made[-1].branch}")

    with pytest.raises(AccessError) as refused:
        service.write_flow(flow("four"), actor="ben", proposed=made.append)

    assert [each.branch for each in made] == [made[0].branch] * 2
    assert refused.value.code == "signature.writes.refused"
    assert git(world.served, "rev-parse", made[0].branch) == unsigned
