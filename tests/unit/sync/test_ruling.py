from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.settings import EnvironmentSettings, RepositorySettings
from sync.activation import Outcome, RevisionResult
from sync.comparison import of_folder, of_revision, plan_between
from sync.plan_text import plan_lines
from sync.reviews.text import Reviewed, comment_of
from sync.service import SyncService
from tests.servers.git import git

FLOW = """\
id: {id}
namespace: {namespace}
tasks:
  - id: say
    type: core.log.Log
    message: hello
"""
SCRIPT = """\
id: script
namespace: w
tasks:
  - {id: body, type: scripts.shell.Script, script: echo}
"""
NOW = datetime(2026, 11, 22, tzinfo=UTC)
STRICT = "policies: [{tasks: [core.*]}]\n"


def flow(key: str) -> str:
    namespace, _, name = key.rpartition(".")
    return FLOW.format(id=name, namespace=namespace)


class Followed:
    """A repository that an environment follows."""

    def __init__(self, service: SyncService, served: Any, work_tree: Any) -> None:
        self.service = service
        self._served = served
        self._work_tree = work_tree

    def commit(self, **files: str | None) -> str:
        """Push files: `settings` is `.mainstem.yaml`, others are flows by their names."""
        named = {".mainstem.yaml" if name == "settings" else f"flows/{name}.yaml": text for name, text in files.items()}
        sha = self._work_tree.write(named)
        self._work_tree.push(self._served)
        return str(sha)

    def push(self, **files: str | None) -> RevisionResult:
        """Push files and have the server look."""
        self.commit(**files)
        [result] = self.service.reconcile_repository("r", actor="test")
        return result


Follow = Callable[..., Followed]


@pytest.fixture
def follow(start: Callable[..., SyncService], git_server: Any, work_tree: Any) -> Follow:
    def make(**options: Any) -> Followed:
        served = git_server.repository("flows.git")
        repository = RepositorySettings(name="r", url=f"{git_server.url}/flows.git")
        service = start(EnvironmentSettings(name="prod", repository="r", **options), repositories=(repository,))
        return Followed(service, served, work_tree)

    return make


def codes(result: RevisionResult) -> list[str]:
    assert result.plan is not None
    return [problem.code for problem in result.plan.errors]


def test_the_first_commit_is_held_to_its_own_rules(follow: Follow) -> None:
    found = follow().push(settings=STRICT, a=SCRIPT)

    assert (found.outcome, codes(found)) == (Outcome.INVALID, ["flow.task.forbidden"])


def test_a_commit_that_frees_itself_of_a_rule_is_held_to_it_all_the_same(follow: Follow) -> None:
    followed = follow()

    first = followed.push(settings=STRICT, a=flow("w.a"))
    freed = followed.push(settings=None, script=SCRIPT)
    mended = followed.push(script=None)
    after = followed.push(script=SCRIPT)

    assert [each.outcome for each in (first, freed, mended, after)] == [
        Outcome.ACTIVE,
        Outcome.INVALID,
        Outcome.ACTIVE,
        Outcome.ACTIVE,
    ]
    assert codes(freed) == ["flow.task.forbidden"]
    assert freed.plan is not None
    assert freed.plan.rules_changed == ("policies[0].tasks [core.*] -> nothing",)


def test_what_a_commit_forbids_counts_for_it_and_for_flows_that_it_does_not_touch(follow: Follow) -> None:
    followed = follow()

    followed.push(script=SCRIPT)
    found = followed.push(settings=STRICT, a=flow("w.a"))

    assert (found.outcome, codes(found)) == (Outcome.INVALID, ["flow.task.forbidden"])
    assert found.plan is not None
    assert found.plan.errors[0].file == "flows/script.yaml"


def test_a_repository_owns_what_both_the_operator_and_it_name(follow: Follow) -> None:
    followed = follow(namespaces=["company"])

    foreign = followed.push(settings="namespaces: [company.team, other]", a=flow("other.a"))
    outside = followed.push(a=flow("company.sales.a"))
    inside = followed.push(a=flow("company.team.inner.a"))
    widened = followed.push(settings="namespaces: [company]", b=flow("company.sales.b"))

    assert codes(foreign) == ["flow.namespace.foreign"]
    assert codes(outside) == codes(widened) == ["flow.namespace.forbidden"]
    assert inside.outcome is Outcome.ACTIVE
    assert widened.plan is not None
    assert widened.plan.errors[0].hint == (
        "it names: company.team, other; what this commit says of them counts from the next one on"
    )


def test_with_quarantine_a_forbidden_flow_stays_out_alone(follow: Follow) -> None:
    found = follow(on_invalid="quarantine").push(settings=STRICT, a=flow("w.a"), script=SCRIPT)

    assert found.outcome is Outcome.QUARANTINED
    assert found.plan is not None
    assert [change.flow_id for change in found.plan.quarantined] == ["script"]


def test_an_order_takes_a_commit_by_its_own_rules(follow: Follow) -> None:
    followed = follow()
    before = followed.commit(script=SCRIPT)
    followed.service.reconcile_repository("r", actor="test")
    followed.push(settings=STRICT, script=None, a=flow("w.a"))

    back = followed.service.stay("prod", before, actor="ann", reason="broken", action="rollback")

    assert (back.outcome, back.active) == (Outcome.ACTIVE, before)
    assert followed.service.environment("prod").rules == {}


def test_a_commit_that_changes_nothing_but_rules_is_one_to_go_back_from(follow: Follow) -> None:
    followed = follow()
    followed.push(a=flow("w.a"))
    before = followed.push(a=flow("w.a") + "description: second\n")
    strict = followed.push(settings=STRICT)

    back = followed.service.stay("prod", None, actor="ann", reason="too strict", action="rollback")

    assert strict.outcome is Outcome.ACTIVE
    assert (back.active, followed.service.environment("prod").rules) == (before.commit, {})


def test_going_back_to_a_commit_in_quarantine_brings_its_rules_back_too(follow: Follow) -> None:
    followed = follow(on_invalid="quarantine")
    before = followed.push(settings="namespaces: [w]", a=flow("w.a"), broken="id: broken\n")
    strict = followed.push(settings=STRICT, broken=None)

    back = followed.service.stay("prod", before.commit, actor="ann", reason="broken", action="rollback")

    assert (before.outcome, strict.outcome) == (Outcome.QUARANTINED, Outcome.ACTIVE)
    assert back.active == before.commit
    assert followed.service.environment("prod").rules == {"namespaces": ["w"]}


def test_an_environment_of_before_there_were_rules_is_judged_by_its_active_commit(follow: Follow) -> None:
    followed = follow()
    followed.push(settings=STRICT, a=flow("w.a"))
    store = followed.service._store
    store.write(lambda db: db.environments.put(_without_rules(followed.service.environment("prod"))))

    found = followed.push(settings=None, script=SCRIPT)

    assert codes(found) == ["flow.task.forbidden"]


def _without_rules(environment: Any) -> Any:
    from dataclasses import replace

    return replace(environment, rules=None)


def test_every_form_of_a_plan_tells_what_changes_of_the_settings(follow: Follow) -> None:
    followed = follow()
    followed.push(settings="checks: {withinS: 60}", a=flow("w.a"))
    commit = followed.commit(settings="checks: {withinS: 90, required: [ci]}\nflows: flows")

    plan = followed.service.plan("prod", commit)

    assert "  ! .mainstem.yaml  checks.withinS 60 -> 90" in plan_lines(plan)
    assert "  ? must be green first: ci" in plan_lines(plan)
    assert plan.as_json()["requiredChecks"] == ["ci"]
    assert plan.as_json()["settingsChanged"] == [
        "checks.required nothing -> [ci]",
        "checks.withinS 60 -> 90",
        "flows nothing -> flows",
    ]
    comment = comment_of([Reviewed("prod", plan)], commit, (), 60_000)
    assert "- **.mainstem.yaml** `checks.withinS 60 -> 90`" in comment
    assert "Must be green after the merge: `ci`." in comment
    assert "what is allowed anew from the next commit on" in comment


def test_mistakes_in_the_file_are_told_with_their_places_and_change_nothing(follow: Follow) -> None:
    followed = follow()
    followed.push(a=flow("w.a"))

    found = followed.push(settings="polices: []\nchecks: {requird: []}", a=flow("w.a"))

    assert found.outcome is Outcome.INVALID
    assert found.plan is not None
    assert [(each.line, each.column, each.hint) for each in found.plan.errors] == [
        (1, 1, "did you mean `policies`?"),
        (2, 10, "did you mean `required`?"),
    ]


def test_a_plan_without_a_server_knows_the_rules_of_both_sides(tmp_path: Path) -> None:
    for name, files in (
        ("old", {".mainstem.yaml": STRICT, "flows/a.yaml": flow("w.a")}),
        ("new", {".mainstem.yaml": "checks: {required: [ci]}", "flows/script.yaml": SCRIPT}),
    ):
        for path, text in files.items():
            place = tmp_path / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    plan = plan_between(of_folder(tmp_path / "old"), of_folder(tmp_path / "new"), None, now=NOW, zone=ZoneInfo("UTC"))

    assert [each.code for each in plan.errors] == ["flow.task.forbidden"]
    assert plan.rules_changed == ("checks.required nothing -> [ci]", "policies[0].tasks [core.*] -> nothing")
    assert plan.required == ("ci",)


STAND_INS: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a symbolic link": lambda place: place.symlink_to("flows/a.yaml"),
    "a submodule": lambda place: (place / ".git").mkdir(parents=True),
}


@pytest.mark.parametrize("what", STAND_INS)
def test_a_plan_without_a_server_refuses_what_stands_for_the_settings_and_is_no_file(tmp_path: Path, what: str) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "flows").mkdir(parents=True)
        (tmp_path / name / "flows/a.yaml").write_text(flow("w.a"))
    STAND_INS[what](tmp_path / "new/.mainstem.yaml")

    plan = plan_between(of_folder(tmp_path / "old"), of_folder(tmp_path / "new"), None, now=NOW, zone=ZoneInfo("UTC"))

    assert [(each.code, each.file, each.message) for each in plan.errors] == [
        ("repository.settings.invalid", ".mainstem.yaml", f"it is {what}, not a file")
    ]


@pytest.mark.parametrize("size", [64 << 10, 2 << 20])
def test_settings_that_are_too_large_are_refused_with_a_server_and_without(
    follow: Follow, tmp_path: Path, size: int
) -> None:
    large = "version: 1\n#" + "x" * (size - 11)
    place = tmp_path / "local"
    (place / "flows").mkdir(parents=True)
    (place / "flows/a.yaml").write_text(flow("w.a"))
    (place / ".mainstem.yaml").write_text(large)
    git(place, "init", "-q", "-b", "main")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "one")

    pushed = follow().push(a=flow("w.a"), settings=large)
    folder = of_folder(place)
    with of_revision(place, "main") as revision:
        plans = [plan_between(each, each, None, now=NOW, zone=ZoneInfo("UTC")) for each in (folder, revision)]

    refused = [("repository.settings.invalid", ".mainstem.yaml", f"it has {size + 1:,} bytes; the limit is 65,536")]
    assert pushed.plan is not None
    found = [[(each.code, each.file, each.message) for each in plan.errors] for plan in (pushed.plan, *plans)]
    assert found[:2] == [refused, refused]
    assert [code for code, _, _ in found[2]] == ["repository.settings.invalid"]


def test_a_revision_is_held_to_the_same_in_a_folder_of_its_repository(tmp_path: Path) -> None:
    (tmp_path / "team/flows").mkdir(parents=True)
    (tmp_path / "team/flows/a.yaml").write_text(flow("w.a"))
    (tmp_path / "team/.mainstem.yaml").symlink_to("flows/a.yaml")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")

    with of_revision(tmp_path / "team", "main") as snapshot:
        plan = plan_between(snapshot, snapshot, None, now=NOW, zone=ZoneInfo("UTC"))

    assert "it is a symbolic link, not a file" in [each.message for each in plan.errors]
