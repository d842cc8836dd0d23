"""Files of jobs by way of the server: what a signed address opens, and what it does not."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from runner.executions.models import Attempt, Commit, Execution, TaskRun
from runner.key_values import MemoryKeyValues
from runner.services import Host
from runner.settings import Settings
from runner.stage import Grants, StorageStage
from runner.states import State
from runner.store import Store
from task_runners.base import FileLimits, RunnerContext, TaskRunnerError, TaskSpec, WorkDir
from task_runners.staging.http_tar import HttpTar
from tests.servers.store import fresh_store
from webhooks.staging import Staging

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FOLDER = "kestra:///team/flow/executions/exec1/tasks/t/run1/.staging"


@dataclass
class Door:
    """The server's side, and what a job sees of it."""

    store: Store
    host: Host
    stage: StorageStage
    app: Staging
    moment: datetime = NOW

    async def ask(self, method: str, url: str, content: bytes | AsyncIterator[bytes] = b"") -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, url, content=content)

    def end_attempt(self) -> None:
        self.store.write(
            lambda db: db.claims.record(
                "run1", 1, result=State.SUCCESS, outputs={}, error=None, exit_code=0, failure_reason=None, at=NOW
            )
        )


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    settings = Settings(home=tmp_path / "home", internal_url="http://server")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")
    host = Host.open(settings, MemoryKeyValues(), environment={}, store=store, clock=lambda: NOW)
    execution = Execution("exec1", "team", "flow", 1, State.RUNNING, NOW)
    run = TaskRun("run1", "exec1", "t", State.RUNNING, NOW, epoch=1, attempts=1)
    attempt = Attempt("run1", "exec1", 1, 1, State.RUNNING, "w", NOW)
    store.write(lambda db: db.executions.insert(execution))
    loaded = replace(execution, version=execution.version + 1)
    commit = Commit(loaded, execution.version, new_runs=(run,), attempts=(attempt,))
    store.write(lambda db: db.executions.commit(commit))
    assert host.encryption is not None
    grants = Grants(host.encryption.derived("staging"))
    door = Door(store, host, StorageStage(host, FOLDER, "run1", 1), None)  # type: ignore[arg-type]  # made below
    door.app = Staging(grants, store, host.storage, clock=lambda: door.moment)
    yield door
    store.close()


def _archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


@pytest.mark.anyio
async def test_a_job_fetches_its_files_and_hands_others_in(door: Door, tmp_path: Path) -> None:
    work = WorkDir(tmp_path / "work")
    work.path.mkdir()
    (work.path / "in.txt").write_text("in")
    (work.path / "in.txt").chmod(0o755)
    spec = TaskSpec(("true",), "run1", output_globs=("*.csv",))
    ctx = RunnerContext(on_line=print, stage=door.stage)
    staging = HttpTar()

    staged = staging.put(spec, work, ctx)
    assert staged.download is not None
    assert staged.upload is not None
    got = await door.ask("GET", staged.download)
    handed = await door.ask("PUT", staged.upload.url, _archive(**{"out.csv": b"1,2", "other.txt": b"x"}))
    staging.get(staged, spec, work, ctx)
    staging.remove(staged, ctx)

    with tarfile.open(fileobj=io.BytesIO(got.content)) as archive:
        assert {member.name: member.mode & 0o100 for member in archive if member.isreg()} == {"./in.txt": 0o100}
    assert (got.status_code, len(got.content), handed.status_code) == (200, staged.size, 201)
    assert sorted(path.name for path in work.path.iterdir()) == ["in.txt", "out.csv"]
    assert door.host.storage.list(FOLDER) == []


@pytest.mark.anyio
async def test_an_address_serves_one_upload(door: Door) -> None:
    upload = door.stage.upload("out.tar", timedelta(hours=1), 1000)
    assert upload is not None

    first = await door.ask("POST", upload.url, b"one")
    second = await door.ask("PUT", upload.url, b"two")

    assert (first.status_code, second.status_code) == (201, 409)
    with door.stage.open("out.tar") as kept:
        assert kept.read() == b"one"


@pytest.mark.anyio
async def test_an_archive_that_comes_twice_at_once_is_taken_once(door: Door) -> None:
    upload = door.stage.upload("out.tar", timedelta(hours=1), 1_000_000)
    assert upload is not None
    url, answers = upload.url, []

    async def slow() -> AsyncIterator[bytes]:
        second = asyncio.create_task(door.ask("PUT", url, b"two"))
        while not second.done():
            yield b"one"
            await asyncio.sleep(0.01)
        answers.append(await second)

    answers.append(await door.ask("PUT", url, slow()))

    assert [each.status_code for each in answers] == [409, 201]
    with door.stage.open("out.tar") as kept:
        assert set(kept.read().split(b"one")) == {b""}


@pytest.mark.anyio
async def test_an_upload_that_comes_again_takes_the_place_of_one_that_is_silent(door: Door) -> None:
    upload = door.stage.upload("out.tar", timedelta(hours=1), 1000)
    assert upload is not None
    door.app._silent_s = 0.2
    began, never = asyncio.Event(), asyncio.Event()

    async def half_open() -> AsyncIterator[bytes]:
        yield b"one"
        began.set()
        await never.wait()

    older = asyncio.create_task(door.ask("PUT", upload.url, half_open()))
    await began.wait()
    again, beside = await asyncio.gather(door.ask("PUT", upload.url, b"two"), door.ask("PUT", upload.url, b"three"))
    first = await asyncio.wait_for(older, 20)

    assert sorted([again.status_code, beside.status_code]) == [201, 409]
    assert (first.status_code, first.json()["code"]) == (409, "staging.archive.exists")
    with door.stage.open("out.tar") as kept:
        assert kept.read() == (b"two" if again.status_code == 201 else b"three")
    assert len(door.host.storage.list(FOLDER)) == 1


@pytest.mark.anyio
async def test_what_comes_until_after_the_end_is_not_kept(door: Door) -> None:
    upload = door.stage.upload("out.tar", timedelta(hours=1), 1000)
    assert upload is not None

    async def late() -> AsyncIterator[bytes]:
        yield b"one"
        door.end_attempt()

    answer = await door.ask("PUT", upload.url, late())

    assert (answer.status_code, answer.json()["code"]) == (403, "staging.grant.invalid")
    assert door.host.storage.list(FOLDER) == []


@pytest.mark.anyio
async def test_more_bytes_than_granted_are_refused_while_they_come(door: Door) -> None:
    upload = door.stage.upload("out.tar", timedelta(hours=1), 1000)
    assert upload is not None

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    answer = await door.ask("PUT", upload.url, endless())

    assert (answer.status_code, answer.json()["code"]) == (422, "staging.archive.large")
    with pytest.raises(TaskRunnerError):
        door.stage.open("out.tar")


@pytest.mark.anyio
async def test_what_was_not_granted_opens_nothing(door: Door) -> None:
    door.stage.put("in.tar", io.BytesIO(b"secret"))
    download = door.stage.download("in.tar", timedelta(hours=1))
    assert download is not None
    forged = download[:-3] + ("AAA" if not download.endswith("AAA") else "BBB")
    other = StorageStage(door.host, FOLDER, "run1", 2).download("in.tar", timedelta(hours=1))
    assert other is not None

    answers = [
        await door.ask("GET", forged),
        await door.ask("PUT", download, b"x"),
        await door.ask("GET", other),
        await door.ask("GET", "http://server/staging/nonsense"),
        await door.ask("GET", "http://server/staging/\udcff.x".encode("utf-8", "replace").decode()),
    ]
    door.moment = NOW + timedelta(hours=2)
    answers.append(await door.ask("GET", download))

    assert {(each.status_code, each.json()["code"]) for each in answers} == {(403, "staging.grant.invalid")}
    assert all(b"secret" not in each.content for each in answers)


@pytest.mark.anyio
async def test_an_address_ends_with_its_attempt(door: Door) -> None:
    door.stage.put("in.tar", io.BytesIO(b"x"))
    download = door.stage.download("in.tar", timedelta(hours=1))
    assert download is not None

    before = await door.ask("GET", download)
    door.end_attempt()
    after = await door.ask("GET", download)

    assert (before.status_code, after.status_code) == (200, 403)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_an_archive_that_leaves_the_directory_is_refused(door: Door, tmp_path: Path, name: str) -> None:
    work = WorkDir(tmp_path / "work")
    work.path.mkdir()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(f"./{name}" if not name.startswith("/") else f".{name}/../../../x"))
    content.seek(0)
    door.stage.put("out.tar", content)
    spec = TaskSpec(("true",), "run1", sync_workdir=True)
    ctx = RunnerContext(on_line=print, stage=door.stage, file_limits=FileLimits(total_bytes=1000))

    with pytest.raises(TaskRunnerError) as caught:
        HttpTar().get(HttpTar().put(spec, work, ctx), spec, work, ctx)

    assert caught.value.code == "file.path.refused"
    assert list(work.path.rglob("*")) == []


def test_without_an_address_of_the_server_nothing_is_staged(door: Door, tmp_path: Path) -> None:
    host = replace(door.host, settings=Settings(home=tmp_path / "home"))
    ctx = RunnerContext(on_line=print, stage=StorageStage(host, FOLDER, "run1", 1))

    with pytest.raises(TaskRunnerError) as caught:
        HttpTar().put(TaskSpec(("true",), "run1"), WorkDir(tmp_path), ctx)

    assert caught.value.code == "staging.address.unset"
    assert host.storage.list(FOLDER) == []


def test_a_storage_that_cannot_be_reached_is_trouble_of_the_job_alone(door: Door) -> None:
    door.stage.put("out.tar", io.BytesIO(b"x"))
    folder = next(path for path in door.host.settings.home.rglob(".staging") if path.is_dir())
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.with_name("moved"))

    with pytest.raises(TaskRunnerError) as raised:
        door.stage.remove()

    assert raised.value.code == "staging.archive.unremoved"
