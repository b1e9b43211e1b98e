"""The configuration in deploy/freeswitch: what it must hold, and what it must not give away."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import parse

from shared.contracts.routing import DestinationKind, RouteDecision, RouteReason
from shared.pbx.freeswitch.reader import WANTED
from shared.pbx.freeswitch.route import GREETING, PLACES, variables

DEPLOY = Path(__file__).parents[5] / "deploy" / "freeswitch"
FILES = sorted(DEPLOY.rglob("*.xml"))


def sample(name: str) -> Element:
    root = parse(DEPLOY / name).getroot()
    assert root is not None
    return root


def params(name: str) -> dict[str, str]:
    return {p.get("name", ""): p.get("value", "") for p in sample(name).iter("param")}


def test_each_kind_of_destination_has_its_context_and_ends_the_cap() -> None:
    contexts = {c.get("name"): c for c in sample("dialplan/callmesh.xml").iter("context")}

    # A hangup is told in place of a transfer.
    kinds = set(DestinationKind) - {DestinationKind.HANGUP}
    places = {f"{PLACES}{kind}" for kind in kinds} | {GREETING}
    others = {"crm_ask", "crm_entered", "crm_default", "crm_not_answered"}
    assert set(contexts) == places | others
    for name in places | {"crm_default"}:
        first = next(contexts[name].iter("action"))
        assert first.get("application") == "sched_cancel", name


def test_the_question_of_a_dialplan_is_capped_before_it_is_asked() -> None:
    asks = next(c for c in sample("dialplan/callmesh.xml").iter("context"))

    done = [action.get("application") for action in asks.iter("action")]
    assert done == ["set", "sched_transfer", "set", "httapi", "transfer", "transfer"]


def test_httapi_may_set_what_an_answer_has() -> None:
    allowed = {v.get("name") for v in sample("autoload_configs/httapi.conf.xml").iter("variable")}

    assert allowed == set(variables(RouteDecision(reason=RouteReason.NO_RULE)))


@pytest.mark.parametrize("sent", ["1,url=https://evil.example", "1}", "${x}", "$1", "a b", ""])
def test_what_a_caller_sent_begins_no_setting_of_the_question(sent: str) -> None:
    asks = next(c for c in sample("dialplan/callmesh.xml").iter("context"))
    named = {e.get("name"): next(e.iter("condition")) for e in asks.iter("extension")}

    caller, ask = named["caller"], named["ask"]
    fields = caller.get("field"), ask.get("field")
    assert fields == ("caller_id_number", "destination_number")
    for condition in (caller, ask):
        assert not re.search(condition.get("expression", ""), sent)
        assert re.search(condition.get("expression", ""), "+447700900123")
    assert [a.get("data") for a in caller.iter("anti-action")] == ["crm_from="]


@pytest.mark.parametrize("name", ["xml_curl", "httapi"])
def test_no_question_waits_for_ever(name: str) -> None:
    assert int(params(f"autoload_configs/{name}.conf.xml")["timeout"]) == 2


@pytest.mark.parametrize("name", ["xml_curl", "httapi", "json_cdr"])
def test_certificates_are_checked(name: str) -> None:
    given = params(f"autoload_configs/{name}.conf.xml")

    assert given["enable-cacert-check"] == given["enable-ssl-verifyhost"] == "true"


def test_the_key_of_a_record_is_not_the_last_of_its_address() -> None:
    """FreeSWITCH appends ``?uuid=…`` to it."""
    url = params("autoload_configs/json_cdr.conf.xml")["url"] + "?uuid=1"

    assert re.fullmatch(r"https://MESH/v1/pbx/berlin/events\?key=KEY&.*", url)


def test_the_user_has_the_rights_that_are_asked_for_and_no_others() -> None:
    given = params("directory/callmesh.xml")

    assert set(given["esl-allowed-events"].split()) == {*WANTED, "BACKGROUND_JOB"}
    asked = {"show", "originate", "uuid_kill", "module_exists", "callcenter_config"}
    assert set(given["esl-allowed-api"].split()) == asked
    assert "password" not in given  # it is no phone


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(DEPLOY)) for file in FILES])
def test_no_sample_has_everybodys_password_or_listens_everywhere(file: Path) -> None:
    text = file.read_text()

    assert 'value="ClueCon"' not in text
    assert 'name="listen-ip" value="0.0.0.0"' not in text
    assert parse(file).getroot() is not None


def test_a_destination_expands_nothing_but_what_the_file_says() -> None:
    """A number from a decision is set in where ``$1`` stands; none may hold an expansion."""
    for action in sample("dialplan/callmesh.xml").iter("action"):
        data = action.get("data", "")
        expanded = set(re.findall(r"\$\$?\{(\w+)", data))
        ours = {"crm_from", "crm_ivr", "crm_digits", "crm_called", "crm_greeting", "crm_priority"}
        assert expanded <= {"domain", "sounds_dir", "group_call", "originate_disposition"} | ours
