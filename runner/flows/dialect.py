"""Rewrites of older and newer spellings of the language into the one that the models know.

Most differences are aliases of a property and live on the models, or aliases of a type and live in
`runner.flows.aliases`. Here is what changes the shape of the tree. A rewrite answers with the new tree and with the
paths that it moved, so that problems still point at the line that somebody wrote.
"""

from __future__ import annotations

from typing import Any

from runner.flows.aliases import PREFIX, canonical
from runner.flows.forms import flattened
from runner.flows.positions import Path

_OLD_SCRIPTS = "io.kestra.core.tasks.scripts."
_PROCESS = PREFIX + "core.runner.Process"
_DOCKER = PREFIX + "scripts.runner.docker.Docker"


def rewrite(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[Path, Path]]:
    """Return the flow in the present spelling, and where each moved value stood before."""
    moved: dict[Path, Path] = {}
    flow = _walk(tree, (), moved)
    flow.pop("revision", None)  # given by the server, ignored in a source
    for name in ("taskDefaults",):
        if name in flow and "pluginDefaults" not in flow:
            flow["pluginDefaults"] = flow.pop(name)
            moved["pluginDefaults",] = (name,)
    if isinstance(flow.get("inputs"), list):
        flow["inputs"] = flattened(flow["inputs"], ("inputs",), moved)
    if "labels" in flow:
        flow["labels"] = _labels(flow["labels"], moved)
    return flow, moved


def _walk(value: Any, path: Path, moved: dict[Path, Path]) -> Any:
    if isinstance(value, dict):
        built = {key: _walk(item, (*path, key), moved) for key, item in value.items()}
        if isinstance(built.get("onResume"), list):
            built["onResume"] = flattened(built["onResume"], (*path, "onResume"), moved)
        return _script(built, path, moved) if _is_script(built) or _is_old_script(built) else built
    if isinstance(value, list):
        return [_walk(item, (*path, index), moved) for index, item in enumerate(value)]
    return value


def _is_script(task: dict[str, Any]) -> bool:
    kind = task.get("type")
    return isinstance(kind, str) and ("runner" in task or "docker" in task) and ".scripts." in canonical(kind)


def _is_old_script(task: dict[str, Any]) -> bool:
    kind = task.get("type")
    return isinstance(kind, str) and kind.startswith(_OLD_SCRIPTS) and "dockerOptions" in task


def _script(task: dict[str, Any], path: Path, moved: dict[Path, Path]) -> dict[str, Any]:
    """Turn `runner: DOCKER` and `docker: {...}` of old script tasks into `taskRunner` and `containerImage`.

    As in Kestra, `runner` wins over `taskRunner` and turns the output directory on, and a `docker` map beside
    another runner has no effect. The script tasks of before 0.11 call the map `dockerOptions`, and their runner is
    a process unless it is said.
    """
    options_name = "dockerOptions" if _is_old_script(task) else "docker"
    runner = task.pop("runner", "PROCESS" if options_name == "dockerOptions" and "taskRunner" not in task else None)
    if runner is not None and "outputDir" not in task:
        task.setdefault("outputDirectory", True)
    docker = task.pop(options_name, None)
    name = str(runner).upper() if runner is not None else ""
    if name == "PROCESS":
        task["taskRunner"] = {"type": _PROCESS}
        moved[*path, "taskRunner"] = (*path, "runner")
        return task
    if name not in {"", "DOCKER"}:
        task["taskRunner"] = {"type": str(runner)}
        moved[*path, "taskRunner"] = moved[*path, "taskRunner", "type"] = (*path, "runner")
        return task
    present = task.get("taskRunner")
    is_docker = isinstance(present, dict) and canonical(str(present.get("type"))).endswith(".Docker")
    if name == "" and present is not None and not is_docker:
        return task
    options = dict(docker) if isinstance(docker, dict) else {}
    image = options.pop("image", None)
    if image is not None and "containerImage" not in task:
        task["containerImage"] = image
        moved[*path, "containerImage"] = (*path, options_name, "image")
    own = present if isinstance(present, dict) and is_docker else {}
    task["taskRunner"] = {"type": _DOCKER, **options, **own}
    moved[*path, "taskRunner"] = (*path, options_name) if docker is not None else (*path, "runner")
    return task


def _labels(labels: Any, moved: dict[Path, Path]) -> Any:
    """Return labels as a map; the list form `[{key, value}]` and scalar values become text in a map."""
    if isinstance(labels, list) and all(isinstance(item, dict) and {"key", "value"} == set(item) for item in labels):
        pairs = [(str(item["key"]), item["value"]) for item in labels]
        moved.update({("labels", key): ("labels", index, "value") for index, (key, _) in enumerate(pairs)})
        labels = dict(pairs)
    return labels
