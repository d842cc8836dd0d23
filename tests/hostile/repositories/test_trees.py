"""Commits of a remote that nobody vouches for: refused with a reason, or without effect; what is active stays."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest

from sync.activation import Outcome
from tests.hostile.repositories.conftest import FILE, FINE, FOLDER, LINK, SUBMODULE, Followed

Make = Callable[[Followed], str]
MEBIBYTE = 1 << 20
OTHER = FINE.replace(b"fine", b"other")


def named(name: bytes) -> Make:
    """A flow under a name."""
    return lambda at: at.commit(at.flows((FILE, name, at.put("blob", OTHER))))


def placed(mode: str, name: bytes, kind: str, content: bytes) -> Make:
    """An entry of a mode that names an object of a kind."""
    return lambda at: at.commit(at.flows((mode, name, at.put(kind, content))))


def deep(count: int) -> Make:
    def make(at: Followed) -> str:
        tree = at.tree((FILE, b"other.yaml", at.put("blob", OTHER)))
        for _ in range(count):
            tree = at.tree((FOLDER, b"d", tree))
        return at.commit(at.flows((FOLDER, b"d", tree)))

    return make


def many(count: int) -> Make:
    def make(at: Followed) -> str:
        blob = at.put("blob", b"x")
        folder = at.tree(*((FILE, f"{number:06}.txt".encode(), blob) for number in range(count)))
        return at.commit(at.flows((FOLDER, b"many", folder)))

    return make


def lost(kind: str) -> Make:
    """A commit whose tree, folder or file the remote has not."""

    def make(at: Followed) -> str:
        nowhere = "1" * 40
        if kind == "tree":
            return at.commit(nowhere)
        return at.commit(at.flows((FOLDER if kind == "folder" else FILE, b"other.yaml", nowhere)))

    return make


REFUSED: dict[str, tuple[Make, set[str]]] = {
    "a link to a file of the machine": (
        placed(LINK, b"link.yaml", "blob", b"/etc/passwd"), {"repository.symlink.refused"},
    ),
    "a link to a folder above": (placed(LINK, b"link", "blob", b"../.."), {"repository.symlink.refused"}),
    "a link to itself": (placed(LINK, b"me.yaml", "blob", b"me.yaml"), {"repository.symlink.refused"}),
    "a submodule": (
        lambda at: at.commit(at.flows((SUBMODULE, b"sub", "2" * 40))), {"repository.submodule.refused"},
    ),
    "dot dot": (placed(FOLDER, b"..", "tree", b""), {"repository.name.refused"}),
    "dot": (placed(FOLDER, b".", "tree", b""), {"repository.name.refused"}),
    "dot git": (placed(FOLDER, b".git", "tree", b""), {"repository.name.refused"}),
    "dot git in capitals": (placed(FOLDER, b".GIT", "tree", b""), {"repository.name.refused"}),
    "dot git with a dot": (placed(FOLDER, b".git.", "tree", b""), {"repository.name.refused"}),
    "dot git with a blank": (placed(FOLDER, b".git ", "tree", b""), {"repository.name.refused"}),
    "the short name of dot git": (placed(FOLDER, b"GIT~1", "tree", b""), {"repository.name.refused"}),
    "a slash in a name": (named(b"../up.yaml"), {"repository.name.refused"}),
    "a backslash in a name": (named(b"..\\up.yaml"), {"repository.name.refused"}),
    "a line break in a name": (named(b"a\nb.yaml"), {"repository.name.refused"}),
    "colours in a name": (named(b"\x1b[31mred.yaml"), {"repository.name.refused"}),
    "a bell in a name": (named(b"a\x07.yaml"), {"repository.name.refused"}),
    "a turned name": (named("a\u202elmay.exe.yaml".encode()), {"repository.name.refused"}),
    "an invisible name": (named("a\u200b.yaml".encode()), {"repository.name.refused"}),
    "a name that is no UTF-8": (named(b"\xff\xfe.yaml"), {"repository.name.refused"}),
    "an absolute name": (named(b"/etc/cron.d/x.yaml"), {"repository.name.refused"}),
    "folders too deep": (deep(70), {"repository.depth.exceeded"}),
    "more files than there may be": (many(50_001), {"repository.files.many"}),
    "a flow of 50 MB": (placed(FILE, b"huge.yaml", "blob", b"x" * (50 * MEBIBYTE)), {"repository.file.large"}),
    "a flow of zero bytes": (placed(FILE, b"zero.yaml", "blob", b"\0" * 100), {"yaml.syntax.invalid"}),
    "two files that say the same flow": (
        lambda at: at.commit(at.flows(*at.files({b"A.yaml": OTHER, b"a.yaml": OTHER}))), {"flow.id.duplicate"},
    ),
    "a flow of the same name in another case": (
        lambda at: at.commit(at.flows(*at.files({b"FINE.yaml": FINE}))), {"flow.id.duplicate"},
    ),
}  # fmt: skip
BROKEN: dict[str, Make] = {
    "a commit whose tree is not there": lost("tree"),
    "a folder that is not there": lost("folder"),
    "a file that is not there": lost("file"),
    "a folder that is a file": placed(FOLDER, b"folder", "blob", b"x"),
    "a file that is a folder": placed(FILE, b"file.yaml", "tree", b""),
    "a tree that is no tree": lambda at: at.commit(at.put("tree", b"100644 a.yaml\0short")),
    "a commit that is a file": lambda at: at.commit(at.put("blob", b"x")),
}
NEUTRAL: dict[str, Make] = {
    "10,000 files": many(10_000),
    "a file of 50 MB beside the flows": placed(FILE, b"data.bin", "blob", b"\x7f" * (50 * MEBIBYTE)),
    "gitmodules that run a command": placed(FILE, b".gitmodules", "blob", b'[submodule "x"]\nurl = -u./x\npath=x\n'),
    "attributes that name a filter": placed(FILE, b".gitattributes", "blob", b"* filter=evil text eol=crlf\n"),
    "hooks": placed(FILE, b"post-checkout", "blob", b"#!/bin/sh\nexit 1\n"),
    "an executable": placed("100755", b"run.sh", "blob", b"#!/bin/sh\n"),
    "case twins beside the flows": lambda at: at.commit(at.flows(*at.files({b"Notes.txt": b"1", b"notes.txt": b"2"}))),
    "a message of a mebibyte": lambda at: at.commit(at.flows(), message=b"m" * MEBIBYTE),
    "a message that mentions and closes": lambda at: at.commit(at.flows(), message=b"@team closes #1 <b>\x1b[31m\n"),
    "trailers that are forged": lambda at: at.commit(at.flows(), message=b"x\n\nMainstem-Report: me\n[skip ci]\n"),
    "a date before all time": lambda at: at.commit(
        at.flows(), head=b"author A <a@b.c> -99999999999999 +0000\ncommitter A <a@b.c> -1 +0000\n"
    ),
    "a date after all time": lambda at: at.commit(
        at.flows(), head=b"author A <a@b.c> 9999999999999999 +0000\ncommitter A <a@b.c> 9999999999999999 +9959\n"
    ),
    "an author of control characters": lambda at: at.commit(
        at.flows(), head=b"author \x1b[31m\x07\xff <> 1 +0000\ncommitter \xe2\x80\xae <> 1 +0000\n"
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def back(followed: Followed) -> Any:
    """Whatever a case does, the next one begins with the good flow alone."""
    yield
    (followed.bare / "refs/heads/main").write_text(f"{followed.base}\n")
    followed.look()
    assert followed.active() == {"team.fine"}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_harm_is_refused_with_its_reason(followed: Followed, case: str) -> None:
    make, codes = REFUSED[case]
    make(followed)

    result = followed.look()

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    found = {problem.code for problem in result.plan.errors}
    assert found == codes
    assert all(str(problem.message).isprintable() for problem in result.plan.errors)
    assert followed.active() == {"team.fine"}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_told_and_what_is_active_stays(followed: Followed, case: str) -> None:
    BROKEN[case](followed)

    result = followed.look()

    assert result.outcome in {Outcome.FAILED, Outcome.INVALID}
    assert result.code is not None or (result.plan is not None and result.plan.errors)
    assert followed.active() == {"team.fine"}


@pytest.mark.parametrize("case", NEUTRAL)
def test_what_is_odd_does_nothing(followed: Followed, case: str) -> None:
    NEUTRAL[case](followed)
    made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    result = followed.look()

    assert result.outcome in {Outcome.ACTIVE, Outcome.UNCHANGED}, result
    assert followed.active() == {"team.fine"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - made < 400_000  # KiB


@pytest.mark.parametrize(
    ("mode", "what"), [(FOLDER, "a folder"), (LINK, "a symbolic link"), (SUBMODULE, "a submodule")]
)
def test_what_stands_for_the_settings_of_a_repository_is_refused_unless_it_is_a_file(
    followed: Followed, mode: str, what: str
) -> None:
    name, flows = b".mainstem.yaml", (FOLDER, b"flows", followed.tree(*followed.files({b"fine.yaml": FINE})))
    targets = {FOLDER: followed.tree(), LINK: followed.put("blob", b"flows/fine.yaml"), SUBMODULE: "1" * 40}
    before = followed.active()

    followed.commit(followed.tree((mode, name, targets[mode]), flows))
    result = followed.look()

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    assert [(each.code, each.file, each.message) for each in result.plan.errors] == [
        ("repository.settings.invalid", ".mainstem.yaml", f"it is {what}, not a file")
    ]
    assert followed.active() == before
