"""The flow files of a commit, parsed once per content, and the answers a plan needs about them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from runner.errors import InvalidError, Problem
from runner.flows.head import FlowHead
from runner.flows.inherited import Inherited, as_text
from runner.flows.models import Flow
from runner.flows.namespace_defaults import (
    EVERY,
    DefaultsFile,
    NamespaceDefaults,
    parse_defaults,
    stated_namespace,
)
from runner.flows.parse import Parsed, parse_flow
from runner.flows.task_templates import TemplateFile, parse_template
from runner.store.records import ActiveFlow
from sync.facts import FlowFacts, located_warnings
from sync.layout import FlowPlace, Layout, defaults_place, template_place
from sync.names import MAX_FLOW_BYTES
from sync.plan import FlowKey
from sync.repository import GitRepository
from sync.sifting import Candidate, Facts, Questions

if TYPE_CHECKING:
    from runner.triggers.models import Schedule, ScheduleOnDates

_MOST_PARSED: Final = 1_000
_MOST_WHOLE: Final = 300  # some ten kilobytes each
_Key = tuple[FlowPlace, str, str]  # with the id of the blob, and what tells one set of defaults from another
_SHOWN_FIRES: Final = 3


class FlowFiles:
    """Reads and parses flow files of a repository. Safe for any thread."""

    def __init__(self, repository: GitRepository) -> None:
        self._repository = repository
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, Candidate] = OrderedDict()
        self._flows: OrderedDict[_Key, Flow | None] = OrderedDict()

    def parse(self, place: FlowPlace, blob: str, defaults: NamespaceDefaults, edition: str = "") -> Candidate:
        """Return the file parsed, or with the problems that keep it from being a flow.

        `edition` tells one set of defaults from another.
        """
        key = (place, blob, edition)
        with self._lock:
            found = self._known.get(key)
        if found is None:
            whole = parse_file(place, blob, lambda: self._repository.blob(blob, limit=MAX_FLOW_BYTES), defaults)
            source = whole.source or ""
            found = replace(whole, read=partial(self._flow, key, source, defaults)) if whole.head else whole
            with self._lock:
                self._known[key] = found
                while len(self._known) > _MOST_PARSED:
                    self._known.popitem(last=False)
            self._keep(key, whole.flow)
        return found

    def _flow(self, key: _Key, source: str, defaults: NamespaceDefaults) -> Flow | None:
        with self._lock:
            found = self._flows.get(key)
        if found is None:
            place, blob, _ = key
            found = parse_file(place, blob, source.encode, defaults).flow
            self._keep(key, found)
        return found

    def _keep(self, key: _Key, flow: Flow | None) -> None:
        with self._lock:
            self._flows[key] = flow
            while len(self._flows) > _MOST_WHOLE:
                self._flows.popitem(last=False)


def parse_file(
    place: FlowPlace, blob: str, read: Callable[[], bytes], defaults: NamespaceDefaults | None = None
) -> Candidate:
    """Return the flow file that `read` gives, parsed as it stands at `place`, with the defaults of its namespaces."""
    try:
        content = read()
    except InvalidError as error:
        return Candidate(place, blob, None, None, (Problem(error.code, error.message, file=place.path),))
    namespace = stated_namespace(content) or place.namespace or ""
    around = defaults.around(namespace, content) if defaults is not None else Inherited()
    parsed: Parsed = parse_flow(content, file=place.path, namespace=place.namespace, inherited=around)
    return candidate_of(place, blob, parsed, content.decode("utf-8", "replace"), as_text(around))


def candidate_of(place: FlowPlace, blob: str, parsed: Parsed, source: str, inherited: str | None) -> Candidate:
    """Return a parsed file, with its flow if it has one."""
    flow = parsed.flow
    head = FlowHead.of(flow) if flow is not None else None
    return Candidate(place, blob, head, source, parsed.problems, inherited, lambda: flow)


def gathered_defaults(
    paths: Iterable[str], layout: Layout, read: Callable[[str], bytes]
) -> tuple[NamespaceDefaults, list[Problem]]:
    """Return what the files of defaults and templates among `paths` say, and what is wrong with them."""
    found, templates = [], []
    for path in sorted(paths):
        if place := defaults_place(path, layout):
            found.append(_defaults_file(path, place, read))
        elif place := template_place(path, layout):
            templates.append(_template_file(path, place, read))
    defaults, problems = NamespaceDefaults.of(found)
    defaults, others = defaults.with_templates(templates)
    return defaults, [*problems, *others]


def _defaults_file(path: str, place: FlowPlace, read: Callable[[str], bytes]) -> DefaultsFile:
    try:
        return parse_defaults(read(path), file=path, namespace=place.namespace)
    except InvalidError as error:
        return DefaultsFile(path, place.namespace or EVERY, problems=(Problem(error.code, error.message, file=path),))


def _template_file(path: str, place: FlowPlace, read: Callable[[str], bytes]) -> TemplateFile:
    try:
        return parse_template(read(path), file=path, namespace=place.namespace)
    except InvalidError as error:
        return TemplateFile(path, problems=(Problem(error.code, error.message, file=path),))


class Answers:
    """What a plan asks, answered from facts and the language."""

    def __init__(self, facts: FlowFacts, zone: ZoneInfo) -> None:
        self.facts = facts
        self._zone = zone

    def questions(
        self,
        parse: Callable[[FlowPlace, str], Candidate],
        owners: Mapping[FlowKey, ActiveFlow],
        now: datetime,
    ) -> Questions:
        """Return the questions of one plan."""

        def known(place: FlowPlace, blob: str) -> Candidate:
            found = parse(place, blob)
            self.facts.of_file(found)  # now that the whole flow is at hand
            return found

        return Questions(
            parse=known,
            flow_of=self.facts.flow_of,
            facts_of=self.facts.of_active,
            facts=self.facts.of_file,
            compare=compare,
            check=lambda located: check(located, owners.keys()),
            next_fires=lambda flow: next_fires(flow, now, self._zone),
            owner=owners.get,
            likeness=likeness,
        )


def compare(old: Flow, new: Flow) -> Sequence[str]:
    """Return one line per difference of two flows."""
    from runner.flows.diff import diff_flows

    return [str(difference) for difference in diff_flows(old, new)]


def check(located: Sequence[tuple[str, Facts]], known: Collection[FlowKey] = ()) -> Sequence[Problem]:
    """Return the problems that only show when all flows are seen together, then what is to be told of each of them.

    `known` flows live elsewhere.
    """
    from runner.flows.between import LocatedFlow, check_flows

    between = check_flows([LocatedFlow(facts.outline, path) for path, facts in located], known)
    return (*between, *located_warnings(located))


def next_fires(flow: Flow | FlowHead, now: datetime, zone: ZoneInfo) -> Sequence[datetime]:
    """Return when the schedules of a flow start it next, each time in the zone of its schedule: three at most."""
    from runner.triggers.models import Schedule, ScheduleOnDates

    if flow.disabled or flow.draft:
        return ()
    schedules = [t for t in flow.triggers if isinstance(t, Schedule | ScheduleOnDates) and not t.disabled]
    times = merge(*(_times(schedule, now, zone) for schedule in schedules))
    return tuple(islice(times, _SHOWN_FIRES))


def _times(schedule: Schedule | ScheduleOnDates, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    from runner.triggers.schedule import following

    at: datetime | None = now
    while at is not None and (at := following(schedule, at, zone)) is not None:
        yield at


def likeness(flow: Flow) -> str:
    """Return a text that two flows share when they differ in nothing but namespace, id and revision."""
    return flow.model_dump_json(by_alias=True, exclude_unset=True, exclude={"id", "namespace", "revision"})
