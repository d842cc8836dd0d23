"""People who sign their commits: real SSH and OpenPGP keys, made once, and real `git commit -S`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import pytest


@dataclass(frozen=True)
class Signers:
    """Keys in a folder of their own, by name. SSH: `ann ben ca ben-cert`; OpenPGP: `ann old gone`."""

    folder: Path

    @cached_property
    def home(self) -> Path:
        return self.folder / "g"

    def ssh(self, name: str) -> Path:
        return self.folder / name

    def listed(self, name: str, principals: str = "ann@example.org", options: str = "") -> str:
        """Return the line for an SSH key in a list of keys that count."""
        key = " ".join(self.ssh(name).with_suffix(".pub").read_text().split()[:2])
        return " ".join(part for part in (principals, options, key) if part)

    def armored(self, name: str) -> str:
        """Return an OpenPGP public key as it is listed."""
        return (self.folder / f"{name}.asc").read_text()

    def fingerprint(self, name: str) -> str:
        """Return that of an OpenPGP key."""
        return (self.folder / f"{name}.fpr").read_text()

    def commit(self, folder: Path, *options: str, ssh: str | None = None, pgp: str | None = None) -> str:
        """Commit what is in a work tree, signed with a key or with none, and return the commit."""
        settings = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        signing = []
        if ssh is not None:
            settings += ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.ssh(ssh)}"]
            signing = ["-S"]
        if pgp is not None:
            settings += ["-c", "gpg.format=openpgp", "-c", f"user.signingkey={self.fingerprint(pgp)}"]
            signing = ["-S"]
        environ = {**os.environ, "GNUPGHOME": str(self.home)}
        run("git", "add", "-A", folder=folder)
        run(
            "git",
            *settings,
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "change",
            *signing,
            *options,
            folder=folder,
            env=environ,
        )
        return run("git", "rev-parse", "HEAD", folder=folder)

    def write(self, folder: Path, files: dict[str, str], *options: str, **keys: str | None) -> str:
        """Write files into a work tree and commit them as `commit` does."""
        for name, text in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return self.commit(folder, *options, **keys)

    def gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        """Run `gpg` where the secret keys are."""
        command = ["gpg", f"--homedir={self.home}", "--batch", "--no-tty", "--quiet", "--pinentry-mode=loopback"]
        done = subprocess.run([*command, "--passphrase", "", *arguments], input=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def sign_openpgp(self, name: str, payload: bytes, *options: str) -> bytes:
        """Return the armored OpenPGP signature of bytes."""
        return self.gpg(*options, "--armor", "--local-user", self.fingerprint(name), "--detach-sign", given=payload)

    def sign(self, name: str, payload: bytes, namespace: str = "git") -> bytes:
        """Return the armored SSH signature of bytes."""
        command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(self.ssh(name))]
        return subprocess.run(command, input=payload, capture_output=True, check=True).stdout


def with_header(payload: bytes, signature: bytes, name: bytes = b"gpgsig") -> bytes:
    """Return a commit with a signature put into its last header."""
    head, _, message = payload.partition(b"\n\n")
    value = signature.rstrip(b"\n").replace(b"\n", b"\n ")
    return head + b"\n" + name + b" " + value + b"\n\n" + message


def run(*command: str, folder: Path, env: dict[str, str] | None = None, given: bytes | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=env, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode().strip()


@pytest.fixture(scope="session")
def ssh_signers(optional: Callable[[str, str], NoReturn]) -> Iterator[Signers]:
    """Give people with SSH keys, and a certificate that `ca` made for `ben`."""
    if shutil.which("ssh-keygen") is None:
        optional("ssh", "ssh-keygen is not on PATH (package openssh-client)")
    # The path of a socket is short: the folders of pytest are not.
    folder = Path(tempfile.mkdtemp(prefix="keys-"))
    for name in ("ann", "ben", "ca"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name, folder=folder)
    run("ssh-keygen", "-q", "-s", "ca", "-I", "ben", "-n", "ben@example.org", "ben.pub", folder=folder)
    shutil.copy(folder / "ben", folder / "cert")
    shutil.copy(folder / "ben-cert.pub", folder / "cert.pub")
    yield Signers(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def signers(ssh_signers: Signers, optional: Callable[[str, str], NoReturn]) -> Iterator[Signers]:
    """Give the same people with OpenPGP keys too: `ann` has one that is good, `old` has expired, `gone` is revoked."""
    if shutil.which("gpg") is None or shutil.which("gpg-agent") is None:
        optional("gpg", "gpg or gpg-agent is not on PATH (packages gpg and gpg-agent)")
    found = ssh_signers
    found.home.mkdir(mode=0o700)
    try:
        for name, expiry in (("ann", "never"), ("ben", "never"), ("old", "2020-01-02"), ("gone", "never")):
            early = ["--faked-system-time=20200101T000000"] if name == "old" else []
            found.gpg(*early, "--quick-generate-key", f"{name}@example.org", "ed25519", "sign", expiry)
            rows = found.gpg("--with-colons", "--list-keys", f"{name}@example.org").decode().splitlines()
            fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr:"))
            (found.folder / f"{name}.fpr").write_text(fingerprint)
            (found.folder / f"{name}.asc").write_bytes(found.gpg("--armor", "--export", f"{name}@example.org"))
        _revoke(found, "gone")
        yield found
    finally:
        subprocess.run(["gpgconf", f"--homedir={found.home}", "--kill", "all"], capture_output=True, check=False)


def _revoke(signers: Signers, name: str) -> None:
    """Write the public key of `name` with its revocation; the secret key goes on signing, as that of a thief does."""
    fingerprint = signers.fingerprint(name)
    prepared = (
        (signers.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
    )
    apart = signers.folder / "r"
    apart.mkdir(mode=0o700)
    command = ["gpg", f"--homedir={apart}", "--batch", "--no-tty", "--quiet", "--no-autostart"]
    for text in (signers.armored(name), prepared):
        subprocess.run([*command, "--import"], input=text.encode(), capture_output=True, check=True)
    exported = subprocess.run([*command, "--armor", "--export"], capture_output=True, check=True).stdout
    (signers.folder / f"{name}.asc").write_bytes(exported)
