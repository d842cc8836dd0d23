"""Google Batch v1, Cloud Run v2 and Cloud Logging v2, as far as a task runner speaks to them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.servers.clouds.machine import Entry, Job, Machines

PLACE = "projects/{project}/locations/{region}"
_CONDITION = re.compile(r'timestamp>="([^"]+)"')


def missing(name: str) -> Response:
    return JSONResponse({"error": {"code": 404, "message": f"{name} not found", "status": "NOT_FOUND"}}, 404)


class Google:
    """One project. `jobs` and `runs` are what a test may look into."""

    def __init__(self, docker_host: str) -> None:
        self.machines = Machines(docker_host)
        self.jobs: dict[str, Job] = {}
        self.runs: dict[str, Job] = {}
        self.uids: dict[str, str] = {}
        self.page_size = 1000

    @property
    def application(self) -> Starlette:
        batch, run = f"/v1/{PLACE}/jobs", f"/v2/{PLACE}/jobs"
        routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", batch, self.make_batch),
            ("GET", batch, self.list_batch),
            ("POST", batch + "/{id}:cancel", self.cancel_batch),
            ("GET", batch + "/{id}", self.get_batch),
            ("DELETE", batch + "/{id}", self.delete_batch),
            ("GET", batch + "/{id}/taskGroups/group0/tasks/0", self.batch_task),
            ("POST", run, self.make_run),
            ("GET", run, self.list_run),
            ("POST", run + "/{id}:run", self.start_run),
            ("GET", run + "/{id}", self.get_run),
            ("DELETE", run + "/{id}", self.delete_run),
            ("GET", run + "/{id}/executions/{execution}", self.execution),
            ("POST", run + "/{id}/executions/{execution}:cancel", self.cancel_run),
            ("GET", run + "/{id}/executions/{execution}/tasks", self.run_tasks),
            ("GET", f"/v2/{PLACE}" + "/operations/{id}", self.operation),
            ("POST", "/v2/entries:list", self.entries),
        ]
        return Starlette(routes=[Route(path, _endpoint(do), methods=[method]) for method, path, do in routes])

    # --- Google Batch -------------------------------------------------------------------------------------------------

    def make_batch(self, request: Request, body: dict[str, Any]) -> Response:
        name = request.query_params["jobId"]
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
            return JSONResponse({"error": {"code": 400, "message": f"invalid job id {name}"}}, 400)
        if name in self.jobs:
            return JSONResponse({"error": {"code": 409, "message": f"{name} exists", "status": "ALREADY_EXISTS"}}, 409)
        job = self.jobs[name] = Job(name, body)
        self.uids[name] = f"{name}-{uuid.uuid4()}"
        task = body["taskGroups"][0]["taskSpec"]
        container = task["runnables"][0]["container"]
        command = [container["entrypoint"], *container["commands"]]
        self.machines.start(job, container["imageUri"], command, task["environment"]["variables"])
        return JSONResponse(self._batch(request, job))

    def _batch(self, request: Request, job: Job) -> dict[str, Any]:
        states = {"waiting": "QUEUED", "running": "RUNNING"}
        if job.state == "ended":
            state = "CANCELLED" if job.was_cancelled else "SUCCEEDED" if job.exit_code == 0 else "FAILED"
        else:
            state = states[job.state]
        events = [{"type": "STATUS_CHANGED", "description": job.error or f"Job state is set to {state}"}]
        where = request.path_params
        return {
            **job.request,
            "name": f"projects/{where['project']}/locations/{where['region']}/jobs/{job.name}",
            "uid": self.uids[job.name],
            "createTime": job.created_at.isoformat().replace("+00:00", "Z"),
            "status": {"state": state, "statusEvents": events},
        }

    def list_batch(self, request: Request, _body: dict[str, Any]) -> Response:
        return JSONResponse({"jobs": [self._batch(request, job) for job in self.jobs.values()]})

    def get_batch(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.jobs.get(request.path_params["id"])
        return JSONResponse(self._batch(request, job)) if job else missing(request.url.path)

    def batch_task(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return missing(request.url.path)
        events: list[dict[str, Any]] = [{"type": "STATUS_CHANGED", "taskState": "RUNNING"}]
        if job.exit_code is not None:
            state = "SUCCEEDED" if job.exit_code == 0 else "FAILED"
            code = 50001 if job.was_taken else job.exit_code
            events.append({"taskState": state, "taskExecution": {"exitCode": code}})
        return JSONResponse(
            {"name": request.url.path, "status": {"state": events[-1]["taskState"], "statusEvents": events}}
        )

    def cancel_batch(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return missing(request.url.path)
        if job.state == "ended":
            return JSONResponse({"error": {"code": 400, "message": "the job has ended"}}, 400)
        self.machines.stop(job)
        return JSONResponse({"name": "operations/1", "done": False})

    def delete_batch(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.jobs.pop(request.path_params["id"], None)
        if job is None:
            return missing(request.url.path)
        self.machines.remove(job)
        return JSONResponse({"name": "operations/1", "done": False})

    # --- Cloud Run ----------------------------------------------------------------------------------------------------

    def make_run(self, request: Request, body: dict[str, Any]) -> Response:
        name = request.query_params["jobId"]
        if name in self.runs:
            return JSONResponse({"error": {"code": 409, "message": f"{name} exists", "status": "ALREADY_EXISTS"}}, 409)
        self.runs[name] = Job(name, body)
        where = request.path_params
        return JSONResponse({"name": f"projects/{where['project']}/locations/{where['region']}/operations/{name}"})

    def operation(self, request: Request, _body: dict[str, Any]) -> Response:
        return JSONResponse({"name": request.url.path.removeprefix("/v2/"), "done": True, "response": {}})

    def start_run(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.runs.get(request.path_params["id"])
        if job is None:
            return missing(request.url.path)
        container = job.request["template"]["template"]["containers"][0]
        env = {item["name"]: item["value"] for item in container["env"]}
        self.machines.start(job, container["image"], [*container["command"], *container["args"]], env)
        return JSONResponse({"name": "operations/2", "metadata": {"name": self._execution_name(request, job)}})

    @staticmethod
    def _execution_name(request: Request, job: Job) -> str:
        where = request.path_params
        return f"projects/{where['project']}/locations/{where['region']}/jobs/{job.name}/executions/{job.name}-x"

    def list_run(self, request: Request, _body: dict[str, Any]) -> Response:
        return JSONResponse({"jobs": [self._run(request, job) for job in self.runs.values()]})

    def _run(self, request: Request, job: Job) -> dict[str, Any]:
        where = request.path_params
        latest = {"name": self._execution_name(request, job)} if job.state != "waiting" else {}
        return {
            **job.request,
            "name": f"projects/{where['project']}/locations/{where['region']}/jobs/{job.name}",
            "createTime": job.created_at.isoformat().replace("+00:00", "Z"),
            "latestCreatedExecution": latest,
        }

    def get_run(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.runs.get(request.path_params["id"])
        return JSONResponse(self._run(request, job)) if job else missing(request.url.path)

    def execution(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.runs.get(request.path_params["id"])
        if job is None:
            return missing(request.url.path)
        answer: dict[str, Any] = {"name": self._execution_name(request, job), "conditions": []}
        if job.state != "ended":
            return JSONResponse(answer | {"runningCount": int(job.state == "running")})
        key = "succeededCount" if job.exit_code == 0 else "cancelledCount" if job.was_cancelled else "failedCount"
        message = job.error or ("" if job.exit_code == 0 else f"Task failed with exit code {job.exit_code}")
        answer["conditions"] = [{"type": "Completed", "message": message}] if message else []
        return JSONResponse(answer | {key: 1, "completionTime": datetime.now(UTC).isoformat()})

    def run_tasks(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.runs.get(request.path_params["id"])
        if job is None:
            return missing(request.url.path)
        result = {"exitCode": job.exit_code} if job.exit_code else {}
        return JSONResponse({"tasks": [{"lastAttemptResult": result | {"status": {"message": job.error}}}]})

    def cancel_run(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.runs.get(request.path_params["id"])
        if job is None:
            return missing(request.url.path)
        if job.state == "ended":
            return JSONResponse({"error": {"code": 400, "message": "the execution has ended"}}, 400)
        self.machines.stop(job)
        return JSONResponse({"name": "operations/3", "done": False})

    def delete_run(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.runs.pop(request.path_params["id"], None)
        if job is None:
            return missing(request.url.path)
        self.machines.remove(job)
        return JSONResponse({"name": "operations/4", "done": False})

    # --- Cloud Logging ------------------------------------------------------------------------------------------------

    def entries(self, _request: Request, body: dict[str, Any]) -> Response:
        chosen = body["filter"]
        job, describe = self._logged(chosen)
        since = _CONDITION.search(chosen)
        found = [
            entry
            for entry in (job.entries if job else [])
            if since is None or entry.at >= datetime.fromisoformat(since[1])
        ]
        start = int(body.get("pageToken", 0))
        size = min(int(body["pageSize"]), self.page_size)
        page = found[start : start + size]
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return JSONResponse({"entries": [describe(entry) for entry in page]} | more)

    def _logged(self, chosen: str) -> tuple[Job | None, Callable[[Entry], dict[str, Any]]]:
        if uid := re.search(r'labels\.job_uid="([^"]+)"', chosen):
            name = next((name for name, each in self.uids.items() if each == uid[1]), "")
            return self.jobs.get(name), _batch_entry
        execution = re.search(r'execution_name"="([^"]+)-x"', chosen)
        assert execution is not None, chosen
        return self.runs.get(execution[1]), _run_entry


def _batch_entry(entry: Entry) -> dict[str, Any]:
    severity = "ERROR" if entry.stream == "stderr" else "INFO"
    return _entry(entry) | {"logName": "projects/p/logs/batch_task_logs", "severity": severity}


def _run_entry(entry: Entry) -> dict[str, Any]:
    return _entry(entry) | {"logName": f"projects/p/logs/run.googleapis.com%2F{entry.stream}"}


def _entry(entry: Entry) -> dict[str, Any]:
    at = entry.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"timestamp": at, "textPayload": entry.text.decode("utf-8", "replace"), "insertId": uuid.uuid4().hex}


def _endpoint(do: Callable[..., Response]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        content = await request.body()
        body = await request.json() if content else {}
        return await run_in_threadpool(do, request, body)

    return answer
