from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from runner.reports import text
from runner.reports.values import clean

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain words", "plain words"),
        ("two\n lines\tand  blanks", "two lines and blanks"),
        ("a|b", r"a\|b"),
        ("*bold* _it_ `code` ~~no~~", "\\*bold\\* \\_it\\_ \\`code\\` \\~\\~\u200bno\\~\\~"),
        ("[text](target)", r"\[text\]\(target\)"),
        ("![image](x)", r"\!\[image\]\(x\)"),
        (r"\[", r"\\\["),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("&lt;", "&amp;\u200blt;"),
        ("50 % of R&D", "50 % of R&amp;\u200bD"),
        ("$math$", "\\$\u200bmath\\$"),
        ("@ann", "@\u200bann"),
        ('%"next release"', '%\u200b"next release"'),
        ("closes #12", "closes #\u200b12"),
        ("owner/repo#1 !2 GH-3", "owner/repo#\u200b1 \\!\u200b2 GH\u200b-3"),
        ("https://example.org", "https:\u200b//example.org"),
        ("WWW.example.org", "WWW\u200b.example.org"),
        ("ann@example.org", "ann@\u200bexample.org"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("a\u202eb\u2066c\u061cd\ufeffe\U000e0041f", "abcdef"),
        ("a\x00b\x07c\ud800d", "abcd"),
    ],
)
def test_inline_text_is_only_text(raw: str, shown: str) -> None:
    assert text.inline(raw) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("", ""),
        ("word", "`word`"),
        ("a`b", "``a`b``"),
        ("a``b`c", "```a``b`c```"),
        ("`a", "`` `a ``"),
        ("a\nb", "`a b`"),
        ("@ann", "`@ann`"),
    ],
)
def test_a_span_of_code_ends_where_it_should(raw: str, shown: str) -> None:
    assert text.code(raw) == shown


@pytest.mark.parametrize(
    ("raw", "fence"), [("x", "```"), ("```", "````"), ("a\n`````\nb", "``````"), ("~~~", "```"), ("``", "```")]
)
def test_a_fence_is_longer_than_what_it_holds(raw: str, fence: str) -> None:
    assert text.fenced(raw) == f"{fence}text\n{raw}\n{fence}"


def test_a_cut_says_that_there_was_more() -> None:
    assert text.cut("abcdef", 4) == "abc…"
    assert text.cut("abcd", 4) == "abcd"
    assert len(text.inline("x" * 1_000)) == 300


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("01jd8w", "01jd8w"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".git", "git"),
        ("..", "_"),
        ("", "_"),
        ("a\u0000b\nc", "a_b_c"),
        ("é", "_"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_file_name_stays_in_its_folder(raw: str, name: str) -> None:
    assert text.path_name(raw) == name


@pytest.mark.parametrize(
    ("raw", "label"),
    [("chart LGA", "chart LGA"), ("a:b;c#d", "a_b_c_d"), ("a\nb", "a_b"), ("", "task"), ("x" * 60, "x" * 39 + "…")],
)
def test_a_label_of_a_diagram_holds_no_signs_of_its_language(raw: str, label: str) -> None:
    assert text.label(raw) == label


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (0, "< 1 ms"),
        (-3, "< 1 ms"),
        (0.32, "320 ms"),
        (0.9999, "1.0 s"),
        (4.2, "4.2 s"),
        (59.96, "1 m 0 s"),
        (102, "1 m 42 s"),
        (3599.6, "1 h 0 m"),
        (11_100, "3 h 5 m"),
    ],
)
def test_durations_read_as_people_write_them(value: float | None, words: str) -> None:
    assert text.seconds(value) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (412_000, "412 kB"), (999_700, "1 MB"), (3_140_000, "3.14 MB"), (5e12, "5e+03 GB")],
)
def test_sizes_are_in_the_unit_that_reads_best(count: int, words: str) -> None:
    assert text.size(count) == words


def test_moments_are_in_utc_whatever_their_zone() -> None:
    there = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    assert text.moment(there) == "2026-02-28 20:00:00 UTC"
    assert text.day_and_time(there, NOW) == "Feb\u00a028 20:00"
    assert text.day_and_time(NOW - timedelta(days=300), NOW) == "2025-05-05"
    assert text.day_and_time(None, NOW) == text.moment(None) == ""


def test_a_secret_that_control_characters_were_hidden_in_is_masked_too() -> None:
    found = clean("token s3\x00cret and s3cret", lambda raw: raw.replace("s3cret", "******"))

    assert found == "token ****** and ******"
