"""What all git tasks have in common: which repository, how to get in, and the open repository while a task runs."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runner.context import host_of, make_work_dir, remove_work_dir
from runner.errors import MainstemError, TaskError
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.plugin import Context, Task
from sync.checked import Reach
from sync.mirror import Budget, MirrorSource
from sync.names import check_ref
from sync.remote import Credentials, parse_address
from task_runners.errors import TaskRunnerError
from task_runners.files import relative_parts

_LONGEST_S: Final = 3_600.0
_ASKPASS: Final = '#!/bin/sh\nexec cat "$0.txt"\n'


class GitTask(Task):
    """Base of the tasks on a repository elsewhere.

    `username` and `password` (or a token as password) are for http and https, `privateKey`, with its `passphrase`, for
    ssh. The host's key is always compared with `knownHosts` (lines of such a file), without it with the file
    `known_hosts` of the server's home or that of its user; `strictHostKeyChecking: false` changes nothing.
    `trustedCaPemPath` names a PEM file of authorities: in the working directory, `nsfile:///…` or `kestra://…`.
    `connectTimeout` and `readTimeout` are milliseconds. Proxies of the server's environment are not used, so `noProxy`
    changes nothing; `kestraUrl` and `auth` change nothing either, since a task needs no API to its own server.
    """

    url: Template
    username: Template | None = None
    password: Template | None = None
    private_key: Template | None = None
    passphrase: Template | None = None
    known_hosts: Template | None = None
    strict_host_key_checking: Any = True
    trusted_ca_pem_path: Template | None = None
    no_proxy: Any = None
    connect_timeout: Any = 10_000
    read_timeout: Any = 60_000
    git_config: Any = None
    kestra_url: Any = None
    auth: Any = None

    @contextlib.contextmanager
    def opened(self, ctx: Context, url: str, name: str = "git") -> Iterator[Remote]:
        """Give the repository at `url` with a folder of its own, told apart by `name`, which is gone afterwards.

        Raises:
            TaskError: with the code of what went wrong: `repository.*`, `egress.*`, `git.*`.
        """
        host, run = host_of(ctx), ctx.task_run
        try:
            if parse_address(url).is_local:
                raise TaskError(
                    "git.url.local",
                    f"{url!r} is a path of the server",
                    hint="a task reaches repositories by https, http or ssh",
                )
            room = make_work_dir(host.settings.work_root, f"{run.id}-{max(1, run.attempts)}-{name}")
            try:
                source = MirrorSource(
                    url,
                    room / "repository",
                    credentials=self._credentials(ctx, room),
                    budget=self._budget(ctx),
                    reach=self._reach(ctx),
                )
                with contextlib.closing(source):
                    yield Remote(url, source, room)
            finally:
                remove_work_dir(room)
        except TaskError:
            raise
        except MainstemError as error:
            raise TaskError(error.code, error.message, hint=error.hint) from None

    def user(self, ctx: Context) -> str | None:
        """Return the user name, None without one."""
        return ctx.render(self.username) or None

    def _credentials(self, ctx: Context, room: Path) -> Credentials:
        masker = host_of(ctx).masker
        password, key = ctx.render(self.password) or None, ctx.render(self.private_key)
        passphrase = ctx.render(self.passphrase)
        for secret in (password, key, passphrase):
            if secret:
                masker.add(secret)
        if not is_truthy(ctx.render_typed(self.strict_host_key_checking)):
            ctx.log("WARN", "strictHostKeyChecking: false is not followed: the key of the host is always checked")
        return Credentials(
            username=self.user(ctx),
            password=password,
            ssh_key=_key_file(room, key, passphrase) if key else None,
            known_hosts=self._hosts_file(ctx, room),
        )

    def _hosts_file(self, ctx: Context, room: Path) -> Path | None:
        lines = ctx.render(self.known_hosts)
        if lines:
            path = room / "known_hosts"
            path.write_text(lines.rstrip("\n") + "\n", encoding="utf-8")
            return path
        kept = host_of(ctx).settings.home.absolute() / "known_hosts"
        return kept if kept.exists() else None

    def _budget(self, ctx: Context) -> Budget:
        left = _LONGEST_S if ctx.deadline_s is None else min(ctx.deadline_s, _LONGEST_S)
        return Budget(host_of(ctx).settings.git_max_mib << 20, left, ctx.cancelled.is_set)

    def _reach(self, ctx: Context) -> Reach:
        return Reach(
            allow_private=host_of(ctx).settings.allow_private_addresses,
            connect_s=_seconds(ctx, "connectTimeout", self.connect_timeout),
            read_s=_seconds(ctx, "readTimeout", self.read_timeout),
            authorities=self._authorities(ctx),
        )

    def _authorities(self, ctx: Context) -> str | None:
        path = ctx.render(self.trusted_ca_pem_path)
        if not path:
            return None
        inside = ctx.work_dir() / path
        is_inside = "://" not in path and inside.resolve().is_relative_to(ctx.work_dir().resolve())
        content = inside.read_bytes() if is_inside and inside.is_file() else ctx.read_uri(path)
        return content.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository elsewhere while a task works with it. `room` is a folder that only this task sees."""

    url: str
    source: MirrorSource
    room: Path

    def branch(self, name: str) -> str:
        """Return the full ref of the branch `name`; of the one that the server names first, when it is empty.

        Raises:
            InvalidError: `repository.ref.invalid`.
        """
        if name:
            return check_ref(name if name.startswith("refs/") else f"refs/heads/{name}")
        return self.source.default_ref() or "refs/heads/main"

    def fetched(self, ref: str) -> str:
        """Return the commit that `ref` names, with its trees here.

        Raises:
            TaskError: `git.branch.missing`.
            FetchError: it cannot be read.
        """
        head = self.source.heads([ref]).get(ref)
        if head is None:
            raise missing_branch(self.url, ref)
        self.source.fetch(ref, head)
        return head


def missing_branch(url: str, ref: str) -> TaskError:
    """Return the error for a branch that a repository does not have."""
    name = ref.removeprefix("refs/heads/")
    return TaskError(
        "git.branch.missing", f"{url} has no branch {name!r}", hint="is the name right, and is there a commit?"
    )


def folder_of(directory: str) -> str:
    """Return a folder without slashes at its ends; empty for the top. Raises `TaskError` `file.path.refused`."""
    if directory in {"", ".", "./", "/"}:
        return ""
    try:
        return "/".join(relative_parts(directory.rstrip("/")))
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message) from None


def number(ctx: Context, name: str, value: Any) -> float:
    """Return a number that may be a template. Raises `TaskError` `task.property.invalid`."""
    found = ctx.render_typed(value)
    try:
        parsed = float(found)
    except (TypeError, ValueError):
        parsed = math.nan
    if not math.isfinite(parsed) or parsed < 0:
        raise TaskError("task.property.invalid", f"`{name}` must be a number that is not negative, and not {found!r}")
    return parsed


def is_on(ctx: Context, value: Any) -> bool:
    """Return a switch that may be a template."""
    return is_truthy(ctx.render_typed(value))


def _seconds(ctx: Context, name: str, value: Any) -> float:
    return min(max(number(ctx, name, value) / 1_000, 0.001), _LONGEST_S)


def _key_file(room: Path, key: str, passphrase: str) -> Path:
    """Return the file of a private key that ssh can use without asking.

    Raises:
        TaskError: `git.key.invalid`.
    """
    path = room / "key"
    _write_private(path, key.replace("\r\n", "\n").strip("\n") + "\n")
    if passphrase:
        _decrypt(path, room / "askpass", passphrase)
    return path


def _decrypt(path: Path, askpass: Path, passphrase: str) -> None:
    # The passphrase goes through files that only this user reads: arguments are seen by everybody on the machine.
    _write_private(askpass, _ASKPASS, mode=0o700)
    _write_private(askpass.with_name("askpass.txt"), passphrase)
    program = shutil.which("ssh-keygen")
    if program is None:
        raise TaskError("git.key.invalid", "a key with a passphrase needs ssh-keygen", hint="install openssh-client")
    done = subprocess.run(
        [program, "-p", "-N", "", "-f", str(path)],
        env={"PATH": os.defpath, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    if done.returncode:
        raise TaskError("git.key.invalid", "privateKey is no private key, or passphrase is not the one it has")


def _write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    path.touch(mode=mode)
    path.write_text(text, encoding="utf-8")
