from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.calls import Direction
from shared.site.dialing import DialPolicy, NumberKind, OwnNumbers
from shared.site.models import Site


def test_without_a_word_premium_numbers_and_satellites_are_blocked_and_nothing_costs() -> None:
    policy = Site(tenant="acme").dialing

    assert policy == DialPolicy()
    assert policy.international
    assert policy.block_kinds == (NumberKind.PREMIUM, NumberKind.SATELLITE)
    assert (policy.limits.per_minute, policy.limits.agent_per_minute) == (60, 10)
    assert policy.limits.cost_per_day is None
    assert policy.numbers.all == frozenset()


def test_what_is_kept_reads_back_as_it_was_and_holds_no_decimals() -> None:
    """No database has decimals of both kinds."""
    policy = DialPolicy.model_validate(
        {
            "prices": {"+": "0.4", "+44": 0.02, "+447*": "0.123456"},
            "limits": {"cost_per_day": 250_000},
            "numbers": {"shops": {"shop.example": "+442079460001"}, "default": "+442079460000"},
        }
    )
    kept = policy.model_dump()

    assert kept["prices"] == {"+": "0.4", "+44": "0.02", "+447*": "0.123456"}
    assert kept["limits"]["cost_per_day"] == "250000"
    assert DialPolicy.model_validate(kept) == policy
    assert DialPolicy.model_validate_json(policy.model_dump_json()) == policy
    assert policy.prices["+44"] == Decimal("0.02")
    assert policy.numbers.all == {"+442079460000", "+442079460001"}


def test_no_limit_stays_none_where_what_is_none_is_left_out() -> None:
    policy = DialPolicy.model_validate({"limits": {"per_minute": None}})
    said = policy.model_dump(mode="json", exclude_none=True)

    assert said["limits"] == {"per_minute": None, "agent_per_minute": 10}
    assert DialPolicy.model_validate(said) == policy
    assert DialPolicy.model_validate_json(policy.model_dump_json(exclude_none=True)) == policy
    schema = DialPolicy.model_json_schema(mode="serialization")["$defs"]["DialLimits"]
    assert "per_minute" in schema["properties"]


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"block": ["44"]}, "block.0"),
        ({"block": ["+44 20"]}, "block.0"),
        ({"block": [44]}, "block.0"),
        ({"allow": ["+4420**"]}, "allow.0"),
        ({"allow": ["999"]}, "allow.0"),
        ({"allow": ["+" + "1" * 16]}, "allow.0"),
        ({"allow": ["+44"] * 2001}, "allow"),
        ({"countries": ["gb"]}, "countries.0"),
        ({"countries": ["UK"]}, "countries"),
        ({"block_kinds": ["free"]}, "block_kinds.0"),
        ({"numbers": {"default": "02079460000"}}, "numbers.default"),
        ({"numbers": {"shops": {"": "+442079460000"}}}, "numbers.shops..[key]"),
        ({"numbers": {"shops": {"a\nb": "+442079460000"}}}, "numbers.shops.a\nb.[key]"),
        ({"numbers": {"agents": {"1 1": "+442079460000"}}}, "numbers.agents.1 1.[key]"),
        ({"prices": {"+44": -1}}, "prices.+44"),
        ({"prices": {"+44": "NaN"}}, "prices.+44"),
        ({"prices": {"+44": "0.1234567"}}, "prices.+44"),
        ({"prices": {"44": 1}}, "prices.44.[key]"),
        ({"limits": {"per_minute": 0}}, "limits.per_minute"),
        ({"limits": {"cost_per_day": "20"}}, ""),
        ({"limit": {}}, "limit"),
    ],
    ids=lambda part: ascii(part)[:40],
)
def test_what_is_wrong_is_a_fault_at_its_place(said: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DialPolicy.model_validate(said)

    assert place in {".".join(map(str, fault["loc"])) for fault in caught.value.errors()}


@pytest.mark.parametrize(
    ("direction", "caller_id", "extension", "own"),
    [
        (Direction.INBOUND, None, "101", "+442079460001"),
        (None, None, None, "+442079460001"),
        (Direction.OUTBOUND, "+442079460009", "101", "+442079460009"),
        (Direction.OUTBOUND, None, "101", "+442079460101"),
        (Direction.OUTBOUND, None, "102", "+442079460000"),
        (Direction.OUTBOUND, None, None, "+442079460000"),
        (Direction.INTERNAL, None, "101", None),
    ],
)
def test_the_own_number_of_a_call_is_what_was_called_or_what_the_customer_sees(
    direction: Direction | None, caller_id: str | None, extension: str | None, own: str | None
) -> None:
    numbers = OwnNumbers(default="+442079460000", agents={"101": "+442079460101"})
    dialled = "+442079460001"
    found = numbers.in_call(direction, dialled=dialled, caller_id=caller_id, extension=extension)
    assert found == own
