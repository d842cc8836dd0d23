from __future__ import annotations

import base64
import html
import itertools
import json
import shlex
import threading
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_runners.masking import REPLACEMENT, Masker

SECRET = "p@ss/wörd+\"quoted\" & 'more'"
RAW = SECRET.encode()


def _masker(*secrets: str) -> Masker:
    masker = Masker()
    for secret in secrets:
        assert masker.add(secret)
    return masker


@pytest.mark.parametrize(
    "printed",
    [
        SECRET,
        base64.b64encode(RAW).decode(),
        base64.urlsafe_b64encode(RAW).decode(),
        RAW.hex(),
        RAW.hex().upper(),
        urllib.parse.quote(SECRET),
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote(SECRET, safe="").lower(),
        urllib.parse.quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        html.escape(SECRET),
        shlex.quote(SECRET),
    ],
)
def test_a_secret_is_recognised_in_the_forms_that_programs_print(printed: str) -> None:
    masked = _masker(SECRET).mask(f"before {printed} after")

    assert masked == f"before {REPLACEMENT} after"


@pytest.mark.parametrize("offset", range(6))
def test_a_secret_inside_longer_base64_is_recognised_at_each_alignment(offset: int) -> None:
    printed = base64.b64encode(b"x" * offset + RAW + b"tail").decode()

    masked = _masker(SECRET).mask(printed)

    assert REPLACEMENT in masked
    assert len(masked) < len(printed) - len(RAW)


def test_each_line_of_a_long_value_is_a_secret_of_its_own() -> None:
    pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n"

    masked = _masker(pem).mask("x MIIEvQIBADANBgkq y\nhkiG9w0BAQEFAASC")

    assert masked == f"x {REPLACEMENT} y\n{REPLACEMENT}"


def test_a_wrapped_base64_value_is_recognised_line_by_line() -> None:
    secret = "a long secret " * 20
    wrapped = base64.encodebytes(secret.encode()).decode().splitlines()

    masked = [_masker(secret).mask(line) for line in wrapped]

    assert set(masked) == {REPLACEMENT}


@pytest.mark.parametrize("secret", ["", "a", "abc", "   a  "])
def test_a_secret_of_less_than_four_characters_is_not_taken(secret: str) -> None:
    masker = Masker()

    taken = masker.add(secret.strip())

    assert (taken, masker.mask("a abc")) == (False, "a abc")


def test_secrets_that_overlap_are_hidden_as_one() -> None:
    masked = _masker("abcdef", "defghi", "cdef").mask("1 abcdefghi 2 cdef 3")

    assert masked == f"1 {REPLACEMENT} 2 {REPLACEMENT} 3"


def test_text_without_a_secret_stays_as_it_is() -> None:
    assert _masker(SECRET).mask("nothing here") == "nothing here"
    assert Masker().mask("nothing here") == "nothing here"


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_secret_cut_by_two_pieces_is_hidden(cut: int) -> None:
    text = "before the-secret-value after"
    stream = _masker("the-secret-value").stream()

    shown = stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush()

    assert shown == f"before {REPLACEMENT} after"


@given(
    text=st.text(alphabet="abX", max_size=60),
    cuts=st.lists(st.integers(min_value=0, max_value=60), max_size=6),
    secrets=st.lists(st.text(alphabet="abX", min_size=4, max_size=7), min_size=1, max_size=3),
)
def test_a_stream_shows_what_the_whole_text_would(text: str, cuts: list[int], secrets: list[str]) -> None:
    masker = _masker(*secrets)
    stream = masker.stream()
    ends = [0, *sorted(cuts), len(text)]

    shown = "".join(stream.feed(text[start:end]) for start, end in itertools.pairwise(ends)) + stream.flush()

    assert shown == masker.mask(text)


def test_secrets_may_be_added_while_others_mask() -> None:
    masker = _masker("first-secret")
    wrong: list[str] = []

    def mask() -> None:
        for _ in range(300):
            shown = masker.mask("a first-secret b")
            if shown != f"a {REPLACEMENT} b":
                wrong.append(shown)

    threads = [threading.Thread(target=mask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        masker.add(f"another-{number}")
    for thread in threads:
        thread.join()

    assert wrong == []
