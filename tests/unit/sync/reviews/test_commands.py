"""Commands in comments: for whom they are carried out, for which commit, and what is said to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runner.errors import Problem
from runner.settings import ReviewSettings
from sync.plan import Change, ChangeKind, Plan
from sync.reviews.commands import Asked, Verb, asked
from sync.reviews.text import Reviewed, comment_of
from tests.servers.dialects import MEMBER, ROBOT, STRANGER
from tests.servers.review_world import SUITE, World, flow

github = pytest.mark.parametrize("forge", ["github"], indirect=True)
every_forge = pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "bitbucket"], indirect=True)
WITH_FAILURE = f"""\
{SUITE}\
  - id: wrong
    type: io.kestra.core.tests.flow.UnitTest
    assertions:
      - value: "{{{{ 'hell' ~ 'o' }}}}"
        equalTo: goodbye
"""


def opened(world: World, branch: str = "topic", *, is_fork: bool = False) -> str:
    """Open change request 7 and let it be looked at; return its commit."""
    head = world.commit(branch, {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, branch, is_fork=is_fork)
    assert world.look()
    return head


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("/mainstem plan", Asked(Verb.PLAN)),
        ("/mainstem  TEST", Asked(Verb.TEST)),
        ("/mainstem approve 0123456789ab", Asked(Verb.APPROVE, "0123456789ab")),
        ("/mainstem approve 0123", None),
        ("/mainstem approve of this", None),
        ("/mainstem", None),
        ("/mainstem deploy", None),
        ("/mainstem test a b", None),
    ],
)
def test_a_command_is_a_verb_and_perhaps_a_commit(line: str, wanted: Asked | None) -> None:
    assert asked(line) == wanted


@every_forge
def test_a_command_is_answered_in_the_one_comment_for_who_may_push_alone(world: World) -> None:
    head = opened(world)

    ours = world.command("/mainstem approve")
    theirs = world.command("/mainstem approve", author=STRANGER)

    done, refused = world.answers()
    assert f"approve` by `ann`: approved `{head[:12]}`, and no other commit; nothing needed it" in done
    assert refused.endswith("by `mallory`: refused: only who may push to the repository may ask for that")
    assert len(world.forge.ours(7)) == 1
    assert [each.commit for each in world.commands()] == [head, None]
    if world.forge.kind != "bitbucket":
        good = "thumbsup" if world.forge.kind == "gitlab" else "+1"
        assert world.forge.reactions == {ours: [good], theirs: ["confused"]}


@github
def test_tests_run_by_themselves_for_who_may_push_and_tell_both_values(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye"), "flows/w/tests/a.yaml": WITH_FAILURE})
    world.forge.open(7, "topic")
    world.want()

    told, failed = world.answers()

    assert told == "- `/mainstem test`: 1 failed, 1 passed"
    where, what = "**w.a / greetings / wrong** `w/tests/a.yaml:13`", "should be equal to 'goodbye', but it is 'hello'"
    assert failed == f"  - {where}: `{{{{ 'hell' ~ 'o' }}}} {what}`"
    assert world.service.expire_pins() == ["r"]


@github
def test_tests_stand_where_the_settings_of_the_change_request_put_the_flows(world: World) -> None:
    moved = {"pipelines/a.yaml": flow("a", "bye"), "pipelines/w/tests/a.yaml": WITH_FAILURE, "flows/a.yaml": None}
    world.commit("topic", {".mainstem.yaml": "flows: pipelines\n", **moved})
    world.forge.open(7, "topic")
    world.want()

    told, failed = world.answers()

    assert told == "- `/mainstem test`: 1 failed, 1 passed"
    assert "`w/tests/a.yaml:13`" in failed


@github
def test_what_the_forge_still_takes_is_kept_when_a_look_is_over(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.forge.limits = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "41", "x-ratelimit-reset": "1900000000"}

    assert world.look()

    kept = world.service._store.read(lambda db: db.forge_limits.get("r"))
    assert kept is not None
    assert (kept.remaining, kept.allowed) == (41, 5000)


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
def test_the_status_waits_for_the_tests_and_is_red_when_one_fails(world: World) -> None:
    bad = world.commit("topic", {"flows/a.yaml": flow("a", "bye"), "flows/w/tests/a.yaml": WITH_FAILURE})
    world.forge.open(7, "topic")
    assert world.look()
    while_they_run = world.forge.status(bad)["is_good"]
    world.answers()
    failed = world.forge.status(bad)
    good = world.commit("topic", {"flows/w/tests/a.yaml": SUITE})
    world.forge.follow(7)
    world.want()

    world.answers()

    assert while_they_run is None
    assert failed["is_good"] is False
    assert failed["summary"] == "tests: 1 failed, 1 passed: w.a / greetings / wrong"
    assert failed["url"].endswith("700")
    assert world.forge.status(good)["is_good"] is True


@github
def test_the_code_of_a_fork_waits_for_an_approval_of_that_very_commit(world: World) -> None:
    world.commit("fork", {"flows/a.yaml": flow("a", "bye"), "flows/w/tests/a.yaml": WITH_FAILURE})
    world.forge.open(7, "fork", is_fork=True)
    assert world.look()
    untested = world.commands()

    world.command("/mainstem test")
    [refused] = world.answers()
    world.command("/mainstem approve")
    world.command("/mainstem test")
    [_, approved, tested, *_] = world.answers()
    later = world.commit("fork", {"flows/a.yaml": flow("a", "evil")})
    world.forge.follow(7)
    assert world.look()
    world.command("/mainstem test")
    lines = [line for line in world.answers() if line.startswith("- ")]

    assert untested == []
    assert "code of a fork is run for nobody before" in refused
    assert "its code may be run here" in approved
    assert tested == "- `/mainstem test` by `ann`: 1 failed, 1 passed"
    assert "newer commits came since" in lines[1]
    assert "code of a fork is run for nobody before" in lines[3]
    assert world.row().head == later


@github
@pytest.mark.parametrize(
    ("tests", "first", "second"),
    [
        ("approved", "tests are run for nobody before", "1 failed, 1 passed"),
        ("never", "no tests run on this", "no tests run"),
    ],
)
def test_the_settings_say_whether_tests_of_branches_wait_for_an_approval_or_never_run(
    world: World, tests: str, first: str, second: str
) -> None:
    clerk = world.service._reviewer._clerk
    clerk._settings = clerk._settings.model_copy(update={"reviews": ReviewSettings.model_validate({"tests": tests})})
    world.commit("topic", {"flows/a.yaml": flow("a", "bye"), "flows/w/tests/a.yaml": WITH_FAILURE})
    world.forge.open(7, "topic")
    assert world.look()
    by_itself = world.commands()

    for line in ("test", "approve", "test"):
        world.command(f"/mainstem {line}")
    refused, _, tested, *_ = world.answers()

    assert by_itself == []
    assert first in refused
    assert second in tested


@pytest.mark.parametrize("forge", ["gitea"], indirect=True)
def test_commits_that_were_pushed_without_a_branch_wait_for_an_approval_like_those_of_a_fork(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye"), "flows/w/tests/a.yaml": WITH_FAILURE})
    world.forge.open(7, "topic")
    world.forge.pulls[7].is_agit = True
    assert world.look()
    untested = world.commands()

    world.command("/mainstem test")
    [refused] = world.answers()

    assert untested == []
    assert "code of a fork is run for nobody before" in refused


@github
def test_a_commit_that_was_pushed_after_the_comment_is_not_approved_by_it(world: World) -> None:
    opened(world, is_fork=True)
    world.command("/mainstem approve")
    later = world.commit("topic", {"flows/a.yaml": flow("a", "evil")})
    world.forge.follow(7)

    [line] = world.answers()

    assert f"refused: `{later[:12]}` was pushed since" in line


@github
def test_a_comment_that_is_older_than_our_word_about_a_commit_is_no_approval_of_it(world: World) -> None:
    opened(world, is_fork=True)
    # Its delivery came late: the evil commit was looked at meanwhile.
    world.command("/mainstem approve", at=datetime.now(UTC) - timedelta(minutes=1))

    [line] = world.answers()

    assert "it was written before this comment was about" in line


@github
def test_a_commit_may_be_named_and_then_it_alone_is_meant(world: World) -> None:
    head = opened(world, is_fork=True)
    old = datetime.now(UTC) - timedelta(minutes=1)

    world.command(f"/mainstem approve {head}", at=old)
    world.command(f"/mainstem approve {head[:12]}", at=old)
    world.command("/mainstem approve " + "0" * 40)
    lines = world.answers()

    assert "approved" in lines[0]
    assert "written before" in lines[1]
    assert "it names another commit" in lines[2]


@github
def test_a_comment_that_was_edited_or_deleted_before_it_was_read_is_no_command(world: World) -> None:
    opened(world)
    edited = world.command("/mainstem approve")
    world.forge.comments[7][-1]["body"] = "/mainstem test"
    gone = world.forge.say(7, "/mainstem approve")
    world.hear(gone, "/mainstem approve")
    del world.forge.comments[7][-1]

    assert world.answers() == []
    assert {each.comment: each.state for each in world.commands()} == {str(edited): "DONE", str(gone): "DONE"}


@github
def test_a_comment_on_another_change_request_cannot_be_passed_off_as_one_on_this(world: World) -> None:
    opened(world, is_fork=True)
    world.forge.comments[8] = []
    elsewhere = world.forge.say(8, "/mainstem approve")
    world.hear(elsewhere, "/mainstem approve", 7)

    assert world.answers() == []


@pytest.mark.parametrize("forge", ["github", "gitlab", "bitbucket"], indirect=True)
def test_programs_are_not_answered(world: World) -> None:
    opened(world)
    world.forge.members[ROBOT] = "write"
    world.command("/mainstem approve", author=ROBOT)

    assert world.answers() == []
    assert world.forge.reactions == {}


@github
def test_an_unknown_command_brings_the_help_once(world: World) -> None:
    opened(world)
    world.command("/mainstem deploy @team")
    world.command("/mainstem frobnicate")

    lines = world.answers()

    [text] = world.forge.ours(7)
    assert [line.endswith("there is no such command") for line in lines] == [True, True]
    assert text.count("Commands: `/mainstem plan`") == 1


@github
def test_an_account_whose_name_was_taken_over_is_nobody(world: World) -> None:
    opened(world)
    world.forge.say(7, "/mainstem approve", MEMBER)
    comment = world.forge.comments[7][-1]["id"]
    world.forge.members = {}
    world.hear(comment, "/mainstem approve")

    [line] = world.answers()

    assert "refused: only who may push" in line


@github
def test_a_forge_that_does_not_tell_who_may_push_lets_nobody_command(world: World) -> None:
    opened(world)
    world.command("/mainstem approve")
    world.forge.refuses = "/permission"

    [line] = world.answers()

    assert "its token may not ask" in line


def test_a_plan_that_is_too_long_leaves_room_for_the_answers() -> None:
    problems = tuple(Problem("flow.invalid", "x" * 290, file=f"flows/{number}.yaml") for number in range(49))
    reviewed = Reviewed("production", Plan("production", "refs/heads/main", "flows", None, "c", problems=problems))

    text = comment_of([reviewed], "0" * 40, (), 10_000, ["- `/mainstem test`: 1 passed"])
    flooded = comment_of([reviewed], "0" * 40, (), 10_000, [f"- {'y' * 90}"] * 500)

    assert "… the rest is cut: see `mainstem plan`.\n\n- `/mainstem test`: 1 passed\n\n<sub>" in text
    assert max(len(text), len(flooded)) <= 10_000
    assert "flows/0.yaml" in flooded


def test_a_comment_that_is_cut_among_folded_flows_leaves_the_answers_in_the_open() -> None:
    changes = tuple(Change(ChangeKind.ADDED, "w", f"f{number}", None, note="x" * 200) for number in range(90))
    reviewed = Reviewed("production", Plan("production", "refs/heads/main", "flows", None, "c", changes=changes))

    text = comment_of([reviewed], "0" * 40, (), 10_000, ["- `/mainstem test`: 1 passed"])

    assert text.count("<details>") == 1
    assert text.index("</details>") < text.index("… the rest is cut") < text.index("1 passed")
    assert len(text) <= 10_000


@github
def test_a_delivery_that_comes_twice_is_one_command(world: World) -> None:
    opened(world)
    comment = world.command("/mainstem plan")
    assert world.answers()
    again = world.hear(comment, "/mainstem plan")

    assert again == "DUPLICATE"
    assert len(world.answers()) == 1


@github
def test_commands_are_taken_ten_at_a_time_of_one_account(world: World) -> None:
    results = [world.hear(number, "/mainstem plan", author=STRANGER) for number in range(12)]
    others = world.hear(99, "/mainstem plan")

    assert results == ["ACCEPTED"] * 10 + ["IGNORED"] * 2
    assert others == "ACCEPTED"


@github
def test_a_closed_change_request_carries_nothing_out(world: World) -> None:
    opened(world)
    world.forge.pulls[7].state = "closed"
    world.command("/mainstem approve")

    assert world.service.review("r")

    assert [(each.state, each.commit) for each in world.commands()] == [("DONE", None)]
