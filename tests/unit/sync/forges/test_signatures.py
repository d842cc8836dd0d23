"""Known answers: a signature of ours must be what the forges' own documentation computes."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.forges.base import Headers, UnprovenError
from sync.forges.signatures import demand_hex, demand_standard, demand_token, hex_signature, standard_signature

# The example of the Standard Webhooks specification's libraries.
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
SIGNED_AT = datetime.fromtimestamp(int(TIMESTAMP), UTC)


def standard(**changes: str) -> Headers:
    given = {"webhook-id": MESSAGE, "webhook-timestamp": TIMESTAMP, "webhook-signature": SIGNATURE}
    return Headers({**given, **{f"webhook-{name}": text for name, text in changes.items()}}.items())


def test_the_hexadecimal_signature_is_the_one_that_github_documents() -> None:
    signature = hex_signature("It's a Secret to Everybody", b"Hello, World!")

    assert signature == "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_the_standard_signature_is_the_one_of_the_specification() -> None:
    key = base64.b64decode(KEY.removeprefix("whsec_"))

    assert standard_signature(key, MESSAGE, TIMESTAMP, BODY) == SIGNATURE
    assert demand_standard(standard(), BODY, [KEY], SIGNED_AT) == MESSAGE


def test_any_of_several_standard_signatures_counts_up_to_eight() -> None:
    other = "v1," + base64.b64encode(b"x" * 32).decode()

    assert demand_standard(standard(signature=f"v1a,abc {other} {SIGNATURE}"), BODY, [KEY], SIGNED_AT) == MESSAGE
    with pytest.raises(UnprovenError, match="9 signatures"):
        demand_standard(standard(signature=" ".join([*[other] * 8, SIGNATURE])), BODY, [KEY], SIGNED_AT)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_five_minutes_of_either_side_are_allowed(seconds: int) -> None:
    assert demand_standard(standard(), BODY, [KEY], SIGNED_AT + timedelta(seconds=seconds)) == MESSAGE


@pytest.mark.parametrize(("seconds", "words"), [(301, "301 s before"), (-301, "301 s ahead of")])
def test_a_signature_of_another_time_says_how_far_away_it_is(seconds: int, words: str) -> None:
    with pytest.raises(UnprovenError, match=words):
        demand_standard(standard(), BODY, [KEY], SIGNED_AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("timestamp", ["", "-1", "1e9", "١٦١٤٢٦٥٣٣٠", "9" * 400, "nan", " 1614265330"])
def test_a_signed_time_must_be_a_number_of_seconds(timestamp: str) -> None:
    key = base64.b64decode(KEY.removeprefix("whsec_"))
    headers = standard(timestamp=timestamp, signature=standard_signature(key, MESSAGE, timestamp, BODY))

    with pytest.raises(UnprovenError):
        demand_standard(headers, BODY, [KEY], SIGNED_AT)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "", "whsec_ü"])
def test_a_key_that_is_empty_or_no_base64_signs_nothing(secret: str) -> None:
    headers = standard(signature=standard_signature(b"", MESSAGE, TIMESTAMP, BODY))

    with pytest.raises(UnprovenError):
        demand_standard(headers, BODY, [secret], SIGNED_AT)


def test_text_that_is_not_ascii_is_compared_without_failing() -> None:
    for given in ("sha256=\xe9", "\u20ac", "sha256=" + "\x00" * 64):
        with pytest.raises(UnprovenError):
            demand_hex(given, b"{}", ["secret"], prefix="sha256=", header="X-Hub-Signature-256")
        with pytest.raises(UnprovenError):
            demand_token(given, ["secret"], header="X-Gitlab-Token")


def test_a_secret_with_umlauts_signs_as_utf_8() -> None:
    demand_hex(hex_signature("schlüssel", b"{}"), b"{}", ["schlüssel"], header="X-Gitea-Signature")


def test_every_secret_is_tried_whichever_fits_first(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []
    real = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return real(left, right)

    monkeypatch.setattr("sync.forges.signatures.hmac.compare_digest", watched)

    demand_hex(hex_signature("new", b"{}"), b"{}", ["new", "old"], header="X-Gitea-Signature")
    demand_token("new", ["new", "old"], header="X-Gitlab-Token")

    assert len(compared) == 4
    assert all(isinstance(each, bytes) for each in compared)
