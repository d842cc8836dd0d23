"""The documentation tells the truth: its commands run and print what it shows, and what it names is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documentation.claims import ROOT, faults
from tests.documentation.console import Session, Step, matches, normal, steps
from tests.documentation.pages import Page

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
EXECUTED = [path for path in PAGES if steps(Page.read(path))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_what_a_page_names_is_there(path: Path) -> None:
    found = faults(Page.read(path))

    assert not found, "\n".join([name_of(path), *found])


@pytest.mark.parametrize("path", EXECUTED, ids=name_of)
def test_the_commands_of_a_page_do_what_it_shows(path: Path, tmp_path: Path) -> None:
    todo = steps(Page.read(path))

    with Session(tmp_path) as session:
        session.run(todo)

    assert not session.findings, "\n".join([name_of(path), *session.findings])


def test_the_first_pages_are_among_those_that_are_executed() -> None:
    assert {"README.md", "docs/quickstart.md"} <= {name_of(path) for path in EXECUTED}


def test_every_page_is_listed_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"

    listed = {(index.parent / target).resolve() for _, target in Page.read(index).links}

    assert [name_of(path) for path in sorted((ROOT / "docs").rglob("*.md")) if path not in {*listed, index}] == []


# ---------------------------------------------------------------- the checker itself

BAD = """# Bad

See [nothing](nowhere.md), [no heading](#missing), [this one](#bad).
`mainstem frobnicate`, `mainstem exec list --nope`, `MAINSTEM_NOPE`, `reports.nope`, `mainstem exec list --json`.

```yaml
id: a
namespace: b
tasks:
  - id: say
    type: core.log.Lgo
```

```yaml
# mainstem.yaml
prot: 1
```

```console
$ echo $(mainstem exec list --nothing) | mainstem kv list --neither
```

```
mainstem up
```

Measured: 3 ms.
"""


def test_a_page_that_names_what_is_not_there_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "bad.md"
    path.write_text(BAD)

    found = "\n".join(faults(Page.read(path)))

    assert [line for line in found.splitlines() if "nowhere.md" in line or "#missing" in line] == [
        "line 3: the link nowhere.md leads nowhere",
        "line 3: the link #missing names no heading",
    ]
    for word in (
        "frobnicate",
        "has no option --nope",
        "MAINSTEM_NOPE",
        "reports.nope",
        "task.type.unknown",
        "prot",
        "has no option --nothing",
        "has no option --neither",
        "line 23: commands",
        "line 27: a figure",
    ):
        assert word in found
    assert "--json" not in found
    assert "#bad" not in found


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("$ echo one\none\n$ echo two\nthree\n", "line 5: $ echo two\nthe page shows:\nthree\nit printed:\ntwo"),
        ("$ false\n", "line 3: $ false\nended with 1"),
        ("$ mainstem frobnicate\n$ echo $?\n0\n", "it printed:\n2"),
    ],
)
def test_a_page_that_shows_what_does_not_happen_is_found_out(tmp_path: Path, block: str, fault: str) -> None:
    page = Page(tmp_path / "bad.md", f"# Bad\n```console\n{block}```\n")

    with Session(tmp_path / "room") as session:
        session.run(steps(page))

    assert fault in "\n".join(session.findings)


def test_a_page_is_followed_from_command_to_command(tmp_path: Path) -> None:
    page = Page(
        tmp_path / "good.md",
        "```yaml\n# sub/a.yaml\nx: 1\n```\n"
        "```console\n$ cd sub\n$ cat \\\n    a.yaml\n# sub/a.yaml\nx: 1\n$ false\n$ echo $?\n1\n```\n"
        "<!-- not run: it would end the test -->\n```console\n$ exit 7\n```\n",
    )

    with Session(tmp_path / "room") as session:
        session.run(steps(page))

    assert session.findings == []
    assert [step.command for step in steps(page) if isinstance(step, Step)][-1] == "echo $?"


def test_what_varies_is_not_compared_and_dots_stand_for_any_lines() -> None:
    shown = "revision 4f2c9ab active in 84 ms\n…\nruns next 2026-11-23 06:00 UTC"
    seen = "revision 0000abc active in 1.2 s\na\nb\nruns next 2031-01-01 00:00 UTC"

    assert matches(normal(shown), normal(seen))
    assert not matches(normal(shown), normal(seen.replace("active", "held")))
    assert not matches(normal("a"), normal("a\nb"))
