"""Which commits need a signature, whose keys count for it, and what is found.

Keys come from the settings, and from files of the commit that is active: never from one that is planned, so that
nobody can add a key and sign with it in the same push.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from runner.errors import AccessError, InvalidError, Problem, Severity
from runner.settings import EnvironmentSettings, SignatureSettings
from runner.store.records import Environment
from sync.signatures import openssh
from sync.signatures.history import HistoryCutError, new_commits
from sync.signatures.key_list import KEY_FILE, MOST_LIST, KeyList, unreadable
from sync.signatures.programs import ProgramError
from sync.signatures.verdict import CommitSignature, SignatureState
from sync.signatures.verifier import Verifier
from sync.sources import FetchError, Source

_MOST_PROBLEMS: Final = 20
# What a server says when it no longer has a commit, or gives none by its id.
_GONE: Final = frozenset({"repository.commit.missing", "repository.protocol.refused"})


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of a commit: its signature, or that of the first commit before it that does not count."""

    signature: CommitSignature | None = None
    problems: tuple[Problem, ...] = ()


class SignaturePolicies:
    """The policies of environments, by the settings; an environment without `signatures` has none."""

    def __init__(self, environments: Sequence[EnvironmentSettings] = ()) -> None:
        self._policies = {each.name: each.signatures for each in environments if each.signatures is not None}

    def judge(self, source: Source, environment: Environment, commit: str) -> Judged:
        """Return what is to be said of `commit`, whose history is here as far as it is needed or can be fetched.

        Where the policy is required, what is missing or wrong is a problem of severity ERROR, else WARNING.
        The caller holds the lock of the repository.

        Raises:
            FetchError: keys, or commits that are needed, cannot be fetched.
        """
        policy = self._policies.get(environment.name)
        if policy is None:
            return Judged()
        severity = Severity.ERROR if policy.required else Severity.WARNING
        keys = self._keys(policy, source, environment)
        own = self._own_lists(policy, source, commit, severity)
        told = {(each.file, each.line) for each in own.problems}
        problems = (*(each for each in keys.problems if (each.file, each.line) not in told), *own.problems)
        if keys.is_empty:
            return Judged(problems=(*problems, _no_keys(environment, severity)))
        try:
            with _folder() as folder:
                found = _verified(policy, source, environment, commit, Verifier(keys, folder))
        except (ProgramError, InvalidError) as error:
            problem = Problem(error.code, f"commit {commit[:7]}: {error.message}", severity, hint=error.hint)
            return Judged(CommitSignature(SignatureState.UNVERIFIED, commit=commit), (*problems, problem))
        bad = [each for each in found if not each.is_good]
        wrong = [each.problem(severity) for each in bad[:_MOST_PROBLEMS]]
        tip = replace(bad[0] if bad else found[0], commits=len(found))
        return Judged(tip, (*problems, *wrong, *_none_left(policy, own, severity)))

    def signer(self, source: Source, environment: Environment, base: str | None) -> Callable[[bytes], bytes | None]:
        """Return what signs, as `sign` does, a commit that the server makes on top of `base` (None: on nothing).

        A signature speaks for all that is below it too. So the server gives none on top of a commit that is neither
        active nor signed as it must be: whoever may push, and has no key, would get one from the next write otherwise.
        Where signatures are not required, being active proves nothing: another environment of the same branch may
        require them. The caller holds the lock of the repository.

        Raises:
            AccessError: `signature.writes.refused`, where commits must be signed and `base` is not.
            FetchError: as `judge`.
        """
        policy = self._policies.get(environment.name)
        if policy is None or policy.signing_key is None or base is None:
            return partial(self.sign, environment.name)
        if policy.required and base == environment.active:
            return partial(self.sign, environment.name)
        found = self.judge(source, environment, base).signature
        if found is not None and found.is_good:
            return partial(self.sign, environment.name)
        if policy.required:
            reason = found.line if found is not None else "no key is listed"
            raise AccessError(
                "signature.writes.refused",
                f"the server signs nothing on top of {base[:7]}: {reason}",
                hint="take that commit back, or push one on top of it that is signed",
            )
        return _unsigned

    def sign(self, environment: str, payload: bytes) -> bytes | None:
        """Return the server's signature of a commit that it makes, None where commits need none.

        Raises:
            AccessError: `signature.writes.refused` when commits must be signed and the server has no key.
            InvalidError: `signature.key.invalid`.
            ProgramError: `signature.verifier.missing`.
        """
        policy = self._policies.get(environment)
        if policy is None or (policy.signing_key is None and not policy.required):
            return None
        if policy.signing_key is None:
            raise AccessError(
                "signature.writes.refused",
                f"environment {environment} takes signed commits alone, and the server has no key to sign with",
                hint="commit with git and sign it, or set signatures.signingKey and list its public key",
            )
        with _folder() as folder:
            return openssh.sign(payload, policy.signing_key, folder)

    def listed(self, environment: str) -> KeyList | None:
        """Return the keys that the settings list for an environment, with what is wrong; None without a policy."""
        policy = self._policies.get(environment)
        return _of_settings(policy) if policy is not None else None

    @staticmethod
    def _keys(policy: SignatureSettings, source: Source, environment: Environment) -> KeyList:
        lists = [_of_settings(policy)]
        if policy.in_repository and environment.active is not None:
            lists.append(_of_active(source, environment, environment.active))
        return KeyList.joined(lists).without_authorities(_revoked(policy))

    @staticmethod
    def _own_lists(policy: SignatureSettings, source: Source, commit: str, severity: Severity) -> KeyList:
        """Return what the commit itself lists, which counts once it is active: until then it must be readable."""
        found = _of_commit(source, commit) if policy.in_repository else KeyList()
        return replace(found, problems=tuple(replace(each, severity=severity) for each in found.problems))


def _unsigned(_payload: bytes) -> None:
    return None


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mainstem-keys-") as name:  # made with mode 0700
        yield Path(name)


def _of_settings(policy: SignatureSettings) -> KeyList:
    lists = [KeyList.read(text.encode(), f"signatures.keys[{number}]") for number, text in enumerate(policy.keys)]
    return KeyList.joined([*lists, *map(_of_file, policy.key_files)])


def _of_file(path: Path) -> KeyList:
    # By its name alone: a plan is shown to those who propose changes, whom folders of the server do not concern.
    try:
        with path.open("rb") as file:
            return KeyList.read(file.read(MOST_LIST + 1), path.name)
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror})"
        return KeyList(problems=(unreadable(path.name, None, reason),))


def _of_active(source: Source, environment: Environment, active: str) -> KeyList:
    try:
        if active not in source.repository:
            source.fetch(f"refs/mainstem/active/{environment.name}", active)
        return _of_commit(source, active)
    except FetchError as error:
        if error.code not in _GONE:
            raise
        reason = f"the active commit {active[:7]} is not in the repository any more, so that what it lists is unknown"
        return KeyList(problems=(unreadable(KEY_FILE, None, reason),))


def _of_commit(source: Source, commit: str) -> KeyList:
    blob = source.repository.find(commit, KEY_FILE)
    if blob is None:
        return KeyList()
    source.ensure([blob])
    try:
        return KeyList.read(source.repository.blob(blob, limit=MOST_LIST), KEY_FILE)
    except InvalidError as error:  # larger than a list can be
        return KeyList(problems=(unreadable(KEY_FILE, None, error.message),))


def _verified(
    policy: SignatureSettings, source: Source, environment: Environment, commit: str, verifier: Verifier
) -> list[CommitSignature]:
    """Return the verdicts of the commits that need one, the tip first."""
    revoked = _revoked(policy)
    return [
        verifier.verify(source.repository.raw_commit(sha)).of(sha, revoked=revoked)
        for sha in _scope(policy, source, environment, commit)
    ]


def _revoked(policy: SignatureSettings) -> frozenset[str]:
    return frozenset(each if each.startswith("SHA256:") else _hex(each) for each in policy.revoked)


def _hex(fingerprint: str) -> str:
    """Return the fingerprint of an OpenPGP key as `gpg` writes it for programs; people write it in groups."""
    return "".join(fingerprint.split()).upper()


def _scope(policy: SignatureSettings, source: Source, environment: Environment, commit: str) -> list[str]:
    active = environment.active
    if policy.scope == "tip" or active is None or active == commit:
        return [commit]
    try:
        found = new_commits(source.repository, active, commit)
    except HistoryCutError:
        source.fetch_history(commit)
        try:
            found = new_commits(source.repository, active, commit)
        except HistoryCutError as error:
            raise InvalidError(
                "signature.history.missing", f"not all commits between {active[:7]} and {commit[:7]} can be read"
            ) from error
    # One that goes back to an ancestor brings nothing new: it is judged by itself.
    return [commit, *(sha for sha in found if sha != commit)]


def _no_keys(environment: Environment, severity: Severity) -> Problem:
    return Problem(
        "signature.keys.none",
        f"no key is listed whose signatures count for environment {environment.name}",
        severity,
        hint=f"list keys in the settings (signatures.keys or keyFiles), or in {KEY_FILE} of the active commit",
    )


def _none_left(policy: SignatureSettings, own: KeyList, severity: Severity) -> Iterator[Problem]:
    """Yield a problem for a commit after which no key would be left, and with it no way on."""
    if own.is_empty and not own.problems and _of_settings(policy).is_empty:
        yield Problem(
            "signature.keys.none",
            "with this commit no key is listed any more: no commit could follow it",
            severity,
            file=KEY_FILE,
            hint="leave a key in the list, or list one in the settings",
        )
