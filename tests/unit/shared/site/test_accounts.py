"""A connection of the site as the CRM engine is asked by it."""

from __future__ import annotations

import pytest

from shared.phone import parse
from shared.site.accounts import account_of, question_about
from shared.site.models import CrmConnection, Site

SITE = Site(tenant="acme", region="GB", zone="Europe/London")
CRM = CrmConnection(
    name="zoho",
    template="zoho",
    credentials={
        "client_id": "sealed:a",
        "password": "sealed:b",
        "refresh_token": "sealed:c",
    },
    modules=("Contacts", "Leads"),
)
BOSS = {"password": "sealed:x", "username": "sealed:y"}


def test_a_connections_own_account_has_no_login() -> None:
    assert account_of(SITE, CRM).login == ""
    assert account_of(SITE, CRM).credentials == tuple(sorted(CRM.credentials.items()))
    assert account_of(SITE, CRM, login="vip-line") == account_of(SITE, CRM)


def test_a_rules_credentials_stand_over_the_connections_but_for_its_grant() -> None:
    account = account_of(SITE, CRM, credentials=BOSS, login="vip-line")
    assert (account.name, account.login) == ("zoho", "vip-line")
    assert dict(account.credentials) == {"client_id": "sealed:a", **BOSS}


def test_a_rules_own_grant_is_taken() -> None:
    own = {"refresh_token": "sealed:z"}
    account = account_of(SITE, CRM, credentials=own, login="vip-line")
    assert dict(account.credentials) == {"client_id": "sealed:a", "password": "sealed:b", **own}


def test_credentials_of_nobody_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="need a login"):
        account_of(SITE, CRM, credentials=BOSS)


def test_several_fields_are_asked_for_at_once() -> None:
    question = question_about("07700 900123", site=SITE, crm=CRM, fields=("Tier", "Owner.id"))
    assert question.fields == ("Tier", "Owner.id")
    assert question.modules == ("Contacts", "Leads")
    assert question.number.key == "+447700900123"


def test_a_number_that_was_read_is_not_read_again() -> None:
    number = parse("07700 900123", "GB")
    abroad = Site(tenant="acme", region="DE")
    assert question_about(number, site=abroad, crm=CRM).number is number


def test_an_answer_is_kept_for_each_login_and_for_what_it_signs_in_by() -> None:
    def key(**whose: object) -> str:
        return question_about("07700 900123", site=SITE, crm=CRM, **whose).key  # type: ignore[arg-type]  # either keyword

    keys = [
        key(),
        key(credentials=BOSS, login="vip-line"),
        key(credentials=BOSS, login="other"),
        key(credentials={**BOSS, "password": "sealed:new"}, login="vip-line"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(login="vip-line") == key()
