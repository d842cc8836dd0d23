"""A plan without a server: two revisions of a repository, or two folders, side by side."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from dulwich.errors import NotGitRepository
from dulwich.objects import Commit
from dulwich.objectspec import parse_commit, parse_object
from dulwich.repo import Repo

from runner.errors import InvalidError, NotFoundError, Problem
from runner.flows.models import Flow
from runner.flows.namespace_defaults import NamespaceDefaults
from runner.rules import INVALID, SETTINGS_FILE, RepositoryRules, RulesError, no_file, parse_rules
from runner.settings import Settings
from runner.store.records import ActiveFlow, Environment
from sync.dashboards import WantedDashboards, gathered_dashboards, without_store
from sync.facts import no_warnings
from sync.hanging import with_dashboards
from sync.layout import FlowPlace, Layout, flow_place, layout_of
from sync.names import MAX_FILES, MAX_FLOW_BYTES, SUBMODULE
from sync.needs import unknown, with_needs
from sync.parsed import check, compare, gathered_defaults, likeness, next_fires, parse_file
from sync.plan import Plan
from sync.plan_making import make_plan
from sync.repository import GitRepository, blob_id
from sync.ruling import Ruling, kind_of
from sync.seeds import Seeds, gathered_seeds
from sync.sifting import Candidate, Facts, NewTree, Questions, Warnings
from sync.sowing import Ground, with_seeds

_FOLDER: Final = "the folder"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files at one moment: paths with blob ids, and how to read one.

    `stand_in` is what stands where `.mainstem.yaml` should and is no file, such as `a folder`.
    """

    label: str
    files: Mapping[str, str]
    read: Callable[[str], bytes]
    problems: tuple[Problem, ...] = ()
    stand_in: str | None = None

    def content(self, path: str) -> bytes | None:
        """Return the content of the file `path`, or None."""
        return self.read(path) if path in self.files else None


def of_folder(folder: Path) -> Snapshot:
    """Return the files below `folder` as they are now. Links and hidden folders are left out.

    Raises:
        NotFoundError: `folder.missing`.
    """
    if not folder.is_dir():
        raise NotFoundError("folder.missing", f"there is no folder {folder}")
    files: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if path.is_symlink() or not path.is_file() or len(files) >= MAX_FILES:
                continue
            if name.endswith((".yaml", ".yml")):
                files[path.relative_to(folder).as_posix()] = blob_id(path.read_bytes())
    label = _FOLDER if folder == Path() else str(folder)
    stand_in = _stand_in(_mode(folder / SETTINGS_FILE))
    return Snapshot(label, files, lambda path: (folder / path).read_bytes(), stand_in=stand_in)


def _mode(path: Path) -> int:
    """Return the mode that git would give what stands at a path, 0 for nothing."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return 0
    return SUBMODULE if stat.S_ISDIR(mode) and (path / ".git").exists() else mode


def _stand_in(mode: int) -> str | None:
    return None if not mode or stat.S_ISREG(mode) else kind_of(mode)


@contextmanager
def of_revision(folder: Path, revision: str) -> Iterator[Snapshot]:
    """Give the files of a revision of the repository that `folder` lies in, with the paths that they have below it.

    Raises:
        NotFoundError: `repository.missing`, `repository.commit.missing`.
    """
    try:
        found = Repo.discover(str(folder.absolute()))
    except (NotGitRepository, PermissionError):
        raise NotFoundError(
            "repository.missing", f"{folder} is in no git repository", hint="name two folders"
        ) from None
    repository = GitRepository(found, Path(found.path))
    try:
        commit = _commit(found, revision)
        inside = _inside(folder, repository.path)
        listing = repository.listing(commit, inside)
        cut = len(inside) + 1 if inside else 0
        files = {path[cut:]: blob for path, blob in listing.files.items()}
        mode, _ = repository.entry(commit, f"{inside}/{SETTINGS_FILE}".lstrip("/"))
        yield Snapshot(
            revision,
            files,
            lambda path: repository.blob(files[path], limit=MAX_FLOW_BYTES),
            listing.problems,
            _stand_in(mode),
        )
    finally:
        repository.close()


def _commit(repo: Repo, revision: str) -> str:
    # The one knows shortened ids, the other `HEAD~1`; neither knows both.
    for parse in (parse_commit, parse_object):
        try:
            found = parse(repo, revision.encode())
        except (KeyError, ValueError):
            continue
        if isinstance(found, Commit):
            return found.id.decode()
    raise NotFoundError(
        "repository.commit.missing",
        f"there is no revision {revision!r}",
        hint="name a commit, a tag or a branch that is here; `git fetch` brings others, such as origin/main",
    )


def _inside(folder: Path, repository: Path) -> str:
    try:
        inside = folder.resolve().relative_to(repository.resolve()).as_posix()
    except ValueError:
        return ""
    return "" if inside == "." else inside


def plan_between(
    base: Snapshot,
    head: Snapshot,
    path: str | None,
    *,
    now: datetime,
    zone: ZoneInfo,
    warnings: Warnings = no_warnings,
    settings: Settings | None = None,
) -> Plan:
    """Return what activating `head` would change where `base` is active.

    `path` is the folder of the flows; by default `flows` where there is one, else the whole snapshot. `warnings` gives
    what is to be told of all flows together beside what the language says, as policies do; `settings` are the
    operator's, which say what tasks have without asking for it.
    """
    old, new = _flows(base, path), _flows(head, path)
    before, after = _defaults(base, path)[0], _defaults(head, path)
    parsed: dict[tuple[str, str, bool], Candidate] = {}

    def parse(snapshot: Snapshot, place: FlowPlace, blob: str) -> Candidate:
        defaults = before if snapshot is base else after[0]
        key = (place.path, blob, snapshot is base and before != after[0])
        if key not in parsed:
            parsed[key] = parse_file(place, blob, lambda: snapshot.read(place.path), defaults)
        return parsed[key]

    flows: dict[tuple[str, str], Flow] = {}
    sources: dict[tuple[str, str], str] = {}
    active = []
    for place, blob in old.items():
        found = parse(base, place, blob)
        flow = found.flow
        if flow is not None:
            flows[(flow.namespace, flow.id)] = flow
            sources[(flow.namespace, flow.id)] = found.source or ""
            active.append(ActiveFlow(flow.namespace, flow.id, 0, blob, path=place.path, defaults=found.defaults))

    def flow_of(row: ActiveFlow) -> Flow | None:
        return flows.get((row.namespace, row.flow_id))

    def facts(flow: Flow | None) -> Facts | None:
        return Facts.of(flow, warnings) if flow is not None else None

    ask = Questions(
        parse=lambda place, blob: parse(head, place, blob),
        flow_of=flow_of,
        facts_of=lambda row: facts(flow_of(row)),
        facts=lambda candidate: facts(candidate.flow),
        compare=compare,
        check=check,
        next_fires=lambda flow: next_fires(flow, now, zone),
        owner=lambda _key: None,
        likeness=likeness,
    )

    def inherits(row: ActiveFlow) -> str | None:
        return after[0].text(row.namespace, sources[(row.namespace, row.flow_id)])

    environment = Environment("local", "", ref=head.label, path=_root(head, path), active=base.label)
    ruling = _ruling(base, head)
    problems = (*ruling.problems, *head.problems, *after[1])
    tree = NewTree(head.label, None, new, problems, defaults=inherits)
    plan = make_plan(environment, active, tree, ruling.asked(ask, settings or Settings()))
    seeds, wrong = _seeds(head, path)
    ground = Ground.without_store(_seeds(base, path)[0], environment.name, now)
    boards, faults = _dashboards(head, path)
    plan = with_dashboards(
        plan, environment, boards, without_store(_dashboards(base, path)[0], environment.name, now), faults
    )
    plan = replace(plan, rules_changed=ruling.changed, required=ruling.required, tests=ruling.tests)
    return with_needs(with_seeds(plan, environment, seeds, ground, wrong), unknown)


def _seeds(snapshot: Snapshot, path: str | None) -> tuple[Seeds, list[Problem]]:
    return gathered_seeds(snapshot.files, _layout(snapshot, path), snapshot.read)


def _dashboards(snapshot: Snapshot, path: str | None) -> tuple[WantedDashboards, list[Problem]]:
    return gathered_dashboards(snapshot.files, _layout(snapshot, path), snapshot.read)


def _ruling(base: Snapshot, head: Snapshot) -> Ruling:
    own, problems = _rules(head)
    return Ruling(own, _rules(base)[0], problems)


def _rules(snapshot: Snapshot) -> tuple[RepositoryRules, tuple[Problem, ...]]:
    """Return what a snapshot says in `.mainstem.yaml`, and what is wrong with that."""
    if snapshot.stand_in is not None:
        return RepositoryRules(), no_file(snapshot.stand_in).problems
    try:
        return parse_rules(snapshot.content(SETTINGS_FILE) or b"{}"), ()
    except RulesError as error:
        return RepositoryRules(), error.problems
    except InvalidError as error:  # larger than anything that is read of a revision
        return RepositoryRules(), (Problem(INVALID, error.message, file=SETTINGS_FILE, hint=error.hint),)


def _flows(snapshot: Snapshot, path: str | None) -> dict[FlowPlace, str]:
    layout = _layout(snapshot, path)
    return {place: blob for file, blob in snapshot.files.items() if (place := flow_place(file, layout))}


def _defaults(snapshot: Snapshot, path: str | None) -> tuple[NamespaceDefaults, list[Problem]]:
    return gathered_defaults(snapshot.files, _layout(snapshot, path), snapshot.read)


def _layout(snapshot: Snapshot, path: str | None) -> Layout:
    return layout_of(_root(snapshot, path), _rules(snapshot)[0] if path is None else None)


def _root(snapshot: Snapshot, path: str | None) -> str:
    if path is not None:
        return path.strip("/").removeprefix("./").removesuffix(".")
    return "flows" if any(file.startswith("flows/") for file in snapshot.files) else ""
