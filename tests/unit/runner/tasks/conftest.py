"""A host in a temporary home, and contexts on it, for the tests of tasks."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.context import TaskContext
from runner.executions.models import Execution, LogEntry, Metric, TaskRun
from runner.flows.models import Flow, Task
from runner.key_values import MemoryKeyValues
from runner.namespace_files import DirectoryNamespaceFiles
from runner.plugin import Outcome
from runner.secrets.base import Secrets
from runner.secrets.encryption import Encryption
from runner.secrets.environment import EnvironmentSecrets
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.storage.local import LocalStorage
from runner.storage.uris import execution_uri
from task_runners.masking import Masker

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Bench:
    """Runs tasks one by one in the namespace `company.team`; `logs` and `metrics` collect what they write."""

    host: Host
    root: Path
    logs: list[LogEntry] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)

    @property
    def lines(self) -> list[tuple[str, str]]:
        return [(entry.level, entry.message) for entry in self.logs if entry.level != "DEBUG"]

    def context(self, task: Task, *, flow_variables: Mapping[str, Any] | None = None, **options: Any) -> TaskContext:
        namespace = options.pop("namespace", "company.team")
        flow = Flow(id="flow", namespace=namespace, tasks=(task,), variables=dict(flow_variables or {}))
        execution = Execution("exec1", flow.namespace, flow.id, 1, State.RUNNING, NOW)
        run = TaskRun("run1", execution.id, task.id, State.RUNNING, NOW, attempts=options.pop("attempts", 1))
        variables = {
            "flow": {"id": flow.id, "namespace": flow.namespace},
            "execution": {"id": execution.id},
            "task": {"id": task.id},
            "taskrun": {"id": run.id},
            "vars": flow.variables,
            "inputs": options.pop("inputs", {}),
        }
        return TaskContext(self.host, flow, execution, run, variables, **options)

    def run(self, task: Any, **options: Any) -> Any:
        """Run `task` and return its outputs, or the whole `Outcome` when it gives one."""
        with self.context(task, **options) as ctx:
            return task.run(ctx)

    def outputs(self, task: Any, **options: Any) -> dict[str, Any]:
        result = self.run(task, **options)
        return dict(result.outputs if isinstance(result, Outcome) else result)

    def file(self, name: str, content: bytes) -> str:
        """Store an input file of the execution and return its address."""
        uri = f"{execution_uri('company.team', 'flow', 'exec1')}inputs/{name}"
        self.host.storage.put(uri, io.BytesIO(content))
        return uri

    def content(self, uri: str) -> bytes:
        with self.host.storage.open(uri) as file:
            return file.read()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    logs: list[LogEntry] = []
    metrics: list[Metric] = []
    masker = Masker()
    secrets = Secrets([EnvironmentSecrets({"PASSWORD": "hunter2 rules", "JSON": '{"user": "somebody"}'})], masker.add)
    host = Host(
        settings=Settings(home=tmp_path / "home", work=tmp_path / "work"),
        storage=LocalStorage(tmp_path / "storage"),
        secrets=secrets,
        kv=MemoryKeyValues(),
        masker=masker,
        log=logs.append,
        metric=metrics.append,
        files=DirectoryNamespaceFiles(tmp_path / "files"),
        clock=lambda: NOW,
        encryption=Encryption(b"k" * 32),
        environment=dict(os.environ),
    )
    return Bench(host, tmp_path, logs, metrics)


@pytest.fixture
def cancel_after() -> Iterator[Callable[[float], threading.Event]]:
    """Give an event that is set by itself after some seconds."""
    timers: list[threading.Timer] = []

    def start(seconds: float) -> threading.Event:
        event = threading.Event()
        timer = threading.Timer(seconds, event.set)
        timers.append(timer)
        timer.start()
        return event

    yield start
    for timer in timers:
        timer.cancel()
        timer.join()


def _make_wheel(folder: Path, name: str, version: str) -> Path:
    """Write a package whose module has `said`, with a program of its name."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f'said = "{name} {version}"\ndef main():\n    print(said)\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}={name}:main\n",
    }
    digests = {path: hashlib.sha256(text.encode()).digest() for path, text in files.items()}
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(files[path])}"
        for path, digest in digests.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def make_wheel() -> Callable[[Path, str, str], Path]:
    """Give what writes a small package, by name and version, into a folder, for installers without a network."""
    return _make_wheel
