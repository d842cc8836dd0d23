"""`mainstem git-credential`: answers git's question for a user and a password (git's credential protocol).

    git config --global credential.http://127.0.0.1:8420.helper '!mainstem git-credential'

Only the addresses of known contexts are answered; for everything else nothing is printed, and git asks others.
"""

from __future__ import annotations

import os
import sys
from typing import Final
from urllib.parse import urlsplit

import click

from runner.cli.client import Context, known_contexts

_USER: Final = "mainstem"  # the server looks at the token only
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_QUESTION: Final = 64 * 1024


@click.command("git-credential")
@click.argument("operation")
def command(operation: str) -> None:
    """Answer git's questions for credentials; OPERATION is get, store or erase."""
    # Later versions of git may ask for more; gitcredentials(7) says to ignore what one does not know.
    question = _parse(sys.stdin.read(_LONGEST_QUESTION))
    if operation != "get":
        return
    answer = _matching(question)
    if answer is not None:
        click.echo(f"username={_USER}\npassword={answer.token}")


def _parse(text: str) -> dict[str, str]:
    fields = {}
    for line in text.splitlines():
        if not line:
            break
        key, equals, value = line.partition("=")
        if equals:
            fields[key] = value
    return fields


def _matching(question: dict[str, str]) -> Context | None:
    protocol, host = question.get("protocol", ""), question.get("host", "")
    wanted = _origin(f"{protocol}://{host}")
    if wanted is None:
        return None
    candidates = list(known_contexts(os.environ))
    url, token = os.environ.get("MAINSTEM_URL"), os.environ.get("MAINSTEM_TOKEN")
    if url and token:
        candidates.insert(0, Context(url, token, "MAINSTEM_URL"))
    return next((item for item in candidates if item.token and _origin(item.url) == wanted), None)


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port is None:
        return None
    return parts.scheme, parts.hostname.lower(), port
