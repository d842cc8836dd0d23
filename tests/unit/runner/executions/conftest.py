"""A `Play` is one execution under the real `step`, its rows in memory; a `Hand` is an engine over a real store.

Both have a clock that is moved by hand, and nothing happens by itself.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import NotFoundError
from runner.executions.burst import BurstActions
from runner.executions.creation import NewExecution, make_execution
from runner.executions.effects import Effects
from runner.executions.engine import Engine
from runner.executions.flow_index import FlowIndex
from runner.executions.items import Batch
from runner.executions.models import (
    OUTBOX_FLOW_EVENT,
    OUTBOX_RUN,
    Commit,
    Execution,
    Loaded,
    LogEntry,
    OutboxRow,
    TaskRun,
)
from runner.executions.step import step
from runner.executions.subflows import subflow_request, subflow_result
from runner.executions.tree import Node, Tree
from runner.flows.catalogue import Catalogue
from runner.flows.parse import parse_flow
from runner.key_values import MemoryKeyValues
from runner.secrets.base import Secrets
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.storage.local import LocalStorage
from runner.store import Store
from runner.store.records import FlowDraft, FlowVersion
from runner.tasks.flow import Subflow
from runner.worker import Worker
from tests.servers.store import fresh_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMESPACE = "company.team"


def index_of(source: str) -> FlowIndex:
    """Parse the YAML of a flow; `id` may be left out."""
    text = source if "\nid:" in f"\n{source}" else f"id: flow\n{source}"
    parsed = parse_flow(text, file="flow.yaml", namespace=NAMESPACE, strict=False)
    assert parsed.flow is not None, parsed.problems
    return FlowIndex(parsed.flow.model_copy(update={"revision": 1}))


def apply(loaded: Loaded, commit: Commit) -> Loaded:
    """Return what a store would give after a commit."""
    assert commit.expected_version == loaded.execution.version
    rows = {run.id: run for run in loaded.runs if run.id not in commit.removed_runs}
    assert all(run.id in rows for run in commit.changed_runs)
    rows |= {run.id: run for run in (*commit.changed_runs, *commit.new_runs)}
    return Loaded(commit.execution, tuple(sorted(rows.values(), key=lambda run: run.seq)))


@dataclass
class Play:
    """An execution, everything that was committed for it, and the verbs that happen to it from outside."""

    index: FlowIndex
    host: Host
    loaded: Loaded
    others: dict[str, FlowIndex] = field(default_factory=dict)
    now: datetime = NOW
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    logs: list[LogEntry] = field(default_factory=list)
    children: list[Execution] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)

    # ---------------------------------------------------------------- looking

    @property
    def execution(self) -> Execution:
        return self.loaded.execution

    @property
    def state(self) -> State:
        return self.execution.state

    @property
    def runs(self) -> tuple[TaskRun, ...]:
        return self.loaded.runs

    @property
    def states(self) -> list[str]:
        """`task STATE` or `task[value] STATE` for each run, in the order in which they were created."""
        return [f"{name(run)} {run.state.value}" for run in self.runs]

    @property
    def started(self) -> list[str]:
        """The tasks that have a run, in the order of creation."""
        return [name(run) for run in self.runs]

    @property
    def open(self) -> list[str]:
        return [name(run) for run in self.runs if not run.state.is_terminal]

    def run(self, wanted: str) -> TaskRun:
        """The newest run of `task` or `task[value]`."""
        return next(run for run in reversed(self.runs) if wanted in {name(run), run.id})

    def history(self, wanted: str | None = None) -> list[str]:
        """The states that a run, or the execution, went through."""
        histories = self.run(wanted).histories if wanted else self.execution.histories
        return [state.value for state, _ in histories]

    def output(self, wanted: str) -> Any:
        return self.outputs.get(self.run(wanted).id)

    @property
    def rung(self) -> list[OutboxRow]:
        return [row for commit in self.commits for row in commit.outbox]

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(entry.level, entry.message) for entry in self.logs]

    # ---------------------------------------------------------------- happening

    def advance(self) -> Play:
        """Decide and commit until a step changes nothing, which has to come soon."""
        for _ in range(1000):
            if not self.once():
                return self
        raise AssertionError("the execution does not come to rest")

    def once(self) -> Commit | None:
        """One step; the commit, or None when there was nothing to do."""
        host = replace(self.host, clock=lambda: self.now)
        tree = Tree(self.index, self.loaded)
        step(tree, BurstActions(tree, host, self.now, lambda _run_ids: self.outputs, self._start_subflow))
        self.stopped += tree.stop_runs
        self.killed += tree.kill_children
        if not tree.is_changed:
            return None
        commit = tree.commit()
        self.loaded = apply(self.loaded, commit)
        self.outputs = {**self.outputs, **commit.task_outputs}
        self.commits.append(commit)
        self.logs += tree.logs
        self.children += commit.children
        return commit

    def _start_subflow(self, tree: Tree, node: Node, actions: BurstActions, batch: Batch | None) -> Execution:
        new = subflow_request(tree, node, actions, batch)
        return create(self.others, self.host, new, self.now)

    def claim(self, wanted: str) -> Play:
        """A worker takes a submitted run."""
        run = self.run(wanted)
        assert run.state is State.SUBMITTED, run.state
        claimed = replace(run.enter(State.RUNNING, self.now), epoch=run.epoch + 1, attempts=run.attempts + 1)
        return self._put(replace(claimed, stamp=run.stamp + 1))

    def end(
        self, wanted: str, state: State = State.SUCCESS, outputs: Mapping[str, Any] | None = None, error: str = "broken"
    ) -> Play:
        """A worker records the result of a run, after claiming it if nobody has; then everything advances."""
        if self.run(wanted).state is State.SUBMITTED:
            self.claim(wanted)
        run = self.run(wanted)
        assert run.state is State.RUNNING, run.state
        self._put(replace(run, result=state, error=error if state is State.FAILED else None, stamp=run.stamp + 1))
        if outputs is not None:
            self.outputs = {**self.outputs, run.id: dict(outputs)}
        return self.advance()

    def fail(self, wanted: str) -> Play:
        return self.end(wanted, State.FAILED)

    def child_ends(self, wanted: str, state: State, outputs: Mapping[str, Any] | None = None) -> Play:
        """The flow that a Subflow task started ends, and the task hears of it."""
        run = self.run(wanted)
        child = next(each for each in reversed(self.children) if each.parent_task_run_id == run.id)
        task = self.index.tasks[run.task_id]
        assert isinstance(task, Subflow)
        ended = replace(child, outputs=dict(outputs or {})).enter(state, self.now)
        result, given = subflow_result(task, ended)
        return self.end(wanted, result, given, error=f"the subflow ended {state.value}")

    def lose(self, wanted: str) -> Play:
        """The worker of a run is lost: the run is given back."""
        run = self.run(wanted)
        back = run.enter(State.SUBMITTED, self.now)
        return self._put(replace(back, losses=run.losses + 1, stamp=run.stamp + 1))

    def wait(self, seconds: float) -> Play:
        """Let time pass, then advance."""
        self.now += timedelta(seconds=seconds)
        return self.advance()

    def kill(self) -> Play:
        return self.enter(State.KILLING).advance()

    def enter(self, state: State) -> Play:
        """Put the execution into a state, as a verb of the engine does."""
        execution = self.execution.enter(state, self.now)
        self.loaded = replace(self.loaded, execution=replace(execution, version=execution.version + 1))
        return self

    def change(self, verb: Callable[[Tree, datetime], None]) -> Play:
        """A verb that changes runs and execution at once; nothing advances yet."""
        tree = Tree(self.index, self.loaded)
        verb(tree, self.now)
        commit = tree.commit()
        self.loaded = apply(self.loaded, commit)
        self.commits.append(commit)
        return self

    def resume(self) -> Play:
        """What the engine's verb does to the runs that are paused, and to the execution."""
        for run in self.runs:
            if run.state is State.PAUSED:
                resumed = run.enter(State.RUNNING, self.now)
                self._put(replace(resumed, due_at=None, memory={**run.memory, "resumed": True}))
        return self.enter(State.RESTARTED).enter(State.RUNNING).advance()

    def _put(self, run: TaskRun) -> Play:
        rows = tuple(run if each.id == run.id else each for each in self.loaded.runs)
        self.loaded = Loaded(self.execution, rows)
        return self

    @property
    def submitted(self) -> list[str]:
        """The runs that workers were rung for, each as often as it was."""
        names = {run.id: name(run) for run in self.runs}
        return [names[row.key] for row in self.rung if row.kind == OUTBOX_RUN]


def name(run: TaskRun) -> str:
    return run.task_id if run.value is None else f"{run.task_id}[{run.value}]"


def create(flows: Mapping[str, FlowIndex], host: Host, new: NewExecution, now: datetime) -> Execution:
    """Create an execution of one of `flows`, as the engine does."""
    index = flows.get(new.flow_id)
    if index is None or new.namespace != index.flow.namespace:
        raise NotFoundError("flow.missing", f"Unable to find flow '{new.namespace}'.'{new.flow_id}'")
    version = FlowVersion(index.flow.namespace, index.flow.id, 1, "0" * 40, "", now)
    return make_execution(new, version, index, host, now, lambda _execution, name, _file: f"kestra:///{name}")


class Deaf:
    """A doorbell that nobody hears: all that happens comes from the store."""

    def ring_executions(self, execution_ids: Iterable[str]) -> None:
        list(execution_ids)

    def ring_runs(self, runs: Sequence[tuple[str, int, str]]) -> None: ...

    def ring_effects(self) -> None: ...

    def ring_timers(self) -> None: ...

    def stop_runs(self, task_run_ids: Iterable[str]) -> None: ...

    def kill_children(self, execution_id: str) -> None: ...


@dataclass
class Hand:
    """One process whose parts are turned by hand."""

    store: Store
    engine: Engine
    effects: Effects
    worker: Worker
    now: datetime = NOW

    def deploy(self, source: str, flow_id: str = "flow") -> None:
        text = f"id: {flow_id}\nnamespace: {NAMESPACE}\n{source}"
        draft = FlowDraft(
            NAMESPACE, flow_id, hashlib.sha1(text.encode()).hexdigest(), text, self.now, environment="default"
        )
        self.store.write(lambda db: db.flows.put(draft))

    def create(self, flow_id: str = "flow", **fields: Any) -> Execution:
        self.now += timedelta(milliseconds=1)
        return self.engine.create(NewExecution(NAMESPACE, flow_id, **fields))

    def get(self, execution: Execution) -> Execution:
        return self.engine.get(execution.id)

    def states(self, *executions: Execution) -> str:
        return " ".join(self.get(each).state.value for each in executions)

    def runs(self, execution: Execution) -> list[TaskRun]:
        return self.store.read(lambda db: db.executions.runs(execution.id))

    def children(self, execution: Execution) -> list[Execution]:
        return self.store.read(lambda db: db.executions.children(execution.id))

    def rows(self, *kinds: str) -> list[OutboxRow]:
        wanted = kinds or ("advance", "run", "child_ended", OUTBOX_FLOW_EVENT)
        return self.store.read(lambda db: db.outbox.take(wanted, 1000, self.now + timedelta(days=1)))

    def turn(self) -> None:
        """Answer every doorbell of the store, in bursts, until none is left; claim no task runs."""
        for _ in range(200):
            rung = list(dict.fromkeys(row.key for row in self.rows("advance")))
            if rung:
                self.engine.advancer.advance(rung)
            if not self.effects.run_once() and not rung:
                return
        raise AssertionError("the engine does not come to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass and fire what is due."""
        self.now += timedelta(seconds=seconds)
        self.engine.advancer.advance([key for key, _ in self.store.read(lambda db: db.executions.due(self.now))])
        self.turn()

    def start(self, *executions: Execution) -> None:
        self.engine.advancer.advance([each.id for each in executions])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose ids count up, whose chance is always one half and whose bursts take no time."""
    numbers = itertools.count(1)
    return Host(
        settings=Settings(home=tmp_path / "home", work=tmp_path / "work"),
        storage=LocalStorage(tmp_path / "storage"),
        secrets=Secrets([], lambda _value: None),
        kv=MemoryKeyValues(),
        clock=lambda: NOW,
        monotonic=lambda: 0.0,
        new_id=lambda: f"id{next(numbers):05}",
        fraction=lambda: 0.5,
    )


@pytest.fixture
def play(host: Host) -> Callable[..., Play]:
    """Start a flow given as YAML: create its execution and advance it to where it waits for somebody."""

    def start(
        source: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        others: Iterable[str] = (),
        advance: bool = True,
        **request: Any,
    ) -> Play:
        index = index_of(source)
        flows = {each.flow.id: each for each in (index, *map(index_of, others))}
        new = NewExecution(NAMESPACE, index.flow.id, inputs=inputs or {}, typed_inputs=True, **request)
        created = Play(index, host, Loaded(create(flows, host, new, NOW), ()), flows)
        return created.advance() if advance else created

    return start


@pytest.fixture
def hand(tmp_path: Path) -> Iterator[Hand]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    settings.home.mkdir()
    store = fresh_store(settings.database_url, durability="off", clock=lambda: made.now)
    host = replace(Host.open(settings, MemoryKeyValues(), environment={}), clock=lambda: made.now)
    engine = Engine(store, Catalogue(store), host, Deaf())
    made = Hand(store, engine, Effects(engine), Worker(engine))
    yield made
    found = store.check()
    store.close()
    assert found == []
