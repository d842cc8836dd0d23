from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runner.addresses import EgressError, addresses, is_allowed
from runner.egress import Egress, bounded


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 302 if self.path.startswith("/to/") else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.path.removeprefix("/to/"))
        body = (self.headers["Host"] + "\n").encode() * (200_000 if self.path == "/long" else 1)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join()


PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "0.0.0.0", "::1", "fd00::1", "100.64.0.1", "::"]
NEVER = ["169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]
HIDDEN = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "64:ff9b:1::a00:1"]


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(text: str) -> None:
    assert is_allowed(ipaddress.ip_address(text), allow_private=False)


@pytest.mark.parametrize("text", PRIVATE + HIDDEN)
def test_private_addresses_are_allowed_on_demand_only(text: str) -> None:
    address = ipaddress.ip_address(text)

    assert not is_allowed(address, allow_private=False)
    assert is_allowed(address, allow_private=True)


@pytest.mark.parametrize("text", NEVER)
def test_link_local_addresses_are_never_allowed(text: str) -> None:
    assert not is_allowed(ipaddress.ip_address(text), allow_private=True)


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "localhost", "::1", "127.0.0.1"]
)
def test_however_an_address_is_written_it_is_checked(host: str) -> None:
    with pytest.raises(EgressError) as caught:
        addresses(host, 9, allow_private=False)

    assert caught.value.code == "egress.address.refused"


def test_a_name_with_one_forbidden_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, 0, 0, "", (text, port)) for text in ("8.8.8.8", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)

    with pytest.raises(EgressError, match=r"127\.0\.0\.1"):
        addresses("rebinding.example", 80, allow_private=False)


def test_a_name_is_resolved_once_and_the_checked_address_is_contacted(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def once(host: str, port: int, *rest: object, **options: object) -> object:
        asked.append(host)
        # A name that changes its mind after the check: the second answer must not be used.
        return real("127.0.0.1" if host == "changing.example" else host, port, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", once)

    with Egress(allow_private=True).client() as client:
        answer = client.get(f"http://changing.example:{server}/")

    assert answer.text == f"changing.example:{server}\n"
    assert str(answer.url) == f"http://changing.example:{server}/"
    assert asked.count("changing.example") == 1


def test_a_redirect_is_checked_like_a_request(server: int) -> None:
    with Egress(allow_private=True).client() as client:
        followed = client.get(f"http://127.0.0.1:{server}/to/http://localhost:{server}/x")
        with pytest.raises(EgressError) as caught:
            client.get(f"http://127.0.0.1:{server}/to/http://169.254.169.254/latest/meta-data")

    assert followed.text == f"localhost:{server}\n"
    assert caught.value.code == "egress.address.refused"


@pytest.mark.parametrize("url", ["ftp://localhost/", "file:///etc/passwd", "gopher://localhost/"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(EgressError) as caught, Egress(allow_private=True).client() as client:
        client.get(url)

    assert caught.value.code == "egress.url.invalid"


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(EgressError, match=r"no-such-host\.invalid"), Egress().client() as client:
        client.get("http://no-such-host.invalid/")


def test_an_answer_is_cut_off_at_its_limit(server: int) -> None:
    with (
        Egress(allow_private=True).client() as client,
        client.stream("GET", f"http://127.0.0.1:{server}/long") as answer,
        pytest.raises(EgressError) as caught,
    ):
        list(bounded(answer, 1_000_000))

    assert caught.value.code == "egress.answer.too_large"
