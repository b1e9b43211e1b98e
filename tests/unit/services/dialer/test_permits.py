from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.dialer.permits import Why, longest, permit
from shared.contracts.dialing import DialableNumber
from shared.errors import ContractError, Forbidden, MeshError
from shared.site.dialing import DialPolicy
from shared.site.models import Agent, Site

TABLE = yaml.safe_load((Path(__file__).parents[3] / "data/dialing/numbers.yaml").read_text())
POLICIES = {name: DialPolicy.model_validate(said) for name, said in TABLE["policies"].items()}
PHONES = ("101", "102", "112", "2000", "1129")
_DIALABLE: TypeAdapter[str] = TypeAdapter(DialableNumber)
REGIONS = sorted({row[0] for row in TABLE["rows"]} - {None})


def a_site(region: str | None, policy: str = "none") -> Site:
    agents = tuple(Agent(extension=phone) for phone in PHONES)
    return Site(tenant="acme", region=region, agents=agents, dialing=POLICIES[policy])


def outcome(text: str, site: Site) -> str:
    try:
        found = permit(text, extension="101", site=site)
    except MeshError as error:
        return str(error.details["why"])
    return f"inside {found.number}" if found.inside else found.number


@pytest.mark.parametrize(("region", "policy", "asked", "expected"), TABLE["rows"], ids=ascii)
def test_a_number_comes_to_what_the_table_says(
    region: str | None, policy: str, asked: str, expected: str
) -> None:
    assert outcome(asked, a_site(region, policy)) == expected


def test_the_table_tries_every_reason_that_a_number_may_be_refused_for() -> None:
    of_numbers = set(Why) - {
        *(Why.NO_AGENT, Why.CALLER_ID, Why.DIALLING, Why.OTHER_ORDER, Why.TOO_LATE),
        *(Why.PER_MINUTE, Why.PER_HOUR, Why.PER_DAY, Why.COST),
    }

    assert {row[3] for row in TABLE["rows"]} >= {why.value for why in of_numbers}
    assert len(TABLE["rows"]) >= 60


@pytest.mark.parametrize(
    ("region", "policy", "asked", "words"),
    [
        ("GB", "none", "12345678", "it is none of GB; say it with a plus sign"),
        (None, "none", "02079460000", "or set the tenant's `region`"),
        ("GB", "none", "+44999", "not as many digits"),
        ("GB", "none", "999", "dial it by hand"),
        ("DE", "none", "116117", "Short codes of DE"),
        ("GB", "lists", "020 7946 1100", "`dialing.block` has +4420794611"),
        ("GB", "germans", "020 7946 0000", "is of GB: `dialing.countries` has DE, AT, CH"),
        ("GB", "home", "+4930901820", "is of DE: `dialing.international` is off"),
        ("GB", "home", "+80012345678", "is of no country"),
        (None, "home", "+442079460000", "no `region` is set"),
        ("GB", "none", "0909 879 0000", "a premium number: `dialing.block_kinds` has premium"),
        ("DE", "all_kinds", "0180 12345", "a shared-cost number"),
    ],
)
def test_a_refusal_says_what_to_change_and_never_repeats_the_number(
    region: str | None, policy: str, asked: str, words: str
) -> None:
    with pytest.raises((Forbidden, ContractError)) as caught:
        permit(asked, extension="101", site=a_site(region, policy))

    assert words in caught.value.message
    if words.startswith(("it is", "or set", "dial it", "Short")):
        assert asked not in caught.value.message


@settings(deadline=None, max_examples=300)
@given(
    text=st.text(max_size=64) | st.from_regex(r"[+0-9 ()\-]{1,40}", fullmatch=True),
    region=st.none() | st.sampled_from(REGIONS),
    policy=st.sampled_from(sorted(POLICIES)),
)
@example(text="+" + "9" * 40, region="GB", policy="none")
@example(text="\U0001d7ce" * 12, region="GB", policy="none")
def test_whatever_is_asked_is_refused_or_is_a_number_that_a_pbx_takes(
    text: str, region: str | None, policy: str
) -> None:
    try:
        found = permit(text, extension="101", site=a_site(region, policy))
    except (ContractError, Forbidden) as error:
        why: Why = error.details["why"]
        event(f"refused: {why.name}")
        return
    assert _DIALABLE.validate_python(found.number) == found.number
    assert found.inside == (found.number in PHONES)
    assert found.inside or found.number.startswith("+")
    # And what was let once is let as what it was let as.
    assert permit(found.number, extension="101", site=a_site(region, policy)) == found


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        ((), None),
        (("+49",), None),
        (("+44", "+4420*", "+442"), "+4420*"),
        (("+442079460000", "+4420*"), "+442079460000"),
        (("+4420794600001",), None),
    ],
)
def test_the_longest_beginning_counts(prefixes: tuple[str, ...], expected: str | None) -> None:
    assert longest(prefixes, "+442079460000") == expected
