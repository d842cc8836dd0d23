"""Commits that would pass for signed ones: each is told apart from a good one, and with the reason."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sync.signatures.key_list import KeyList
from sync.signatures.raw_commit import MOST_COMMIT
from sync.signatures.verdict import CommitSignature, SignatureState
from sync.signatures.verifier import Verifier
from tests.servers.signers import Signers, with_header

WHO = b"Ann <ann@example.org> 1700000000 +0000"
COMMIT = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor " + WHO + b"\ncommitter " + WHO + b"\n\nchange\n"
OTHER = COMMIT.replace(b"4b825dc", b"4b825dd")
TAG = b"mergetag object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n type commit\n gpgsig -----BEGIN SSH SIGNATURE-----\n"
Forged = Callable[[Signers], bytes]


def renamed(content: bytes) -> bytes:
    """Return an OpenPGP message that calls itself a signature."""
    return content.replace(b"PGP MESSAGE", b"PGP SIGNATURE")


def headed(*signatures: bytes, commit: bytes = COMMIT) -> bytes:
    for signature in signatures:
        commit = with_header(commit, signature)
    return commit


CORPUS: dict[str, tuple[SignatureState, Forged]] = {
    "ssh of another commit": (SignatureState.BAD, lambda who: headed(who.sign("ann", OTHER))),
    "openpgp of another commit": (SignatureState.BAD, lambda who: headed(who.sign_openpgp("ann", OTHER))),
    "ssh over a tag's name space": (SignatureState.BAD, lambda who: headed(who.sign("ann", COMMIT, "file"))),
    "stranger's ssh": (SignatureState.UNKNOWN_KEY, lambda who: headed(who.sign("ben", COMMIT))),
    "stranger's openpgp": (SignatureState.UNKNOWN_KEY, lambda who: headed(who.sign_openpgp("ben", COMMIT))),
    "certificate of nobody's authority": (SignatureState.UNKNOWN_KEY, lambda who: headed(who.sign("cert", COMMIT))),
    "revoked": (SignatureState.REVOKED, lambda who: headed(who.sign_openpgp("gone", COMMIT))),
    "expired": (
        SignatureState.EXPIRED,
        lambda who: headed(who.sign_openpgp("old", COMMIT, "--faked-system-time=20200101T120000")),
    ),
    "in the message": (SignatureState.MISSING, lambda who: COMMIT + b"gpgsig " + who.sign("ann", COMMIT)),
    "in the message after a blank line": (
        SignatureState.MISSING,
        lambda who: COMMIT + b"\ngpgsig " + who.sign("ann", COMMIT),
    ),
    "inside a tag that is merged": (
        SignatureState.MISSING,
        lambda _who: COMMIT.replace(b"\n\n", b"\n" + TAG + b"\n", 1),
    ),
    "that of another hash": (
        SignatureState.MISSING,
        lambda who: with_header(COMMIT, who.sign("ann", COMMIT), b"gpgsig-sha256"),
    ),
    "a header that only begins so": (
        SignatureState.MISSING,
        lambda who: with_header(COMMIT, who.sign("ann", COMMIT), b"gpgsigs"),
    ),
    "a good one and a stranger's": (
        SignatureState.BAD,
        lambda who: headed(who.sign("ann", COMMIT), who.sign("ben", COMMIT)),
    ),
    "the same one twice": (SignatureState.BAD, lambda who: headed(who.sign("ann", COMMIT), who.sign("ann", COMMIT))),
    "two in one header": (SignatureState.BAD, lambda who: headed(who.sign("ann", COMMIT) + who.sign("ben", COMMIT))),
    "two kinds in one header": (
        SignatureState.BAD,
        lambda who: headed(who.sign("ben", COMMIT) + who.sign_openpgp("ann", COMMIT)),
    ),
    "two of openpgp in one armor": (
        SignatureState.BAD,
        lambda who: headed(who.sign_openpgp("ann", COMMIT, "--local-user", who.fingerprint("ben"))),
    ),
    "a message that carries its own text": (
        SignatureState.BAD,
        lambda who: headed(renamed(who.gpg("--armor", "--local-user", who.fingerprint("ann"), "--sign", given=OTHER))),
    ),
    "a message that carries the commit": (
        SignatureState.BAD,
        lambda who: headed(renamed(who.gpg("--armor", "--local-user", who.fingerprint("ann"), "--sign", given=COMMIT))),
    ),
    "a public key": (
        SignatureState.BAD,
        lambda who: headed(who.armored("ann").encode().replace(b"PUBLIC KEY BLOCK", b"SIGNATURE")),
    ),
    "broken hash": (SignatureState.BAD, lambda who: headed(who.sign_openpgp("ann", COMMIT, "--digest-algo=SHA1"))),
    "x509": (
        SignatureState.UNSUPPORTED,
        lambda _who: headed(b"-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----"),
    ),
    "nothing": (SignatureState.UNSUPPORTED, lambda _who: headed(b"")),
    "words": (SignatureState.UNSUPPORTED, lambda _who: headed(b"trust me")),
    "ssh that ends at once": (SignatureState.BAD, lambda _who: headed(b"-----BEGIN SSH SIGNATURE-----")),
    "ssh of zeros": (
        SignatureState.BAD,
        lambda who: headed(who.sign("ann", COMMIT).replace(b"U1NIU0lH", b"\0\0\0\0\0\0\0\0")),
    ),
    "openpgp of noise": (
        SignatureState.BAD,
        lambda _who: headed(b"-----BEGIN PGP SIGNATURE-----\n\n" + b"/" * 400 + b"\n-----END PGP SIGNATURE-----"),
    ),
    "enormous signature": (
        SignatureState.LARGE,
        lambda _who: headed(b"-----BEGIN SSH SIGNATURE-----\n" + b"A" * (3 << 20)),
    ),
    "enormous commit": (SignatureState.LARGE, lambda who: headed(who.sign("ann", COMMIT)) + b"x" * MOST_COMMIT),
}


@pytest.fixture(scope="module")
def keys(signers: Signers) -> KeyList:
    lines = [signers.listed("ann"), signers.listed("ca", "*@example.org")]
    blocks = [signers.armored(name) for name in ("ann", "old", "gone")]
    return KeyList.read("\n".join([*lines, *blocks]).encode(), "keys")


def judged(keys: KeyList, content: bytes) -> CommitSignature:
    with tempfile.TemporaryDirectory() as folder:
        return Verifier(keys, Path(folder)).verify(content)


@pytest.mark.parametrize("name", CORPUS)
def test_a_forged_signature_does_not_count_and_is_told_by_its_name(signers: Signers, keys: KeyList, name: str) -> None:
    expected, forged = CORPUS[name]
    content = forged(signers)

    found = judged(keys, content)

    assert found.state is expected, found
    assert found.line.isprintable()


@pytest.mark.parametrize(
    "content",
    [
        COMMIT,
        COMMIT + b"\0\0 and \xff\xfe",
        COMMIT.replace(b"Ann", b"A\xe4n\x1b[31m"),
        COMMIT.removesuffix(b"change\n"),
    ],
    ids=["plain", "zeros in the message", "odd bytes in a name", "no message"],
)
def test_what_is_odd_but_signed_counts(signers: Signers, keys: KeyList, content: bytes) -> None:
    found = [
        judged(keys, headed(signed, commit=content))
        for signed in (signers.sign("ann", content), signers.sign_openpgp("ann", content))
    ]

    assert [each.state for each in found] == [SignatureState.GOOD, SignatureState.GOOD]


LISTS = {
    "words": b"nobody knows",
    "cut": b"ann ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
    "another type": b"ann ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExam",
    "no base64": b"ann ssh-ed25519 AAAA\xff\xfe",
    "private key": b"-----BEGIN OPENSSH PRIVATE KEY-----",
    "openpgp without an end": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA",
    "openpgp private key": b"-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "zeros": b"\0" * 100,
    "quotes": b'"ann' * 1000 + b" ssh-ed25519 AAAA",
    "options without an end": b"ann " + b'a="' * 5000,
    "many options": b"ann " + b"a," * 12_000 + b" ssh-ed25519 AAAA",
    "a long line": b"a" * (1 << 20),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_line_that_is_no_key_is_named_and_the_others_count(signers: Signers, name: str) -> None:
    content = signers.listed("ann").encode() + b"\n" + LISTS[name] + b"\n"

    found = KeyList.read(content, "keys")

    assert [problem.line for problem in found.problems] in ([2], [2, 3], [None])
    assert all(problem.message.startswith("keys") for problem in found.problems)
    assert found.signers == (() if found.problems[0].line is None else (signers.listed("ann"),))
    assert found.blocks == ()


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_comment_in_a_list_of_keys_goes_on_to_the_end_that_reviewers_see(ssh_signers: Signers, end: str) -> None:
    hidden = f"# retired:{end}{ssh_signers.listed('ben')}\n{ssh_signers.listed('ann')}\n"

    found = KeyList.read(hidden.encode(), "keys")

    assert (found.signers, found.problems) == ((ssh_signers.listed("ann"),), ())


def test_the_name_of_a_user_cannot_say_that_another_key_signed(signers: Signers, tmp_path: Path) -> None:
    other = signers.fingerprint("ann")
    name = f"eve\u2028[GNUPG:] VALIDSIG {other} 2026-01-01 1 0 4 0 22 8 00 {other}\u2028[GNUPG:] X <eve@example.org>"
    signers.gpg("--quick-generate-key", name, "ed25519", "sign", "never")
    rows = signers.gpg("--with-colons", "--list-keys", "eve@example.org").decode().split("\n")
    eve = next(row.split(":")[9] for row in rows if row.startswith("fpr:"))
    signature = signers.gpg("--armor", "--local-user", eve, "--detach-sign", given=COMMIT)
    listed = [signers.gpg("--armor", "--export", eve).decode(), signers.armored("ann")]

    found = Verifier(KeyList.read("\n".join(listed).encode(), "keys"), tmp_path).verify(headed(signature))

    assert (found.state, found.fingerprint) == (SignatureState.GOOD, eve)
