"""Repositories over ssh, against a real OpenSSH server: keys of users, and keys of hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync.mirror import MirrorSource
from sync.remote import Credentials
from sync.sources import FetchError
from sync.tasks.clone import Clone
from sync.tasks.push import Push
from tests.servers.git import git
from tests.servers.ssh import SshServer, make_key

Seed = Callable[..., str]


@pytest.fixture
def repository(ssh_server: SshServer, tmp_path: Path, seed: Seed) -> str:
    """Give the address of a repository with one file; each test has its own."""
    name = f"{tmp_path.name}.git"
    seed(ssh_server.repository(name), {"a": "1"})
    return ssh_server.url(name)


def access(server: SshServer) -> dict[str, str]:
    return {"privateKey": server.key, "knownHosts": server.known_hosts}


def test_a_mirror_follows_a_repository_over_ssh(ssh_server: SshServer, repository: str, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(ssh_server.known_hosts)
    credentials = Credentials(ssh_key=ssh_server.folder / "user", known_hosts=hosts)
    source = MirrorSource(repository, tmp_path / "mirror.git", credentials=credentials)

    head = source.heads(["refs/heads/main"])["refs/heads/main"]
    source.fetch("refs/heads/main", head)
    blobs = source.repository.listing(head, "").files
    source.ensure(blobs.values())
    content = source.repository.blob(blobs["a"])
    source.close()

    assert content == b"1"


def test_a_host_with_another_key_is_refused_before_anything_is_sent(
    bench: Any, ssh_server: SshServer, repository: str, tmp_path: Path
) -> None:
    other = f"[127.0.0.1]:{ssh_server.port} {make_key(tmp_path / 'other')}"
    hosts = tmp_path / "hosts"
    hosts.write_text(other)
    credentials = Credentials(ssh_key=ssh_server.folder / "user", known_hosts=hosts)
    source = MirrorSource(repository, tmp_path / "mirror.git", credentials=credentials)

    error = bench.fail(Clone, url=repository, privateKey=ssh_server.key, knownHosts=other)
    with pytest.raises(FetchError) as raised:
        source.heads(["refs/heads/main"])
    source.close()

    assert [error.code, raised.value.code] == ["repository.host.unverified"] * 2
    assert "the key of the host is not the one that is known" in error.message
    assert "known_hosts" in str(error.hint)
    assert bench.files() == {}


def test_an_unknown_host_is_refused_whatever_the_task_says(bench: Any, ssh_server: SshServer, repository: str) -> None:
    (bench.host.settings.home / "known_hosts").write_text("")

    error = bench.fail(Clone, url=repository, privateKey=ssh_server.key, strictHostKeyChecking=False)

    assert error.code == "repository.host.unverified"
    assert "the key of the host is always checked" in bench.said("WARN")


def test_a_key_clones_and_pushes_and_is_nowhere_afterwards(bench: Any, ssh_server: SshServer, repository: str) -> None:
    (bench.host.settings.home / "known_hosts").write_text(ssh_server.known_hosts)

    bench.run(Clone, url=repository, privateKey=ssh_server.key)
    (bench.path / "b").write_text("2")
    outputs = bench.run(Push, branch="main", commitMessage="m", privateKey=ssh_server.key)

    bare = ssh_server.folder / repository.rpartition("/")[2]
    assert git(bare, "rev-parse", "main") == outputs["commitId"]
    assert git(bare, "show", "main:b") == "2"
    assert list(bench.host.settings.work_root.iterdir()) == []
    assert bench.host.masker.mask(ssh_server.key) != ssh_server.key


def test_a_key_with_a_passphrase_opens_with_the_right_one_only(
    bench: Any, ssh_server: SshServer, repository: str, tmp_path: Path
) -> None:
    with (ssh_server.folder / "authorized").open("a") as authorized:
        authorized.write(make_key(tmp_path / "locked", "open sesame"))
    fields = {"url": repository, "knownHosts": ssh_server.known_hosts, "privateKey": (tmp_path / "locked").read_text()}

    wrong = bench.fail(Clone, **fields, passphrase="close sesame")
    bench.run(Clone, **fields, passphrase="open sesame")

    assert wrong.code == "git.key.invalid"
    assert "sesame" not in wrong.message
    assert bench.files() == {"a": "1"}


def test_a_key_that_nobody_lets_in_is_named(bench: Any, ssh_server: SshServer, repository: str, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    stranger = {"privateKey": (tmp_path / "stranger").read_text(), "knownHosts": ssh_server.known_hosts}

    denied = bench.fail(Clone, url=repository, **stranger)
    missing = bench.fail(Clone, url=ssh_server.url("absent.git"), **access(ssh_server))

    assert denied.code == "repository.access.denied"
    assert "Permission denied" in denied.message
    assert missing.code in {"repository.missing", "repository.unreachable"}
