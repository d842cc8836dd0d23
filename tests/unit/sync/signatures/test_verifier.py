"""Commits that git itself signed, verified against lists of keys."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from sync.repository import GitRepository
from sync.signatures.key_list import KeyList
from sync.signatures.raw_commit import RawCommit
from sync.signatures.verdict import CommitSignature, SignatureState
from sync.signatures.verifier import Verifier
from tests.servers.git import git
from tests.servers.signers import Signers, with_header


def raw(work_tree: Any, commit: str) -> bytes:
    repository = GitRepository.open(work_tree.path)
    try:
        return repository.raw_commit(commit)
    finally:
        repository.close()


def verified(tmp_path: Path, content: bytes, *keys: str) -> CommitSignature:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    listed = KeyList.read("\n".join(keys).encode(), "keys")
    assert listed.problems == ()
    return Verifier(listed, folder).verify(content)


def test_a_commit_signed_by_git_with_a_listed_ssh_key_is_good(
    ssh_signers: Signers, work_tree: Any, tmp_path: Path
) -> None:
    commit = ssh_signers.write(work_tree.path, {"a": "1"}, ssh="ann")

    found = verified(tmp_path, raw(work_tree, commit), ssh_signers.listed("ann"))

    assert (found.state, found.kind, found.signer) == (SignatureState.GOOD, "ssh", "ann@example.org")
    assert found.fingerprint is not None
    assert found.fingerprint.startswith("SHA256:")


def test_a_commit_signed_by_git_with_a_listed_openpgp_key_is_good(
    signers: Signers, work_tree: Any, tmp_path: Path
) -> None:
    commit = signers.write(work_tree.path, {"a": "1"}, pgp="ann")

    found = verified(tmp_path, raw(work_tree, commit), signers.armored("ben"), signers.armored("ann"))

    expected = (SignatureState.GOOD, "openpgp", "ann@example.org", signers.fingerprint("ann"))
    assert (found.state, found.kind, found.signer, found.fingerprint) == expected
    assert list(tmp_path.glob("*/gnupg/S.*")) == [], "no agent was started"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", SignatureState.GOOD),
        ('namespaces="git"', SignatureState.GOOD),
        ('namespaces="file,git"', SignatureState.GOOD),
        ('namespaces="file"', SignatureState.UNKNOWN_KEY),
        ('valid-before="20200101"', SignatureState.EXPIRED),
        ('valid-after="20900101"', SignatureState.EXPIRED),
        ('valid-after="20200101",valid-before="20900101"', SignatureState.GOOD),
        ("cert-authority", SignatureState.UNKNOWN_KEY),
    ],
)
def test_the_options_of_an_allowed_signer_count(
    ssh_signers: Signers, work_tree: Any, tmp_path: Path, options: str, expected: SignatureState
) -> None:
    commit = ssh_signers.write(work_tree.path, {"a": "1"}, ssh="ann")

    found = verified(tmp_path, raw(work_tree, commit), ssh_signers.listed("ann", options=options))

    assert found.state is expected


def test_a_key_that_a_listed_authority_certified_counts_for_its_principals(
    ssh_signers: Signers, work_tree: Any, tmp_path: Path
) -> None:
    content = raw(work_tree, ssh_signers.write(work_tree.path, {"a": "1"}, ssh="cert"))

    good = verified(tmp_path, content, ssh_signers.listed("ca", "*@example.org", "cert-authority"))
    other = verified(tmp_path, content, ssh_signers.listed("ca", "*@other.org", "cert-authority"))

    assert (good.state, good.signer) == (SignatureState.GOOD, "ben@example.org")
    assert other.state is SignatureState.UNKNOWN_KEY


def test_a_principal_with_spaces_and_several_principals_are_taken(
    ssh_signers: Signers, work_tree: Any, tmp_path: Path
) -> None:
    content = raw(work_tree, ssh_signers.write(work_tree.path, {"a": "1"}, ssh="ann"))

    spaced = verified(tmp_path, content, ssh_signers.listed("ann", '"Ann Example"'))
    several = verified(tmp_path, content, ssh_signers.listed("ann", "-f,ann@example.org"))

    assert (spaced.state, spaced.signer) == (SignatureState.GOOD, "Ann Example")
    assert several.state is SignatureState.GOOD


def test_keys_that_are_not_listed_or_expired_or_revoked_are_told_apart(
    signers: Signers, work_tree: Any, tmp_path: Path
) -> None:
    listed = [signers.listed("ann"), *(signers.armored(name) for name in ("ann", "old", "gone"))]
    commits = {
        "ssh": signers.write(work_tree.path, {"a": "1"}, ssh="ben"),
        "pgp": signers.write(work_tree.path, {"a": "2"}, pgp="ben"),
        "gone": signers.write(work_tree.path, {"a": "3"}, pgp="gone"),
        "none": signers.write(work_tree.path, {"a": "4"}),
    }
    unsigned = raw(work_tree, commits["none"])
    signature = signers.sign_openpgp("old", unsigned, "--faked-system-time=20200101T120000")

    found = {name: verified(tmp_path, raw(work_tree, commit), *listed).state for name, commit in commits.items()}
    found["old"] = verified(tmp_path, with_header(unsigned, signature), *listed).state

    assert found == {
        "ssh": SignatureState.UNKNOWN_KEY,
        "pgp": SignatureState.UNKNOWN_KEY,
        "gone": SignatureState.REVOKED,
        "none": SignatureState.MISSING,
        "old": SignatureState.EXPIRED,
    }


def test_a_kind_of_which_no_key_is_listed_needs_no_program(signers: Signers, work_tree: Any, tmp_path: Path) -> None:
    content = raw(work_tree, signers.write(work_tree.path, {"a": "1"}, pgp="ann"))

    found = verified(tmp_path, content, signers.listed("ann"))

    assert (found.state, found.detail) == (SignatureState.UNKNOWN_KEY, "no key of this kind is listed")
    assert list(tmp_path.glob("*/gnupg")) == []


def test_merges_of_signed_tags_and_odd_encodings_are_verified_as_git_signed_them(
    ssh_signers: Signers, work_tree: Any, tmp_path: Path
) -> None:
    folder = work_tree.path
    ssh_signers.write(folder, {"a": "1"}, ssh="ann")
    signing = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={ssh_signers.ssh('ann')}")
    git(folder, "checkout", "-q", "-b", "topic")
    ssh_signers.write(folder, {"b": "1"})
    git(folder, *signing, "tag", "-s", "-m", "gpgsig in a tag", "v1")
    git(folder, "checkout", "-q", "main")
    ssh_signers.write(folder, {"c": "1"})
    git(folder, *signing, "merge", "-q", "-S", "--no-ff", "-m", "merge", "v1")
    merge = git(folder, "rev-parse", "HEAD")
    (tmp_path / "message").write_bytes(
        "gpgsig in words\n\n gpgsig -----BEGIN SSH SIGNATURE-----\n\xe4".encode("latin-1")
    )
    latin = ("-c", "i18n.commitEncoding=ISO-8859-1")
    git(
        folder,
        *signing,
        *latin,
        "commit",
        "-q",
        "-S",
        "--allow-empty",
        "--cleanup=verbatim",
        "-F",
        str(tmp_path / "message"),
    )
    odd = git(folder, "rev-parse", "HEAD")

    found = {commit: verified(tmp_path, raw(work_tree, commit), ssh_signers.listed("ann")) for commit in (merge, odd)}

    assert b"\nmergetag object " in raw(work_tree, merge)
    assert b"\nencoding ISO-8859-1\n" in raw(work_tree, odd)
    assert [each.state for each in found.values()] == [SignatureState.GOOD, SignatureState.GOOD]


def test_what_is_signed_is_all_but_the_signature(ssh_signers: Signers, work_tree: Any) -> None:
    content = raw(work_tree, ssh_signers.write(work_tree.path, {"a": "1"}, ssh="ann"))

    parts = RawCommit.of(content)

    [signature] = parts.signatures
    header = b"gpgsig " + signature.rstrip(b"\n").replace(b"\n", b"\n ") + b"\n"
    assert content == parts.payload.replace(b"\n\nchange", b"\n" + header + b"\nchange")
    assert b"gpgsig" not in parts.payload
