"""Pushes to a hosted repository whose environment takes signed commits alone."""

from __future__ import annotations

from typing import Any

from runner.settings import SignatureSettings
from tests.servers.signers import Signers


def test_git_is_told_who_signed_what_is_active_and_why_the_rest_is_not(
    start_hosted: Any, work_tree: Any, flow_text: Any, signers: Signers
) -> None:
    keys = (signers.listed("ann"), signers.armored("ann"))
    hosted = start_hosted(signatures=SignatureSettings(required=True, keys=keys))
    first = signers.write(work_tree.path, {"flows/a.yaml": flow_text("w.a")}, ssh="ann")
    by_ssh = work_tree.push(hosted.url())
    second = signers.write(work_tree.path, {"flows/a.yaml": flow_text("w.a", "two")}, pgp="ann")
    by_pgp = work_tree.push(hosted.url())
    third = signers.write(work_tree.path, {"flows/a.yaml": flow_text("w.a", "three")})

    unsigned = work_tree.push(hosted.url())

    assert by_ssh.remote[-2].startswith("  * signed by ann@example.org (ssh SHA256:"), by_ssh.output
    assert by_pgp.remote[-2] == f"  * signed by ann@example.org (openpgp {signers.fingerprint('ann')})"
    assert unsigned.code == 0
    assert f"commit {third[:7]} is not signed" in unsigned.output
    assert unsigned.remote[-1] == f"revision {third[:7]} not activated: 1 problem. {second[:7]} stays active."
    assert hosted.main == third
    assert [result.commit for result in hosted.applied] == [first, second]


def test_a_push_that_is_not_signed_is_refused_where_others_are(
    start_hosted: Any, work_tree: Any, flow_text: Any, ssh_signers: Signers
) -> None:
    policy = SignatureSettings(required=True, keys=(ssh_signers.listed("ann"),))
    hosted = start_hosted(signatures=policy, reject_invalid=True)
    good = ssh_signers.write(work_tree.path, {"flows/a.yaml": flow_text("w.a")}, ssh="ann")
    work_tree.push(hosted.url())
    ssh_signers.write(work_tree.path, {"flows/a.yaml": flow_text("w.a", "two")}, ssh="ben")

    pushed = work_tree.push(hosted.url())

    assert pushed.code != 0
    assert "(1 problem, see above)" in pushed.output
    assert any("signature.key.unknown" in line for line in pushed.remote), pushed.output
    assert any("is signed with a key that is not listed (ssh SHA256:" in line for line in pushed.remote)
    assert hosted.main == good
