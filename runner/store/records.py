"""Rows that are not executions: repositories, environments, revisions, flow versions, triggers, KV, tokens, audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

_LIMIT_LASTS: Final = timedelta(hours=1)  # where a forge does not say when it begins anew


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository: where it is, who hosts it, how to get in.

    `kind` is `hosted`, `github`, `gitlab`, `gitea`, `forgejo`, `bitbucket`, `generic` or what a package adds. Secrets
    are stored encrypted by the caller; `previous_webhook_secret` is accepted too while a secret is being rotated.
    `api_url` and `api_token` are for the forge's own API, where they are not those that follow from URL and password.
    """

    name: str
    url: str
    kind: str = "generic"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssh_key: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    previous_webhook_secret: str | None = field(default=None, repr=False)
    interval_s: int = 60
    api_url: str | None = None
    api_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ForgeLimit:
    """How many requests a forge still takes for a repository, as it said at `seen_at` to whichever process asked.

    `allowed` is how many it takes in all, and at `resets_at` the number begins anew; None where the forge did not say.
    """

    repository: str
    remaining: int
    seen_at: datetime
    allowed: int | None = None
    resets_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether the number has begun anew since, so that it says nothing any more."""
        return now >= (self.resets_at or self.seen_at + _LIMIT_LASTS)

    def is_low(self, now: datetime) -> bool:
        """Whether less than a tenth is left; nothing at all where it is not known of how many."""
        is_spent = self.remaining == 0 if self.allowed is None else self.remaining * 10 < self.allowed
        return is_spent and not self.is_over(now)

    def is_news(self, before: ForgeLimit | None) -> bool:
        """Whether it differs enough from what was written before: by two in a hundred, or by a minute."""
        if before is None or self.allowed != before.allowed or (self.remaining == 0) != (before.remaining == 0):
            return True
        ends = [each.resets_at or each.seen_at + _LIMIT_LASTS for each in (self, before)]
        step = max(1, (self.allowed or before.remaining) // 50)
        return abs(self.remaining - before.remaining) >= step or abs(ends[0] - ends[1]) > timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CommitTests:
    """What came of the tests that a commit of an environment must pass, on top of the commit `base`.

    `text` is Markdown, and `problems` are what failed, as JSON.
    """

    environment: str
    commit: str
    at: datetime
    is_good: bool
    text: str
    problems: tuple[Mapping[str, Any], ...] = ()
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """A change request of a forge that wants a look, or had one.

    `wanted_at` is when a look was asked for last, `done_at` the `wanted_at` of the newest look that was finished. The
    rest is what that look found: the `base` ref, whether it is open, the commit that was its `head`, the forge's id of
    our `comment`, the `digest` of all that we told the forge, and why nothing was told (`message`). `head_at` is when
    our comment began to be about that head: what was written before cannot mean it.
    """

    repository: str
    number: int
    wanted_at: datetime
    done_at: datetime | None = None
    base: str | None = None
    is_open: bool = True
    head: str | None = None
    comment: str | None = None
    digest: str | None = None
    message: str | None = None
    head_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReviewCommand:
    """What somebody asked for in a comment on a change request, such as `/mainstem test`, and what came of it.

    `comment` is the forge's id of the comment, `line` its first line, `account` and `name` its author, as the delivery
    has them. `told` is the commit that our own comment was about at that time. `state` is `OPEN`, `RUNNING`, `DONE`
    or, where tests are not all good, `FAILED`;
    `commit` is the commit that it was carried out for, None when it was refused; `answer` is Markdown, None when
    nothing is said to it.
    """

    repository: str
    comment: str
    number: int
    line: str
    account: str
    name: str
    at: datetime
    told: str | None = None
    state: str = "OPEN"
    commit: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """What follows a ref of a repository: its path, the namespaces it owns, what is active now.

    `active` and `held` are commit ids; `state` is `OK`, `QUARANTINED` (some files of what is active are not, since they
    have errors), `DEGRADED` (the last revision was invalid), `HELD` (the deletion guard stopped it), `WAITING` (checks
    are not green yet), `PINNED` (it stays where somebody put it), `DETACHED` (the ref is gone) or `DRIFTED` (active
    flows are not what git says). `writes` is `commit`, `propose` or `refuse`; `on_invalid` is `block` or `quarantine`.
    `told` is the id of the newest revision whose result its forge knows.

    `ref` may be a pattern such as `refs/tags/v*`; `followed` is the ref among them that was followed last, and
    `followed_commit` what it named then. `rules` are what the active commit says in `.mainstem.yaml` (see
    `runner.rules`), None when nobody has looked.

    One with `previews`, the name of another environment, is the preview of the change request `change` there, until
    `expires_at`: it follows nothing.
    """

    name: str
    repository: str
    ref: str = "refs/heads/main"
    path: str = "flows"
    namespaces: tuple[str, ...] = ("*",)
    writes: str = "commit"
    reject_invalid: bool = False
    reports: bool = True
    active: str | None = None
    held: str | None = None
    state: str = "OK"
    message: str | None = None
    checked_at: datetime | None = None
    changed_at: datetime | None = None
    told: int | None = None
    previews: str | None = None
    change: int | None = None
    expires_at: datetime | None = None
    on_invalid: str = "block"
    followed: str | None = None
    followed_commit: str | None = None
    rules: Mapping[str, Any] | None = None

    @property
    def following(self) -> str:
        """Return the ref that it follows now: of a pattern the one that was followed last, if there was any."""
        return self.followed or self.ref


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit that was planned for an environment, and what became of it: a row of the ledger, never changed.

    `result` is `ACTIVE`, `QUARANTINED` (active without the files that have errors), `INVALID`, `HELD`, `PINNED` or
    `UNCHANGED`; `changes` are the plan's rows and `problems` the findings, both in their JSON shape. `action` is `sync`
    for what git asked for, or the order that somebody gave for a `reason`: `rollback`, `pin`, `suspend`, `resume`,
    `expire`. `signature` is what was found of that of the commit where a policy asked for one, in its JSON shape.
    `delivery` is the forge's id of the webhook delivery that told of the commit, where one did, and `sender` who
    caused that at the forge. The
    store writes `digest`, over all of the row and over `prior`, the digest of the row before it in the
    same environment; see `runner.store.ledger`.
    """

    environment: str
    commit: str
    result: str
    at: datetime
    tree: str | None = None
    author: str | None = None
    message: str | None = None
    actor: str | None = None
    previous: str | None = None
    seconds: float = 0.0
    changes: tuple[dict[str, Any], ...] = ()
    problems: tuple[dict[str, Any], ...] = ()
    action: str = "sync"
    reason: str | None = None
    signature: dict[str, Any] | None = None
    delivery: str | None = None
    sender: str | None = None
    prior: str | None = None
    digest: str | None = None
    id: int = 0

    @property
    def flows_changed(self) -> int:
        """Return how many flows the changes are about: the old name of one that was renamed is a row of its own."""
        return sum(not change.get("renamedTo") for change in self.changes)


@dataclass(frozen=True, slots=True)
class Pin:
    """An environment that stays at `commit`, whatever its ref names, until somebody resumes it or `until` comes."""

    environment: str
    commit: str
    actor: str
    reason: str
    at: datetime
    until: datetime | None = None

    def is_in_force(self, now: datetime) -> bool:
        """Whether it still holds."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class FlowVersion:
    """One revision of one flow: `revision` counts from 1 per (namespace, id) and rises when the content changes.

    `active` marks the version that runs now; a deletion is a version of its own with `deleted` set. `source` is the
    YAML as it stands in git; `defaults` are the plugin defaults of its namespaces (`runner.flows.namespace_defaults`).
    """

    namespace: str
    flow_id: str
    revision: int
    blob: str
    source: str
    created_at: datetime
    environment: str | None = None
    commit: str | None = None
    path: str | None = None
    disabled: bool = False
    deleted: bool = False
    active: bool = True
    labels: dict[str, str] = field(default_factory=dict)
    defaults: str | None = None


class ActiveFlow(NamedTuple):
    """The version of a flow that is active, without its source: all of them are read for each plan.

    `blob` is empty where the source of the version is known not to be what the id stands for.
    """

    namespace: str
    flow_id: str
    revision: int
    blob: str
    environment: str | None = None
    commit: str | None = None
    path: str | None = None
    defaults: str | None = None

    @classmethod
    def of(cls, version: FlowVersion, blob: str | None = None) -> ActiveFlow:
        """Return a version without its source, with another id of its content if one is given."""
        return cls(
            namespace=version.namespace,
            flow_id=version.flow_id,
            revision=version.revision,
            blob=version.blob if blob is None else blob,
            environment=version.environment,
            commit=version.commit,
            path=version.path,
            defaults=version.defaults,
        )


@dataclass(frozen=True, slots=True)
class FlowDraft:
    """A flow of a commit that is about to become active; the store gives it its revision."""

    namespace: str
    flow_id: str
    blob: str
    source: str
    at: datetime
    environment: str | None = None
    commit: str | None = None
    path: str | None = None
    disabled: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    defaults: str | None = None


@dataclass(frozen=True, slots=True)
class TriggerState:
    """What a trigger remembers between two evaluations; one row per (namespace, flow, trigger)."""

    namespace: str
    flow_id: str
    trigger_id: str
    kind: str = "SCHEDULE"
    disabled: bool = False
    next_at: datetime | None = None
    last_at: datetime | None = None
    evaluated_at: datetime | None = None
    execution_id: str | None = None
    locked: bool = False
    memory: dict[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook delivery of a forge as it was received. `result` is `ACCEPTED`, `IGNORED`, `DUPLICATE`, `REFUSED`."""

    repository: str
    delivery_id: str
    event: str
    received_at: datetime
    result: str
    ref: str | None = None
    before: str | None = None
    after: str | None = None
    actor: str | None = None
    reason: str | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A value of the key-value store. `kind` is STRING, NUMBER, BOOLEAN, DATETIME, DATE, DURATION or JSON.

    `origin` is the environment whose commit wrote it last, None for one that was written at run time.
    """

    namespace: str
    key: str
    kind: str
    value: Any
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    description: str | None = None
    revision: int = 1
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret of a namespace. `key` is in upper case; `sealed` is what the server's encryption made of the value.

    `origin` is the environment whose commit brought it, None for one that somebody set; `mark` tells one encrypted text
    in git from another.
    """

    namespace: str
    key: str
    sealed: str
    updated_at: datetime
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    origin: str | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class StoredDashboard:
    """A dashboard that a commit of `environment` brought, from the file `path`. Without a `namespace` it is for all."""

    id: str
    title: str
    source: str
    environment: str
    path: str
    created_at: datetime
    updated_at: datetime
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """What leads to an engine that jobs ran at: sealed properties of a task runner, under a keyed digest of them."""

    key: str
    sealed: str
    used_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; only `digest`, the SHA-256 of the secret, is stored. `namespaces` are prefixes by segment."""

    name: str
    digest: str
    prefix: str
    role: str
    created_at: datetime
    namespaces: tuple[str, ...] = ()
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which thing, and whether it was allowed."""

    at: datetime
    actor: str
    action: str
    target: str
    result: str = "OK"
    detail: dict[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that claims task runs. `beats` is its heartbeat counter, never compared with a clock.

    `groups` are the groups whose tasks it takes; without any it takes those that name none.
    """

    id: str
    host: str
    pid: int
    started_at: datetime
    beats: int = 0
    draining: bool = False
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """Log rows of one task run, and what gives the progress after them as JSON; without it they end the following."""

    task_run_id: str
    execution_id: str
    epoch: int
    rows: Sequence[tuple[Any, ...]] = ()
    progress: Callable[[], Mapping[str, Any]] | None = None
