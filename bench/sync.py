"""From a push to an active revision and to a report: with the hosted repository, and with a forge of 10,000 flows."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.deliveries import SECRET, deliver
from bench.flows import flow
from bench.server import Server
from runner.store import Store
from tests.servers.git import GitServer, git, serving

FLOWS = "acme/flows.git"
EMPTY = "acme/empty.git"
HOSTED = 1_000
FORGE = 10_000
FOLDERS = 100
CHANGES = 9
PULL_REQUEST = 50
DOUBLES = 1_000
WRITERS = 4
RUNS = 500
LOOK_S = 0.005
SLOW_LOOK_S = 0.1  # for what takes seconds: each look takes the server more than a millisecond
LONGEST_S = 120.0


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure all of it; `quick` takes a tenth of the flows, deliveries and runs."""
    part = 10 if quick else 1
    return {
        "bench": "sync",
        **_hosted(HOSTED // part),
        **_forge(FORGE // part, DOUBLES // part),
        **_writers(RUNS // part),
    }


def _hosted(flows: int) -> dict[str, Any]:
    """Milliseconds from `git push` to active with one changed flow, as git and as the server see it."""
    with Server() as server:
        work = server.push({f"flow{number}.yaml": flow(number) for number in range(flows)})
        pushes, active = [], []
        for number in range(CHANGES):
            (work / "flows" / "flow7.yaml").write_text(flow(7, f"change {number}"))
            server.git("commit", "--quiet", "--all", "--message=change", cwd=work)
            started = time.monotonic()
            said = server.git("push", f"{server.url}/git/flows.git", "main", cwd=work)
            pushes.append(time.monotonic() - started)
            line = next(line for line in said.splitlines() if " active in " in line)
            active.append(float(line.partition(" active in ")[2].split()[0]))
    return {
        "flows": flows,
        "push_p50_ms": round(statistics.median(pushes) * 1e3),
        "active_p50_ms": round(statistics.median(active)),
        "push_max_ms": round(max(pushes) * 1e3),
    }


def _forge(flows: int, doubles: int) -> dict[str, Any]:
    """A repository elsewhere, behind git's own HTTP server: cold start, changes, a plan, doubled deliveries."""
    with tempfile.TemporaryDirectory(prefix="mainstem-bench-") as room, serving(Path(room) / "served") as forge:
        forge.repository(EMPTY)
        with Server(_declared(forge.url, EMPTY)) as server:
            empty_mb = server.resident_mb()
        work = _work_tree(Path(room) / "work", forge, flows)
        alone = _alone(Path(room) / "alone", work)
        started = time.monotonic()
        with Server(_declared(forge.url)) as server:
            _wait_active(server, work.head(), SLOW_LOOK_S)
            cold_s = time.monotonic() - started
            times = [_changed(server, work, number) for number in range(CHANGES)]
            planned = [_planned(server, work, number) for number in range(3)]
            return {
                "forge_flows": flows,
                "forge_coldstart_s": round(cold_s, 1),
                "forge_coldstart_target_s": 10,
                "forge_active_p50_ms": round(statistics.median(times) * 1e3),
                "forge_active_target_ms": 300,
                "forge_active_max_ms": round(max(times) * 1e3),
                "forge_reconcile_p50_ms": round(_reconcile_s(server, CHANGES) * 1e3),
                "forge_git_fetch_p50_ms": round(work.fetch_s(CHANGES) * 1e3),
                "forge_git_fetch_target_ms": 100,
                "pull_request_files": PULL_REQUEST,
                "pull_request_plan_p50_ms": round(statistics.median(planned) * 1e3),
                "pull_request_plan_target_ms": 1_000,
                "doubled_deliveries": doubles,
                "doubled_fetches": _doubled(server, forge, work, doubles),
                "doubled_fetches_target": 1,
                "forge_empty_resident_mb": round(empty_mb, 1),
                "forge_resident_mb": round(server.resident_mb(), 1),
                **alone,
            }


def _alone(room: Path, work: _WorkTree) -> dict[str, Any]:
    """Follow the forge in a process that does nothing else: memory in MB, processor time in ms (`bench.sync_process`).

    The memory at the end is after as many changes as are measured on the whole server.
    """
    (room / "home").mkdir(mode=0o700, parents=True)
    Store.migrate(f"sqlite:///{room / 'home' / 'state.db'}")
    command = [sys.executable, "-m", "bench.sync_process", str(room / "home"), work.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        found = [json.loads(process.stdout.readline())]
        for number in range(CHANGES + 1):
            if number:
                work.commit({_file(7): flow(7, f"alone {number}")})
                work.push()
            process.stdin.write("now\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline()))
        process.stdin.close()
    empty, cold, *changes = found
    return {
        "sync_empty_resident_mb": round(empty["resident_mb"], 1),
        "sync_resident_mb": round(changes[-1]["resident_mb"], 1),
        "sync_resident_target_mb": 150,
        "sync_peak_mb": round(changes[-1]["peak_mb"], 1),
        "sync_coldstart_cpu_s": round(cold["cpu_s"], 1),
        "sync_change_p50_ms": round(statistics.median(each["s"] for each in changes) * 1e3),
        "sync_change_cpu_p50_ms": round(statistics.median(each["cpu_s"] for each in changes) * 1e3),
    }


class _WorkTree:
    """A clone of the repository on the forge."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "-m", "change")
        return self.head()

    def push(self, ref: str = "main") -> None:
        git(self.path, "push", "-q", "--force", self.url, f"HEAD:refs/heads/{ref}")

    def head(self) -> str:
        return git(self.path, "rev-parse", "HEAD")

    def fetch_s(self, times: int) -> float:
        """Return the median of what git itself takes to look at the forge and find nothing new."""
        taken = []
        for _ in range(times):
            started = time.monotonic()
            git(self.path, "fetch", "-q", self.url, "main")
            taken.append(time.monotonic() - started)
        return statistics.median(taken)


def _work_tree(path: Path, forge: GitServer, flows: int) -> _WorkTree:
    forge.repository(FLOWS)
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    work = _WorkTree(path, f"{forge.url}/{FLOWS}")
    work.commit({_file(number): flow(number) for number in range(flows)})
    work.push()
    return work


def _file(number: int) -> str:
    return f"flows/part{number % FOLDERS}/flow{number}.yaml"


def _declared(url: str, path: str = FLOWS, **environment: Any) -> dict[str, str]:
    repository = {"name": "team", "url": f"{url}/{path}", "kind": "github", "webhookSecret": SECRET}
    followed = {"name": "production", "repository": "team", **environment}
    return {"MAINSTEM_REPOSITORIES": json.dumps([repository]), "MAINSTEM_ENVIRONMENTS": json.dumps([followed])}


def _wait_active(server: Server, commit: str, look_s: float = LOOK_S) -> None:
    deadline = time.monotonic() + LONGEST_S
    with server.client() as client:
        while client.get("/environments/production").json().get("active") != commit:
            if time.monotonic() > deadline:
                raise SystemExit(f"{commit} is not active after {LONGEST_S:.0f} s")
            time.sleep(look_s)


def _changed(server: Server, work: _WorkTree, number: int) -> float:
    """Push one changed flow; return the seconds from the delivery of the webhook to the revision being active."""
    commit = work.commit({_file(7): flow(7, f"change {number}")})
    work.push()
    started = time.monotonic()
    deliver(server.url, commit, commit)
    _wait_active(server, commit)
    return time.monotonic() - started


def _reconcile_s(server: Server, count: int) -> float:
    """Return the median of what the server says it took to fetch, plan and apply each of the latest revisions."""
    with server.client() as client:
        found = client.get("/environments/production/revisions", params={"size": count}).json()["results"]
    return float(statistics.median(each["seconds"] for each in found))


def _planned(server: Server, work: _WorkTree, number: int) -> float:
    """Propose a commit that changes many files; return the seconds that its plan takes, what it fetches included."""
    first = number * PULL_REQUEST
    with server.client() as client:
        client.post("/environments/production/suspend", json={"reason": "a plan is measured"}).raise_for_status()
        commit = work.commit({_file(each): flow(each, "proposed") for each in range(first, first + PULL_REQUEST)})
        work.push()
        started = time.monotonic()
        answer = client.get("/environments/production/plan", params={"commit": commit})
        taken = time.monotonic() - started
        if len(answer.json().get("changes", ())) != PULL_REQUEST:
            raise SystemExit(f"not the plan that was expected: {answer.text[:300]}")
        client.post("/environments/production/resume", json={}).raise_for_status()
    _wait_active(server, commit)
    return taken


def _doubled(server: Server, forge: GitServer, work: _WorkTree, count: int) -> int:
    """Deliver one push many times under ids of their own; return how often the server fetched for it."""
    commit = work.commit({_file(8): flow(8, "doubled")})
    work.push()
    forge.requests.clear()
    deliver(server.url, commit, commit)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: deliver(server.url, _sha(number), commit, is_new=False), range(1, count)))
    _wait_active(server, commit)
    return sum(f"want {commit}".encode() in body for _, _, body in forge.requests)


def _sha(number: int) -> str:
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def _writers(runs: int) -> dict[str, Any]:
    """Several servers that report to one branch of one repository: what is lost, and how many commits it takes."""
    with tempfile.TemporaryDirectory(prefix="mainstem-bench-") as room, serving(Path(room) / "served") as forge:
        work = _work_tree(Path(room) / "work", forge, 1)
        with ExitStack() as stack:
            servers = [stack.enter_context(Server(_declared(forge.url))) for _ in range(WRITERS)]
            for server in servers:
                _wait_active(server, work.head())
            started = time.monotonic()
            with ThreadPoolExecutor(WRITERS) as pool:
                list(pool.map(lambda server: _executed(server, runs), servers))
        # The last ones are written when the servers stop.
        taken = time.monotonic() - started
        bare = forge.root / FLOWS
        names = git(bare, "ls-tree", "-r", "--name-only", "mainstem-reports", "runs").splitlines()
        rows = [git(bare, "show", f"mainstem-reports:{name}") for name in names if name.endswith(".jsonl")]
        written = [json.loads(line)["id"] for text in rows for line in text.splitlines() if '"id"' in line]
        return {
            "writers": WRITERS,
            "writers_runs": WRITERS * runs,
            "writers_lost": WRITERS * runs - len(set(written)),
            "writers_lost_target": 0,
            "writers_doubled": len(written) - len(set(written)),
            "writers_commits": int(git(bare, "rev-list", "--count", "mainstem-reports")),
            "writers_commits_target": WRITERS * runs // 20,
            "writers_s": round(taken, 1),
        }


def _executed(server: Server, runs: int) -> None:
    with server.client() as client:
        for _ in range(runs):
            client.post("/executions/company.team0/flow0").raise_for_status()
