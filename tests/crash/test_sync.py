"""kill -9 at each point of fetch, plan, apply, report, write and push: no half state, no report lost or doubled."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sync.reports.ledger_notes import NOTES, LedgerLine
from tests.crash.points import APPLY, FETCH, NOTE, PUSH, REPORT, WRITE
from tests.crash.rounds import Rounds, Stand
from tests.hostile.git.test_corpus import pushed
from tests.servers.git import GitServer, git, serving
from tests.servers.work_tree import WorkTree

FLOW = """\
id: {id}
namespace: team
tasks:
  - id: say
    type: core.log.Log
    message: {message}
triggers:
  - id: of_{id}
    type: core.trigger.Schedule
    cron: "0 6 * * *"
"""


# Of the one transaction that every door goes through, the first door takes all points.
_APPLIED = ("apply.begun", "apply.audit.written", "apply.done")


def flow(flow_id: str, message: str = "hello") -> str:
    return FLOW.format(id=flow_id, message=message)


@pytest.fixture(scope="module")
def rounds() -> Iterator[Rounds]:
    started = Rounds.started()
    yield started
    started.end()


@dataclass
class Place:
    """A home, and a forge or none, as they were after the first revision, to which they can be brought back.

    `before` is how the environment stands there, `after` how it stands when nothing has disturbed the next step.
    """

    rounds: Rounds
    home: Path
    next: dict[str, Any]
    forge: GitServer | None = None
    on_invalid: str = "block"
    before: Stand = field(init=False)
    after: Stand = field(init=False)

    def keep(self) -> None:
        """Remember all files as they are, and go the next step once."""
        for path in self._paths():
            shutil.copytree(path, path.with_name(f"{path.name}.kept"))
        self.before, self.after = self.step()

    def reset(self) -> None:
        for path in self._paths():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(path.with_name(f"{path.name}.kept"), path)

    def run(self, act: str, **options: Any) -> Any:
        url = f"{self.forge.url}/flows.git" if self.forge else None
        return self.rounds.run(self.home, act, url=url, on_invalid=self.on_invalid, **options)

    def step(self, point: str | None = None) -> Any:
        return self.run(**self.next, point=point)

    def _paths(self) -> list[Path]:
        return [self.home, *([self.forge.root / "flows.git"] if self.forge else [])]

    def fsck(self) -> None:
        bare = self.forge.root / "flows.git" if self.forge else self.home / "git" / "flows.git"
        git(bare, "fsck", "--strict", "--no-dangling")


def switched(stand: Stand) -> Stand:
    """Return what one transaction switches, without the reports, which follow."""
    return {name: value for name, value in stand.items() if name not in {"state", "unreported"}}


def followed(
    rounds: Rounds, folder: Path, forge: GitServer, *names: str, on_invalid: str = "block"
) -> tuple[Place, WorkTree]:
    """Return an environment that follows a repository of a forge with the flows `names`, and a work tree of it."""
    bare = forge.repository("flows.git")
    (folder / "home").mkdir()
    (folder / "work").mkdir()
    git(folder / "work", "init", "-q", "-b", "main")
    work = WorkTree(folder / "work")
    work.write({f"flows/{name}.yaml": flow(name) for name in names})
    work.push(bare)
    place = Place(rounds, folder / "home", {"act": "follow"}, forge, on_invalid)
    place.run("follow")
    return place, work


@pytest.fixture(scope="module")
def mirrored(rounds: Rounds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An environment of a forge, where a push changed, added and removed a flow, and two runs are to be reported."""
    folder = tmp_path_factory.mktemp("mirrored")
    with serving(folder / "served") as forge:
        place, work = followed(rounds, folder, forge, "stays", "changes", "goes")
        place.run("end", ids=["first", "second"])
        files = {"changes": flow("changes", "bye"), "comes": flow("comes"), "goes": None}
        work.write({f"flows/{name}.yaml": text for name, text in files.items()})
        work.push(forge.root / "flows.git")
        place.keep()
        yield place


def test_a_round_that_nothing_disturbs_activates_and_reports(mirrored: Place) -> None:
    mirrored.reset()

    begun, found = mirrored.step()

    assert sorted(begun["flows"]) == ["team.changes", "team.goes", "team.stays"]
    assert sorted(found["flows"]) == ["team.changes", "team.comes", "team.stays"]
    assert (begun["unreported"], found["unreported"], found["wrong"]) == (2, 0, [])
    assert [result for _, result in found["revisions"]] == ["ACTIVE", "ACTIVE"]
    assert reported(mirrored) == ["first", "second"]


@pytest.mark.parametrize("point", [*FETCH, *APPLY, *REPORT, *NOTE])
def test_a_server_that_is_killed_while_it_follows_a_forge_goes_on_from_there(mirrored: Place, point: str) -> None:
    mirrored.reset()
    killed = mirrored.step(point)
    assert killed is None, f"nothing came to {point}"

    left, found = mirrored.step()

    assert switched(left) in (switched(mirrored.before), switched(mirrored.after))
    assert found == mirrored.after
    assert reported(mirrored) == ["first", "second"]
    assert noted(mirrored) == [commit for commit, _ in found["revisions"]]
    mirrored.fsck()


@pytest.fixture(scope="module")
def lenient(rounds: Rounds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An environment with quarantine, where a push broke one flow, changed one and added one."""
    folder = tmp_path_factory.mktemp("lenient")
    with serving(folder / "served") as forge:
        place, work = followed(rounds, folder, forge, "stays", "changes", on_invalid="quarantine")
        files = {"stays": "id: stays\ntasks: 1\n", "changes": flow("changes", "bye"), "comes": flow("comes")}
        work.write({f"flows/{name}.yaml": text for name, text in files.items()})
        work.push(forge.root / "flows.git")
        place.keep()
        yield place


@pytest.mark.parametrize("point", ["apply.environment.switched", "apply.flows.switched", "apply.revision.written"])
def test_a_quarantine_that_is_cut_off_is_not_there_or_there_as_a_whole(lenient: Place, point: str) -> None:
    lenient.reset()
    killed = lenient.step(point)
    assert killed is None, f"nothing came to {point}"

    left, found = lenient.step()

    assert switched(left) == switched(lenient.before)
    assert found == lenient.after
    assert (found["state"], found["revisions"][-1][1]) == ("QUARANTINED", "QUARANTINED")
    assert found["flows"]["team.stays"] == lenient.before["flows"]["team.stays"]
    assert sorted(found["flows"]) == ["team.changes", "team.comes", "team.stays"]


def noted(place: Place) -> list[str]:
    """Return the commits of all rows of the ledger that have a note, in order, as often as they have one."""
    assert place.forge is not None
    bare = place.forge.root / "flows.git"
    notes = [each.split()[0] for each in git(bare, "notes", "--ref", NOTES, "list").splitlines()]
    texts = [text for blob in notes for text in git(bare, "cat-file", "blob", blob).splitlines()]
    lines = [line for text in texts if (line := LedgerLine.parsed(text))]
    return [line.commit for line in sorted(lines, key=lambda line: line.row)]


def reported(place: Place) -> list[str]:
    """Return the ids of all runs that have a line on the reports branch, as often as they have one."""
    assert place.forge is not None
    bare = place.forge.root / "flows.git"
    names = git(bare, "ls-tree", "-r", "--name-only", "mainstem-reports", "runs").splitlines()
    lines = [git(bare, "show", f"mainstem-reports:{name}") for name in names if name.endswith(".jsonl")]
    return sorted(part.split('"')[0] for text in lines for part in text.split('"id":"')[1:])


@pytest.fixture(scope="module")
def written(rounds: Rounds, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The hosted repository with one flow, and the API asked to write another."""
    return hosted(rounds, tmp_path_factory.mktemp("written"), lambda _: {"act": "write", "source": flow("comes")})


@pytest.fixture(scope="module")
def pushed_to(rounds: Rounds, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The hosted repository with one flow, and a push that changes it and adds another."""
    files = {"stays": flow("stays", "bye").encode(), "comes": flow("comes").encode()}
    folder = tmp_path_factory.mktemp("pushed")
    return hosted(rounds, folder, lambda head: {"act": "push", "body": pushed(head, **files)[0].hex()})


def hosted(rounds: Rounds, folder: Path, following: Callable[[str], dict[str, Any]]) -> Place:
    body, head = pushed(None, stays=flow("stays").encode())
    place = Place(rounds, folder / "home", following(head))
    place.home.mkdir()
    place.run("push", body=body.hex())
    place.keep()
    return place


@pytest.mark.parametrize("point", [*WRITE, *_APPLIED])
def test_a_write_that_is_killed_is_not_there_or_there_as_a_whole(written: Place, point: str) -> None:
    is_late = point not in {"write.commit.made", "write.planned"}

    left, recovered, again = interrupted(written, point)

    assert switched(left) in (switched(written.before), switched(written.after))
    assert recovered == (written.after if is_late else written.before)
    assert again == written.after
    written.fsck()


@pytest.mark.parametrize("point", [*PUSH, *_APPLIED])
def test_a_push_that_is_killed_is_not_there_or_there_as_a_whole(pushed_to: Place, point: str) -> None:
    is_late = point not in {"push.pack.checked", "push.pack.stored", "push.planned"}

    left, recovered, again = interrupted(pushed_to, point)

    assert switched(left) in (switched(pushed_to.before), switched(pushed_to.after))
    assert recovered == (pushed_to.after if is_late else pushed_to.before)
    assert is_late or again == pushed_to.after
    pushed_to.fsck()


def interrupted(place: Place, point: str) -> tuple[Stand, Stand, Stand]:
    """Kill the next step at `point`; return how all stands then, after a restart, and after the step once more."""
    place.reset()
    killed = place.step(point)
    assert killed is None, f"nothing came to {point}"
    left, recovered = place.run("follow")
    _, again = place.step()
    return left, recovered, again
