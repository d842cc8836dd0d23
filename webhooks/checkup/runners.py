"""Task runners: the programs that bodies need, Docker and the images that flows name, what a body can read."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from task_runners.registry import canonical_name
from webhooks.checkup.finding import Finding, Patient, Weight, error, flows_that, warning

if TYPE_CHECKING:
    from runner.tasks.script import ScriptTask

_PROCESS: Final = "core.runner.Process"
_DOCKER: Final = "scripts.runner.docker.Docker"
_ALWAYS: Final = ("sh", "python3")
_MOST_IMAGES: Final = 20
_DOCKER_S: Final = 5


@dataclass(slots=True)
class Needs:
    """What the active flows ask of runners: programs and images, each with the flows that do."""

    programs: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    images: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ignored: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    runners: Counter[str] = field(default_factory=Counter)

    def add(self, flow: str, task: ScriptTask, default_runner: str) -> None:
        """Count a script task."""
        runner = canonical_name(str((task.task_runner or {}).get("type") or default_runner))
        self.runners[runner] += 1
        image = str(task.container_image or task.language.image)
        if runner == _DOCKER and "{{" not in image:
            self.images[image].add(flow)
        if runner == _PROCESS:
            for program in _programs(task):
                self.programs[program].add(flow)
            if task.container_image is not None:
                self.ignored[image].add(flow)


def needs_of(patient: Patient) -> Needs:
    """Return what the active flows need."""
    from runner.tasks.script import ScriptTask

    needs = Needs()
    for flow in patient.flows:
        for task in flow.all_tasks():
            if isinstance(task, ScriptTask):
                needs.add(f"{flow.namespace}.{flow.id}", task, patient.settings.default_task_runner)
    return needs


def _programs(task: ScriptTask) -> Iterator[str]:
    interpreter = task.interpreter or task.language.interpreter
    if isinstance(interpreter, list | tuple) and interpreter and "{{" not in str(interpreter[0]):
        yield str(interpreter[0])
    if task.language.program:
        yield task.language.program


def check_process(patient: Patient, needs: Needs) -> Iterator[Finding]:
    """Yield whether the programs that bodies need are there for the user that bodies run as."""
    found, said = [], False
    for program in dict.fromkeys((*_ALWAYS, *sorted(needs.programs))):
        flows = needs.programs.get(program, set())
        problem = _trouble(program, patient)
        if problem is None:
            found.append(program)
            continue
        said = True
        who = f", and {flows_that(len(flows), 'need')} it" if flows else ""
        advice = f"install it where every user can execute it, such as /usr/bin ({_example(flows) or 'or use Docker'})"
        make = error if flows else warning
        yield make("runner", f"process: {problem}{who}", advice)
    user = "the user of the server" if patient.uid is None else f"uid {patient.uid}"
    if found:
        rest = "" if said else " on PATH"
        yield Finding("runner", f"process: {', '.join(found)}{rest} can be executed by {user}")
    for image, flows in sorted(needs.ignored.items()):
        message = f"process: {flows_that(len(flows), 'name')} the image {image}, which this runner ignores"
        yield warning("runner", message, f"use defaultTaskRunner docker, or a taskRunner in {_example(flows)}")


def _trouble(program: str, patient: Patient) -> str | None:
    """Return why bodies find no such program, None when they do: what they may not execute, they pass over."""
    from task_runners.process import outer_path

    folders = (outer_path(patient.environment) or os.defpath).split(os.pathsep)
    paths = [Path(found) for folder in folders if (found := shutil.which(program, mode=os.F_OK, path=folder))]
    obstacles = [_obstacle(path, patient.uid) for path in paths]
    return None if None in obstacles else next(iter(obstacles), f"{program} is not on PATH")


def _obstacle(path: Path, uid: int | None) -> str | None:
    """Return what keeps a user from executing a program, None when nothing does."""
    if uid is None:
        return None if os.access(path, os.X_OK) else f"{path} may not be executed by the user of the server"
    for place in dict.fromkeys((*reversed(path.parents), *reversed(path.resolve().parents), path.resolve())):
        status = place.stat()
        if not status.st_mode & (0o100 if status.st_uid == uid else 0o001):
            return f"{path} may not be executed by bodies (uid {uid}): {place} keeps them out"
    return None


def _example(flows: set[str]) -> str:
    return min(flows, default="")


def check_docker(patient: Patient, needs: Needs) -> Iterator[Finding]:
    """Yield whether the daemon answers, and which images that flows name are not there."""
    import docker
    import docker.errors
    import requests

    is_needed = bool(needs.runners[_DOCKER]) or canonical_name(patient.settings.default_task_runner) == _DOCKER
    url = patient.environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if url.startswith("unix://") and not Path(url.removeprefix("unix://")).exists():
        yield _no_docker(f"there is no socket: {url}", is_needed=is_needed)
        return
    try:
        client: Any = docker.APIClient(base_url=url, timeout=_DOCKER_S)
    except docker.errors.DockerException as problem:
        yield _no_docker(str(problem), is_needed=is_needed)
        return
    try:
        version = client.version()["Version"]
        missing = [image for image in sorted(needs.images)[:_MOST_IMAGES] if not _is_there(client, image)]
    except (docker.errors.DockerException, requests.RequestException, KeyError) as problem:
        yield _no_docker(str(problem), is_needed=is_needed)
        return
    finally:
        client.close()
    yield Finding("runner", f"docker: {version} answers at {url}")
    for image in missing:
        flows = needs.images[image]
        message = f"docker: the image {image} is not there, and {flows_that(len(flows), 'name')} it"
        yield warning("runner", message, f"it is pulled when a task needs it; to be sure: docker pull {image}")


def _is_there(client: Any, image: str) -> bool:
    import docker.errors

    try:
        client.inspect_image(image)
    except docker.errors.NotFound:
        return False
    return True


def _no_docker(problem: str, *, is_needed: bool) -> Finding:
    reason = problem.partition(":")[2].strip() or problem
    if is_needed:
        return error("runner", f"docker: the daemon does not answer, and flows need it: {reason}", "start it")
    return Finding("runner", "docker: no daemon answers, and no flow needs one")


def check_groups(patient: Patient) -> Finding:
    """Return whether bodies of the process runner get control groups, and which limits hold there."""
    from task_runners.group_survey import survey_groups

    process = (patient.running or {}).get("pid")
    survey = survey_groups(patient.settings.process_runner.cgroup, process if isinstance(process, int) else None)
    weight = Weight.OK if survey.is_well else Weight.WARNING
    return Finding("cgroups", survey.message, weight, survey.advice or None)


def check_bodies(patient: Patient) -> Finding:
    """Return what a body of the process runner can read."""
    if patient.uid is None:
        return warning(
            "bodies",
            "run as the user of the server, so they can read its home: token, secrets.yaml, encryption key, database",
            "run only flows of people whom you trust with that, or use the Docker runner",
        )
    mode = patient.home.stat().st_mode & 0o077 if patient.home.exists() else 0
    if mode:
        return error("bodies", f"others may look into {patient.home}", f"chmod 700 {patient.home}")
    return Finding("bodies", f"run as unprivileged users from uid {patient.uid} on, who cannot read the home")
