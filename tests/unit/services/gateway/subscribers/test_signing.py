"""Signatures of webhooks, and when they are tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from services.gateway.subscribers.public import INTERNAL, PUBLIC
from services.gateway.subscribers.retrying import DELAYS, TRIES, wait_after
from services.gateway.subscribers.signing import check_secret, new_secret, signed
from shared.contracts.envelope import REGISTRY, Event
from shared.errors import ContractError

AT = datetime(2026, 11, 22, 9, 0, 0, 700_000, tzinfo=UTC)


def test_a_signature_is_that_of_the_scheme() -> None:
    """The example of the specification's reference libraries."""
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(
        [secret],
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=datetime.fromtimestamp(1614265330, UTC),
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_signs() -> None:
    first, second = new_secret(), new_secret()
    headers = signed([first, second], webhook_id="msg_1", at=AT, body=b"{}")
    said = f"msg_1.{int(AT.timestamp())}.{{}}".encode()
    wanted = []
    for secret in (first, second):
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"))
        wanted.append(
            "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        )
    assert headers["webhook-signature"].split(" ") == wanted


def test_a_secret_is_one_that_the_scheme_takes() -> None:
    check_secret(new_secret())
    for text in ("", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "x" * 60, "whsec_" + "QUFB" * 40):
        with pytest.raises(ContractError, match="24 to 64 bytes"):
            check_secret(SecretStr(text))


def test_ten_tries_with_growing_delay() -> None:
    waits = [wait_after(n, retry_after=None, chance=0.5) for n in range(1, TRIES + 1)]
    assert waits[:-1] == list(DELAYS)
    assert waits[-1] is None
    assert TRIES == 10
    assert list(DELAYS) == sorted(DELAYS)


def test_the_spread_is_a_tenth() -> None:
    assert wait_after(1, retry_after=None, chance=0.0) == 0.9 * DELAYS[0]
    assert wait_after(1, retry_after=None, chance=1.0) == 1.1 * DELAYS[0]


def test_what_the_subscriber_asks_for_is_heeded_up_to_a_day() -> None:
    assert wait_after(1, retry_after=timedelta(hours=2), chance=0.5) == timedelta(hours=2)
    assert wait_after(1, retry_after=timedelta(days=9), chance=0.5) == timedelta(days=1)
    assert wait_after(9, retry_after=timedelta(seconds=1), chance=0.5) == DELAYS[8]
    assert wait_after(10, retry_after=timedelta(hours=2), chance=0.5) is None


def test_every_event_is_public_or_not() -> None:
    """A new contract has to be sorted in: nothing goes out because nobody thought of it."""
    events = {cls for cls in REGISTRY.values() if issubclass(cls, Event)}
    assert events == {*PUBLIC, *INTERNAL}
    assert not set(PUBLIC) & set(INTERNAL)
