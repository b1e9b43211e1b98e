"""A delivery as a request: what its texts may cost, whatever they make of the event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.gateway.subscribers.delivery import Delivery
from services.gateway.subscribers.operations import SubscriberIn
from services.gateway.subscribers.public import PublicEvent
from services.gateway.subscribers.request import Webhook, webhook_of
from services.gateway.subscribers.signing import new_secret
from shared.errors import ContractError

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
#: 32 characters become 810,000, and those are looked at once more.
GROWS = '"a"' + ('|replace "a" "' + "a" * 30 + '"') * 3 + '|replace "a" "' + "a" * 30 + '"'
WORKS = "{{" + GROWS + "|UrlEncode|length}}"


def made(**said: Any) -> Webhook:
    subscriber = SubscriberIn.model_validate(
        {"url": "https://acme.example/hooks", "events": ["*"], **said}
    )
    event = PublicEvent(
        id="e1",
        type="calls.summarised",
        version=1,
        tenant="acme",
        occurred_at=AT,
        correlation="c1",
        data={"call_id": "c1", "summary": "s" * 10_000, "transcription": "t" * 100_000},
    )
    delivery = Delivery(
        key="k",
        tenant="acme",
        subscriber="s",
        lane="l",
        webhook_id="w",
        type=event.type,
        event=event.model_dump_json(),
        created_at=AT,
        due_at=AT,
        expires_at=AT + timedelta(days=1),
    )
    return webhook_of(delivery, subscriber.settings, headers={}, secrets=(new_secret(),), at=AT)


@pytest.mark.parametrize(
    "said",
    [
        {"body": [WORKS] * 90},
        {"body": {f"{WORKS}{n}": n for n in range(90)}},
        # What is made is work, though nothing looks at it afterwards.
        {"body": [f"{{{{{GROWS}}}}}"] * 100},
        {"body": [f"{{{{if {GROWS}}}}}{{{{end}}}}"] * 90},
        {"body": ["{{.Transcription | lower | upper | length}}"] * 9},
        {"url": "https://acme.example/" + WORKS * 3},
        {"url": "https://acme.example/" + WORKS * 2, "body": [WORKS]},
    ],
)
def test_the_texts_of_one_try_share_what_they_may_cost(said: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="too much work"):
        made(**said)


def test_a_long_transcription_may_be_made_into_a_text() -> None:
    body = ["{{.Transcription | replace 't' 'x' | html_lines}}", "{{.Summary | json}}"] * 2
    hook = made(
        url="https://acme.example/{{.CallId | upper}}", body=[t.replace("'", '"') for t in body]
    )
    assert hook.url.path == "/C1"
    assert hook.body.count(b"x") == 200_000
    # The next one begins anew.
    assert made(body=["{{.Transcription | upper}}"]).body.count(b"T") == 100_000
