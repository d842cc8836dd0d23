"""Each role starts as the chart says, and gives the figures that alerts, dashboard and scaling are made of."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.charts.rendering import golden
from tests.servers.deployment import Broker
from tests.servers.git import GitServer, git_server  # noqa: F401 - fixture
from tests.servers.ports import free_port
from tests.servers.postgres import postgres_empty_url, postgres_server  # noqa: F401 - fixtures
from tests.servers.program import Program, clean_environment, wait_until

# What Prometheus adds to each sample, from what it scraped.
ADDED = {"namespace", "pod"}
Samples = dict[str, set[frozenset[tuple[str, str]]]]


class Cluster:
    """Runs containers of the chart as processes: with their arguments and variables, their mounts in a folder."""

    def __init__(self, folder: Path, secret: dict[str, str], repository: str) -> None:
        self._folder = folder
        self._secret = secret
        self._repository = repository
        self.programs: dict[str, Program] = {}
        self.ports: dict[str, dict[str, int]] = {}

    def start(self, name: str, container: dict[str, Any]) -> Program:
        """Start a container; its ports are free ones of this machine."""
        ports = self.ports[name] = {each["name"]: free_port() for each in container.get("ports", ())}
        environ = clean_environment(self._folder) | dict(self._variables(name, container))
        environ |= {"MAINSTEM_HEALTH_PORT": str(ports.get("health", "")), "MAINSTEM_PORT": str(ports.get("http", ""))}
        if environ.get("MAINSTEM_WORKERS"):
            environ["MAINSTEM_DEFAULT_TASK_RUNNER"] = "process"
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        program = self.programs[name] = Program(name, folder, tuple(container["args"]), environ)
        program.launch()
        return program

    def _variables(self, name: str, container: dict[str, Any]) -> Iterator[tuple[str, str]]:
        mounts = sorted((each["mountPath"] for each in container["volumeMounts"]), key=len, reverse=True)
        for variable in container["env"]:
            value = variable.get("value")
            if value is None:
                value = self._secret[
                    variable["valueFrom"]["secretKeyRef"]["name"] + "/" + variable["valueFrom"]["secretKeyRef"]["key"]
                ]
            mount = next((each for each in mounts if value.startswith(f"{each}/") or value == each), None)
            if mount is not None:
                where = (
                    self._folder / ("shared" if mount.startswith("/srv") else name) / mount.strip("/").replace("/", "-")
                )
                where.mkdir(parents=True, exist_ok=True)
                value = str(where) + value.removeprefix(mount)
            yield variable["name"], value
        yield "MAINSTEM_REPOSITORIES", f"[{{name: team, url: '{self._repository}', webhookSecret: made-up-secret}}]"
        yield "MAINSTEM_ENVIRONMENTS", "[{name: production, repository: team}]"

    def figures(self, name: str) -> Samples:
        """Return the samples of a process: the sets of labels of each metric."""
        text = httpx.get(f"http://127.0.0.1:{self.ports[name]['health']}/metrics", timeout=60).text
        found: Samples = {}
        for metric, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
            found.setdefault(metric, set()).add(frozenset(re.findall(r'(\w+)="([^"]*)"', labels)))
        return found

    def end(self) -> None:
        """Leave nothing running."""
        for program in self.programs.values():
            program.end()


@pytest.fixture
def cluster(git_server: GitServer, postgres_empty_url: str, tmp_path: Path) -> Iterator[Cluster]:  # noqa: F811 - the fixtures
    git_server.repository("flows.git")
    broker = Broker(tmp_path).start()
    secret = {
        "mainstem-database/url": postgres_empty_url,
        "mainstem-broker/url": broker.url,
        "mainstem-credentials/encryptionKey": base64.b64encode(secrets.token_bytes(32)).decode(),
        "mainstem-credentials/adminToken": secrets.token_urlsafe(16),
    }
    made = Cluster(tmp_path, secret, f"{git_server.url}/flows.git")
    yield made
    made.end()
    broker.kill()


def containers(name: str) -> dict[str, dict[str, Any]]:
    """Return the containers of a set of values by the first word of what they start."""
    return {
        container["args"][0]: container
        for document in golden(name)
        if document["kind"] in {"Deployment", "StatefulSet", "Job"}
        for container in document["spec"]["template"]["spec"]["containers"]
    }


def expressions() -> Iterator[str]:
    """Yield each expression of alerts, dashboard and scaling."""
    for name in ("distributed-observed", "distributed-pools"):
        for document in golden(name):
            kind, spec = document["kind"], document.get("spec", {})
            if kind == "PrometheusRule":
                yield from (rule["expr"] for group in spec["groups"] for rule in group["rules"])
            elif kind == "ScaledObject":
                given = [trigger["metadata"] for trigger in spec["triggers"]]
                yield from (each.get("query") or each["valueLocation"] for each in given)
            elif kind == "HorizontalPodAutoscaler":
                for external in (metric["external"]["metric"] for metric in spec["metrics"] if "external" in metric):
                    labels = ",".join(f'{key}="{value}"' for key, value in external["selector"]["matchLabels"].items())
                    yield f"{external['name']}{{{labels}}}"
            elif kind == "ConfigMap" and "mainstem.json" in document["data"]:
                panels = json.loads(document["data"]["mainstem.json"])["panels"]
                yield from (target["expr"] for panel in panels for target in panel["targets"])


def selectors(promql: Any, expression: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the metrics that an expression names, with the labels that it asks for."""
    if isinstance(expression, promql.VectorSelector):
        yield expression.name, {matcher.name: matcher.value for matcher in expression.matchers.matchers}
    for part in ("lhs", "rhs", "expr", "param", "vector_selector", "args"):
        inner = getattr(expression, part, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, promql.Expr):
                yield from selectors(promql, each)


def ask(ports: dict[str, int], path: str) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{ports['health']}{path}", timeout=60).status_code
    except httpx.TransportError:
        return 0


def test_each_role_starts_as_the_chart_says_and_gives_its_figures(
    cluster: Cluster, module: Callable[[str], Any]
) -> None:
    promql = module("promql_parser")
    parts = containers("distributed")
    standalone = containers("standalone")["up"]

    assert cluster.start("db", parts.pop("db")).process.wait(60) == 0, cluster.programs["db"].log
    for name, container in {**parts, "up": standalone}.items():
        cluster.start(name, container)
    for name in (*parts, "up"):
        wait_until(lambda name=name: ask(cluster.ports[name], "/health/ready") == 200, f"{name} is ready")  # type: ignore[misc]
    for name in ("serve", "up"):
        httpx.post(f"http://127.0.0.1:{cluster.ports[name]['http']}/hooks/team", content=b"{}", timeout=60)
        wait_until(lambda name=name: "mainstem_sync_age_seconds" in cluster.figures(name), "a look at the repository")  # type: ignore[misc]
    given = {name: cluster.figures(name) for name in (*parts, "up")}

    assert set(given) == {"serve", "worker", "scheduler", "sync-agent", "up"}
    for name, samples in given.items():
        assert {dict(labels)["role"] for labels in samples["mainstem_info"]} == {name}
        assert ("mainstem_tasks_waiting" in samples) == (name in {"serve", "up"})
        assert "mainstem_process_workers" in samples
    asked = [each for text in set(expressions()) for each in selectors(promql, promql.parse(text))]
    assert len({metric for metric, _ in asked}) > 15
    for metric, labels in asked:
        for name in ("serve", "up"):
            there = {key for sample in given[name].get(metric, ()) for key, _ in sample}
            assert metric in given[name], f"{name} gives no {metric}"
            assert set(labels) - ADDED <= there, f"{metric} has no such labels: {labels}"
