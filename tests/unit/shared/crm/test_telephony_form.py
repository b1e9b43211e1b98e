"""What a template says of the CRM's telephony: what is refused at once, and what lint finds."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from shared.crm.form.manifest import Manifest
from shared.crm.lint import Level, lint
from shared.crm.registry import shipped, shipped_names

RETAIL = shipped("retailcrm").model_dump(mode="json", by_alias=True, exclude_unset=True)
ZENDESK = shipped("zendesk").model_dump(mode="json", by_alias=True, exclude_unset=True)


def changed(place: str, value: Any, base: dict[str, Any] = RETAIL) -> dict[str, Any]:
    """A template with *value* at *place*; None takes it out."""
    template = deepcopy(base)
    at: Any = template["telephony"]
    *way, last = place.split(".")
    for name in way:
        at = at[int(name) if isinstance(at, list) else name]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return template


def test_telephony_is_no_duty() -> None:
    without = {name: value for name, value in RETAIL.items() if name != "telephony"}
    assert Manifest.model_validate(without).telephony is None


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("modules.0.when", "{{.ClientId}}", r"modules\.0\.when: .*no variable \.ClientId"),
        ("modules.0.register.url", "{{.Nope}}", r"modules\.0\.register\.url: .*\.Nope"),
        ("modules.0.register.url", "{{.Number}}", r"modules\.0\.register\.url: .*\.Number"),
        ("modules.0.read.url", "{{.api_url}}/{{.User}}", r"modules\.0\.read\.url: .*\.User"),
        ("modules.0.rows.CodeRows.each", "{{.Shop}}", r"rows\.CodeRows\.each: .*\.Shop"),
        ("modules.0.rows.CodeRows.of", "phones", "of a module are `codes` and `shops`"),
        ("modules.0.rows.CodeRows.of", "cooks", "codes"),
        ("modules.0.unknown", ["a.{{.Nope}}"], r"modules\.0\.unknown\.0: .*\.Nope"),
        ("modules.0.there", "{{.Nope}}", r"modules\.0\.there: .*\.Nope"),
        ("modules.0.compare", [], "at least 1"),
        ("modules.0.compare.0.path", "{{.Nope}}", r"compare\.0\.path: .*\.Nope"),
        ("modules.0.compare.0.text", "{{.Nope}}", r"compare\.0\.text: .*\.Nope"),
        ("modules.0.compare.0.text", None, "compare it with what"),
        ("modules.0.compare.0.rows", "CodeRows", "compare it with what"),
        ("modules.0.compare.8.rows", "Others", "extension codes: there are no rows Others"),
        ("modules.0.register", {"url": "{{.api_url}}"}, "could not call us"),
        ("modules.0.registers", {}, "registers"),
        ("cards.0.when", "{{.Moment}}", r"cards\.0\.when: .*\.Moment"),
        ("cards.0.moments", [], "at least 1"),
        ("cards.0.moments", ["ringing"], "in"),
        ("cards.0.request.form.event.x", "{{.User}}", r"cards\.0\.request\..*\.User"),
        ("cards.0.request.form.event.codes", None, "does not say who shall see the card"),
        ("cards.0.absent", [404], "it needs `each`"),
        ("cards.1.rows.UserIds.of", "codes", "of a card are `phones` and `users`"),
        ("cards.1.rows.UserIds.each", "{{.Number}}", r"rows\.UserIds\.each: .*\.Number"),
        ("cards.0.request.form.event.x", '{{.Moment | map "nope"}}', "there is no map nope"),
        ("click.client_id", None, "client_id"),
        ("click.number", None, "number"),
        ("click.user_id", "code", "one parameter cannot mean two things"),
        ("click.shop", "", "at least 1 character"),
        ("status.words", {}, "at least 1"),
        ("status.words", {"asleep": "zzz"}, "free"),
        ("status.tell.url", "{{.api_url}}/users", "`tell` does not say User"),
        ("status.tell.form", {"x": "y"}, "`tell` does not say Status"),
        ("status.tell.url", "{{.User}}/{{.Moment}}", r"status\.tell\.url: .*\.Moment"),
        ("status.query.extension", "status", "one parameter cannot mean two things"),
    ],
)
def test_a_fault_is_told_with_what_to_change(place: str, value: Any, what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        Manifest.model_validate(changed(place, value))


def test_of_several_moments_the_request_says_which_it_is() -> None:
    with pytest.raises(ValidationError, match="which moment of the call it is: use Moment"):
        Manifest.model_validate(changed("cards.0.moments", ["in", "hangup"], ZENDESK))


def test_whose_it_is_has_to_be_read() -> None:
    template = changed("click.extension", None)
    del template["telephony"]["click"]["user_id"]
    with pytest.raises(ValidationError, match="say `extension` or `user_id`"):
        Manifest.model_validate(template)


def test_a_status_that_nobody_hears_of_is_refused() -> None:
    template = changed("status.query", None)
    del template["telephony"]["status"]["tell"]
    with pytest.raises(ValidationError, match="say `query`, `tell` or both"):
        Manifest.model_validate(template)


def test_nothing_said_is_refused() -> None:
    with pytest.raises(ValidationError, match="or leave it out"):
        Manifest.model_validate({**RETAIL, "telephony": {}})


@pytest.mark.parametrize("name", shipped_names())
def test_what_ships_has_no_fault(name: str) -> None:
    found = [one for one in lint(shipped(name)) if "telephony" in one.path]
    found += [one for one in lint(shipped(name)) if "new_page_url" in one.path]
    assert found == []


@pytest.mark.parametrize(
    ("base", "place", "value", "level", "what"),
    [
        (
            RETAIL,
            "modules.0.rows.More",
            {"of": "codes", "each": "{{.User}}"},
            Level.ERROR,
            "rows go into no request",
        ),
        (
            RETAIL,
            "cards.1.rows.More",
            {"of": "phones", "each": "{{.Extension}}"},
            Level.ERROR,
            "rows go into no request",
        ),
        (
            RETAIL,
            "modules.0.register.form.integrationModule.integrations.telephony.makeCallUrl",
            None,
            Level.ERROR,
            "the CRM is not told DialUrl: its requests cannot come",
        ),
        (
            RETAIL,
            "modules.1.register.form.configuration.changeUserStatusUrl",
            None,
            Level.ERROR,
            "the CRM is not told StatusUrl: its requests cannot come",
        ),
        (RETAIL, "cards.0.to", "users", None, ""),
        (
            ZENDESK,
            "cards.0.request.url",
            "{{.api_url}}/{{.Extension}}/{{.ContactId}}",
            Level.ERROR,
            "the request names no user",
        ),
        (
            RETAIL,
            "modules.0.register.form.integrationModule.active",
            None,
            Level.WARNING,
            "a module that is switched off stays on there: use Active",
        ),
        (
            RETAIL,
            "modules.0.compare.5",
            {"what": "name", "path": "n", "text": "{{.Title}}"},
            Level.WARNING,
            "nobody sees that DialUrl was changed there: compare it",
        ),
        (
            RETAIL,
            "modules.0.compare.8",
            {"what": "name", "path": "n", "text": "{{.Title}}"},
            Level.WARNING,
            "nobody sees that CodeRows was changed there: compare it",
        ),
        (RETAIL, "cards.0.unknown", [], Level.WARNING, "nobody saw is taken for one that was seen"),
        (
            RETAIL,
            "modules.0.register.url",
            "http://{{.api_url}}/x",
            Level.WARNING,
            "plain http",
        ),
    ],
)
def test_lint_finds_what_will_not_do_what_it_should(
    base: dict[str, Any], place: str, value: Any, level: Level | None, what: str
) -> None:
    found = lint(Manifest.model_validate(changed(place, value, base)))
    if level is None:
        # Codes go along, and users are not named: of that the form says nothing, lint does.
        assert [one.what for one in found if one.level is Level.ERROR] == [
            "the request names no user: use Users, User or rows of users"
        ]
    else:
        assert any(one.level is level and what in one.what for one in found), found


def test_a_page_for_a_new_contact_has_the_number() -> None:
    template = deepcopy(RETAIL)
    template["contacts"]["customers"]["new_page_url"] = "{{.api_url}}/add?name={{.DisplayName}}"
    (found,) = (
        one for one in lint(Manifest.model_validate(template)) if "new_page_url" in one.path
    )
    assert found.level is Level.ERROR
    template["contacts"]["customers"]["new_page_url"] = "{{.api_url}}/{{.ContactId}}"
    with pytest.raises(ValidationError, match=r"new_page_url: .*ContactId"):
        Manifest.model_validate(template)
