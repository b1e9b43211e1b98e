from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from shared.contracts.calls import Direction
from shared.contracts.routing import Destination, DestinationKind
from shared.errors import BadSetting
from shared.secrets import SecretBox, new_key
from shared.site.file import WholeSite, read_site_file
from shared.site.models import Site
from shared.site.parts import Sealing
from shared.site.pbx import AsteriskPbx, GenericPbx
from shared.site.rules.conditions import Operator

BOX = SecretBox([new_key()])
ENVIRONMENT = {"AMI_SECRET": "from-the-environment"}

SITE = """\
version: 1
tenants:
  - tenant: acme
    title: ACME Ltd
    region: GB
    pbx:
      - name: main
        kind: asterisk
        host: pbx.acme.example
        port: 5039
        tls: yes
        username: callmesh
        secret: {env: AMI_SECRET}
        trunks: [trunk, backup]
        technology: SIP
        outbound_context: from-internal
        ring_agent: 20s
        askers: [10.0.0.0/8, 192.0.2.7]
      - name: door
        kind: generic
    crm:
      - name: zoho
        template: zoho
        parameters:
          data_centre: eu
          organisation: "20105630807"
        credentials:
          client_id: 1000.ABC
          client_secret: plain-hunter2
          refresh_token: {file: refresh-token}
        modules: [Contacts, Leads]
        phone_formats: [digits, "***-***-****", e164]
        fresh: 5m
        unknown: 30s
        journal:
          enabled: true
          directions: [inbound]
          after: 1.5s
    agents:
      - extension: "101"
        name: Anna Agent
        pbx: main
        users: {zoho: "829914000000121001"}
      - {extension: "0102"}
    rules:
      - name: by-tier
        dids: ["442079460000", "+442079460001"]
        crm: zoho
        modules: [Contacts]
        field: Tier
        rows:
          - {operator: "=", value: GOLD, destination: "queue:support"}
          - {operator: ">=", value: "7", destination: "extension:101"}
        default: extension:0102
        within: 800ms
      - name: by-account
        dids: ["442079460002"]
        crm: zoho
        field: Account_Name
        rows:
          - {operator: "=", value: testrouting1, destination: "ivr:104"}
        default: extension:101
  - tenant: globex
"""


@pytest.fixture
def sealing(tmp_path: Path) -> Sealing:
    (tmp_path / "refresh-token").write_text("from-a-file\n")
    return Sealing(box=BOX, environment=ENVIRONMENT, folder=tmp_path)


def read(sealing: Sealing, text: str = SITE) -> WholeSite:
    """The first tenant of the file."""
    return read_site_file(text, source="site.yaml", sealing=sealing)[0]


def faults(sealing: Sealing, text: str) -> list[str]:
    with pytest.raises(BadSetting) as caught:
        read_site_file(text, source="site.yaml", sealing=sealing)
    return caught.value.message.splitlines()


def with_change(old: str, new: str) -> tuple[str, int]:
    """The file with *old*, which is there once, replaced; and the line where *new* begins."""
    assert SITE.count(old) == 1, old
    before = SITE.partition(old)[0]
    return SITE.replace(old, new), before.count("\n") + 1


def opened(sealed: str) -> str:
    return BOX.open(sealed).get_secret_value()


def the_asterisk_of(site: Site) -> AsteriskPbx:
    (found,) = (pbx for pbx in site.pbx if isinstance(pbx, AsteriskPbx))
    return found


# -- a good file --------------------------------------------------------------------------------


def test_a_file_holds_its_tenants_in_order(sealing: Sealing) -> None:
    sites = read_site_file(SITE, source="site.yaml", sealing=sealing)

    assert [site.tenant for site in sites] == ["acme", "globex"]


def test_a_tenant_has_its_title_and_region(sealing: Sealing) -> None:
    site = read(sealing)

    assert (site.title, site.region) == ("ACME Ltd", "GB")


def test_an_asterisk_is_read_with_all_it_has(sealing: Sealing) -> None:
    pbx = the_asterisk_of(read(sealing))

    assert (pbx.name, pbx.host, pbx.port, pbx.tls) == ("main", "pbx.acme.example", 5039, True)
    assert (pbx.username, pbx.trunks, pbx.technology) == ("callmesh", ("trunk", "backup"), "SIP")
    assert (pbx.outbound_context, pbx.ring_agent) == ("from-internal", timedelta(seconds=20))
    assert pbx.askers == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("192.0.2.7/32"),
    )


def test_a_pbx_is_found_by_its_name(sealing: Sealing) -> None:
    site = read(sealing)

    assert isinstance(site.pbx_named("main"), AsteriskPbx)
    assert isinstance(site.pbx_named("door"), GenericPbx)
    assert site.pbx_named("cellar") is None


def test_a_crm_is_read_with_all_it_has(sealing: Sealing) -> None:
    crm = read(sealing).crm_named("zoho")

    assert crm is not None
    assert crm.parameters == {"data_centre": "eu", "organisation": "20105630807"}
    assert crm.modules == ("Contacts", "Leads")
    assert crm.phone_formats == ("digits", "***-***-****", "e164")
    assert (crm.fresh, crm.unknown) == (timedelta(minutes=5), timedelta(seconds=30))
    assert crm.journal.directions == (Direction.INBOUND,)
    assert (crm.journal.enabled, crm.journal.after) == (True, timedelta(seconds=1.5))


def test_an_agent_is_found_by_the_extension_as_it_is_written(sealing: Sealing) -> None:
    site = read(sealing)
    agent = site.agent_at("101")

    assert agent is not None
    assert (agent.name, agent.pbx, agent.users) == (
        "Anna Agent",
        "main",
        {"zoho": "829914000000121001"},
    )
    assert site.agent_at("0102") is not None
    assert site.agent_at("102") is None


def test_a_rule_is_read_with_its_rows_in_order(sealing: Sealing) -> None:
    rule = read(sealing).rules[0]

    assert [(row.operator, row.value, *map(str, row.destination)) for row in rule.rows] == [
        (Operator.EQUAL, "GOLD", "queue:support"),
        (Operator.GREATER_OR_EQUAL, "7", "extension:101"),
    ]
    assert rule.default == (Destination(kind=DestinationKind.EXTENSION, target="0102"),)
    assert (rule.field, rule.modules, rule.within) == (
        "Tier",
        ("Contacts",),
        timedelta(milliseconds=800),
    )


def test_what_a_file_does_not_say_has_its_default(sealing: Sealing) -> None:
    text = """\
tenants:
  - tenant: acme
    pbx:
      - {name: main, kind: asterisk, host: h, username: u, secret: s, trunks: [t]}
    crm:
      - {name: zoho, template: zoho, credentials: {client_id: a, client_secret: b, refresh_token: c}}
    rules:
      - {name: r, dids: ["1"], crm: zoho, field: Tier,
         rows: [{operator: =, value: x, destination: "queue:a"}], default: "queue:b"}
"""
    site = read(sealing, text)
    pbx = the_asterisk_of(site)

    assert (pbx.port, pbx.tls, pbx.technology, pbx.askers) == (5038, False, "PJSIP", ())
    assert (pbx.outbound_context, pbx.ring_agent) == ("outbound", timedelta(seconds=15))
    assert site.crm[0].journal.directions == (Direction.INBOUND, Direction.OUTBOUND)
    assert site.crm[0].journal.after == timedelta(seconds=3)
    assert site.rules[0].within == timedelta(seconds=1.5)


# -- secrets ------------------------------------------------------------------------------------


def test_a_secret_is_the_text_itself_or_from_the_environment_or_from_a_file(
    sealing: Sealing,
) -> None:
    site = read(sealing)

    assert opened(the_asterisk_of(site).secret) == "from-the-environment"
    assert {name: opened(sealed) for name, sealed in site.crm[0].credentials.items()} == {
        "client_id": "1000.ABC",
        "client_secret": "plain-hunter2",
        "refresh_token": "from-a-file",
    }


def test_no_secret_of_the_file_is_in_what_is_stored(sealing: Sealing) -> None:
    stored = read(sealing).model_dump_json()

    for secret in ("from-the-environment", "from-a-file", "plain-hunter2", "1000.ABC"):
        assert secret not in stored


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "secret: {env: AMI_SECRET}",
            "secret: {env: NO_SUCH_NAME}",
            "tenants.0.pbx.0.secret: the environment has no NO_SUCH_NAME",
            id="an environment without it",
        ),
        pytest.param(
            "refresh_token: {file: refresh-token}",
            "refresh_token: {file: no-such-file}",
            "tenants.0.crm.0.credentials.refresh_token: "
            "cannot read no-such-file: No such file or directory",
            id="a file that is not there",
        ),
        pytest.param(
            "refresh_token: {file: refresh-token}",
            "refresh_token: {file: .}",
            "tenants.0.crm.0.credentials.refresh_token: cannot read .: Is a directory",
            id="a folder",
        ),
        pytest.param(
            "client_secret: plain-hunter2",
            "client_secret: [plain-hunter2]",
            "tenants.0.crm.0.credentials.client_secret: "
            "a secret is a text, {env: NAME} or {file: path}",
            id="a list",
        ),
        pytest.param(
            "client_secret: plain-hunter2",
            "client_secret: {text: plain-hunter2}",
            "tenants.0.crm.0.credentials.client_secret: "
            "a secret is a text, {env: NAME} or {file: path}",
            id="another word",
        ),
        pytest.param(
            "secret: {env: AMI_SECRET}",
            "secret: {env: AMI_SECRET, file: refresh-token}",
            "tenants.0.pbx.0.secret: a secret is a text, {env: NAME} or {file: path}",
            id="both",
        ),
        pytest.param(
            "client_secret: plain-hunter2",
            "client_secret: sealed:hunter2",
            "tenants.0.crm.0.credentials.client_secret: "
            "a secret is a text, {env: NAME} or {file: path}",
            id="one that says it is sealed",
        ),
        pytest.param(
            "client_secret: plain-hunter2",
            "client_secret:",
            "tenants.0.crm.0.credentials.client_secret: "
            "a secret is a text, {env: NAME} or {file: path}",
            id="nothing",
        ),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_and_not_shown(
    sealing: Sealing, old: str, new: str, said: str
) -> None:
    text, line = with_change(old, new)

    found = faults(sealing, text)

    assert found == [f"site.yaml:{line}: {said}"]


def test_no_fault_shows_a_secret(sealing: Sealing) -> None:
    """Faults of the same part, and of the whole file, are shown beside it."""
    text = SITE.replace("template: zoho", "template: pipedrive").replace(
        "kind: asterisk", "kind: x"
    )

    shown = "\n".join(faults(sealing, text))

    for secret in ("from-the-environment", "from-a-file", "hunter2", "1000.ABC"):
        assert secret not in shown


# -- faults of one value ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "port: 5039", "prot: 5039", "tenants.0.pbx.0.prot: unknown key", id="an unknown key"
        ),
        pytest.param(
            "title: ACME Ltd", "titel: ACME Ltd", "tenants.0.titel: unknown key", id="in a tenant"
        ),
        pytest.param(
            "        field: Tier\n",
            "        feld: Tier\n",
            "tenants.0.rules.0.feld: unknown key",
            id="in a rule",
        ),
        pytest.param(
            "          after: 1.5s",
            "          later: 1.5s",
            "tenants.0.crm.0.journal.later: unknown key",
            id="in a policy",
        ),
        pytest.param("port: 5039", "port: 99999", "tenants.0.pbx.0.port: ", id="a high port"),
        pytest.param("port: 5039", "port: ami", "tenants.0.pbx.0.port: ", id="a word for a port"),
        pytest.param("tls: yes", "tls: sure", "tenants.0.pbx.0.tls: ", id="neither yes nor no"),
        pytest.param("region: GB", "region: gb", "tenants.0.region: ", id="a region in small"),
        pytest.param("region: GB", "region: GBR", "tenants.0.region: ", id="a long region"),
        pytest.param(
            "- tenant: acme", "- tenant: ACME", "tenants.0.tenant: ", id="a tenant in capitals"
        ),
        pytest.param(
            "trunks: [trunk, backup]", "trunks: []", "tenants.0.pbx.0.trunks: ", id="no trunk"
        ),
        pytest.param(
            "trunks: [trunk, backup]", "trunks: trunk", "tenants.0.pbx.0.trunks: ", id="no list"
        ),
        pytest.param(
            "askers: [10.0.0.0/8, 192.0.2.7]",
            "askers: [10.0.0.0/8, home]",
            "tenants.0.pbx.0.askers.1: ",
            id="no network",
        ),
        pytest.param(
            "ring_agent: 20s", "ring_agent: soon", "tenants.0.pbx.0.ring_agent: ", id="no duration"
        ),
        pytest.param(
            "directions: [inbound]",
            "directions: [inbound, sideways]",
            "tenants.0.crm.0.journal.directions.1: Input should be 'inbound'",
            id="an unknown direction",
        ),
        pytest.param(
            'value: GOLD, destination: "queue:support"',
            'value: GOLD, destination: "moon:support"',
            "tenants.0.rules.0.rows.0.destination: 'moon:support': there is no destination of that "
            "kind. Input should be 'extension'",
            id="an unknown kind of place",
        ),
        pytest.param(
            'value: GOLD, destination: "queue:support"',
            'value: GOLD, destination: "queue:sup port"',
            "tenants.0.rules.0.rows.0.destination: 'queue:sup port': ",
            id="a place with a blank",
        ),
        pytest.param(
            "default: extension:0102",
            "default: nowhere",
            "tenants.0.rules.0.default: 'nowhere': there is no destination of that kind",
            id="no place",
        ),
        pytest.param(
            'operator: ">="', 'operator: "=="', "tenants.0.rules.0.rows.1.operator: ", id="operator"
        ),
        pytest.param(
            "within: 800ms", "within: 11s", "tenants.0.rules.0.within: ", id="a long budget"
        ),
        pytest.param("within: 800ms", "within: 0s", "tenants.0.rules.0.within: ", id="no budget"),
        pytest.param(
            'dids: ["442079460000", "+442079460001"]',
            'dids: ["442079460000", "020 7946"]',
            "tenants.0.rules.0.dids.1: ",
            id="a DID with blanks",
        ),
    ],
)
def test_a_bad_value_is_shown_at_its_line(sealing: Sealing, old: str, new: str, said: str) -> None:
    text, line = with_change(old, new)
    assert any(found.startswith(f"site.yaml:{line}: {said}") for found in faults(sealing, text))


@pytest.mark.parametrize(
    ("part", "written", "said"),
    [
        (
            "numbers",
            "anonymous",
            "'anonymous' cannot be listed: write one such as +44 20 7946 0001",
        ),
        ("numbers", '"+44 20 79x6"', "'+44 20 79x6' cannot be listed: "),
        ("numbers", '"*"', "'*' cannot be listed: "),
        ("numbers", '"+44*79"', "'+44*79' cannot be listed: "),
        ("numbers", '""', "'' cannot be listed: "),
        ("dids", "withheld", "'withheld' cannot be listed: write one such as +44 20 7946 0001"),
        ("extensions", '"1 50"', "'1 50' cannot be listed: write one such as 150 or 2*"),
        ("extensions", '"*1"', "'*1' cannot be listed: "),
    ],
)
def test_what_cannot_be_kept_out_of_the_crm_is_shown_at_its_line(
    sealing: Sealing, part: str, written: str, said: str
) -> None:
    """The second of three; the others are right."""
    lines = [f"            {part}:", '              - "44"', f"              - {written}"]
    text, first = with_change(
        "          after: 1.5s\n",
        "          do_not_log:\n" + "\n".join(lines) + '\n              - "45*"\n',
    )
    where = f"site.yaml:{first + 3}: tenants.0.crm.0.journal.do_not_log.{part}.1: "
    (found,) = faults(sealing, text)
    assert found.startswith(where + said)


def test_what_is_kept_out_of_the_crm_may_be_written_in_any_way(sealing: Sealing) -> None:
    listed = '["+44 (20) 7946-0001", 020.7946/0002, 02079460003, withheld, "0044*"]'
    text, _ = with_change(
        "          after: 1.5s\n", f"          do_not_log: {{numbers: {listed}}}\n"
    )
    (crm,) = read(sealing, text).crm
    assert crm.journal.do_not_log.numbers[1:4] == ("020.7946/0002", "02079460003", "withheld")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("after: 1.5s", "misses: all", "tenants.0.crm.0.journal: misses: all is an entry for each"),
        (
            "after: 1.5s",
            "misses: some",
            "tenants.0.crm.0.journal.misses: Input should be 'answered'",
        ),
        ("after: 1.5s", "per: leg", "tenants.0.crm.0.journal.per: Input should be 'call'"),
        ("after: 1.5s", "upload: 10m", "tenants.0.crm.0.journal.upload: "),
        ("after: 1.5s", "upload: {every: 10s}", "tenants.0.crm.0.journal.upload.every: "),
        (
            "after: 1.5s",
            "upload: {every: 10m, at_most: 0}",
            "tenants.0.crm.0.journal.upload.at_most",
        ),
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_shown_at_its_line(
    sealing: Sealing, old: str, new: str, said: str
) -> None:
    text, line = with_change(old, new)
    found = faults(sealing, text)
    assert any(fault.partition(": ")[2].startswith(said) for fault in found), found
    assert {int(fault.split(":")[1]) for fault in found} <= {line - 3, line - 2, line}


def test_another_kind_of_pbx_is_shown_where_its_part_begins(sealing: Sealing) -> None:
    text, line = with_change("kind: asterisk", "kind: cisco")

    (found,) = faults(sealing, text)

    assert found.startswith(f"site.yaml:{line - 1}: tenants.0.pbx.0: Input tag 'cisco'")


def test_a_key_that_is_there_twice_is_shown_at_the_second(sealing: Sealing) -> None:
    text, line = with_change("        pbx: main\n", "        pbx: main\n        pbx: main\n")

    assert faults(sealing, text) == [f"site.yaml: line {line + 1}: pbx is there twice"]


@pytest.mark.parametrize(
    ("line_of_it", "path", "shown_at"),
    [
        pytest.param("        host: pbx.acme.example\n", "pbx.0.host", "- name: main", id="pbx"),
        pytest.param("        username: callmesh\n", "pbx.0.username", "- name: main", id="user"),
        pytest.param("        template: zoho\n", "crm.0.template", "- name: zoho", id="crm"),
        pytest.param(
            "        default: extension:0102\n", "rules.0.default", "- name: by-tier", id="default"
        ),
    ],
)
def test_a_missing_key_is_shown_where_its_part_begins(
    sealing: Sealing, line_of_it: str, path: str, shown_at: str
) -> None:
    text, _ = with_change(line_of_it, "")
    line = text.partition(shown_at)[0].count("\n") + 1

    assert faults(sealing, text) == [f"site.yaml:{line}: tenants.0.{path}: Field required"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("tenants: []\n", "site.yaml:1: tenants: ", id="no tenant"),
        pytest.param("version: 1\n", "site.yaml:1: tenants: Field required", id="no tenants"),
        pytest.param("version: 2\ntenants: [{tenant: a}]\n", "site.yaml:1: version: ", id="newer"),
        pytest.param("- tenant: acme\n", "site.yaml:1: the file: ", id="a list"),
        pytest.param("hello\n", "site.yaml:1: the file: ", id="a word"),
        pytest.param("", "site.yaml: line 1: the file is empty", id="nothing"),
        pytest.param("tenants: [\n", "site.yaml: line 2, column 1: ", id="not YAML"),
    ],
)
def test_what_is_no_site_file_is_refused(sealing: Sealing, text: str, said: str) -> None:
    assert faults(sealing, text)[0].startswith(said)


# -- faults between the parts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "- tenant: globex",
            "- tenant: acme",
            "tenants.1.tenant: tenant acme is there twice",
            id="a tenant twice",
        ),
        pytest.param(
            "- name: door", "- name: main", "tenants.0.pbx.1: main is there twice", id="a pbx twice"
        ),
        pytest.param(
            '- {extension: "0102"}',
            '- {extension: "101"}',
            "tenants.0.agents.1: 101 is there twice",
            id="an agent twice",
        ),
        pytest.param(
            "- name: by-account",
            "- name: by-tier",
            "tenants.0.rules.1: by-tier is there twice",
            id="a rule twice",
        ),
        pytest.param(
            'dids: ["442079460002"]',
            'dids: ["442079460000"]',
            "tenants.0.rules.1.dids: DID 442079460000 is already in rule by-tier",
            id="a DID twice",
        ),
        pytest.param(
            'dids: ["442079460002"]',
            'dids: ["+442079460000"]',
            "tenants.0.rules.1.dids: DID +442079460000 is already in rule by-tier",
            id="a DID twice, then with a plus sign",
        ),
        pytest.param(
            'dids: ["442079460002"]',
            'dids: ["442079460002", "442079460001"]',
            "tenants.0.rules.1.dids: DID 442079460001 is already in rule by-tier",
            id="a DID twice, first with a plus sign",
        ),
        pytest.param(
            'users: {zoho: "829914000000121001"}',
            'users: {hubspot: "829914000000121001"}',
            "tenants.0.agents.0.users.hubspot: there is no crm hubspot",
            id="an agent's crm",
        ),
        pytest.param(
            "        pbx: main\n",
            "        pbx: cellar\n",
            "tenants.0.agents.0.pbx: there is no pbx cellar",
            id="an agent's pbx",
        ),
        pytest.param(
            "        crm: zoho\n        modules: [Contacts]\n",
            "        crm: hubspot\n        modules: [Contacts]\n",
            "tenants.0.rules.0.crm: there is no crm hubspot",
            id="a rule's crm",
        ),
    ],
)
def test_what_is_there_twice_or_leads_nowhere_is_shown_at_its_line(
    sealing: Sealing, old: str, new: str, said: str
) -> None:
    text, line = with_change(old, new)

    assert faults(sealing, text) == [f"site.yaml:{line}: {said}"]


def test_a_crm_twice_is_shown_at_the_second(sealing: Sealing) -> None:
    text, line = with_change(
        "    agents:\n",
        "      - name: zoho\n"
        "        template: zoho\n"
        "        credentials: {client_id: a, client_secret: b, refresh_token: c}\n"
        "    agents:\n",
    )

    assert faults(sealing, text) == [f"site.yaml:{line}: tenants.0.crm.1: zoho is there twice"]


def test_the_same_did_in_two_tenants_is_no_fault(sealing: Sealing) -> None:
    one = SITE.partition("tenants:\n")[2].partition("  - tenant: globex")[0]
    text = f"tenants:\n{one}{one.replace('tenant: acme', 'tenant: globex')}"

    assert len(read_site_file(text, source="site.yaml", sealing=sealing)) == 2


# -- faults against the template ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "template: zoho",
            "template: pipedreams",
            "template: there is no template pipedreams; there are: .*zoho",
            id="an unknown template",
        ),
        pytest.param(
            "          data_centre: eu\n",
            "          data_centre: moon\n",
            "parameters: .*data_centre is one of .*, not moon",
            id="an option that is none",
        ),
        pytest.param(
            "modules: [Contacts, Leads]",
            "modules: [Contacts, Deals]",
            "modules: the template has no contact type Deals; it has: Contacts, Leads, Accounts",
            id="an unknown module",
        ),
    ],
)
def test_what_the_template_does_not_know_is_shown_at_its_line(
    sealing: Sealing, old: str, new: str, said: str
) -> None:
    text, line = with_change(old, new)
    if "parameters" in said:
        line -= 1  # the check is of all parameters: it is shown where they begin

    (found,) = faults(sealing, text)

    assert re.fullmatch(rf"site\.yaml:{line}: tenants\.0\.crm\.0\.{said}", found)


@pytest.mark.parametrize(
    ("old", "new", "part", "said"),
    [
        pytest.param(
            "          data_centre: eu\n",
            "          datacentre: eu\n",
            "parameters",
            "template zoho has no parameter datacentre; it has: data_centre, ",
            id="an unknown parameter",
        ),
        pytest.param(
            "          client_id: 1000.ABC\n",
            "",
            "credentials",
            "template zoho needs the credential client_id",
            id="a missing credential",
        ),
        pytest.param(
            "          client_id: 1000.ABC\n",
            "          client_id: 1000.ABC\n          pin: hunter2\n",
            "credentials",
            "template zoho has no credential pin",
            id="an unknown credential",
        ),
    ],
)
def test_what_the_template_asks_for_is_shown_where_its_part_begins(
    sealing: Sealing, old: str, new: str, part: str, said: str
) -> None:
    text, _ = with_change(old, new)
    line = text.partition(f"        {part}:")[0].count("\n") + 1

    (found,) = faults(sealing, text)

    assert found.startswith(f"site.yaml:{line}: tenants.0.crm.0.{part}: {said}")
    assert "hunter2" not in found


def test_a_module_that_a_rule_asks_for_is_one_of_the_template(sealing: Sealing) -> None:
    text, line = with_change("modules: [Contacts]\n", "modules: [Contacts, Deals]\n")

    (found,) = faults(sealing, text)

    assert found.startswith(f"site.yaml:{line}: tenants.0.rules.0.modules: ")
    assert found.endswith("has no contact type Deals; it has: Contacts, Leads, Accounts")


def test_a_spelling_that_is_no_format_is_a_fault_of_its_crm(sealing: Sealing) -> None:
    text, line = with_change('[digits, "***-***-****", e164]', '[digits, "##-##"]')

    (found,) = faults(sealing, text)

    assert "phone_formats: '##-##' is neither digits, " in found
    assert found.startswith(f"site.yaml:{line}: tenants.0.crm.0")


def test_every_fault_of_a_file_is_shown_at_once(sealing: Sealing) -> None:
    text = (
        SITE.replace("pbx: main\n", "pbx: cellar\n")
        .replace("modules: [Contacts, Leads]", "modules: [Deals]")
        .replace("- tenant: globex", "- tenant: acme")
    )

    assert len(faults(sealing, text)) == 3


@pytest.mark.parametrize("name", ["asterisk", "generic"])
def test_a_crm_may_have_the_name_of_a_kind_of_pbx(sealing: Sealing, name: str) -> None:
    text = SITE.replace("- name: zoho", f"- name: {name}").replace("crm: zoho", f"crm: {name}")
    text = text.replace('{zoho: "829914000000121001"}', f'\n          {name}: ""')
    line = text.partition(f'{name}: ""')[0].count("\n") + 1

    (found,) = faults(sealing, text)

    assert found.startswith(f"site.yaml:{line}: tenants.0.agents.0.users.{name}: ")


# -- a stored site ------------------------------------------------------------------------------


def test_a_stored_site_is_read_as_it_was_written(sealing: Sealing) -> None:
    site = read(sealing).stored

    assert Site.model_validate_json(site.model_dump_json()) == site


def test_what_is_stored_of_a_site_is_all_but_its_rules(sealing: Sealing) -> None:
    """Each of them is a document of its own."""
    site = read(sealing)

    assert type(site.stored) is Site
    assert site.stored.model_dump() == site.model_dump(exclude={"rules"})


@pytest.mark.parametrize("secret", ["hunter2", "", "sealed:", {"env": "AMI_SECRET"}, None])
def test_a_plain_secret_in_a_stored_site_is_refused(sealing: Sealing, secret: Any) -> None:
    stored = read(sealing).stored.model_dump(mode="json")
    stored["pbx"][0]["secret"] = secret

    with pytest.raises(ValidationError):
        Site.model_validate(stored)


def test_a_plain_credential_in_a_stored_site_is_refused(sealing: Sealing) -> None:
    stored = read(sealing).stored.model_dump(mode="json")
    stored["crm"][0]["credentials"]["client_secret"] = "hunter2"

    with pytest.raises(ValidationError):
        Site.model_validate(stored)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"crm": []}, "there is no crm zoho", id="no crm"),
        pytest.param({"pbx": []}, "there is no pbx main", id="no pbx"),
    ],
)
def test_a_stored_site_leads_nowhere_no_more_than_a_file(
    sealing: Sealing, change: dict[str, Any], said: str
) -> None:
    stored = read(sealing).stored.model_dump(mode="json") | change

    with pytest.raises(ValidationError, match=said):
        Site.model_validate(stored)


def test_a_key_that_sealed_a_stored_site_opens_it(sealing: Sealing) -> None:
    stored = Site.model_validate_json(read(sealing).stored.model_dump_json())

    assert BOX.open(the_asterisk_of(stored).secret) == SecretStr("from-the-environment")


# -- rules and what is around them ---------------------------------------------------------------

RULES = """\
tenants:
  - tenant: acme
    crm:
      - {name: zoho, template: zoho, credentials: {client_id: a, client_secret: b, refresh_token: c}}
    agents:
      - {extension: "101"}
    hours:
      - name: shop
        zone: Europe/London
        open: {mon-fri: ["09:00-17:30"], sat: ["10:00-12:00"]}
        holidays: ["12-25", 2026-12-31]
    rules:
      - name: main
        dids: ["442079460000"]
        crm: zoho
        credentials: {refresh_token: mine}
        field: Tier
        rows:
          - when: {of: hours.shop, operator: "!=", value: open}
            destination: voicemail:sales
          - when:
              all:
                - {of: field.Tier, value: GOLD}
                - {of: agent.101, value: free}
            destination: [manager, "extension:101"]
          - {operator: in, value: [SILVER, BRONZE], destination: "rule:vip"}
        default: extension:101
      - name: vip
        crm: zoho
        field: Rank
        rows:
          - operator: ">"
            value: 5
            destination: {split: [{percent: 60, destination: "queue:a"}, {percent: 40, destination: "queue:b"}]}
        default: queue:a
"""


def rule_faults(sealing: Sealing, old: str, new: str, *, at: str) -> tuple[list[str], int]:
    """What is said of the file with *old* replaced, and the line in it where *at* stands."""
    assert RULES.count(old) == 1, old
    text = RULES.replace(old, new)
    return faults(sealing, text), text.partition(at)[0].count("\n") + 1


def test_rules_with_all_that_they_can_say_are_read(sealing: Sealing) -> None:
    site = read(sealing, RULES)

    assert [hours.name for hours in site.hours] == ["shop"]
    assert [rule.name for rule in site.rules] == ["main", "vip"]
    assert opened(site.rules[0].credentials["refresh_token"]) == "mine"
    assert site.rules[1].rows[0].value == "5"


@pytest.mark.parametrize(
    ("old", "new", "said", "at"),
    [
        (
            "of: hours.shop",
            "of: hours.shed",
            "rules.0.rows.0: there are no hours shed",
            "- when: {of: hours.shed",
        ),
        ('"rule:vip"', '"rule:vip2"', "rules.0.rows.2: there is no rule vip2", '"rule:vip2"'),
        (
            "default: queue:a",
            "default: rule:main",
            "rules.0.rows.2: rules lead in a circle: main → vip → main",
            '"rule:vip"',
        ),
        (
            "{of: field.Tier, value: GOLD}",
            "{of: tier, value: GOLD}",
            "rules.0.rows.1.when.all.0.of: 'tier' is nothing to ask about",
            "{of: tier",
        ),
        (
            "{refresh_token: mine}",
            "{pin: mine}",
            "rules.0.credentials.pin: template zoho has no credential pin; it has: client_id, ",
            "{pin: mine}",
        ),
        (
            "percent: 60",
            "percent: 50",
            "rules.1.rows.0.destination.0: the percents add up to 90, not to 100",
            "destination: {split",
        ),
        ("- name: shop", "- name: Shop", "hours.0.name: ", "name: Shop"),
        ("09:00-17:30", "9-17", "hours.0.open.mon-fri.0: ", "9-17"),
    ],
)
def test_a_fault_of_a_rule_is_shown_at_its_row(
    sealing: Sealing, old: str, new: str, said: str, at: str
) -> None:
    found, line = rule_faults(sealing, old, new, at=at)
    assert any(fault.startswith(f"site.yaml:{line}: tenants.0.{said}") for fault in found), found


def test_a_rule_that_nothing_leads_to_is_a_fault_of_a_file(sealing: Sealing) -> None:
    found, line = rule_faults(sealing, '"rule:vip"', '"queue:vip"', at="- name: vip")
    what = "nothing leads to rule vip: say its `dids` or `ivrs`"
    assert found == [f"site.yaml:{line}: tenants.0.rules.1: {what}"]


def test_a_row_that_is_never_taken_is_a_fault_at_its_line(sealing: Sealing) -> None:
    again = '          - {operator: "=", value: silver, destination: "queue:a"}\n'
    default = "        default: extension:101\n"
    (found,), line = rule_faults(sealing, default, again + default, at=again)
    assert found.startswith(
        f"site.yaml:{line}: tenants.0.rules.0.rows.3: this row is never taken: "
    )


def test_hours_twice_are_told(sealing: Sealing) -> None:
    more = "      - {name: shop, open: {mon: []}}\n"
    (found,), line = rule_faults(sealing, "    rules:\n", f"{more}    rules:\n", at=more)
    assert found == f"site.yaml:{line}: tenants.0.hours.1: shop is there twice"
