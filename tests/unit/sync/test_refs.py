from __future__ import annotations

import random

import pytest

from sync.refs import fits, is_followed, is_older, newest


def tags(*names: str) -> list[str]:
    return [f"refs/tags/{name}" for name in names]


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("v*", ["v1.9.0", "v1.10.0", "v1.2.0"], "v1.10.0"),
        ("v*", ["v1.0.0", "v2.0.0-rc.1"], "v1.0.0"),
        ("v*", ["v2.0.0-rc.1", "v2.0.0-rc.2"], None),
        ("v*-*", ["v2.0.0", "v2.0.0-rc.2", "v2.0.0-rc.10"], "v2.0.0-rc.10"),
        ("v*rc*", ["v2.0rc1", "v2.0rc12", "v2.0rc3"], "v2.0rc12"),
        ("v*-*", ["v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.beta", "v1.0.0-beta.11"], "v1.0.0-beta.11"),
        ("v*-*", ["v1.0.0-dev.9", "v1.0.0-alpha.1"], "v1.0.0-alpha.1"),
        ("*", ["1.0", "1.0.post1", "1.0a9"], "1.0.post1"),
        ("*", ["1.0a1", "0.9"], "0.9"),
        ("v*-*", ["v1.0.0-rc.1.20", "v1.0.0-rc.11"], "v1.0.0-rc.11"),
        ("v[0-9]*", ["v1.0.0", "v2.0.0-rc.1"], "v1.0.0"),
        ("v[!0]*", ["v1.0.0", "v2.0.0-rc.1"], "v1.0.0"),
        ("v*.*.*", ["v1.0.0", "v2.0.0-rc.1"], "v1.0.0"),
        ("v[12].*", ["v1.0.0", "v2.0.0-rc.1"], "v1.0.0"),
        ("v?.0.0-*", ["v2.0.0-rc.1"], "v2.0.0-rc.1"),
        ("*", ["1.0+1²", "1.0+2"], "1.0+2"),
        ("*", ["²", "a"], "²"),
        ("v*", ["v1.0.0+build.7", "v1.0.0-rc1"], "v1.0.0+build.7"),
        ("v*", ["vault", "v1", "vnext"], "v1"),
        ("v1.*", ["v1.4.2", "v2.0.0"], "v1.4.2"),
        ("release-*", ["release-2026-11-09", "release-2026-11-26", "release-2025-12-31"], "release-2026-11-26"),
        ("nightly-*", ["nightly-9", "nightly-10"], "nightly-10"),
        ("build-?", ["build-1", "build-10"], "build-1"),
        ("v*", ["w1", "x/v2"], None),
        ("v*", [], None),
        ("v*", ["v1.0", "v1.0.0"], "v1.0.0"),
        ("v*", [f"v{'9' * 5_000}", "v1"], "v1"),
    ],
)
def test_the_highest_version_is_followed(pattern: str, names: list[str], expected: str | None) -> None:
    given = tags(*names)
    random.Random(7).shuffle(given)

    found = newest(f"refs/tags/{pattern}", given)

    assert found == (f"refs/tags/{expected}" if expected else None)


@pytest.mark.parametrize(
    ("pattern", "ref", "expected"),
    [
        ("refs/tags/v*", "refs/tags/v1", True),
        ("refs/tags/v*", "refs/heads/v1", False),
        ("refs/tags/v*", "refs/tags/v1/x", False),
        ("refs/heads/release/*", "refs/heads/release/1.4", True),
        ("refs/heads/release/*", "refs/heads/release", False),
        ("refs/tags/v[12].*", "refs/tags/v2.0", True),
        ("refs/tags/v[12].*", "refs/tags/v3.0", False),
    ],
)
def test_a_wildcard_stays_within_its_segment(pattern: str, ref: str, *, expected: bool) -> None:
    assert fits(pattern, ref) is expected
    assert is_followed(ref, ["refs/heads/main", pattern]) is expected


def test_a_branch_of_a_pattern_is_chosen_like_a_tag() -> None:
    names = [f"refs/heads/release/{version}" for version in ("1.9", "1.10", "2.0-rc1")]

    assert newest("refs/heads/release/*", names) == "refs/heads/release/1.10"


def test_what_is_gone_is_compared_with_what_is_left() -> None:
    first, second = tags("v1.0.0", "v1.1.0")

    assert is_older("refs/tags/v*", first, second)
    assert not is_older("refs/tags/v*", second, first)
    assert not is_older("refs/tags/v*", first, first)
