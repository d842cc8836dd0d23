"""What a kubelet makes of dollars in commands, arguments and variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["expanded"]

_TOKEN = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Return `text` with one dollar for two, and `$(NAME)` replaced where there is such a variable."""

    def replacement(match: re.Match[str]) -> str:
        return "$" if match[1] is None else env.get(match[1], match[0])

    return _TOKEN.sub(replacement, text)
