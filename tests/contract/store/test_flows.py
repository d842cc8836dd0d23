"""Flow versions: a revision for each content, one active version, tombstones for deletions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.store import Store
from runner.store.records import FlowDraft

DRAFT = FlowDraft(
    "team.data",
    "etl",
    "blob1",
    "id: etl\n# \x00 is no text",
    datetime(2026, 3, 1, tzinfo=UTC),
    environment="prod",
    commit="c1",
    path="flows/etl.yaml",
    labels={"owner": "data"},
)


def _put(store: Store, draft: FlowDraft) -> Any:
    return store.write(lambda session: session.flows.put(draft))


def test_the_revision_rises_with_the_content_only(store: Store) -> None:
    first = _put(store, DRAFT)
    same = _put(store, replace(DRAFT, commit="c2", path="flows/moved.yaml"))
    changed = _put(store, replace(DRAFT, blob="blob2", commit="c3"))
    back = _put(store, replace(DRAFT, commit="c4"))

    assert [version.revision for version in (first, same, changed, back)] == [1, 1, 2, 3]
    assert (same.commit, same.path, same.blob) == ("c2", "flows/moved.yaml", "blob1")
    assert store.read(lambda session: session.flows.active("team.data", "etl")) == back
    revisions = store.read(lambda session: session.flows.revisions("team.data", "etl"))
    assert [(version.revision, version.active) for version in revisions] == [(1, False), (2, False), (3, True)]


def test_the_keys_of_an_environments_active_flows_are_read_without_them(store: Store) -> None:
    for flow_id, environment in [("etl", "prod"), ("gone", "prod"), ("a.b", "prod"), ("other", "staging")]:
        _put(store, replace(DRAFT, flow_id=flow_id, environment=environment))
    store.write(lambda session: session.flows.remove("team.data", "gone", DRAFT.at, "c2"))

    keys = store.read(lambda session: session.flows.keys_of_environment("prod"))

    assert keys == [("team.data", "a.b"), ("team.data", "etl")]


def test_a_removed_flow_has_a_tombstone_and_may_come_back(store: Store) -> None:
    _put(store, DRAFT)

    tombstone = store.write(lambda session: session.flows.remove("team.data", "etl", DRAFT.at, "c2"))

    def read(session: Any) -> Any:
        flows = session.flows
        return (
            flows.active("team.data", "etl"),
            flows.get("team.data", "etl"),
            flows.get("team.data", "etl", allow_deleted=True),
            flows.get("team.data", "etl", 1),
        )

    active, last, last_of_all, first = store.read(read)
    assert tombstone is not None
    assert (tombstone.revision, tombstone.deleted, tombstone.commit) == (2, True, "c2")
    assert (active, last, last_of_all) == (None, None, tombstone)
    assert first is not None
    assert store.write(lambda session: session.flows.remove("team.data", "etl", DRAFT.at, "c2")) is None
    assert _put(store, DRAFT).revision == 3


def test_the_generation_rises_with_each_change(store: Store) -> None:
    generations = [store.read(lambda session: session.flows.generation())]
    for change in (
        lambda session: session.flows.put(DRAFT),
        lambda session: session.flows.put(replace(DRAFT, blob="2")),
        lambda session: session.flows.remove("team.data", "etl", DRAFT.at, None),
    ):
        store.write(change)
        generations.append(store.read(lambda session: session.flows.generation()))

    assert generations == sorted(set(generations))


def test_active_flows_are_listed_and_searched(store: Store) -> None:
    for namespace, flow in (("team", "b"), ("team.data", "a"), ("teams", "c")):
        _put(store, replace(DRAFT, namespace=namespace, flow_id=flow))
    _put(store, replace(DRAFT, namespace="other", flow_id="gone", environment="test"))
    store.write(lambda session: session.flows.remove("other", "gone", DRAFT.at, None))

    def read(session: Any) -> Any:
        flows = session.flows
        return (
            [flow.flow_id for flow in flows.list()],
            [flow.flow_id for flow in flows.list("team")],
            [flow.flow_id for flow in flows.list(prefix="team")],
            flows.namespaces(),
            [flow.flow_id for flow in flows.of_environment("prod")],
            [flow.flow_id for flow in flows.search("TEAMS").items],
            [flow.flow_id for flow in flows.search(namespace="team", sort=("id:asc",), size=1).items],
            flows.search(labels={"owner": "data"}).total,
        )

    everything, exact, below, namespaces, of_environment, fragment, page, labelled = store.read(read)
    assert everything == ["b", "a", "c"]
    assert exact == ["b"]
    assert below == ["b", "a"]
    assert namespaces == ["team", "team.data", "teams"]
    assert of_environment == ["b", "a", "c"]
    assert fragment == ["c"]
    assert page == ["a"]
    assert labelled == 3


@pytest.mark.parametrize(("sort", "page"), [(("secret:asc",), 1), (("id:up",), 1), ((), 0)])
def test_a_search_that_makes_no_sense_is_refused(store: Store, sort: tuple[str, ...], page: int) -> None:
    with pytest.raises(InvalidError):
        store.read(lambda session: session.flows.search(sort=sort, page=page))


def test_twenty_writers_give_twenty_revisions(store: Store, at_once: Any) -> None:
    versions = at_once([lambda number=number: _put(store, replace(DRAFT, blob=str(number))) for number in range(20)])

    assert sorted(version.revision for version in versions) == list(range(1, 21))


def test_files_are_followed_by_what_is_active_and_what_is_in_force_behind_a_draft(store: Store) -> None:
    for source, commit in [("1", "c1"), ("2", "c2"), ("draft: true\n", "c3")]:
        _put(store, replace(DRAFT, source=source, blob=source, commit=commit))
    _put(store, replace(DRAFT, flow_id="apart", source="1", blob="1"))
    _put(store, replace(DRAFT, flow_id="apart", source="draft: true\n", blob="2", commit="c3"))

    pinned = store.write(
        lambda session: session.flows.pin(
            "prod", "c4", but=[("team.data", "apart")], in_force=lambda versions: versions[-2]
        )
    )

    def commits(flow_id: str) -> list[str | None]:
        return [each.commit for each in store.read(lambda session: session.flows.revisions("team.data", flow_id))]

    assert pinned == 2
    assert commits("etl") == ["c1", "c4", "c4"]
    assert commits("apart") == ["c1", "c3"]
