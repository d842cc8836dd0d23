"""What a forge is told of a change request, and what becomes of it when the forge does not do its part."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from markdown_it import MarkdownIt

from sync.reviews.text import MARKER
from tests.servers.dialects import STRANGER, TOKEN
from tests.servers.git import git
from tests.servers.review_world import World, flow

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
CHANGED = ["github", "gitlab", "gitea", "bitbucket"]


github = pytest.mark.parametrize("forge", ["github"], indirect=True)
every_forge = pytest.mark.parametrize("forge", CHANGED, indirect=True)


@every_forge
def test_a_plan_becomes_a_status_and_one_comment_that_follows_it(world: World) -> None:
    head = world.commit("topic", {"flows/a.yaml": flow("a", "bye"), "flows/b.yaml": None})
    world.forge.open(7, "topic")

    assert world.look()
    first = world.forge.ours(7)
    later = world.commit("topic", {"flows/c.yaml": flow("c", "other")})
    world.forge.follow(7)
    assert world.look()

    assert world.forge.status(head)["summary"] == "1 changed, 1 removed"
    assert world.forge.status(later)["summary"] == "1 added, 1 changed, 1 removed"
    assert (len(first), len(world.forge.ours(7))) == (1, 1)
    [text] = world.forge.ours(7)
    assert text.startswith(MARKER)
    assert text.index("**removed** `w.b`") < text.index("<details>") < text.index("`w.c`")
    assert "`tasks.say.message hello -> bye`" in text
    assert world.row().head == later


@every_forge
def test_a_commit_is_told_what_became_of_it_once(world: World) -> None:
    good = world.commit("main", {"flows/c.yaml": flow("c")})
    world.service.reconcile_repository("r", actor="poll")
    assert world.service.review("r")
    bad = world.commit("main", {"flows/a.yaml": flow("a", task="Lgo")})
    world.service.reconcile_repository("r", actor="poll")
    assert world.service.review("r")
    world.forge.calls.clear()

    assert world.service.review("r")

    first, second = world.forge.status(good), world.forge.status(bad)
    assert (first["is_good"], first["summary"]) == (True, "active: 1 added")
    assert (second["is_good"], second["summary"][:31]) == (False, "1 problem: flows/a.yaml:5:11 no")
    assert world.forge.calls == []


@github
def test_a_result_that_the_forge_could_not_take_is_told_later(world: World) -> None:
    good = world.commit("main", {"flows/c.yaml": flow("c")})
    world.service.reconcile_repository("r", actor="poll")
    world.forge.failures.extend([(503, {})] * 4)

    outcomes = [world.service.review("r"), world.service.review("r")]

    assert outcomes == [False, True]
    assert world.forge.status(good)["is_good"]


@every_forge
def test_the_same_answer_is_not_given_twice(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.look()
    world.forge.calls.clear()

    assert world.look()

    assert [method for method, _ in world.forge.calls] == ["GET"]


@every_forge
def test_our_comment_is_found_again_and_a_strangers_copy_of_it_is_left_alone(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.forge.say(7, f"{MARKER}\nall is well", STRANGER)
    [copied] = world.forge.comments[7]
    world.look()
    world.service._store.write(lambda db: db.reviews.done(replace(world.row(), comment=None, digest=None)))

    assert world.look()

    assert copied["body"].endswith("all is well")
    assert len(world.forge.ours(7)) == 1


@every_forge
def test_a_comment_that_somebody_deleted_is_written_again(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.look()
    world.forge.comments[7].clear()
    world.commit("topic", {"flows/a.yaml": flow("a", "later")})
    world.forge.follow(7)

    assert world.look()

    assert len(world.forge.ours(7)) == 1


@every_forge
@pytest.mark.parametrize("failures", [[(429, {"retry-after": "0"})], [(502, {}), (503, {"retry-after": "1"})]])
def test_a_forge_that_is_busy_is_asked_again(world: World, failures: list[tuple[int, dict[str, str]]]) -> None:
    head = world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.forge.failures.extend(failures)

    assert world.look()

    assert world.forge.status(head)["is_good"]


@github
def test_a_forge_that_stays_down_leaves_the_review_to_be_tried_again(world: World) -> None:
    head = world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.forge.failures.extend([(502, {})] * 4)

    is_met = world.look()
    tried_again = world.service.review("r")

    assert (is_met, tried_again) == (False, True)
    assert world.forge.status(head)["is_good"]


@github
def test_a_token_that_may_not_is_no_reason_to_go_on_asking(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.forge.failures.append((401, {}))

    assert world.look()

    assert world.row().message.startswith("forge.access.denied: ")
    assert TOKEN not in world.row().message
    assert world.service._store.read(lambda db: db.reviews.wanted("r")) == []


@github
def test_without_check_runs_the_commit_gets_a_status(world: World) -> None:
    world.forge.can_check = False
    head = world.commit("topic", {"flows/a.yaml": flow("a", task="Lgo")})
    world.forge.open(7, "topic")

    assert world.look()

    status = world.forge.status(head)
    assert (status["is_good"], status["annotations"]) == (False, [])
    assert "flows/a.yaml:5:11" in status["summary"]


@github
def test_more_than_fifty_problems_are_annotated_in_several_requests(world: World) -> None:
    head = world.commit("topic", {f"flows/f{number}.yaml": flow(f"f{number}", task="Lgo") for number in range(120)})
    world.forge.open(7, "topic")

    assert world.look()

    assert len(world.forge.status(head)["annotations"]) == 120
    assert len(world.forge.ours(7)[0]) < 60_000


@pytest.mark.parametrize("forge", ["github", "gitea"], indirect=True)
def test_a_branch_behind_its_base_is_planned_as_merged_where_the_forge_tried_it(world: World) -> None:
    git(world.work_tree.path, "branch", "behind")
    world.commit("main", {"flows/new.yaml": flow("new")})
    world.service.reconcile_repository("r", actor="poll")
    git(world.work_tree.path, "checkout", "-q", "behind")
    head = world.commit("behind", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "behind")

    assert world.look()

    is_merged = world.forge.kind == "github"
    assert world.forge.status(head)["summary"] == ("1 changed" if is_merged else "1 changed, 1 removed")
    remark = "Planned as it will be" if is_merged else "newest commits of main are not in this branch"
    assert remark in world.forge.ours(7)[0]


@pytest.mark.parametrize("forge", ["bitbucket"], indirect=True)
def test_commits_that_lie_in_another_repository_are_not_fetched(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic", is_fork=True)

    assert world.look()

    assert world.forge.ours(7) == []
    assert "another repository" in world.row().message


@github
def test_a_merge_makes_the_other_open_change_requests_planned_anew(world: World) -> None:
    head = world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.look()
    git(world.work_tree.path, "checkout", "-q", "main")
    git(world.work_tree.path, "reset", "-q", "--hard", "topic~1")
    world.commit("main", {"flows/a.yaml": flow("a", "bye")})

    results = world.service.reconcile_repository("r", actor="poll")
    world.forge.follow(7)
    assert world.service.review("r", results)

    assert world.forge.status(head)["summary"] == "nothing changes"


@github
def test_a_closed_or_unknown_change_request_is_left_in_peace(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.forge.pulls[7].state = "closed"

    assert world.look()
    assert world.look(8)

    assert world.forge.statuses == {}
    assert (world.row().is_open, world.row(8).message[:13]) == (False, "forge.missing")


@github
def test_of_two_processes_that_look_at_once_one_answers(world: World) -> None:
    world.commit("topic", {"flows/a.yaml": flow("a", "bye")})
    world.forge.open(7, "topic")
    world.want()
    now = datetime.now(UTC)
    world.service._store.write(lambda db: db.reviews.take("r", 7, now))

    assert world.service.review("r")

    assert world.forge.calls == []


@github
def test_what_a_stranger_writes_is_text_in_our_comment(world: World) -> None:
    hostile = (
        "'@team #1 GH-2 <img src=x onerror=alert(1)> [x](javascript:alert(1)) `|` </details> https://evil.example'"
    )
    names = ("x|@team`.yaml", "`|`<b>.yaml", "[x](http:||e).yaml")
    files = {f"flows/{name}": "id: [<script>@team" for name in names}
    world.commit("topic", {"flows/a.yaml": flow("a", hostile), "flows/c.yaml": flow("c", task=hostile[1:40]), **files})
    world.forge.open(7, "topic")

    assert world.look()

    [text] = world.forge.ours(7)
    tokens = [part for token in MARKDOWN.parse(text) for part in (token, *(token.children or ()))]
    html = {token.content.strip() for token in tokens if token.type.startswith("html")}
    assert html == {"<details><summary>1 changed</summary>", "</details>", "<sub>", "</sub>"}
    assert not any(token.type in {"link_open", "image"} for token in tokens)
    told = " ".join(token.content for token in tokens if token.type == "text")
    assert not re.search(r"@\w|#\d|GH-\d|://", told), told
    assert sum(token.type == "tr_open" for token in tokens) == 2 + 4 + 1
