"""Names of problems that stay the same while lines above them come and go."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from runner.errors import Problem


def fingerprints(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield the fingerprint of each problem: 32 hexadecimal digits, different for each of them.

    It is made of file, code and message without numbers (some name lines), and of how many of the same came before.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    for problem in problems:
        same = (problem.file or "", problem.code, re.sub(r"\d+", "#", problem.message))
        text = "\0".join([*same, str(seen[same])])
        seen[same] += 1
        yield hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
