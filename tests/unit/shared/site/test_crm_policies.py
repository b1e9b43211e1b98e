from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.calls import Direction
from shared.crm.candidates import Choose
from shared.crm.port import Priority
from shared.phone import parse
from shared.site.accounts import question_about, seats_of
from shared.site.models import Agent, CrmConnection, Site


def connection(**parts: Any) -> CrmConnection:
    return CrmConnection.model_validate({"name": "zoho", "template": "zoho", **parts})


def test_nobody_is_added_to_a_crm_unless_the_administrator_says_so() -> None:
    plain = connection()

    assert plain.create is None
    assert (plain.choose, plain.stale) == (Choose.FIRST, timedelta(hours=24))


def test_who_is_added_is_by_default_a_caller_who_was_spoken_to() -> None:
    create = connection(create={"module": "Leads"}).create

    assert create is not None
    assert (create.directions, create.answered_only) == ((Direction.INBOUND,), True)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"create": {"module": "Leads", "directions": ["internal"]}}, "internal call"),
        ({"create": {}}, "module"),
        ({"choose": "guess"}, "first"),
        ({"stale": "-1h"}, "stale"),
        ({"journal": {"subject": "{{.Subject"}}, "line 1"),
        ({"journal": {"description": "{{range .Legs}}{{end}}"}}, "range"),
        ({"journal": {"recording": "https://pbx.example/{{.Token}}"}}, "no variable .Token"),
        (
            {"journal": {"do_not_log": {"extensions": [150]}}},
            "'150' cannot be listed: put it in quotes",
        ),
        ({"journal": {"do_not_log": {"numbers": ["0"] * 10_001}}}, "at most 10000 items"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        connection(**parts)


@pytest.mark.parametrize("email", ["ann", "ann@", "@acme", "a b@acme", "ann@acme\n", "a@b@c"])
def test_an_agents_e_mail_is_one(email: str) -> None:
    with pytest.raises(ValidationError, match="email"):
        Agent.model_validate({"extension": "101", "email": email})


def test_a_question_has_the_ages_of_its_connection_and_the_priority_of_who_asks() -> None:
    site = Site.model_validate(
        {
            "tenant": "acme",
            "region": "GB",
            "crm": [connection(fresh="5m", stale="2h", unknown="30s").model_dump()],
        }
    )
    question = question_about("07700 900123", site=site, crm=site.crm[0], priority=Priority.ROUTE)

    assert question.number == parse("07700 900123", "GB")
    assert (question.fresh, question.stale, question.unknown) == (
        timedelta(minutes=5),
        timedelta(hours=2),
        timedelta(seconds=30),
    )
    assert question.priority is Priority.ROUTE


def test_how_urgent_a_question_is_and_how_old_its_answer_may_be_make_no_other_question() -> None:
    site = Site.model_validate({"tenant": "acme", "crm": [connection().model_dump()]})
    older = Site.model_validate({"tenant": "acme", "crm": [connection(stale="9h").model_dump()]})
    one = question_about("1", site=site, crm=site.crm[0], priority=Priority.ROUTE)
    other = question_about("1", site=older, crm=older.crm[0], priority=Priority.SYNC)

    assert one.key == other.key


def test_seats_are_those_of_one_connection() -> None:
    site = Site.model_validate(
        {
            "tenant": "acme",
            "crm": [connection().model_dump(), connection(name="second").model_dump()],
            "agents": [{"extension": "101", "email": "ann@acme.example", "users": {"zoho": "u1"}}],
        }
    )
    (here,), (there,) = (seats_of(site, crm) for crm in site.crm)

    assert (here.extension, here.user_id, here.email) == ("101", "u1", "ann@acme.example")
    assert there.user_id is None
