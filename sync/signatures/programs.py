"""Run the programs that know keys: from an argument list, with an environment of our own, for seconds at most."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.errors import MainstemError

_LONGEST_S: Final = 20.0


class ProgramError(MainstemError):
    """A program cannot do its work: `signature.verifier.missing`, `signature.verifier.failed`."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program answered: its exit code, and the texts on both of its ways out."""

    code: int
    out: str
    err: str


def run(program: str, arguments: Sequence[str], folder: Path, given: bytes = b"") -> Ran:
    """Return what `program` answers, called in `folder`, which is its home too, with `given` on its way in.

    Raises:
        ProgramError: `signature.verifier.missing` when it is not installed or may not be started,
            `signature.verifier.failed` when it takes too long.
    """
    found = shutil.which(program)
    if found is None:
        raise _missing(program)
    environ = {"LC_ALL": "C", "HOME": str(folder), "PATH": "/usr/bin:/bin"}
    try:
        done = subprocess.run(
            [found, *arguments],
            input=given,
            cwd=folder,
            env=environ,
            capture_output=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{program} took longer than {_LONGEST_S:.0f} seconds with a signature"
        raise ProgramError("signature.verifier.failed", message) from error
    except OSError as error:
        raise _missing(program) from error
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def _missing(program: str) -> ProgramError:
    package = {"ssh-keygen": "openssh-client", "gpg": "gpg"}.get(program, program)
    return ProgramError(
        "signature.verifier.missing",
        f"signatures cannot be verified: there is no program {program!r} on the server that may be started",
        hint=f"install it there (Debian: {package}); `mainstem doctor` says when it is found",
    )
