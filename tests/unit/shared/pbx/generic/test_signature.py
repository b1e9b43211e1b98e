from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import BadSetting, Forbidden
from shared.pbx.generic.adapter import GenericSettings, generic_adapter
from shared.pbx.port import HookReader, RawHook

SECRET = "shared-with-the-pbx"
BODY = b'{"event": "ended", "call": "1", "at": "2026-11-21T10:00:00Z"}'
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))


def hooks_of(secret: str | None) -> HookReader:
    settings = GenericSettings(signing_secret=None if secret is None else SecretStr(secret))
    hooks = generic_adapter(settings, tenant="acme", pbx="door").hooks
    assert hooks is not None
    return hooks


def signature(body: bytes = BODY, stamp: str = STAMP, secret: str = SECRET) -> str:
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={mac.hexdigest()}"


RIGHT = signature()


def a_hook(
    *,
    body: bytes = BODY,
    at: datetime = NOW,
    timestamp: str = STAMP,
    signature: str = RIGHT,
) -> RawHook:
    headers = {"x-callmesh-timestamp": timestamp, "x-callmesh-signature": signature}
    return RawHook(headers=headers, body=body, received_at=at)


def refusal(hook: RawHook) -> str:
    with pytest.raises(Forbidden) as caught:
        hooks_of(SECRET).verify(hook)
    assert SECRET not in caught.value.message
    assert RIGHT[7:] not in caught.value.message
    return caught.value.message


def test_a_signed_hook_is_let_in_and_may_come_again() -> None:
    hooks_of(SECRET).verify(a_hook())
    hooks_of(SECRET).verify(a_hook())


def test_without_a_secret_nothing_is_asked() -> None:
    hooks_of(None).verify(RawHook(body=BODY, received_at=NOW))


def test_the_digits_may_be_capital_and_surrounded_by_blanks() -> None:
    hooks_of(SECRET).verify(a_hook(signature=f" {RIGHT.upper()} "))


@pytest.mark.parametrize("value", ["", "  "])
def test_a_header_that_is_missing_is_named(value: str) -> None:
    assert "header X-Callmesh-Timestamp is missing" in refusal(a_hook(timestamp=value))
    assert "header X-Callmesh-Signature is missing" in refusal(a_hook(signature=value))
    assert "is missing" in refusal(RawHook(body=BODY, received_at=NOW))


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param(a_hook(body=BODY + b" "), id="another body"),
        pytest.param(a_hook(signature=signature(secret="another")), id="another secret"),
        pytest.param(a_hook(timestamp=str(int(STAMP) + 1)), id="another time"),
        pytest.param(a_hook(signature=RIGHT[7:]), id="no scheme"),
        pytest.param(a_hook(signature=RIGHT[:-1]), id="cut off"),
        pytest.param(a_hook(signature="sha1=" + "0" * 40), id="another scheme"),
        pytest.param(a_hook(signature="sha256=\u00e4\ud800"), id="not ASCII, not even text"),
    ],
)
def test_a_signature_that_does_not_fit_is_wrong(hook: RawHook) -> None:
    assert refusal(hook).startswith("X-Callmesh-Signature is wrong")


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (timedelta(seconds=301), "is 301 s behind our clock"),
        (timedelta(seconds=-301), "is 301 s ahead of our clock"),
        (timedelta(hours=2), "is 7200 s behind our clock"),
    ],
)
def test_a_clock_that_is_off_is_told_by_how_much(late: timedelta, said: str) -> None:
    message = refusal(a_hook(at=NOW + late))

    assert said in message
    assert "NTP" in message


@pytest.mark.parametrize("seconds", [-300, -1, 0, 299, 300])
def test_five_minutes_are_borne(seconds: int) -> None:
    hooks_of(SECRET).verify(a_hook(at=NOW + timedelta(seconds=seconds)))


def test_who_cannot_sign_does_not_learn_our_time() -> None:
    message = refusal(a_hook(at=NOW + timedelta(hours=1), signature="sha256=" + "0" * 64))

    assert "clock" not in message


@pytest.mark.parametrize("stamp", ["now", "-1", "1.5", "1e9", "0x10", "\u0661", "9" * 12])
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    assert "whole unix seconds" in refusal(
        a_hook(timestamp=stamp, signature=signature(stamp=stamp))
    )


def test_milliseconds_are_recognised() -> None:
    stamp = f"{STAMP}000"

    assert "not in milliseconds" in refusal(
        a_hook(timestamp=stamp, signature=signature(stamp=stamp))
    )


@given(stamp=st.text(max_size=40), sign=st.text(max_size=100), body=st.binary(max_size=100))
def test_nothing_but_the_right_signature_is_let_in(stamp: str, sign: str, body: bytes) -> None:
    with pytest.raises(Forbidden):
        hooks_of(SECRET).verify(a_hook(body=body, timestamp=stamp, signature=sign))


@pytest.mark.parametrize("secret", ["", "  ", "\n"])
def test_an_empty_secret_is_none(secret: str) -> None:
    with pytest.raises(BadSetting, match="signing_secret"):
        GenericSettings(signing_secret=SecretStr(secret))


async def test_nothing_can_be_tried() -> None:
    adapter = generic_adapter(GenericSettings(), tenant="acme", pbx="door")

    (finding,) = [finding async for finding in adapter.check()]

    assert finding.fault is None
    assert "nothing can be tried" in finding.what
    assert [adapter.source, adapter.switchboard, adapter.reporter] == [None, None, None]


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(GenericSettings(signing_secret=SecretStr(SECRET)))
