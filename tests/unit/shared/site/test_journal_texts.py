"""What a site file may have entries say: words that are there, and no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from shared.errors import BadSetting
from shared.secrets import SecretBox, new_key
from shared.site.file import read_site_file
from shared.site.journal import JournalPolicy
from shared.site.models import Site
from shared.site.parts import Sealing

BOX = SecretBox([new_key()])


def policy(tmp_path: Path, **journal: str) -> JournalPolicy:
    """Of a connection to Zoho, read as a file is. Raises: BadSetting."""
    connection = {
        "name": "zoho",
        "template": "zoho",
        "parameters": {"data_centre": "eu", "organisation": "20105630807"},
        "credentials": {"client_id": "1000.A", "client_secret": "s", "refresh_token": "r"},
        "journal": journal,
    }
    document = {"version": 1, "tenants": [{"tenant": "acme", "region": "GB", "crm": [connection]}]}
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(document))
    (site,) = read_site_file(
        file.read_text(), source="site.yaml", sealing=Sealing(BOX, {}, tmp_path)
    )
    assert isinstance(site, Site)
    return site.crm[0].journal


@pytest.mark.parametrize(
    "text",
    [
        "{{.Kind}} {{.Number}} {{.Reference}}",
        "Call: {{.Time}} {{.Call_Log_Status}} from {{.Call_From}} to {{.Call_To}}",
        "{{.CallType}}: {{.AgentFirstName}}{{.LineBreak}}{{.Summary}}",
        "[CallType] call of [Number] to [Agent] ([Duration])",
        "[Sales] call",
        "{{.data_centre}}: {{.ContactName}} of {{.Company}}",
        '{{.Kind | map "call_type"}}',
    ],
)
def test_a_text_in_words_that_are_there_is_taken(tmp_path: Path, text: str) -> None:
    found = policy(tmp_path, subject=text, description=text)
    assert (found.subject, found.description) == (text, text)


def test_a_description_may_hold_the_subject(tmp_path: Path) -> None:
    assert policy(tmp_path, description="{{.Subject}}!").description == "{{.Subject}}!"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{.Call_Frm}}", "there is no variable .Call_Frm; did you mean Call_From?"),
        ("{{.number}}", "there is no variable .number; did you mean Number?"),
        ("{{.Qwertz}}", "there is no variable .Qwertz. All are in docs/reference/entry-variables"),
        ("{{if .Recoding}}x{{end}}", "did you mean Recording?"),
        ("[Number] of [Agnt]", "there is no variable [Agnt]; did you mean Agent?"),
        ('[[DateTime].ToString("d")] [Name]', "an expression of 3CX, is not read here"),
        ("{{.client_secret}}", "there is no variable .client_secret"),
        ("{{.AccessToken}}", "there is no variable .AccessToken"),
        ("{{.EntryId}}", "there is no variable .EntryId"),
        ("{{.Description}}", "there is no variable .Description"),
        ('{{.Kind | map "kinds"}}', "the template has no map kinds"),
        ("{{.Number", "line 1"),
    ],
)
@pytest.mark.parametrize("part", ["subject", "description"])
def test_a_word_that_is_not_there_is_a_fault_of_its_line(
    tmp_path: Path, part: str, text: str, words: str
) -> None:
    with pytest.raises(BadSetting, match=re.escape(words)) as caught:
        policy(tmp_path, **{part: text})
    assert re.match(rf"site\.yaml:\d+: tenants\.0\.crm\.0\.journal\.{part}: ", caught.value.message)


def test_a_subject_is_not_made_of_itself(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"no variable \.Subject"):
        policy(tmp_path, subject="{{.Subject}}")
