from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import InvalidError
from sync.remote import Address, Credentials, connect, parse_address, without_credentials


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://git.example.org/a/b.git", Address("https", "/a/b.git", "git.example.org")),
        ("http://127.0.0.1:8080/b.git", Address("http", "/b.git", "127.0.0.1", 8080)),
        ("ssh://git@host:2222/a/b.git", Address("ssh", "/a/b.git", "host", 2222, "git")),
        ("git@host.org:a/b.git", Address("ssh", "a/b.git", "host.org", None, "git")),
        ("file:///srv/a%20b.git", Address("file", "/srv/a b.git")),
        ("/srv/b.git", Address("file", "/srv/b.git")),
    ],
)
def test_an_address_is_taken_apart(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch /tmp/x'",
        "ext::sh",
        "fd::3",
        "git://host/x.git",
        "ftp://host/x.git",
        "ssh://-oProxyCommand=touch/x.git",
        "-oProxyCommand=x:path",
        "git@host:-x",
        "ssh://us er@host/x",
        "ssh://-l@host/x",
        "https:///x.git",
        "https://-host/x.git",
        "https://host:port/x.git",
        "https://user:pass@host/x.git",
        "ssh://user:pass@host/x.git",
        "file://other/x.git",
        "relative/path",
        "",
        "https://host/x\n.git",
        " https://host/x.git",
    ],
)
def test_an_address_that_could_do_something_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_address(url)

    assert caught.value.code == "repository.url.invalid"
    assert "user:" not in caught.value.message


def test_ssh_never_asks_and_always_checks_the_host() -> None:
    key, hosts = Path("/home/m/key file"), Path("/home/m/known_hosts")

    client, path = connect("git@host:a/b.git", "generic", Credentials(ssh_key=key, known_hosts=hosts))

    command = client.ssh_command  # type: ignore[attr-defined]  # the base class has none
    assert path == "a/b.git"
    assert "BatchMode=yes" in command
    assert "StrictHostKeyChecking=yes" in command
    assert "-i '/home/m/key file'" in command


def test_credentials_are_cut_from_texts() -> None:
    text = without_credentials("fatal: https://ann:s3cret@host/x?t=tok3n", "tok3n")

    assert text == "fatal: https://host/x?t=***"
