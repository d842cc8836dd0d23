"""Many flows at once over a real hosted repository."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

FLOWS = "/api/v1/main/flows"
YAML = {"content-type": "application/x-yaml"}


def flow(flow_id: str, namespace: str = "company.team", extra: str = "") -> str:
    return f"""id: {flow_id}
namespace: {namespace}
{extra}tasks:
  - id: say
    type: core.log.Log
    message: hello
"""


def put(api: Any, *sources: str, query: str = "delete=false", **options: Any) -> Any:
    return api.post(f"{FLOWS}/bulk?{query}", content="---\n".join(sources), headers=YAML, **options)


def ids(api: Any) -> list[str]:
    return [f"{row['namespace']}.{row['id']}" for row in api.get(f"{FLOWS}/search?size=100").json()["results"]]


def commits(api: Any) -> list[str]:
    source = api.services.sync.repository("hosted")
    head = source.heads(["refs/heads/main"])["refs/heads/main"]
    return [entry.commit.message.decode().splitlines()[0] for entry in _walk(source, head)]


def _walk(source: Any, head: str) -> Any:
    return source.repository._repo.get_walker(include=[head.encode()])


def test_several_flows_are_one_commit(git_api: Any) -> None:
    answer = put(git_api, flow("a"), flow("b"), flow("c", "other"))

    assert answer.status_code == 200
    assert [(row["id"], row["revision"]) for row in answer.json()] == [("a", 1), ("b", 1), ("c", 1)]
    assert sorted(ids(git_api)) == ["company.team.a", "company.team.b", "other.c"]
    assert commits(git_api) == ["Write 3 flows"]


def test_one_invalid_flow_keeps_all_out(git_api: Any) -> None:
    answer = put(git_api, flow("a"), "id: b\nnamespace: company.team\ntasks: 1\n")

    assert answer.status_code == 422
    assert answer.json()["problems"]
    assert ids(git_api) == []


def test_what_the_body_does_not_name_leaves_unless_it_is_told_to_stay(git_api: Any) -> None:
    put(git_api, flow("a"), flow("b"), flow("c", "other"))

    kept = put(git_api, flow("a"), flow("d"), query="delete=false")
    cut = git_api.post(f"{FLOWS}/company.team", content=flow("a"), headers=YAML)

    assert (kept.status_code, cut.status_code) == (200, 200)
    assert sorted(ids(git_api)) == ["company.team.a", "other.c"]


def test_the_deletion_guard_holds_what_would_leave_nothing(git_api: Any) -> None:
    put(git_api, flow("a"), flow("b"))

    answer = git_api.post(f"{FLOWS}/company.team", content="", headers=YAML)

    assert (answer.status_code, answer.json()["code"]) == (409, "environment.held")
    assert len(ids(git_api)) == 2


def test_flows_of_another_namespace_and_repeated_ones_are_refused(git_api: Any) -> None:
    foreign = git_api.post(f"{FLOWS}/company.team", content=flow("a", "other"), headers=YAML)
    below = put(git_api, flow("a", "company.team.sub"), query="delete=false&namespace=company.team")
    allowed = put(
        git_api, flow("a", "company.team.sub"), query="delete=false&namespace=company.team&allowNamespaceChild=true"
    )
    twice = put(git_api, flow("b"), flow("b"))

    assert (foreign.status_code, foreign.json()["code"]) == (422, "flow.documents.foreign")
    assert below.status_code == 422
    assert allowed.status_code == 200
    assert (twice.status_code, twice.json()["code"]) == (422, "flow.documents.repeated")


def test_override_gives_each_flow_the_namespace_of_the_address(git_api: Any) -> None:
    answer = git_api.post(f"{FLOWS}/company.team?override=true", content=flow("a", "other"), headers=YAML)

    assert answer.status_code == 200
    assert ids(git_api) == ["company.team.a"]


def test_switching_off_and_on_counts_changes_only_and_keeps_the_text(git_api: Any) -> None:
    put(git_api, "# ours\n" + flow("a"), flow("b", extra="disabled: true\n"))
    body = [{"id": "a", "namespace": "company.team"}, {"id": "b", "namespace": "company.team"}]

    first = git_api.post(f"{FLOWS}/disable/by-ids", json=body)
    second = git_api.post(f"{FLOWS}/disable/by-ids", json=body)
    source = git_api.get(f"{FLOWS}/company.team/a?source=true").json()["source"]
    on = git_api.post(f"{FLOWS}/enable/by-query?filters[namespace][PREFIX]=company")

    assert (first.json(), second.json(), on.json()) == ({"count": 1}, {"count": 0}, {"count": 2})
    assert source == "# ours\n" + flow("a", extra="disabled: true\n")
    assert git_api.get(f"{FLOWS}/company.team/a").json()["disabled"] is False


@pytest.mark.parametrize("verb", ["disable", "enable"])
def test_a_flow_in_force_behind_a_draft_is_not_said_to_be_switched(git_api: Any, verb: str) -> None:
    is_off = "true" if verb == "enable" else "false"
    put(git_api, flow("a", extra=f"disabled: {is_off}\n"), flow("b", extra=f"disabled: {is_off}\n"))
    put(git_api, flow("a", extra=f"draft: true\ndisabled: {is_off}\n"))
    before = commits(git_api)

    by_ids = git_api.post(f"{FLOWS}/{verb}/by-ids", json=[{"id": "a", "namespace": "company.team"}])
    by_query = git_api.post(f"{FLOWS}/{verb}/by-query?filters[namespace][PREFIX]=company")

    assert [(each.status_code, each.json()["code"]) for each in (by_ids, by_query)] == [(409, "flow.draft.newest")] * 2
    assert "company.team.a" in by_query.json()["detail"]
    assert "triggers" in by_ids.json()["hint"]
    assert commits(git_api) == before


def test_a_flow_of_which_there_are_only_drafts_is_switched(git_api: Any) -> None:
    put(git_api, flow("a", extra="draft: true\n"))

    answer = git_api.post(f"{FLOWS}/disable/by-ids", json=[{"id": "a", "namespace": "company.team"}])

    assert answer.json() == {"count": 1}


def test_flows_are_deleted_by_ids_and_by_query(git_api: Any) -> None:
    put(git_api, flow("a"), flow("b"), flow("c"), flow("d", "other"))

    unknown = git_api.delete(f"{FLOWS}/delete/by-ids", json=[{"id": "x", "namespace": "company.team"}])
    by_ids = git_api.delete(f"{FLOWS}/delete/by-ids", json=[{"id": "a", "namespace": "company.team"}])
    by_query = git_api.delete(f"{FLOWS}/delete/by-query?filters[namespace][EQUALS]=company.team")

    assert unknown.status_code == 404
    assert (by_ids.json(), by_query.json()) == ({"count": 1}, {"count": 2})
    assert ids(git_api) == ["other.d"]


def test_a_token_changes_only_flows_of_its_namespaces_and_a_viewer_none(git_api: Any) -> None:
    put(git_api, flow("a"), flow("b", "other"))
    body = [{"id": "a", "namespace": "company.team"}]

    by_ids = git_api.delete(f"{FLOWS}/delete/by-ids", json=body, token="other")
    by_query = git_api.post(f"{FLOWS}/disable/by-query", token="other")
    written = put(git_api, flow("c"), token="other")
    viewer = git_api.post(f"{FLOWS}/disable/by-ids", json=body, token="viewer")
    cut = put(git_api, flow("c", "other"), query="", token="other")

    assert by_ids.status_code == 404
    assert by_query.json() == {"count": 1}
    assert (written.status_code, viewer.status_code, cut.status_code) == (403, 403, 200)
    assert sorted(ids(git_api)) == ["company.team.a", "other.c"]


@pytest.mark.parametrize("body", [{}, [1], [{"id": "a", "namespace": "b"}] * 1001], ids=["map", "number", "many"])
def test_a_body_that_lists_no_flows_is_refused(git_api: Any, body: Any) -> None:
    assert git_api.post(f"{FLOWS}/disable/by-ids", json=body).status_code == 422


def test_an_export_can_be_taken_in_again(git_api: Any) -> None:
    put(git_api, flow("a"), flow("b"))
    body = [{"id": "a", "namespace": "company.team"}, {"id": "b", "namespace": "company.team"}]

    answer = git_api.post(f"{FLOWS}/export/by-ids", json=body)
    table = git_api.get(f"{FLOWS}/export/by-query/csv").text.splitlines()
    git_api.delete(f"{FLOWS}/delete/by-ids", json=body)
    taken = git_api.post(f"{FLOWS}/import", files={"fileUpload": ("flows.zip", answer.content)})

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["company.team.a.yml", "company.team.b.yml"]
        assert archive.read("company.team.a.yml").decode() == flow("a")
    assert table[0].startswith("id,namespace,")
    assert table[1].startswith("a,company.team,1,false,")
    assert taken.json() == []
    assert sorted(ids(git_api)) == ["company.team.a", "company.team.b"]


def test_an_import_names_what_failed_and_takes_the_rest_unless_told_otherwise(git_api: Any) -> None:
    text = flow("a") + "---\nid: b\nnamespace: company.team\ntasks: 1\n"

    refused = git_api.post(f"{FLOWS}/import?failOnError=true", files={"fileUpload": ("flows.yml", text)})
    taken = git_api.post(f"{FLOWS}/import", files={"fileUpload": ("flows.yml", text)})

    assert refused.status_code == 422
    assert taken.json() == ["flows.yml#2"]
    assert ids(git_api) == ["company.team.a"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_of_another_compression_that_is_damaged_is_refused(git_api: Any, compression: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr("a.yml", "id: a\n" * 50)
    damaged = packed.getvalue()
    damaged = damaged[:40] + b"\xff" * 8 + damaged[48:]

    answer = git_api.post(f"{FLOWS}/import", files={"fileUpload": ("flows.zip", damaged)})

    assert (answer.status_code, answer.json()["code"]) == (422, "flow.archive.invalid")


def test_zips_that_are_damaged_or_burst_are_refused(git_api: Any) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.yml", b"#" * 1024 * 1024)
    damaged = bomb.getvalue()[:-200]

    answers = [
        git_api.post(f"{FLOWS}/import", files={"fileUpload": ("flows.zip", content)})
        for content in (bomb.getvalue(), damaged, b"no zip")
    ]
    without = git_api.post(f"{FLOWS}/import", data={"x": "y"})

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(422, "flow.archive.invalid")] * 3
    assert without.status_code == 400
