"""An environment that follows tags of the hosted repository, pushed by git."""

from __future__ import annotations

from typing import Any

from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, Settings
from sync.service import SyncService

BROKEN = "id: broken\nnamespace: w\ntasks: 3\n"


def test_pushed_tags_are_releases_and_the_highest_version_is_active(
    start_hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    hosted = start_hosted(ref="tags/v*", reject_invalid=True)
    first = work_tree.write({"flows/a.yaml": flow_text("w.a")})
    work_tree.git("tag", "-a", "v1.2.0", "-m", "first")
    branch = work_tree.push(hosted.url())
    released = work_tree.push(hosted.url(), "--tags", refspec="HEAD:refs/heads/main")
    second = work_tree.write({"flows/b.yaml": flow_text("w.b")})
    for tag in ("v1.1.9", "v1.10.0", "v2.0.0-rc1"):
        work_tree.git("tag", tag)
    several = work_tree.push(hosted.url(), "--tags", refspec="HEAD:refs/heads/main")
    environment = hosted.service.environment("default")

    assert "no environment follows main; followed: v*" in branch.output
    assert "Mainstem plan for environment default (v1.2.0, flows/)" in released.output
    assert f"revision {first[:7]} active in" in released.output
    assert (several.code, environment.active, environment.followed) == (0, second, "refs/tags/v1.10.0")
    assert "environment default stays at v1.10.0: v2.0.0-rc1 is not the highest version of v*" in several.output

    work_tree.write({"flows/broken.yaml": BROKEN})
    for tag in ("v1.11.0", "v1.10.0"):
        work_tree.git("tag", "-f", tag)
    invalid = work_tree.push(hosted.url(), refspec="refs/tags/v1.11.0")
    moved = work_tree.push(hosted.url(), "-f", refspec="refs/tags/v1.10.0")
    deleted = work_tree.push(hosted.url(), refspec=":refs/tags/v1.10.0")
    older = work_tree.push(hosted.url(), refspec=":refs/tags/v1.1.9")

    assert "(1 problem, see above)" in invalid.output
    assert "(a tag that an environment follows cannot be moved)" in moved.output
    assert "(a tag that an environment follows cannot be deleted)" in deleted.output
    assert older.code == 0
    assert hosted.service.environment("default").active == second


def test_an_environment_that_follows_a_branch_by_now_takes_no_tag_that_it_followed(
    start_hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    hosted = start_hosted(ref="tags/v*")
    first = work_tree.write({"flows/company.a.yaml": flow_text("company.a")})
    work_tree.git("tag", "v1.0.0")
    work_tree.push(hosted.url(), "--tags")
    declare_again(hosted, ref="main")
    known = hosted.service.environment("default")
    work_tree.write({"flows/company.a.yaml": flow_text("company.a", "other")})
    work_tree.git("tag", "-f", "v1.0.0")

    moved = work_tree.push(hosted.url(), "-f", refspec="refs/tags/v1.0.0")

    assert (known.followed, known.following, known.active) == (None, "refs/heads/main", first)
    assert (moved.code, hosted.service.environment("default").active) == (0, first)


def test_a_push_that_moves_several_environments_names_them(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    lab = EnvironmentSettings(name="lab", repository="hosted", path="lab", namespaces=("lab",))
    declare_again(hosted, lab, namespaces=("company",))
    work_tree.write({"flows/a.yaml": flow_text("company.a"), "lab/b.yaml": flow_text("company.b")})

    said = work_tree.push(hosted.url()).remote

    assert [line.split(" ")[0] for line in said if "revision" in line] == ["default:", "lab:"]
    assert said[said.index("environment lab:") + 1].startswith("lab/b.yaml")


def declare_again(hosted: Any, *others: EnvironmentSettings, **environment: Any) -> None:
    """Start another process on the same store, whose settings say something else of the environment."""
    declared = EnvironmentSettings(name="default", repository="hosted", **environment)
    settings = Settings(home=hosted.home, environments=(declared, *others))
    service = SyncService(hosted.store, Catalogue(hosted.store), settings)
    service.ensure_declared()
    service.close()
