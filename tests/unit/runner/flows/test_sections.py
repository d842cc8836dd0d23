"""Properties are set in the text of a map, and everything else stays as its author wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import FlowError
from runner.flows.loader import load_all
from runner.flows.sections import with_values

WRITTEN = """\
# Who may ask: the data team.
namespace: company.team  # the folder says so too

# Where things are.
variables:
  region: eu   # not us
  note: |
    # no comment
# Last, what all tasks get.
pluginDefaults:
  - {type: core.log.Log, values: {level: DEBUG}}
"""


def meant_by(text: str) -> dict[str, Any]:
    documents = load_all(text)
    return dict(documents[0].value) if documents else {}


def test_a_property_is_replaced_and_comments_of_others_stay() -> None:
    changed = with_values(WRITTEN, {"variables": {"region": "us"}, "description": "Ours"})

    assert changed == WRITTEN.replace(
        "variables:\n  region: eu   # not us\n  note: |\n    # no comment\n", "variables:\n  region: us\n"
    ) + ("description: Ours\n")


def test_a_property_is_removed_and_one_that_is_so_already_is_left_alone() -> None:
    same = [{"type": "core.log.Log", "values": {"level": "DEBUG"}}]

    changed = with_values(WRITTEN, {"variables": None, "pluginDefaults": same, "description": None})

    assert changed == WRITTEN.replace("variables:\n  region: eu   # not us\n  note: |\n    # no comment\n", "")


@pytest.mark.parametrize(
    "source",
    ["", "# nothing yet\n", "{namespace: a, variables: {b: 1}}\n", "namespace: a", "variables: &v {b: 1}\nother: *v\n"],
)
@pytest.mark.parametrize(
    "value",
    [{"b": 2}, {"texts": ["1e3", "0o12", "on", "2026-01-01", "x\ny\n", "- a", "a: b", "{{ c }}", "", "null"]}, None],
)
def test_whatever_the_text_looks_like_it_means_what_was_asked_for(source: str, value: Any) -> None:
    before = meant_by(source)

    changed = with_values(source, {"variables": value})

    wanted = {name: each for name, each in {**before, "variables": value}.items() if each is not None}
    assert meant_by(changed) == wanted


def test_a_text_that_cannot_be_read_is_not_written_over() -> None:
    with pytest.raises(FlowError):
        with_values("variables: [\n", {"variables": {}})
