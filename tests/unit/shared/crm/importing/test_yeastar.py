"""Both editions of Yeastar's templates, scenario by scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Imported, Level, to_yaml
from shared.crm.importing.yeastar.importer import import_yeastar
from shared.yamltext import read_yaml

FOLDER = Path(__file__).parents[4] / "data" / "templates" / "yeastar"
OLDER = import_yeastar((FOLDER / "older.xml").read_bytes())
NEWER = import_yeastar((FOLDER / "newer.xml").read_bytes())


def noted(imported: Imported, level: Level, *words: str) -> bool:
    """Whether a note of *level* has all *words*."""
    return any(
        note.level == level and all(word in f"{note.place} {note.what}" for word in words)
        for note in imported.notes
    )


@pytest.mark.parametrize("imported", [OLDER, NEWER], ids=["older", "newer"])
def test_what_comes_out_is_a_template_that_can_be_written_to_a_file(imported: Imported) -> None:
    Manifest.model_validate(imported.template)
    assert read_yaml(to_yaml(imported.template), typed=True).value == imported.template


def test_a_template_says_where_it_is_from() -> None:
    found = {name: OLDER.template[name] for name in ("name", "title", "description", "quality")}
    assert found == {
        "name": "lantern-desk",
        "title": "Lantern Desk",
        "description": "Support of the Lantern company",
        "quality": "declared",
    }
    assert OLDER.template["sources"] == ["imported from Yeastar XML Lantern Desk"]
    assert noted(OLDER, "left", "Logo", "data: URL")
    assert NEWER.template["logo"].startswith("data:image/png")


def test_a_name_of_ones_own_wins() -> None:
    file = (FOLDER / "older.xml").read_text()
    assert import_yeastar(file, name="desk").template["name"] == "desk"


def test_concurrency_is_taken_as_far_as_it_goes() -> None:
    assert OLDER.template["limits"] == {"concurrent": 8}
    assert NEWER.template["limits"] == {"concurrent": 100}
    assert noted(NEWER, "changed", "MaxConcurrentRequest")


# -- how it gets in ------------------------------------------------------------------------------


def test_oauth_asks_for_consent_without_what_the_engine_sends_itself() -> None:
    assert OLDER.template["auth"]["oauth2"] == {
        "grant": "authorization_code",
        "authorize_url": "{{.desk_url}}/oauth/authorize?audience=desk",
        "token_url": "{{.desk_url}}/oauth/token",
        "scope": "read write",
        "authorize_parameters": {"prompt": "consent"},
        "refresh_every": "0s",
        "pkce": False,
    }


def test_a_bearer_with_an_address_for_tokens_is_a_grant_of_the_client() -> None:
    oauth2 = NEWER.template["auth"]["oauth2"]
    assert (oauth2["grant"], oauth2["encoding"]) == ("client_credentials", "query")
    assert oauth2["token_url"] == "{{.api_url}}/token"
    assert oauth2["refresh_url"] == "{{.api_url}}/refresh"
    assert oauth2["token_parameters"] == {"tenant": "{{.region}}"}


def test_a_token_is_renewed_as_the_form_says_when_its_field_is_empty() -> None:
    assert NEWER.template["auth"]["oauth2"]["refresh_every"] == "25m"


def test_fields_are_parameters_and_credentials() -> None:
    assert [one["name"] for one in OLDER.template["credentials"]] == ["client_id", "client_secret"]
    assert OLDER.template["parameters"][:2] == [
        {"name": "desk_url", "title": "Address of the desk", "kind": "url"},
        {
            "name": "web_url",
            "title": "Address for people",
            "default": "https://desk.example",
            "kind": "url",
        },
    ]
    assert noted(OLDER, "changed", "webUrl", "web_url")
    assert noted(OLDER, "left", "callback_url", "no text names it")


def test_a_list_is_a_choice() -> None:
    region = {"name": "region", "title": "Region", "options": ["north", "south"]}
    assert {**region, "default": "north"} in NEWER.template["parameters"]


def test_words_of_a_refused_token_are_looked_for_where_errors_are() -> None:
    (rule,) = OLDER.template["outcome"]["rules"]
    assert (rule["like"], rule["means"]) == (["*invalid_token*"], "credentials")


def test_custom_headers_are_taken_and_the_usual_ones_are_not_needed() -> None:
    assert OLDER.template["headers"] == {"X-Desk": "{{.client_id}}"}
    assert NEWER.template["headers"]["X-Region"] == "{{.region}}"


@pytest.mark.parametrize("secret", ["s3cr3t-of-the-mill", "millstone-key-77"])
def test_a_secret_in_the_file_is_nowhere_in_what_was_made(secret: str) -> None:
    assert secret in (FOLDER / "newer.xml").read_text()
    assert secret not in repr(NEWER)
    assert noted(NEWER, "left", "a secret stands in the file", "client_secret")
    assert NEWER.template["headers"]["X-Api-Key"] == "{{.x_api_key}}"


# -- contacts ------------------------------------------------------------------------------------


def test_columns_become_records_and_paths_within_one() -> None:
    contact = NEWER.template["contacts"]["Contacts"]
    assert contact["search"][0]["records"] == "data"
    assert contact["map"] == {
        "id": "id",
        "first_name": "first_name",
        "last_name": "last_name",
        "company": "account.name",
        "phones": ["phone", "mobile"],
        "custom": {
            "Street": '#(phone=="{{.Phone}}").street,#(mobile=="{{.Phone}}").street',
            "AccountId": "account.id",
        },
        "page": "links.page",
    }


def test_lists_in_a_list_are_one_list() -> None:
    leads = NEWER.template["contacts"]["Leads"]
    assert leads["search"][0]["records"] == "groups.#.leads|@flatten"
    assert leads["map"]["phones"] == ["phone"]
    assert leads["search"][0]["request"]["method"] == "POST"


def test_a_field_of_another_list_is_not_put_to_records() -> None:
    assert "City" not in str(OLDER.template["contacts"])
    assert noted(OLDER, "left", "City is in another list")


def test_a_field_that_is_switched_off_is_left_out_and_the_last_switch_counts() -> None:
    assert "notes" not in str(OLDER.template["contacts"]["people"]["map"])
    assert noted(OLDER, "left", "Remark is switched off")
    assert OLDER.template["contacts"]["people"]["map"]["custom"] == {"CustomValue": "plan"}
    assert noted(OLDER, "changed", "CustomValueEnable is there twice")


def test_the_page_is_made_of_our_variables() -> None:
    assert OLDER.template["contacts"]["people"]["page_url"] == (
        "{{.web_url}}/{{Capitalize .Module}}/{{.ContactId}}?phone={{.Phone}}&plan={{.CustomValue}}"
    )


def test_a_request_that_follows_is_asked_for_each_record() -> None:
    people = OLDER.template["contacts"]["people"]
    assert people["search"][0]["then"] == [
        {
            "take": {"ContactId": "id"},
            "request": {"url": "{{.desk_url}}/people/{{.ContactId}}/identities"},
            "merge": True,
        }
    ]
    assert people["map"]["phones"][1] == 'identities.#(type=="phone_number")#|0.value'


def test_a_search_by_text_is_taken_where_a_type_has_no_other() -> None:
    assert noted(OLDER, "left", "SearchContact_people", "any text")
    (search,) = OLDER.template["contacts"]["firms"]["search"]
    assert search["request"] == {"url": "{{.desk_url}}/firms?query={{UrlEncode .Phone}}"}


def test_a_type_without_ids_is_left_out() -> None:
    assert "Nameless" not in NEWER.template["contacts"]
    assert noted(NEWER, "left", "Nameless", "ContactsId")


def test_a_contact_is_made_with_our_variables() -> None:
    create = NEWER.template["contacts"]["Contacts"]["create"]
    assert '"Phone": "{{.Phone}}"' in create["request"]["json_text"]
    assert create["contact_id"] == "data.0.details.id"
    # The type's name is written with a capital there.
    assert OLDER.template["contacts"]["people"]["create"]["contact_id"] == "user.id"


def test_users_come_in_pages() -> None:
    users = NEWER.template["users"]
    assert users["request"] == {
        "url": "{{.api_url}}/users?type=ActiveUsers",
        "query": {"page": "{{.Page}}", "per_page": "{{.Limit}}"},
    }
    assert users["pages"] == {"kind": "page", "start": 1, "size": 50}
    assert (users["records"], users["user_id"], users["email"]) == ("users", "id", "Email")
    assert NEWER.template["check"] == {"url": "{{.api_url}}/users?type=ActiveUsers"}


# -- journal -------------------------------------------------------------------------------------


def test_a_ticket_that_the_journal_completes_is_the_entry() -> None:
    journal = OLDER.template["journal"]
    assert journal["create"]["url"] == "{{.desk_url}}/tickets"
    assert journal["entry_id"] == "ticket.id"
    (after,) = journal["after"]
    assert after["request"]["url"] == ("{{if .Recording}}{{.desk_url}}/tickets/{{.EntryId}}{{end}}")
    assert journal["contact"] == "yes"
    assert noted(OLDER, "left", "UpdateTicket", "no tickets")


def test_a_field_of_a_scenario_is_a_parameter() -> None:
    wanted = {"name": "department_id", "title": "DepartmentId", "default": ""}
    assert wanted in OLDER.template["parameters"]
    assert "{{.department_id}}" in OLDER.template["journal"]["create"]["json_text"]


def test_variables_of_a_call_are_ours() -> None:
    journal = NEWER.template["journal"]
    assert journal["description"] == (
        'Call: {{TimeFormat .StartedAt "yyyy-MM-dd HH:mm:ss"}} {{.Disposition}} from {{.From}} to '
        "{{.To}} {{.TalkTime | mmss}}"
        "{{if .Recording}} {{.Recording}}{{else}} no recording{{end}}"
    )
    body = journal["create"]["json_text"]
    for text in (
        "\"{{TimeFormat .StartedAt 'yyyy-MM-ddTHH:mm:ss-z' '1'}}\"",
        '"Ms": {{ToMillis .StartedAt}}',
        '"Unix": {{.StartedAt | unix}}',
        '"{{Capitalize .Direction}}"',
        '"{{.TalkTime | seconds}}"',
        '"{{.Module}}": "{{.ContactId}}"',
        '"Account": "{{.AccountId}}"',
        # A literal is left alone.
        '"Note": ".Subject stays"',
    ):
        assert text in body


def test_requests_of_a_journal_go_by_their_weight() -> None:
    journal = NEWER.template["journal"]
    (before,) = journal["before"]
    assert before["take"] == {"OwnerKey": "owner.key"}
    (after,) = journal["after"]
    assert after["request"]["url"].endswith("/Calls/{{.EntryId}}/voice{{end}}")


def test_an_entry_that_cannot_be_found_again_is_said_to_be_a_risk() -> None:
    assert NEWER.template["journal"]["idempotent"] is True
    assert noted(NEWER, "changed", "journal.find", "doubled")


def test_a_request_that_follows_an_event_gives_variables() -> None:
    (follow_up,) = NEWER.template["follow_ups"]
    assert follow_up["after"] == "auth"
    assert follow_up["take"] == {"TraceId": "$.data.trace", "token": "$.tokens[0].value"}
    assert follow_up["request"]["headers"] == {"X-Mill": "{{.region}}"}
    assert '"{{.TraceId}}"' in NEWER.template["journal"]["create"]["json_text"]


# -- parts of a file -----------------------------------------------------------------------------


def information(auth: str = "", *, request: str = "", attributes: str = "", more: str = "") -> str:
    """A small file with one contact type."""
    request = request or (
        'Name="people" Method="GET" URLFormat="{{.url}}/people?phone={{.Phone}}"><Outputs>'
        '<Output Name="ContactsId" Path="data.#.id"/></Outputs>'
    )
    return (
        f'<Information Provider="crm" Name="Small" {attributes}><Scenarios>'
        f'<Scenario Id="AuthMethod"><Parameters>{auth}</Parameters></Scenario>'
        f'<Scenario Id="SyncContactAuto"><Requests><Request {request}</Request></Requests>'
        f"</Scenario>{more}</Scenarios></Information>"
    )


def parameter(name: str, value: str, **more: str) -> str:
    rest = "".join(f' {key}="{text}"' for key, text in more.items())
    return f'<Parameter Name="{name}" Value="{value}"{rest}/>'


def made(text: str) -> dict[str, Any]:
    return import_yeastar(text).template


def test_a_variable_that_nothing_gives_becomes_a_parameter() -> None:
    imported = import_yeastar(information())
    assert imported.template["parameters"] == [{"name": "url", "title": "url", "kind": "url"}]
    assert noted(imported, "changed", ".url is given nowhere")


def test_a_variable_of_the_pbx_that_is_none_of_ours_stands_for_nothing() -> None:
    request = (
        'Name="people" URLFormat="https://crm.example/{{.QueueName}}?p={{UrlEncode .Phone}}">'
        '<Outputs><Output Name="ContactsId" Path="id"/></Outputs>'
    )
    imported = import_yeastar(information(request=request))
    (search,) = imported.template["contacts"]["people"]["search"]
    assert search["request"]["url"] == "https://crm.example/{{nil}}?p={{UrlEncode .Phone}}"
    assert noted(imported, "left", "no .QueueName here")


def test_basic_with_a_name_and_a_password() -> None:
    auth = parameter("AuthMethod", "basic") + parameter("CredentialType", "username_password")
    template = made(information(auth))
    assert template["auth"] == {"basic": "{{.username}}:{{.password}}"}
    assert [one["name"] for one in template["credentials"]] == ["username", "password"]


def test_basic_with_a_key_and_its_vendors_habit() -> None:
    auth = parameter("AuthMethod", "basic") + parameter("Base64EncodedCredential", "{{.api_key}}:X")
    assert made(information(auth))["auth"] == {"basic": "{{.api_key}}:X"}


@pytest.mark.parametrize("pair", ["admin:hunter2-of-old", "{{.username}}:hunter2-of-old"])
def test_a_password_in_the_pair_is_a_credential_now(pair: str) -> None:
    auth = parameter("AuthMethod", "basic") + parameter("Base64EncodedCredential", pair)
    imported = import_yeastar(information(auth))
    assert imported.template["auth"] == {"basic": "{{.username}}:{{.password}}"}
    assert "hunter2" not in repr(imported)


def test_a_bearer_without_an_address_is_a_token_that_is_typed_in() -> None:
    auth = parameter("AuthMethod", "bearer") + parameter(
        "token", "", Father="CustomFieldList", Editor="password"
    )
    assert made(information(auth))["auth"]["apply"] == [
        {"in": "header", "name": "Authorization", "value": "Bearer {{.token}}"}
    ]


def test_another_word_before_the_token_is_kept() -> None:
    auth = "".join(
        (
            parameter("AuthMethod", "oauth2"),
            parameter("TokenType", "Zoho-oauthtoken"),
            parameter("AuthEndPoint", "https://crm.example/auth"),
            parameter("TokenEndPoint", "https://crm.example/token"),
            parameter("TokenRefreshTime", "40"),
        )
    )
    template = made(information(auth))
    assert template["auth"]["apply"][0]["value"] == "Zoho-oauthtoken {{.AccessToken}}"
    assert template["auth"]["oauth2"]["refresh_every"] == "40m"


def test_a_header_with_a_token_in_it_is_a_credential_behind_its_word() -> None:
    auth = parameter(
        "Authorization", "Bearer abc.def.ghi", Father="PopulateTemplateString", Type="Header"
    )
    imported = import_yeastar(information(auth))
    assert imported.template["headers"] == {"Authorization": "Bearer {{.authorization}}"}
    assert "abc.def" not in repr(imported)


def test_secrets_in_addresses_and_bodies_are_credentials() -> None:
    request = (
        'Name="people" Method="POST" URLFormat="https://crm.example/find?api_key=K1K2K3&amp;p=1">'
        '<Parameters><Parameter Name="Data" Type="Body" Value="{&quot;password&quot;: '
        '&quot;pw-of-old&quot;, &quot;phone&quot;: &quot;{{.Phone}}&quot;}"/></Parameters>'
        '<Outputs><Output Name="ContactsId" Path="data.#.id"/></Outputs>'
    )
    imported = import_yeastar(information(request=request))
    (search,) = imported.template["contacts"]["people"]["search"]
    assert search["request"]["url"] == "https://crm.example/find?api_key={{.api_key}}&p=1"
    assert search["request"]["json_text"] == (
        '{"password": "{{.password}}", "phone": "{{.Phone}}"}'
    )
    assert [one["name"] for one in imported.template["credentials"]] == ["api_key", "password"]
    assert "K1K2K3" not in repr(imported)
    assert "pw-of-old" not in repr(imported)


def test_a_form_is_taken_apart() -> None:
    request = (
        'Name="people" Method="POST" RequestEncoding="application/x-www-form-urlencoded" '
        'URLFormat="https://crm.example/find"><Parameters><Parameter Name="Data" Type="Body" '
        'Value="op=find%20it&amp;phone={{UrlEncode .Phone}}&amp;q={&quot;n&quot;:&quot;{{.Phone}}'
        '&quot;}"/></Parameters><Outputs><Output Name="ContactsId" Path="data.#.id"/></Outputs>'
    )
    (search,) = made(information(request=request))["contacts"]["people"]["search"]
    # Its own encoding is undone: values are encoded when they are sent, and JSON stays JSON.
    assert search["request"]["form"] == {
        "op": "find it",
        "phone": "{{.Phone}}",
        "q": {"n": "{{.Phone}}"},
    }


def test_a_text_that_cannot_be_read_costs_its_own_request_alone() -> None:
    journal = (
        '<Scenario Id="CallJournal"><Requests><Request Name="CallJournal" Method="POST" '
        'URLFormat="https://crm.example/{{range .Calls}}x{{end}}"/></Requests></Scenario>'
    )
    imported = import_yeastar(information(more=journal))
    assert "journal" not in imported.template
    assert noted(imported, "left", "CallJournal", "there is no range here")


def test_a_scenario_that_is_switched_off_is_left() -> None:
    users = (
        '<Scenario Id="UserAssociation"><Requests><Request Name="u" URLFormat="https://c.example">'
        '<Outputs><Output Name="UserUniqueId" Path="#.id"/></Outputs></Request></Requests>'
        "</Scenario>"
    )
    assert "users" in made(information(more=users))
    imported = import_yeastar(information(attributes='UserAssociation="0"', more=users))
    assert "users" not in imported.template
    assert noted(imported, "left", "UserAssociation", "switched off")


def test_without_users_the_credentials_are_proved_by_a_search() -> None:
    imported = import_yeastar(information())
    assert imported.template["check"] == {"url": '{{.url}}/people?phone={{"0"}}'}
    assert noted(imported, "changed", "check", "search of the number 0")


def test_requests_in_a_circle_end() -> None:
    request = (
        'Name="people" URLFormat="https://crm.example/{{.Phone}}"><Outputs Next="A">'
        '<Output Name="ContactsId" Path="data.#.id"/></Outputs>'
    )
    common = (
        '<Scenario Id="Common"><Requests><Request Name="A" URLFormat="https://crm.example/a">'
        '<Outputs Next="A"><Output Name="Email" Path="mail"/></Outputs></Request></Requests>'
        "</Scenario>"
    )
    imported = import_yeastar(information(request=request, more=common))
    assert len(imported.template["contacts"]["people"]["search"][0]["then"]) == 1
    assert noted(imported, "left", "Next A", "leads back")


def test_a_condition_on_the_ids_is_one_on_the_records() -> None:
    request = (
        'Name="people" URLFormat="https://crm.example/{{.Phone}}"><Outputs>'
        '<Output Name="ContactsId" Path="data.#(tel==&quot;{{.Phone}}&quot;)#.id"/>'
        '<Output Name="Email" Path="data.#(tel==&quot;{{.Phone}}&quot;)#.mail"/></Outputs>'
    )
    contact = made(information(request=request))["contacts"]["people"]
    assert contact["search"][0]["records"] == 'data.#(tel=="{{.Phone}}")#'
    assert contact["map"] == {"id": "id", "email": "mail"}


def test_two_fields_that_would_be_called_the_same_are_told_apart() -> None:
    auth = "".join(
        parameter(name, "", Father="CustomFieldList", Editor="string") for name in ("Url", "url")
    )
    request = (
        'Name="people" URLFormat="{{.Url}}/{{.url}}/{{.Phone}}"><Outputs>'
        '<Output Name="ContactsId" Path="id"/></Outputs>'
    )
    template = made(information(auth, request=request))
    assert [one["name"] for one in template["parameters"]] == ["url", "url_2"]
    (search,) = template["contacts"]["people"]["search"]
    assert search["request"]["url"] == "{{.url}}/{{.url_2}}/{{.Phone}}"


def test_a_type_that_the_form_does_not_take_costs_itself_alone() -> None:
    long = ".".join(["a"] * 1500)
    second = (
        'Name="firms" URLFormat="https://crm.example/{{.Phone}}"><Outputs>'
        f'<Output Name="ContactsId" Path="{long}"/></Outputs></Request><Request '
        'Name="people" URLFormat="https://crm.example/{{.Phone}}"><Outputs>'
        '<Output Name="ContactsId" Path="id"/></Outputs>'
    )
    imported = import_yeastar(information(request=second))
    assert list(imported.template["contacts"]) == ["people"]
    assert noted(imported, "left", "contacts.firms", "at most 2000")
