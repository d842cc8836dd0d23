from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

BROKEN = """\
id: broken
namespace: weather
tasks:
  - id: say
    type: core.log.Lgo
    message: hi
"""


def test_a_push_prints_the_plan_and_is_active_when_it_ends(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    sha = work_tree.write({"flows/report.yaml": flow_text("weather.report"), "flows/b.yaml": flow_text("weather.b")})

    pushed = work_tree.push(hosted.url())

    assert pushed.code == 0, pushed.output
    assert pushed.remote[:3] == [
        "Mainstem plan for environment default (main, flows/)",
        "  + weather.b       new",
        "  + weather.report  new",
    ]
    assert re.fullmatch(rf"revision {sha[:7]} active in \d+ ms: 2 changed", pushed.remote[-1])
    assert hosted.flows() == {"weather.b": 1, "weather.report": 1}
    assert hosted.service.environment("default").active == sha
    assert [result.commit for result in hosted.applied] == [sha]


def test_a_second_push_says_what_changed(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    work_tree.write(
        {"flows/a.yaml": flow_text("w.a"), "flows/b.yaml": flow_text("w.b"), "flows/c.yaml": flow_text("w.c")}
    )
    work_tree.push(hosted.url())
    work_tree.write(
        {"flows/a.yaml": flow_text("w.a", "bye"), "flows/b.yaml": None, "flows/d.yaml": flow_text("w.d", "new")}
    )

    pushed = work_tree.push(hosted.url())

    assert pushed.remote[1:5] == [
        "  ~ w.a  changed  tasks.say.message hello -> bye",
        "  - w.b  removed",
        "  + w.d  new",
        "  = 1 unchanged",
    ]
    assert hosted.flows() == {"w.a": 2, "w.c": 1, "w.d": 1}


def test_an_invalid_push_names_the_place_and_the_old_revision_stays(
    hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    good = work_tree.write({"flows/report.yaml": flow_text("weather.report")})
    work_tree.push(hosted.url())
    bad = work_tree.write({"flows/broken.yaml": BROKEN, "flows/report.yaml": flow_text("weather.report", "new")})

    pushed = work_tree.push(hosted.url())

    assert pushed.code == 0, pushed.output
    assert pushed.remote[0] == "flows/broken.yaml:5:11  task.type.unknown"
    assert pushed.remote[1].endswith("5 |     type: core.log.Lgo")
    assert "core.log.Log" in pushed.remote[2]
    assert pushed.remote[-1] == f"revision {bad[:7]} not activated: 1 problem. {good[:7]} stays active."
    environment = hosted.service.environment("default")
    assert (environment.state, environment.active) == ("DEGRADED", good)
    assert hosted.main == bad
    assert hosted.flows() == {"weather.report": 1}


def test_a_push_that_repairs_activates_everything_that_waited(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/report.yaml": flow_text("weather.report")})
    work_tree.push(hosted.url())
    work_tree.write({"flows/broken.yaml": BROKEN, "flows/new.yaml": flow_text("weather.new")})
    work_tree.push(hosted.url())
    fixed = work_tree.write({"flows/broken.yaml": BROKEN.replace("Lgo", "Log")})

    work_tree.push(hosted.url())

    assert hosted.flows() == {"weather.report": 1, "weather.broken": 1, "weather.new": 1}
    assert (hosted.service.environment("default").state, hosted.main) == ("OK", fixed)


def test_an_environment_may_refuse_an_invalid_push_altogether(
    start_hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    hosted = start_hosted(reject_invalid=True)
    good = work_tree.write({"flows/report.yaml": flow_text("weather.report")})
    work_tree.push(hosted.url())
    work_tree.write({"flows/broken.yaml": BROKEN})

    pushed = work_tree.push(hosted.url())

    assert pushed.code != 0
    assert "(1 problem, see above)" in pushed.output
    assert hosted.main == good


def test_a_push_that_deletes_everything_is_held_until_it_is_allowed(
    hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    first = work_tree.write({f"flows/{n}.yaml": flow_text(f"w.f{n}") for n in range(3)})
    work_tree.push(hosted.url())
    empty = work_tree.write({f"flows/{n}.yaml": None for n in range(3)})

    pushed = work_tree.push(hosted.url())

    assert pushed.code == 0
    assert pushed.remote[-2:] == [
        f"revision {empty[:7]} is held: it deletes 3 flows and leaves none. {first[:7]} stays active.",
        f"allow it with: mainstem sync run --allow-deletes {empty[:12]}",
    ]
    environment = hosted.service.environment("default")
    assert (environment.state, environment.held, len(hosted.flows())) == ("HELD", empty, 3)

    result = hosted.service.allow_deletes("default", empty[:12], "ann")

    assert result.outcome == "ACTIVE"
    assert hosted.flows() == {}
    assert hosted.service.environment("default").state == "OK"


def test_pushing_the_flows_again_ends_the_hold(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a")})
    work_tree.push(hosted.url())
    work_tree.write({"flows/a.yaml": None})
    work_tree.push(hosted.url())
    work_tree.write({"flows/a.yaml": flow_text("w.a"), "flows/b.yaml": flow_text("w.b")})

    work_tree.push(hosted.url())

    assert hosted.flows() == {"w.a": 1, "w.b": 1}
    assert hosted.service.environment("default").held is None


def test_the_history_of_a_followed_branch_cannot_be_rewritten_or_deleted(
    hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    work_tree.write({"readme": "r"})
    tip = work_tree.write({"flows/a.yaml": flow_text("w.a")})
    work_tree.push(hosted.url())
    work_tree.git("reset", "-q", "--hard", "HEAD~1")
    work_tree.write({"flows/b.yaml": flow_text("w.b")})

    forced = work_tree.push(hosted.url(), "--force")
    deleted = work_tree.push(hosted.url(), refspec=":refs/heads/main")
    reports = work_tree.push(hosted.url(), refspec="HEAD:refs/heads/mainstem-reports")

    assert [each.code != 0 for each in (forced, deleted, reports)] == [True] * 3
    assert "cannot be rewritten" in forced.output
    assert "cannot be deleted" in deleted.output
    assert "only the server writes this branch" in reports.output
    assert hosted.main == tip


def test_other_branches_and_tags_are_kept_and_can_go(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a")})
    work_tree.push(hosted.url())
    work_tree.git("tag", "-m", "one", "v1")

    feature = work_tree.push(hosted.url(), refspec="HEAD:refs/heads/feature/x")
    tag = work_tree.push(hosted.url(), refspec="refs/tags/v1")
    gone = work_tree.push(hosted.url(), refspec=":refs/heads/feature/x")

    assert [each.code for each in (feature, tag, gone)] == [0, 0, 0], feature.output + tag.output + gone.output
    assert feature.remote == ["no environment follows feature/x; followed: main"]
    assert work_tree.git("ls-remote", hosted.url()).count("feature/x") == 0


def test_what_was_pushed_can_be_cloned_whole_and_shallow(
    hosted: Any, work_tree: Any, flow_text: Any, tmp_path: Path
) -> None:
    work_tree.write({"readme": "r"})
    work_tree.write({"flows/a.yaml": flow_text("w.a")})
    work_tree.push(hosted.url())

    work_tree.git("clone", "-q", hosted.url("viewer"), str(tmp_path / "whole"))
    work_tree.git("clone", "-q", "--depth", "1", hosted.url("viewer"), str(tmp_path / "shallow"))

    assert (tmp_path / "whole/flows/a.yaml").read_text() == flow_text("w.a")
    assert (tmp_path / "shallow/flows/a.yaml").exists()


def test_a_chunked_push_of_more_than_a_megabyte_arrives_whole(
    hosted: Any, work_tree: Any, flow_text: Any, tmp_path: Path
) -> None:
    noise = os.urandom(1_500_000).hex()
    work_tree.write({"flows/a.yaml": flow_text("w.a"), "big.txt": noise})

    pushed = work_tree.push(hosted.url())

    assert pushed.code == 0, pushed.output
    work_tree.git("clone", "-q", hosted.url("viewer"), str(tmp_path / "clone"))
    assert (tmp_path / "clone/big.txt").read_text() == noise


def test_tokens_decide_who_may_fetch_and_push(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a")})

    wrong = work_tree.push(hosted.url("nobody"))
    viewer = work_tree.push(hosted.url("viewer"))
    unknown = run(work_tree, "ls-remote", hosted.url("viewer", "other.git"))
    reading = run(work_tree, "ls-remote", hosted.url("viewer"))

    assert (wrong.code, viewer.code, reading.code) == (128, 128, 0)
    assert "Authentication failed" in wrong.output
    assert "403" in viewer.output
    assert "not found" in unknown.output
    assert hosted.main is None


def run(work_tree: Any, *arguments: str) -> Any:
    done = subprocess.run(["git", *arguments], cwd=work_tree.path, capture_output=True, text=True, check=False)
    return type("Done", (), {"code": done.returncode, "output": done.stdout + done.stderr})
