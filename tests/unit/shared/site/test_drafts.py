"""Secrets of a draft that is read from a file: what asterisks stand for."""

from __future__ import annotations

from typing import Any

import pytest

from shared.clock import ManualClock
from shared.errors import ContractError
from shared.secrets import SecretBox, new_key
from shared.site.documents import RuleDocument, source_of
from shared.site.drafts import leads_elsewhere, with_stored_secrets
from shared.site.masked import KEPT
from shared.site.parts import Typed
from shared.site.rules.rule import RoutingRule

BOX = SecretBox([new_key()])
CUSTOM = {"url": "https://crm.example.com/a", "header": {"name": "X-Key", "value": "hidden"}}
CRM = {"crm": "zoho", "credentials": {"user": "me", "password": "hidden"}}


def a_document(**parts: Any) -> dict[str, Any]:
    row = {"operator": "=", "value": "GOLD", "destination": "queue:a"}
    known = {"name": "main", "dids": ["1"], "field": "Tier", "rows": [row], "default": "queue:b"}
    return known | parts


def read(document: dict[str, Any]) -> RoutingRule:
    return RoutingRule.model_validate(document, context=Typed(BOX, {}))


def stored(clock: ManualClock, **parts: Any) -> RuleDocument:
    rule = read(a_document(**parts))
    return RuleDocument(
        key="acme/main",
        tenant="acme",
        name=rule.name,
        number=1,
        source=source_of(rule),
        what="created",
        changed_at=clock.now(),
        changed_by="test",
        serial="1",
    )


def opened(sealed: str) -> str:
    return BOX.open(sealed).get_secret_value()


def test_asterisks_are_the_stored_secret_and_what_is_said_is_said(clock: ManualClock) -> None:
    document = a_document(crm="zoho", credentials={"user": "you", "password": KEPT})

    rule = with_stored_secrets(read(document), document, stored(clock, **CRM))

    found = {name: opened(sealed) for name, sealed in rule.credentials.items()}
    assert found == {"user": "you", "password": "hidden"}


def test_the_header_of_a_custom_crm_stays_too(clock: ManualClock) -> None:
    document = a_document(custom={**CUSTOM, "header": {"name": "X-Key", "value": KEPT}})

    rule = with_stored_secrets(read(document), document, stored(clock, custom=CUSTOM))

    assert rule.custom is not None
    assert rule.custom.header is not None
    assert opened(rule.custom.header.value) == "hidden"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"crm": "other", "credentials": {"password": KEPT}}, "crm: is another"),
        ({"crm": "zoho", "credentials": {"token": KEPT}}, "credentials.token: none is stored"),
        ({"custom": {**CUSTOM, "header": {"name": "X", "value": KEPT}}}, "none is stored"),
    ],
)
def test_a_secret_that_would_go_elsewhere_is_said_again(
    clock: ManualClock, parts: dict[str, Any], words: str
) -> None:
    document = a_document(**parts)

    with pytest.raises(ContractError, match=words):
        with_stored_secrets(read(document), document, stored(clock, **CRM))
    with pytest.raises(ContractError, match="none is stored"):
        with_stored_secrets(read(document), document, None)


def test_an_address_that_is_not_the_stored_one_leads_elsewhere(clock: ManualClock) -> None:
    there = read(a_document(custom={"url": "https://other.example.com/a"}))

    assert leads_elsewhere(there, stored(clock, custom=CUSTOM))
    assert leads_elsewhere(there, None)
    assert leads_elsewhere(there, stored(clock, **CRM))
    assert not leads_elsewhere(read(a_document(custom=CUSTOM)), stored(clock, custom=CUSTOM))
    assert not leads_elsewhere(read(a_document(**CRM)), stored(clock, custom=CUSTOM))
