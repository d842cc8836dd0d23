"""Each hostile file pushed as a flow: git names the problem, what was active stays active, the server goes on."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.hostile.git.test_requests import command, commit_of, git_object, pack, post, sha
from tests.hostile.yaml.corpus import CORPUS

FINE = b"id: fine\nnamespace: team\ntasks: [{id: a, type: core.log.Log, message: x}]\n"
MOST_S = 1.0  # CPU time of the whole process: the machine is shared
ZERO = "0" * 40
# What is larger than a flow may be is told before anything reads it as YAML.
TOLD_AS = {"yaml.file.large": "repository.file.large"}


def pushed(parent: str | None, **files: bytes) -> tuple[bytes, str]:
    """Return the body of a push of a commit with `files` below `flows/`, and the commit's id."""
    entries = sorted((f"{name}.yaml".encode(), content) for name, content in files.items())
    folder = b"".join(b"100644 " + name + b"\0" + bytes.fromhex(sha("blob", content)) for name, content in entries)
    root = b"40000 flows\0" + bytes.fromhex(sha("tree", folder))
    commit = commit_of(sha("tree", root), parent)
    objects = [git_object(3, content) for _, content in entries]
    objects += [git_object(2, folder), git_object(2, root), git_object(1, commit)]
    new = sha("commit", commit)
    return command(parent or ZERO, new) + pack(*objects), new


@pytest.mark.alone(
    "the time of the whole process counts, and with it what other tests left for the collector of garbage"
)
def test_each_hostile_flow_is_answered_with_its_problem_and_nothing_changes(hosted: Any) -> None:
    body, head = pushed(None, fine=FINE)
    post(hosted, body)
    wrong = []
    for name, (source, code) in CORPUS.items():
        content = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        body, new = pushed(head, fine=FINE, hostile=content)
        started = time.process_time()
        answer = post(hosted, body)
        taken = time.process_time() - started
        told = TOLD_AS.get(code, code) in answer.text and "flows/hostile.yaml" in answer.text
        if answer.status_code != 200 or not told or taken > MOST_S or len(answer.content) > 20_000:
            wrong.append((name, code, round(taken, 2), re.sub(r"[^ -~]+", " ", answer.text)[:300]))
        if hosted.main == new:
            head = new
        if hosted.flows() != {"team.fine": 1}:
            wrong.append((name, code, hosted.flows(), ""))
    body, head = pushed(head, fine=FINE, next=FINE.replace(b"fine", b"next"))

    post(hosted, body)

    assert wrong == []
    assert hosted.flows() == {"team.fine": 1, "team.next": 1}
