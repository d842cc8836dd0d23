"""Proves that a task runner works here: a job starts, files go in and out, lines come back, it can be ended.

What a user runs on a new machine or cluster, and what a report about a task runner should have with it.
"""

from __future__ import annotations

import platform
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from task_runners.base import LogLine, Phase, Policy, RunnerContext, TaskResult, TaskRunner, TaskSpec, WorkDir
from task_runners.control_groups import ControlGroups, obstacle
from task_runners.errors import TaskRunnerError
from task_runners.files import write_file
from task_runners.group_survey import survey_groups
from task_runners.masking import REPLACEMENT, Masker
from task_runners.staging.port import NoStage, Stage

__all__ = ["Checkup", "Finding"]

_VENDORS = ("docker", "lightkube", "boto3", "google-auth", "azure-identity", "httpx")  # what speaks to engines
_TIMEOUT = timedelta(minutes=10)
_SECRET_NAME = re.compile(
    r"pass|secret|token|key(?!_?(?:file|algo))|credential|auth|connection|^serviceAccount$", re.IGNORECASE
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)|(?<=[?&])(?:sig|X-\w+-Signature)=[^&\s]+", re.IGNORECASE)
"""What is secret in an address: who logs in, and the signature of a signed one."""
_SCRIPT = """cat in.txt; echo oops >&2; cat in.txt > out.txt; echo '::{"outputs": {"answer": 42}}::'; exit 3"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: its name, whether it works, what is missing, how long it took."""

    name: str
    works: bool
    message: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass
class Checkup:
    """Tries one task runner. `findings` come in order; the ones after a start that failed are left out."""

    runner: TaskRunner
    image: str | None
    environment: Mapping[str, str]
    stage: Stage = field(default_factory=NoStage)
    folder: Path | None = None
    control_groups: ControlGroups = field(default_factory=ControlGroups)
    _lines: list[LogLine] = field(default_factory=list)

    def run(self) -> Iterator[Finding]:
        """Try everything; yield what was found, without what is secret: people show it to others."""
        masker = self._masker()
        for finding in self._findings():
            message, hint = (
                _IN_ADDRESS.sub(REPLACEMENT, masker.mask(text)) for text in (finding.message, finding.hint)
            )
            yield replace(finding, message=message, hint=hint)

    def _masker(self) -> Masker:
        """Return what knows the secrets among the properties and the variables around, going by their names."""
        masker = Masker()
        for source in (self.runner.model_dump(by_alias=True, mode="json", fallback=str), self.environment):
            for text in _secrets(source):
                masker.add(text)
        return masker

    def _findings(self) -> Iterator[Finding]:
        with tempfile.TemporaryDirectory(prefix="mainstem-check-", dir=self.folder) as folder:
            started = time.monotonic()
            try:
                result = self._body(WorkDir(Path(folder)))
            except TaskRunnerError as error:
                yield Finding("start", False, error.message, error.hint or "", _since(started))
                return
            yield from self._judged(result, _since(started))
            yield self._timed("end", self._end)
            yield self._timed("leave nothing", self._left)

    def bundle(self, findings: list[Finding]) -> dict[str, Any]:
        """Return what a report needs: the findings, the versions, the properties without what could be secret."""
        names = sorted(self.runner.model_fields_set - {"type"})
        return {
            "runner": self.runner.type,
            "properties": names,
            "image": self.image,
            "mainstem": _version("mainstem"),
            "packages": {name: version for name in _VENDORS if (version := _version(name)) is not None},
            "python": platform.python_version(),
            "system": platform.platform(),
            "findings": [asdict(finding) for finding in findings],
        }

    def _body(self, workdir: WorkDir) -> TaskResult:
        write_file(workdir.path, "in.txt", b"hello\n")
        return self.runner.run(self._spec(_SCRIPT, output_globs=("out.txt",)), workdir, self._context())

    def _spec(self, script: str, **options: Any) -> TaskSpec:
        labels = {"namespace": "mainstem.check"}
        spec = TaskSpec(("sh", "-c", script), f"check-{uuid.uuid4().hex[:12]}", image=self.image, labels=labels)
        return replace(spec, **{"timeout": _TIMEOUT, **options})

    def _context(self, **options: Any) -> RunnerContext:
        return RunnerContext(
            **{
                "on_line": self._lines.append,
                "environment": self.environment,
                "stage": self.stage,
                "control_groups": self.control_groups,
                "policy": Policy(docker_hosts=("*",)),  # who tries a daemon is no flow
                **options,
            }
        )

    def _judged(self, result: TaskResult, seconds: float) -> Iterator[Finding]:
        texts = [line.text for line in self._lines]
        how = f"exit code {result.exit_code}, {result.failure_reason}: {result.message}"
        yield Finding("start", result.exit_code is not None, "" if result.exit_code is not None else how, "", seconds)
        yield Finding("exit code", result.exit_code == 3, "" if result.exit_code == 3 else how)
        yield Finding("file in, log", "hello" in texts, "" if "hello" in texts else f"the log has {texts[:5]}")
        yield Finding("values", dict(result.vars) == {"answer": 42}, "" if result.vars else "the marker did not arrive")
        out = result.output_files.get("out.txt")
        is_back = out is not None and out.read_text() == "hello\n"
        yield Finding("file out", is_back, "" if is_back else "the output file did not come back")

    def _end(self) -> str:
        cancelled = threading.Event()

        def on_line(_line: LogLine) -> None:
            cancelled.set()

        spec = self._spec("echo begun; exec sleep 300", grace=timedelta(seconds=1))
        with tempfile.TemporaryDirectory(prefix="mainstem-check-", dir=self.folder) as folder:
            ctx = self._context(on_line=on_line, cancelled=cancelled)
            result = self.runner.run(spec, WorkDir(Path(folder)), ctx)
        return "" if result.status is Phase.CANCELLED else f"it ended {result.status}: {result.message}"

    def _left(self) -> str:
        left = [each.id for each in self.runner.list_owned(self._context()) if (each.owner or ("",))[0][:6] == "check-"]
        return f"still there: {', '.join(left)}" if left else ""

    @staticmethod
    def _timed(name: str, trial: Callable[[], str]) -> Finding:
        started = time.monotonic()
        try:
            message, hint = trial(), ""
        except TaskRunnerError as error:
            message, hint = error.message, error.hint or ""
        return Finding(name, not message, message, hint, _since(started))


def check_groups(wish: str) -> tuple[ControlGroups, Finding]:
    """Return the control groups for bodies of the process runner, and whether what the settings ask for is there.

    A process is put into a group on trial; no controller is enabled and nobody is moved.
    """
    survey = survey_groups(wish)
    if survey.path is None:
        return ControlGroups(), Finding("control groups", survey.is_well, survey.message, survey.advice)
    hindrance = obstacle(survey.path)
    if hindrance is not None:
        advice = "start this where the server is started: in a group that the same user was delegated"
        return ControlGroups(), Finding("control groups", False, f"{survey.path}: {hindrance}", advice)
    groups = ControlGroups(survey.path, frozenset(survey.controllers))
    return groups, Finding("control groups", True, survey.message, survey.advice)


def _secrets(value: Any, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the texts of a description that stand below a name like those of secrets."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, is_secret=is_secret or _SECRET_NAME.search(str(key)) is not None)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner, is_secret=is_secret)
    elif isinstance(value, str) and is_secret:
        yield value


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
