"""The Azure Batch service, as far as a task runner speaks to it: jobs with one task each, and the files of tasks."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from task_runners.azure_access import BatchKeyAuth
from tests.servers.clouds.machine import Job, Machines

ACCOUNT = "tests"
KEY = "dGhlIGtleSBvZiBhIGJhdGNoIGFjY291bnQ="
_WORK = "/mnt/batch/task/wd"


def _fault(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "message": {"lang": "en-US", "value": message}}, status)


class _Nodes(Machines):
    """Machines that bring files to a task and take files away, as the agent of a node does."""

    def __init__(self, docker_host: str, folder: Path) -> None:
        super().__init__(docker_host)
        self.folder = folder

    def begin(self, job: Job) -> None:
        task = job.request["task"]
        home = self.folder / job.name
        home.mkdir()
        for file in task.get("resourceFiles", ()):
            answer = httpx.get(file["httpUrl"], timeout=60)
            if not answer.is_success:
                job.error, job.state = f"BlobDownloadMiscError: {answer.status_code}", "ended"
                return
            (home / file["filePath"]).write_bytes(answer.content)
        env = {item["name"]: item["value"] for item in task.get("environmentSettings", ())}
        assert "\n" not in "".join(env.values()), "the agent hands the environment over line by line"
        image = task["containerSettings"]["imageName"]
        self.start(job, image, shlex.split(task["commandLine"]), env, [f"{home}:{_WORK}"], _WORK)

    def after(self, job: Job) -> None:
        if job.was_cancelled or job.was_taken:
            return
        for file in job.request["task"].get("outputFiles", ()):
            found = self.folder / job.name / file["filePattern"]
            target = file["destination"]["container"]
            if found.exists():
                url = httpx.URL(target["containerUrl"])
                blob = url.copy_with(path=f"{url.path}/{target['path']}")
                headers = {"x-ms-blob-type": "BlockBlob"}
                httpx.put(blob, content=found.read_bytes(), headers=headers, timeout=60).raise_for_status()


class Azure:
    """One Batch account with one pool."""

    def __init__(self, docker_host: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="azure-nodes-")
        self.machines = _Nodes(docker_host, Path(self._folder.name))
        self.jobs: dict[str, Job] = {}

    def close(self) -> None:
        for job in self.jobs.values():
            self.machines.remove(job)
        self.machines.close()
        self._folder.cleanup()

    @property
    def application(self) -> Starlette:
        task = "/jobs/{id}/tasks/{task}"
        routes: list[tuple[str, str, Callable[..., Response]]] = [
            ("POST", "/jobs", self.make_job),
            ("GET", "/jobs", self.list_jobs),
            ("DELETE", "/jobs/{id}", self.delete_job),
            ("POST", "/jobs/{id}/tasks", self.make_task),
            ("GET", task, self.get_task),
            ("POST", task + "/terminate", self.terminate),
            ("GET", task + "/files/{file}", self.file),
        ]
        return Starlette(routes=[Route(path, self._endpoint(do), methods=[method]) for method, path, do in routes])

    def _endpoint(self, do: Callable[..., Response]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            content = await request.body()
            refused = self._refused(request, content)
            if refused is not None:
                return refused
            return await run_in_threadpool(do, request, await request.json() if content else {})

        return answer

    def _refused(self, request: Request, content: bytes) -> Response | None:
        signed = httpx.Request(request.method, str(request.url), headers=dict(request.headers), content=content)
        expected = f"SharedKey {ACCOUNT}:{BatchKeyAuth(ACCOUNT, KEY).signature(signed)}"
        if request.headers.get("authorization") != expected:
            return _fault(403, "AuthenticationFailed", "the signature is wrong")
        if request.query_params.get("api-version") is None:
            return _fault(400, "MissingRequiredQueryParameter", "api-version")
        if content and not request.headers["content-type"].startswith("application/json; odata"):
            return _fault(400, "InvalidHeaderValue", "Content-Type")
        return None

    def make_job(self, _request: Request, body: dict[str, Any]) -> Response:
        if body["id"] in self.jobs:
            return _fault(409, "JobExists", "The specified job already exists.")
        self.jobs[body["id"]] = Job(body["id"], body)
        return Response(status_code=201)

    def list_jobs(self, _request: Request, _body: dict[str, Any]) -> Response:
        return JSONResponse({"value": [{**job.request, "state": "active"} for job in self.jobs.values()]})

    def delete_job(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self.jobs.pop(request.path_params["id"], None)
        if job is None:
            return _fault(404, "JobNotFound", "The specified job does not exist.")
        self.machines.remove(job)
        return Response(status_code=202)

    def make_task(self, request: Request, body: dict[str, Any]) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return _fault(404, "JobNotFound", "The specified job does not exist.")
        if "task" in job.request:
            return _fault(409, "TaskExists", "The specified task already exists.")
        job.request["task"] = body
        self.machines.begin(job)
        return Response(status_code=201)

    def _task(self, request: Request) -> Job | None:
        job = self.jobs.get(request.path_params["id"])
        is_there = job is not None and job.request.get("task", {}).get("id") == request.path_params["task"]
        return job if is_there else None

    def get_task(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self._task(request)
        if job is None:
            return _fault(404, "TaskNotFound", "The specified task does not exist.")
        info: dict[str, Any] = {"retryCount": 0, "requeueCount": 0}
        if job.was_taken and job.state == "ended":  # it waits for another node, of which this pool has none
            return JSONResponse({"id": job.request["task"]["id"], "state": "active", "executionInfo": info})
        state = {"waiting": "active", "running": "running", "ended": "completed"}[job.state]
        node = {"nodeInfo": {"nodeId": f"tvm-{job.container[:12]}", "poolId": "pool"}} if job.container else {}
        if job.exit_code is not None:
            info["exitCode"] = job.exit_code
        if job.state == "ended":
            info["result"] = "success" if job.exit_code == 0 else "failure"
            if job.error:
                failure = {"category": "usererror", "code": "ContainerInvalidImage", "message": job.error}
                info["failureInfo"] = failure
        return JSONResponse({"id": job.request["task"]["id"], "state": state, "executionInfo": info, **node})

    def terminate(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self._task(request)
        if job is None:
            return _fault(404, "TaskNotFound", "The specified task does not exist.")
        if job.state == "ended":
            return _fault(409, "TaskCompleted", "The specified task is already in a completed state.")
        self.machines.stop(job)
        return Response(status_code=204)

    def file(self, request: Request, _body: dict[str, Any]) -> Response:
        job = self._task(request)
        name = request.path_params["file"].removesuffix(".txt")
        if job is None or name not in job.content or job.state == "waiting":
            return _fault(404, "FileNotFound", "The specified file does not exist.")
        content = job.content[name]
        start, _, end = request.headers.get("ocp-range", "bytes=0-").removeprefix("bytes=").partition("-")
        if int(start) >= len(content):
            return _fault(416, "InvalidRange", "The range specified is invalid.")
        piece = content[int(start) : int(end) + 1 if end else None]
        return Response(piece, 206, media_type="application/octet-stream")
