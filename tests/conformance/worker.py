"""Runs execution cases in a process of its own, one after the other, on a server that cases share where they can."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from runner.errors import MainstemError
from tests.conformance import cases
from tests.conformance.actions import play_action
from tests.conformance.cases import Case
from tests.conformance.playing import CaseFailedError, Playing
from tests.conformance.result import CaseResult
from tests.conformance.server import CaseServer
from tests.conformance.steps import play_steps
from tests.conformance.stub import Stub

_ANY_ANSWER = {"status": 200, "body": '{"id": "1", "value": "an answer of the stub"}'}


def work(suite: Path, patience_s: float, channel: Connection) -> None:
    """Answer each id of a case that comes through `channel` with what became of the case, until None comes."""
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Lane(suite, patience_s) as lane:
        os.environ["XDG_CONFIG_HOME"] = folder  # a starting server writes its address there, for the command line
        while (case_id := channel.recv()) is not None:
            channel.send(lane.run(case_id))


class Lane:
    """One case at a time; the shared server starts with the first case that may share it."""

    def __init__(self, suite: Path, patience_s: float) -> None:
        self._patience_s = patience_s
        self._cases = {case.id: case for case in cases.load(suite)}
        self._shared: CaseServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_shared()

    def run(self, case_id: str) -> CaseResult:
        """Return what became of a case; whatever goes wrong in the runner itself fails it too."""
        case, started = self._cases[case_id], time.monotonic()
        try:
            problem = self._problem(case)
        except Exception as error:  # noqa: BLE001 - one case must not end the run
            problem = f"the runner failed: {type(error).__name__}: {error}"
            self._stop_shared()
        seconds = time.monotonic() - started
        if case["optional"]:
            return CaseResult(case.id, case.area, "optional", problem or "passed", seconds)
        return CaseResult(case.id, case.area, "failed" if problem else "passed", problem or "", seconds)

    def _problem(self, case: Case) -> str | None:
        with self._server(case) as server, _stub(case) as url:
            playing = Playing(case, server, self._patience_s, stub_url=url)
            try:
                _prepare(playing)
                play_steps(playing) if case["steps"] else play_action(playing)
            except (CaseFailedError, MainstemError) as error:
                return str(error)
        return None

    @contextlib.contextmanager
    def _server(self, case: Case) -> Iterator[CaseServer]:
        if case.needs_own_server:
            self._stop_shared()  # it would only take memory and turns of the processor
            with CaseServer(case.setup) as own:
                yield own
            return
        if self._shared is None:
            self._shared = CaseServer({}).__enter__()
        try:
            yield self._shared
        finally:
            self._shared.clear()

    def _stop_shared(self) -> None:
        if self._shared is not None:
            shared, self._shared = self._shared, None
            shared.__exit__(None, None, None)


@contextlib.contextmanager
def _stub(case: Case) -> Iterator[str]:
    stub = case.setup.get("http_stub")
    if stub:
        with Stub(stub["routes"]) as url:
            yield url
    elif any(not cases.is_in_reach(host) for source in case.sources() for host in cases.hosts_of(source)):
        with Stub({}, otherwise=_ANY_ANSWER) as url:
            yield url
    else:
        yield ""


def _within_reach(source: str, stub_url: str) -> str:
    """Return the source of a flow with servers that cannot be reached from here replaced by a stub of ours."""
    for host in cases.hosts_of(source):
        if not cases.is_in_reach(host):
            source = source.replace(host, stub_url)
    return source


def _prepare(playing: Playing) -> None:
    """Deploy the flows of a case and set up the rest. A case that only validates deploys nothing."""
    case, server = playing.case, playing.server
    server.put_key_values(case.setup.get("kv") or {})
    if case["action"] == "validate":
        return
    sources = [
        _within_reach(playing.fill(cases.with_dates(source, case, playing.since)), playing.stub_url)
        for source in case.sources()
    ]
    flows = server.deploy(sources)
    if case.own_source() is not None:
        playing.flow = flows[-1]
        for trigger_id, state in (case.setup.get("trigger_state") or {}).items():
            server.switch_trigger(playing.flow, trigger_id, disabled=bool(state["disabled"]))
