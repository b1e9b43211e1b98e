"""Each element of a 3CX template: what it becomes, and what the report says of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Imported
from shared.crm.importing.threecx.importer import import_threecx
from shared.errors import BadSetting

LOOKUP = """<Scenario Id="" Type="REST">
  <Request Url="https://crm.example/p?tel=[Number]" RequestType="Get" ResponseType="Json"/>
  <Rules><Rule Type="Any">people.id</Rule></Rules>
  <Variables><Variable Name="Id" Path="people.id"><Filter/></Variable>
    <Variable Name="First" Path="people.first"/><Variable Name="Last" Path="people.last"/>
    <Variable Name="Tel" Path="people.tel"/></Variables>
  <Outputs><Output Type="EntityId" Value="[Id]"/><Output Type="PhoneBusiness" Value="[Tel]"/>
  OUTPUTS</Outputs></Scenario>"""
NUMBER = '<Number Prefix="Plus" MaxLength=""/>'
POST = 'RequestType="Post" RequestEncoding="Json" ResponseType="Json"'


def crm(
    *parts: str, lookup: str = LOOKUP, scenarios: str = "", number: str = NUMBER, outputs: str = ""
) -> str:
    lookup = lookup.replace("OUTPUTS", outputs)
    return (
        f'<?xml version="1.0"?><Crm Name="Fern" Version="1" Country="GB">{number}'
        f"{''.join(parts)}<Scenarios>{lookup}{scenarios}</Scenarios></Crm>"
    )


def made(*parts: str, **more: str) -> dict[str, Any]:
    return import_threecx(crm(*parts, **more)).template


def notes(source: str, level: str) -> str:
    found = import_threecx(source).notes
    return "\n".join(f"{note.place}: {note.what}" for note in found if note.level == level)


def parameter(**attributes: str) -> str:
    words = " ".join(f'{name}="{text}"' for name, text in attributes.items())
    return f"<Parameters><Parameter {words}/></Parameters>"


def journal(values: str, attributes: str = "", parts: str = "") -> dict[str, Any]:
    scenario = (
        f'<Scenario Id="ReportCall" Type="REST"><Request Url="https://crm.example/c" {POST} '
        f"{attributes}><PostValues>{values}</PostValues></Request></Scenario>"
    )
    found: dict[str, Any] = made(parts, scenarios=scenario)["journal"]
    return found


# -- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "line 1, column 1"),
        ("<Crm", "line 1"),
        ("<Crm>\n<Number Prefix=</Crm>", "line 2, column 16"),
        ("<Crm>\n<a></Crm>", "line 2"),
        ("\n<Information/>", "line 2, column 1: a template of 3CX begins with <Crm>"),
        ('<!DOCTYPE Crm [<!ENTITY a "b">]><Crm/>', "DOCTYPE"),
        ("<Crm/>", "no scenario with an empty Id"),
        ("<Crm>" + "<a>" * 40 + "</a>" * 40 + "</Crm>", "too deep"),
        (" " * 1_000_001, "larger"),
        (b"<Crm Name='\xff'/>", "line 1, column 12: not UTF-8"),
        ("<Crm Name='\ud800'/>", "half a character"),
    ],
)
def test_what_is_no_template_is_refused_with_its_place(source: str | bytes, words: str) -> None:
    with pytest.raises(BadSetting, match="line") as caught:
        import_threecx(source)
    assert words in caught.value.message


def test_a_file_in_utf_16_is_read() -> None:
    assert import_threecx(crm().encode("utf-16")).template["title"] == "Fern"


def test_the_name_is_the_files_or_the_given_one() -> None:
    assert made()["name"] == "fern"
    assert import_threecx(crm(), name="my-crm").template["name"] == "my-crm"
    assert made()["sources"] == ["imported from 3CX XML Fern"]
    with pytest.raises(BadSetting, match="name"):
        import_threecx(crm(), name="No Name!")


# -- numbers and limits -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ('<Number Prefix="AsIs" MaxLength=""/>', ["e164", "digits"]),
        ('<Number Prefix="Off" MaxLength=""/>', ["e164_digits"]),
        ('<Number Prefix="Plus"/>', ["e164"]),
        ('<Number Prefix="Zeros" MaxLength="[MaxLength]"/>', ["zeros"]),
        ('<Number Prefix="Off" MaxLength="7"/>', ["last:7", "e164_digits"]),
        ('<Number Prefix="Zeros" MaxLength="12"/>', ["last:12", "e164_digits", "zeros"]),
        ('<Number Prefix="Plus" MaxLength="2"/>', ["e164"]),
        ("", ["e164", "digits"]),
    ],
)
def test_a_number_is_asked_for_in_the_formats_that_say_the_same(
    number: str, expected: list[str]
) -> None:
    assert made(number=number)["phone_formats"] == expected


def test_the_length_that_the_pbx_sets_is_noted() -> None:
    source = crm(number='<Number Prefix="Plus" MaxLength="[MaxLength]"/>')
    assert "setting of the PBX" in notes(source, "changed")


@pytest.mark.parametrize(("wanted", "expected"), [("4", 4), ("0", 1), ("9999", 100)])
def test_requests_at_the_same_time(wanted: str, expected: int) -> None:
    found = made(f'<Connection MaxConcurrentRequests="{wanted}"/>')
    assert found["limits"] == {"concurrent": expected}


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            {"Name": "TeamName", "Type": "String", "Title": "Team:", "Default": "Sales"},
            {"name": "team_name", "title": "Team", "default": "Sales"},
        ),
        ({"Name": "Team", "Type": "String"}, {"name": "team", "title": "Team"}),
        (
            {"Name": "Team", "Type": "Integer", "Default": "5"},
            {"name": "team", "title": "Team", "kind": "number", "default": "5"},
        ),
        (
            {"Name": "Rate", "Type": "Double", "Default": "1.5"},
            {
                "name": "rate",
                "title": "Rate",
                "pattern": "-?[0-9]{1,15}([.][0-9]{1,9})?",
                "default": "1.5",
            },
        ),
        (
            {"Name": "On", "Type": "Boolean", "Default": "True"},
            {"name": "on", "title": "On", "kind": "switch", "default": "yes"},
        ),
        (
            {"Name": "On", "Type": "Boolean"},
            {"name": "on", "title": "On", "kind": "switch", "default": "no"},
        ),
        (
            {"Name": "Kind", "Type": "List", "ListValues": "A,B", "Default": "B"},
            {"name": "kind", "title": "Kind", "options": ["A", "B"], "default": "B"},
        ),
        (
            {"Name": "Code", "Type": "String", "Validation": "^[A-Z]{2,4}$"},
            {"name": "code", "title": "Code", "pattern": "[A-Z]{2,4}"},
        ),
        (
            {"Name": "Since", "Type": "DateTime", "Default": "{{a}}"},
            {"name": "since", "title": "Since", "default": "{{a}}"},
        ),
    ],
)
def test_a_setting_is_a_parameter(attributes: dict[str, str], expected: dict[str, Any]) -> None:
    (found,) = made(parameter(**attributes))["parameters"]
    if found.get("default", "").startswith('{{"{{"}}'):
        found = {**found, "default": found["default"].replace('{{"{{"}}', "{{")}
    assert found == expected


@pytest.mark.parametrize(
    "attributes",
    [
        {"Name": "Pass", "Type": "Password", "Default": "hunter2"},
        {"Name": "ApiKey", "Type": "String", "Default": "hunter2"},
        {"Name": "X", "Title": "Access token", "Type": "String", "Default": "hunter2"},
    ],
)
def test_a_secret_is_a_credential_and_is_not_taken_out_of_the_file(
    attributes: dict[str, str],
) -> None:
    found = import_threecx(crm(parameter(**attributes)))
    assert len(found.template["credentials"]) == 1
    assert "hunter2" not in f"{found.template}{found.notes}"
    assert any("not taken" in note.what for note in found.notes)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "a**", "[a", "a|b", r"(?=a)", r"\1", "[a-z]{999}[a-z]{999}.{999}.{999}.{999}"],
)
def test_a_pattern_that_is_not_simple_is_left(pattern: str) -> None:
    source = crm(parameter(Name="Code", Type="String", Validation=pattern))
    assert "no simple pattern" in notes(source, "left")
    (found,) = import_threecx(source).template["parameters"]
    assert "pattern" not in found


@pytest.mark.parametrize(
    ("pattern", "default"),
    [
        ("a?" * 99 + "b", "a" * 99),
        ("a{0,9}" * 32 + "b", "a" * 400),
        (".*" * 99 + "b", "a" * 500),
        ("[a-z]*[a-z]*[a-z]*x", "a" * 500),
    ],
)
def test_no_pattern_takes_for_ever(pattern: str, default: str) -> None:
    source = crm(parameter(Name="Code", Type="String", Validation=pattern, Default=default))
    began = time.process_time()
    assert "does not satisfy" in notes(source, "left")
    assert time.process_time() - began < 2


def test_a_pattern_is_not_tried_on_a_default_that_no_parameter_has() -> None:
    source = crm(parameter(Name="Code", Type="String", Validation="a*", Default="a" * 501))
    assert "too long" in notes(source, "left")


def test_a_setting_with_which_an_address_begins_is_one() -> None:
    lookup = LOOKUP.replace("https://crm.example", "[Server]")
    (found,) = made(parameter(Name="Server", Type="String"), lookup=lookup)["parameters"]
    assert found["kind"] == "url"


def test_two_settings_that_come_to_one_name_stay_two() -> None:
    both = (
        '<Parameters><Parameter Name="a b" Type="String"/><Parameter Name="A-B" Type="String"/>'
        "</Parameters>"
    )
    assert [one["name"] for one in made(both)["parameters"]] == ["a_b", "a_b_2"]


def test_the_texts_of_a_part_that_may_be_off_are_not_needed() -> None:
    both = (
        '<Parameters><Parameter Name="On" Type="Boolean" Title="Journal"/>'
        '<Parameter Name="Text" Parent="On" Type="String"/></Parameters>'
    )
    assert made(both)["parameters"][1] == {
        "name": "text",
        "title": "Text",
        "help": "For: Journal.",
        "default": "",
    }


# -- authentication -----------------------------------------------------------------------------


def test_basic() -> None:
    found = made(
        parameter(Name="Key", Type="Password"),
        '<Authentication Type="Basic"><Value>[Key]:X</Value></Authentication>',
    )
    assert found["auth"] == {"basic": "{{.key}}:X"}


def test_none() -> None:
    assert "auth" not in made('<Authentication Type="No"/>')


def test_a_scenario_that_is_not_there_is_noted() -> None:
    source = crm('<Authentication Type="Scenario"><Value>Gone</Value></Authentication>')
    assert "write `auth.login`" in notes(source, "left")


def sign_in(outputs: str, authentication: str = 'Type="Scenario"') -> str:
    return crm(
        f"<Authentication {authentication}><Value>Auth</Value></Authentication>",
        scenarios=f"""<Scenario Id="Auth" Type="REST"><Request Url="https://crm.example/login" {POST}/>
            <Variables><Variable Name="Token" Path="token"/></Variables>
            <Outputs>{outputs}</Outputs></Scenario>""",
    )


def test_a_scenario_signs_in() -> None:
    outputs = (
        '<Output Type="HeaderName" Value="Authorization"/>'
        '<Output Type="HeaderValue" Value="Bearer [Token]"/>'
        '<Output Type="BearerExpiration" Value="45"/>'
    )
    auth = import_threecx(sign_in(outputs)).template["auth"]
    assert auth["login"][0]["take"] == {"Token": "token,#.token|0"}
    assert auth["apply"] == [
        {"in": "header", "name": "Authorization", "value": "Bearer {{.Token}}"}
    ]
    assert auth["life"] == "45m"


def test_a_sign_in_without_a_header_is_noted() -> None:
    assert "write `auth.apply`" in notes(sign_in(""), "left")
    source = sign_in("", 'Type="Scenario" DefaultExpiration="3600"')
    assert import_threecx(source).template["auth"]["life"] == "3600s"


def test_oauth_without_its_addresses_is_noted() -> None:
    assert "write `auth.oauth2`" in notes(crm(parameter(Name="C", Type="OAuth")), "left")


def test_oauth_gets_the_credentials_that_its_grant_needs() -> None:
    source = crm(
        parameter(
            Name="C",
            Type="OAuth",
            RequestUrl="https://crm.example/auth?prompt=consent",
            RequestUrlParameters="scope=a",
            ResponseScenario="Token",
        ),
        scenarios=f"""<Scenario Id="Token" Type="REST">
            <Request Url="https://crm.example/token" {POST}/></Scenario>""",
    )
    found = import_threecx(source).template
    assert [one["name"] for one in found["credentials"]] == ["client_id", "client_secret"]
    assert found["auth"]["oauth2"] == {
        "grant": "authorization_code",
        "authorize_url": "https://crm.example/auth",
        "token_url": "https://crm.example/token",
        "scope": "a",
        "authorize_parameters": {"prompt": "consent"},
        "encoding": "json",
    }


# -- lookups ------------------------------------------------------------------------------------


def output(kind: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = made(outputs=f'<Output Type="{kind}" Value="{value}"/>')
    contact: dict[str, Any] = next(iter(found["contacts"].values()))
    return contact


@pytest.mark.parametrize(
    ("kind", "value", "field", "expected"),
    [
        ("FirstName", "[First]", "first_name", "first"),
        ("LastName", "[Last]", "last_name", "last"),
        ("CompanyName", "[Last]", "company", "last"),
        ("Email", "[[First].ToString()]", "email", "first"),
        ("PhoneMobile", "[First]", "phones", ["tel", "first"]),
        ("FaxBusiness", "[First]", "phones", ["tel", "first"]),
        ("Email", "[IIf([First]==&quot;&quot;,[Last],[First])]", "email", "first,last"),
        ("Email", "[IIf([First]!=&quot;&quot;,[First],[Last])]", "email", "first,last"),
        ("ContactUrl", "[First]", "page", "first"),
        ("FirstName", "Mr [First]", "first_name", "first"),
    ],
)
def test_an_output_is_a_part_of_the_card(kind: str, value: str, field: str, expected: Any) -> None:
    assert output(kind, value)["map"][field] == expected


def test_a_page_is_made_of_the_id_and_of_custom_values() -> None:
    contact = output("ContactUrl", "https://crm.example/[First]/[Id]")
    assert contact["page_url"] == "https://crm.example/{{.First}}/{{.ContactId}}"
    assert contact["map"]["custom"] == {"First": "first"}


def test_an_entity_type_names_the_contact_type() -> None:
    found = made(outputs='<Output Type="EntityType" Value="Account"/>')
    assert list(found["contacts"]) == ["Account"]
    assert output("EntityType", "[First]")["map"]["custom"] == {"EntityType": "first"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("PhotoUrl", "[First]"), ("FirstName", "Always"), ("LastName", "[First] [Last]")],
)
def test_what_a_card_cannot_show_is_left(kind: str, value: str) -> None:
    source = crm(outputs=f'<Output Type="{kind}" Value="{value}"/>')
    assert kind.lower() in notes(source, "left")


def test_a_rule_is_a_condition_of_the_record() -> None:
    rules = (
        '<Rule Type="Any">people.id</Rule><Rule Type="Equals" Ethalon="a">people.kind</Rule>'
        '<Rule Type="Any">people.last</Rule><Rule Type="Number">people.other</Rule>'
    )
    lookup = LOOKUP.replace('<Rule Type="Any">people.id</Rule>', rules)
    (contact,) = made(lookup=lookup)["contacts"].values()
    assert contact["map"]["id"] == '#(kind=="a")#|#(last!="").id'
    assert contact["map"]["phones"] == ["tel", "other"]


def test_a_request_may_be_skipped() -> None:
    lookup = LOOKUP.replace("<Request", '<Request SkipIf="[On]!=True"', 1)
    found = made(parameter(Name="On", Type="Boolean"), lookup=lookup)
    (contact,) = found["contacts"].values()
    assert contact["search"][0]["request"]["when"] == '{{eq .on "yes"}}'
    assert "when" not in found["check"]


def test_several_lookups_are_contact_types_in_their_order() -> None:
    second = LOOKUP.replace('Id="" ', 'Id="" EntityId="First" EntityOrder="1" ')
    third = LOOKUP.replace('Id="" ', 'Id="" EntityId="Second" EntityOrder="2" ')
    found = made(lookup=third.replace("OUTPUTS", ""), scenarios=second.replace("OUTPUTS", ""))
    assert list(found["contacts"]) == ["First", "Second"]


def test_outputs_may_need_the_record_before() -> None:
    lookup = LOOKUP.replace("<Outputs>", '<Outputs Next="More">')
    more = f"""<Scenario Id="More" Type="REST"><Request Url="https://crm.example/p/[Id]"/>
        <Rules><Rule Type="Any">card.mail</Rule></Rules>
        <Variables><Variable Name="Mail" Path="card.mail"/></Variables>
        <Outputs><Output Type="EntityId" Value="[Id]"/><Output Type="Email" Value="[Mail]"/>
        <Output Type="PhoneBusiness" Value="[Tel]"/></Outputs></Scenario>{""}"""
    found = made(lookup=lookup, scenarios=more)
    (contact,) = found["contacts"].values()
    (then,) = contact["search"][0]["then"]
    assert then == {
        "take": {"Id": "id"},
        "request": {"url": "https://crm.example/p/{{.Id}}"},
        "records": "card",
        "merge": True,
    }
    assert contact["map"]["id"] == '#(mail!="").id'
    assert contact["map"]["phones"] == ["tel"]


def test_a_chain_without_an_end_ends() -> None:
    lookup = LOOKUP.replace("<Outputs>", '<Outputs Next="A">')
    loop = (
        """<Scenario Id="A"><Request Url="https://crm.example/a"/><Outputs Next="A"/></Scenario>"""
    )
    assert "endless" in notes(crm(lookup=lookup, scenarios=loop), "left")


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("LookupByEmail", "by e-mail"),
        ("SearchContacts_FirstName", "free search"),
        ("ReportChat", "no chats"),
        ("LookupFromCFD_Contacts_LookupID", "routing rules"),
        ("Whatever", "nothing leads to it"),
    ],
)
def test_scenarios_without_an_equal_are_left_with_a_reason(scenario: str, words: str) -> None:
    more = f'<Scenario Id="{scenario}" Type="REST"><Request Url="https://crm.example"/></Scenario>'
    assert words in notes(crm(scenarios=more), "left")


def test_a_database_is_left() -> None:
    more = '<Scenario Id="ReportCall" Type="SQLDatabase"><Command/></Scenario>'
    found = import_threecx(crm(scenarios=more))
    assert "journal" not in found.template
    assert any("callmesh asks by HTTP" in note.what for note in found.notes)


# -- journals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('<Value Key="a">x</Value>', {"a": "x"}),
        ('<Value Key="a" Type="Integer">5</Value>', {"a": 5}),
        (
            '<Value Key="a" Type="Integer">[EntityId]</Value>',
            {"a": "{{.ContactId | nothing | number}}"},
        ),
        ('<Value Key="a" Type="Boolean">true</Value>', {"a": True}),
        (
            '<Value Key="a" Type="Boolean">[IIf([Agent]=="1",True,False)]</Value>',
            {"a": '{{eq .Agent "1"}}'},
        ),
        ('<Value Key="a" Type="Double">1.5</Value>', {"a": 1.5}),
        ('<Object Key="a"><Value Key="b">x</Value></Object>', {"a": {"b": "x"}}),
        ('<Object Key="a"/>', {"a": {}}),
        ('<Array Key="a"><Value Key="">x</Value><Array Key=""/></Array>', {"a": ["x", []]}),
        (
            '<Value Key="a" If="[Agent]==1">x</Value>',
            {'{{if eq .Agent "1"}}a{{end}}': "x"},
        ),
        (
            '<Value Key="a" SkipIf="[Agent]==1" If="[Name]==b" Type="Integer">5</Value>',
            {'{{if and (eq .ContactName "b") (ne .Agent "1")}}a{{end}}': 5},
        ),
        (
            '<Value Key="a" If="[Agent]==1">x</Value><Value Key="a">y</Value>',
            {"a": '{{if eq .Agent "1"}}x{{else}}y{{end}}'},
        ),
        ('<Value Key="a">[Nobody]</Value><Value Key="b">x</Value>', {"b": "x"}),
    ],
)
def test_values_are_json_of_their_types(value: str, expected: Mapping[str, Any]) -> None:
    assert journal(value)["create"]["json"] == expected


def test_a_journal_needs_its_contact_where_the_file_says_so() -> None:
    found = journal('<Value Key="a">x</Value>', 'SkipIf="[EntityId]==&quot;&quot;"')
    assert found["contact"] == "yes"
    assert found["create"]["when"] == '{{ne .ContactId ""}}'


def test_the_texts_of_the_settings_are_those_of_the_journal() -> None:
    settings_of_texts = (
        '<Parameters><Parameter Name="Subject" Type="String" Default="A call"/>'
        '<Parameter Name="InboundCallText" Type="String" Default="From [Number]"/></Parameters>'
    )
    values = '<Value Key="s">[[Subject]]</Value><Value Key="t">[[InboundCallText]]</Value>'
    found = journal(values, parts=settings_of_texts)
    assert found["subject"] == "{{.subject}}"
    assert found["description"] == "From {{.Number}} ({{.Reference}})"
    assert found["create"]["json"] == {"s": "{{.Subject}}", "t": "{{.Description}}"}


def test_that_an_entry_may_be_doubled_is_noted() -> None:
    more = f'<Scenario Id="ReportCall"><Request Url="https://crm.example" {POST}/></Scenario>'
    found = import_threecx(crm(scenarios=more))
    assert found.template["journal"]["idempotent"] is True
    assert "write `find`" in notes(crm(scenarios=more), "changed")


def test_requests_behind_the_entry_complete_it() -> None:
    more = f"""<Scenario Id="ReportCall"><Request Url="https://crm.example/c" {POST}/>
        <Rules><Rule Type="Any">id</Rule></Rules>
        <Variables><Variable Name="CallId" Path="id"/></Variables><Outputs Next="Tag"/></Scenario>
        <Scenario Id="Tag"><Request Url="https://crm.example/tags" RequestType="Get"/></Scenario>"""
    found = made(scenarios=more)["journal"]
    assert found["entry_id"] == "id,#.id|0"
    assert found["after"] == [{"request": {"url": "https://crm.example/tags"}}]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            'Message="n=[Number]&amp;x=1" RequestEncoding="UrlEncoded"',
            "n={{.Number | UrlEncode}}&x=1",
        ),
        (
            'Message="&lt;n&gt;[Name]&lt;/n&gt;" RequestEncoding="UrlEncoded"',
            "<n>{{.ContactName | html}}</n>",
        ),
    ],
)
def test_a_message_escapes_its_values(attributes: str, expected: str) -> None:
    more = (
        '<Scenario Id="ReportCall"><Request Url="https://crm.example" RequestType="Post" '
        f"{attributes}/></Scenario>"
    )
    assert made(scenarios=more)["journal"]["create"]["body"] == expected


def test_a_secret_in_a_header_is_noted() -> None:
    lookup = LOOKUP.replace(
        'ResponseType="Json"/>',
        'ResponseType="Json"><Headers><Value Key="X-Api-Key">abc</Value></Headers></Request>',
    )
    assert "make it a credential" in notes(crm(lookup=lookup), "changed")


# -- anything -----------------------------------------------------------------------------------

TAGS = ["Crm", "Scenarios", "Scenario", "Request", "Rules", "Rule", "Variables", "Variable"]
TAGS += ["Filter", "Outputs", "Output", "PostValues", "Value", "Object", "Array", "Parameters"]
TAGS += ["Parameter", "Number", "Connection", "Authentication", "Headers", "QueryParams"]
NAMES = ["Id", "Type", "Name", "Path", "Value", "Url", "Key", "Next", "If", "SkipIf", "Default"]
NAMES += ["Ethalon", "RequestType", "RequestEncoding", "Message", "MaxLength", "EntityOrder"]
WORDS = ["", "a", "a.b.c", "[A]", "[Number]", "[[A].ToString(d)]", "REST", "Post", "Json", "A"]
WORDS += ["Integer", "Equals", "Number", "EntityId", "{{", "[IIf([A]==b,c,d)]", "OAuth", "Scenario"]
WORDS += ["Boolean", "https://crm.example/[A]", "ReportCall", "CreateContactRecord", "9", "²"]


def element(tag: str, attributes: dict[str, str], inside: list[str]) -> str:
    words = "".join(f' {name}="{text}"' for name, text in attributes.items())
    return f"<{tag}{words}>{''.join(inside)}</{tag}>"


trees = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: st.builds(
        element,
        st.sampled_from(TAGS),
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WORDS), max_size=4),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@given(st.lists(trees, max_size=4), st.lists(trees, max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_tree_becomes_a_template_or_is_refused(parts: list[str], more: list[str]) -> None:
    try:
        found: Imported = import_threecx(crm(*parts, scenarios="".join(more)))
    except BadSetting:
        return
    Manifest.model_validate(found.template)
