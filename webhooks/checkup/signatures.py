"""Signatures of commits: that there are keys to compare with, and programs that can."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from runner.errors import MainstemError
from webhooks.checkup.finding import Finding, Patient, error, warning

if TYPE_CHECKING:
    from runner.settings import EnvironmentSettings
    from sync.signatures.key_list import KeyList
    from sync.signatures.policy import SignaturePolicies

_PROGRAMS: Final = {"ssh-keygen": ("SSH", "openssh-client"), "gpg": ("OpenPGP", "gpg")}


def check_signatures(patient: Patient) -> Iterator[Finding]:
    """Yield what is found for each environment whose commits are looked at for signatures; nothing without any."""
    from sync.signatures.policy import SignaturePolicies

    policies = SignaturePolicies(patient.settings.environments)
    for environment in patient.settings.environments:
        listed = policies.listed(environment.name)
        if listed is not None:
            yield from _of_environment(environment, listed, policies)


def _of_environment(
    environment: EnvironmentSettings, listed: KeyList, policies: SignaturePolicies
) -> Iterator[Finding]:
    policy = environment.signatures
    assert policy is not None, "its keys were asked for"
    faults = [*_keys(environment.name, listed, in_repository=policy.in_repository)]
    faults += _programs(environment.name, listed, in_repository=policy.in_repository)
    if policy.signing_key is not None:
        faults += _signing(environment.name, policies)
    yield from faults
    if not faults:
        count = len(listed.signers) + len(listed.blocks)
        verb = "must be signed" if policy.required else "are looked at for signatures"
        yield Finding("signatures", f"{environment.name}: commits {verb}, {count} keys are listed in the settings")


def _keys(name: str, listed: KeyList, *, in_repository: bool) -> Iterator[Finding]:
    for problem in listed.problems:
        yield error("signatures", f"{name}: {problem.message}", "correct it: that key does not count")
    if listed.is_empty and not in_repository:
        advice = "list some: signatures.keys or keyFiles of the environment"
        yield error("signatures", f"{name}: no key is listed, so that no commit can count", advice)
    elif listed.is_empty:
        advice = "list one in the settings too: it counts while nothing is active, and when the list there is lost"
        yield warning("signatures", f"{name}: keys are listed by its repository alone", advice)


def _programs(name: str, listed: KeyList, *, in_repository: bool) -> Iterator[Finding]:
    needed = {"ssh-keygen": bool(listed.signers), "gpg": bool(listed.blocks)}
    for program, (kind, package) in _PROGRAMS.items():
        if shutil.which(program) is not None or not (needed[program] or in_repository):
            continue
        tell = error if needed[program] else warning
        message = f"{name}: there is no program {program}: commits with {kind} signatures will be refused"
        yield tell("signatures", message, f"install it (Debian: {package})")


def _signing(name: str, policies: SignaturePolicies) -> Iterator[Finding]:
    try:
        policies.sign(name, b"a sample")
    except MainstemError as problem:
        yield error("signatures", f"{name}: {problem.message}", problem.hint)
