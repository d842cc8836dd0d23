"""What all executions of a process share, and the view of it that the expressions of one execution get."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from runner.errors import ExpressionError, MainstemError, StoreError
from runner.executions.models import Execution, LogEntry, Metric, TaskRun
from runner.flow_writes import FlowWriter, NoFlowWriter
from runner.flows.models import Flow
from runner.ids import new_id
from runner.key_values import lookup
from runner.namespace_files import NamespaceFiles, NamespaceFileWriter, NoNamespaceFiles, ReadOnlyNamespaceFiles
from runner.plugin import KeyValues, Storage
from runner.previews import base_of, is_of_fork, root_of
from runner.rules import RepositoryRules
from runner.secrets.base import Secrets, plugin_backends
from runner.secrets.encryption import Encryption
from runner.secrets.environment import EnvironmentSecrets
from runner.secrets.file import FileSecrets, around
from runner.secrets.stored import StoredSecrets
from runner.settings import Settings, expression_variables, secrets_from_environment
from runner.storage.access import may_read
from runner.storage.base import open_storage
from runner.storage.uris import NAMESPACE_FILE_SCHEME, is_uri, namespace_file_of, namespace_file_uri
from task_runners.control_groups import ControlGroups
from task_runners.masking import Masker
from task_runners.staging.object_store import SECRET_OPTIONS

if TYPE_CHECKING:
    from runner.executions.engine import Engine
    from runner.store import Store
    from task_runners.base import TaskRunner

_RANDOM = random.SystemRandom()


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Host:
    """What one process offers to every task it runs; made once, shared by all threads.

    `log` and `metric` take what tasks write; both must be quick and safe to call from any thread. `execution_of`,
    `runs_of` and `error_logs_of` read the store for one execution id. `environment` is the outer environment:
    expressions see its `ENV_*` and `KESTRA_*`, local bodies an allow-list of it. `uid_of` gives the user under which
    bodies of a namespace run (None: the user of this process); `control_groups` hold local ones. `store` and `engine`
    are for the tasks that look after executions, logs and triggers. Time and chance come from `clock`, `monotonic`
    and `wait` (seconds), `new_id` and `fraction` (in [0, 1)), so that a simulation can repeat what happened.
    """

    settings: Settings
    storage: Storage
    secrets: Secrets
    kv: KeyValues
    masker: Masker = field(default_factory=Masker)
    log: Callable[[LogEntry], None] = lambda _entry: None
    metric: Callable[[Metric], None] = lambda _metric: None
    files: NamespaceFiles = field(default_factory=NoNamespaceFiles)
    file_writer: NamespaceFileWriter = field(default_factory=ReadOnlyNamespaceFiles)
    flow_writer: FlowWriter = field(default_factory=NoFlowWriter)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    clock: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], object] = threading.Event.wait
    new_id: Callable[[], str] = new_id
    fraction: Callable[[], float] = _RANDOM.random
    encryption: Encryption | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    execution_of: Callable[[str], Execution | None] = lambda _id: None
    runs_of: Callable[[str], Sequence[TaskRun]] = lambda _id: ()
    error_logs_of: Callable[[str], Sequence[LogEntry]] = lambda _id: ()
    uid_of: Callable[[str], int | None] = lambda _namespace: None
    control_groups: ControlGroups = field(default_factory=ControlGroups)
    repositories: Callable[[], int] = lambda: 1
    """How many repositories have flows here."""
    rules_of: Callable[[str | None], RepositoryRules] = lambda _environment: RepositoryRules()
    """An environment -> what its repository says of itself at the active commit."""
    store: Store | None = None
    engine: Engine | None = None
    runner_used: Callable[[TaskRunner], None] = lambda _runner: None
    """Told of each task runner before a job of it starts here, or is followed."""

    @classmethod
    def open(
        cls,
        settings: Settings,
        kv: KeyValues,
        *,
        environment: Mapping[str, str],
        masker: Masker | None = None,
        **ports: Any,
    ) -> Host:
        """Return a host with the storage, secrets and encryption that `settings` and `environment` name.

        Secrets are asked in this order: those set in the `store` among `ports`, `secrets.yaml` of the home, installed
        backends, those that commits brought into the store, `SECRET_*` of the environment. Every value known at the
        start is masked from now on. `ports` are the other fields.

        Raises:
            InvalidError: the file of secrets, a `SECRET_*` variable, the storage or the key is not acceptable.
        """
        masker, encryption = masker or Masker(), Encryption.of(settings)
        store: Store | None = ports.get("store")
        for name in SECRET_OPTIONS & settings.storage_options.keys():
            masker.add(settings.storage_options[name])
        backends = [
            FileSecrets(settings.home / "secrets.yaml"),
            *plugin_backends(),
            *([StoredSecrets(store, encryption, of_git=True)] if store is not None else []),
            EnvironmentSecrets(secrets_from_environment(environment)),
        ]
        return cls(
            settings=settings,
            storage=open_storage(settings),
            secrets=Secrets(backends, masker.add, StoredSecrets(store, encryption) if store is not None else None),
            kv=kv,
            masker=masker,
            encryption=encryption,
            zone=ZoneInfo(settings.zone),
            environment=environment,
            **ports,
        )

    def expression_services(self, flow: Flow, execution: Execution) -> ExecutionServices:
        """Return what expressions of this execution may ask of the outside."""
        return ExecutionServices(self, flow, execution)


@dataclass(frozen=True, slots=True)
class ExecutionServices:
    """The port `runner.expressions.Services` for one execution, with its rights."""

    host: Host
    flow: Flow
    execution: Execution

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the server."""
        return self.host.zone

    def now(self) -> datetime:
        """Return the present time."""
        return self.host.clock()

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:
        """Return a secret that the flow's namespace sees; its value is masked from now on.

        In a preview those that are kept for it, in `preview` and below; with the setting those of its base as well.

        Raises:
            ExpressionError: `secret.key.missing`, or `secret.namespace.refused` for a namespace that is not the flow's
                own or around it.
        """
        place = self._own(namespace)
        base = base_of(place)
        if base is None and root_of(self.flow.namespace) is None:
            return self.host.secrets.get(place, key, subkey)
        try:
            return self.host.secrets.get(place, key, subkey, apart=True)
        except ExpressionError:
            if base is None or not self.host.settings.previews.secrets or is_of_fork(self.execution.environment):
                raise
        return self.host.secrets.get(base, key, subkey)

    def kv(self, key: str, namespace: str | None = None, *, error_on_missing: bool = True) -> Any:
        """Return the value of `key` in `namespace` (the flow's) or in a namespace around it."""
        place = namespace or self.flow.namespace
        found, value = lookup(self.host.kv, place, key)
        if not found and error_on_missing:
            message = f"The key '{key}' does not exist in the namespace '{place}'."
            raise ExpressionError("kv.key.missing", message)
        return value

    def read_file(self, uri_or_path: str) -> bytes:
        """Return the content behind `kestra:///…`, `nsfile:///…` or the path of a namespace file.

        Raises:
            ExpressionError: `storage.file.refused` for a file of somebody else, `storage.file.missing`.
        """
        uri = self._address(uri_or_path)
        self.check_access(uri)
        file = namespace_file_of(uri)
        try:
            if file is not None:
                return self.namespace_file(file.path, file.namespace)
            with self.host.storage.open(uri) as stored:
                return stored.read()
        except (ExpressionError, StoreError):
            raise
        except MainstemError as error:
            raise ExpressionError(error.code, error.message) from None

    def file_size(self, uri: str) -> int:
        """Return the size in bytes of what `read_file` reads. Raises as it does."""
        uri = self._address(uri)
        self.check_access(uri)
        if namespace_file_of(uri) is not None:
            return len(self.read_file(uri))
        try:
            return self.host.storage.size(uri)
        except MainstemError as error:
            raise ExpressionError(error.code, error.message) from None

    def file_exists(self, uri: str) -> bool:
        """Return whether there is a file that `read_file` reads."""
        uri = self._address(uri)
        self.check_access(uri)
        file = namespace_file_of(uri)
        if file is not None:
            return file.path in self.namespace_files(file.namespace)
        return self.host.storage.exists(uri)

    def file_uri(self, path: str) -> str:
        """Return the address of the namespace file at `path`."""
        if "../" in path or path.endswith(".."):
            raise ExpressionError("namespace.path.invalid", f"Path must not contain '../': {path!r}")
        return namespace_file_uri(self.flow.namespace, path)

    def namespace_file(self, path: str, namespace: str | None = None) -> bytes:
        """Return a namespace file at the execution's commit. Raises `NotFoundError` `namespace.file.missing`."""
        place = namespace or self.flow.namespace
        return self.host.files.read(self.execution.environment, self.execution.commit, place, path.lstrip("/"))

    def namespace_files(self, namespace: str | None = None) -> list[str]:
        """Return the paths of the namespace files at the execution's commit."""
        place = namespace or self.flow.namespace
        return self.host.files.list(self.execution.environment, self.execution.commit, place)

    def random_int(self, lower: int, upper: int) -> int:
        """Return a number of [lower, upper)."""
        return _RANDOM.randrange(lower, upper)

    def random_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return secrets.token_bytes(count)

    def random_port(self) -> int:
        """Return a TCP port that is free on this host at this moment."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            return port

    def new_id(self) -> str:
        """Return a fresh identifier."""
        return new_id()

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())

    def error_logs(self) -> list[dict[str, Any]]:
        """Return the ERROR log entries of the execution, the oldest first."""
        return [
            {
                "taskId": entry.task_id,
                "level": entry.level,
                "message": entry.message,
                "timestamp": entry.timestamp.isoformat(),
                "attemptNumber": entry.attempt,
            }
            for entry in self.host.error_logs_of(self.execution.id)
        ]

    def tasks_with_state(self, state: str) -> list[dict[str, Any]]:
        """Return `taskId`, `state` and, in loops, `value` of each task run in `state`."""
        return [
            {"taskId": run.task_id, "state": run.state.value} | ({"value": run.value} if run.value is not None else {})
            for run in self.host.runs_of(self.execution.id)
            if run.state.value == state.upper()
        ]

    def http(self, uri: str, **options: Any) -> Any:
        """Return the parsed body of a response; options: method query body content_type headers options accept."""
        from runner.tasks.http import fetch_for_expression

        return fetch_for_expression(self.host.settings, uri, **options)

    def environment(self, name: str, default: str | None = None) -> str | None:
        """Return the variable `name` (lower case, without prefix) of those that flows may see."""
        return expression_variables(self.host.environment).get(name.lower(), default)

    def _address(self, uri_or_path: str) -> str:
        return uri_or_path if is_uri(uri_or_path) else self.file_uri(uri_or_path.removeprefix(NAMESPACE_FILE_SCHEME))

    def _own(self, namespace: str | None) -> str:
        if namespace is None or namespace in set(around(self.flow.namespace)):
            return namespace or self.flow.namespace
        message = f"the flow's namespace {self.flow.namespace!r} may not read secrets of {namespace!r}"
        raise ExpressionError("secret.namespace.refused", message)

    def check_access(self, uri: str) -> None:
        """Raise `ExpressionError` `storage.file.refused` when this execution may not read the file at `uri`."""
        try:
            allowed = self._may_read(uri)
        except StoreError:
            raise  # a store that is away fails no task
        except MainstemError as error:
            raise ExpressionError(error.code, error.message) from None
        if not allowed:
            message = f"Unable to read the file '{uri}' as it didn't belong to the current execution"
            raise ExpressionError("storage.file.refused", message)

    def _may_read(self, uri: str) -> bool:
        return may_read(uri, self.execution, self.flow, lookup=self.host.execution_of)
