"""PBX connections of a site file → what can be done with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.clock import ManualClock, SystemClock
from shared.contracts.agents import AgentStatus
from shared.errors import BadSetting, Forbidden
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.adapter import AsteriskSettings
from shared.pbx.freeswitch.adapter import FreeSwitchSettings
from shared.pbx.generic.adapter import GenericSettings
from shared.pbx.pbxware.adapter import PbxwareSettings
from shared.pbx.port import PbxAdapter, Phones
from shared.pbx.threecx.adapter import ThreeCxSettings
from shared.pbx.uis.adapter import UisSettings
from shared.pbx.wazo.adapter import WazoSettings
from shared.pbx.yeastar.adapter import YeastarSettings
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters, check_sender, phones_of
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.models import Site
from shared.site.parts import Sealing
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore

SECRET = "only the two of us know"
PRINT = "AB:" * 31 + "AB"
BOX = SecretBox([new_key()])

ASTERISK = {
    "kind": "asterisk",
    "host": "pbx.example",
    "username": "u",
    "secret": SECRET,
    "trunks": ["trunk"],
}
FREESWITCH = {"kind": "freeswitch", "host": "pbx.example", "password": SECRET, "trunks": ["gw"]}
YEASTAR = {
    "kind": "yeastar",
    "url": "https://pbx.example:8088/",
    "client_id": "c",
    "client_secret": SECRET,
}
THREECX = {
    "kind": "threecx",
    "url": "https://pbx.example",
    "client_id": "c",
    "client_secret": SECRET,
}
WAZO = {"kind": "wazo", "url": "https://pbx.example", "username": "u", "password": SECRET}
UIS = {"kind": "uis", "access_token": SECRET, "virtual_number": "74993720692"}
KINDS: dict[str, tuple[Mapping[str, Any], type[object], set[str]]] = {
    "asterisk": (ASTERISK, AsteriskSettings, {"source", "reader", "switchboard"}),
    "freeswitch": (
        FREESWITCH,
        FreeSwitchSettings,
        {"source", "reader", "hooks", "switchboard", "route"},
    ),
    "yeastar": (YEASTAR, YeastarSettings, {"source", "reader", "switchboard", "route"}),
    "yeastar by hooks": (
        {**YEASTAR, "events": "webhook", "webhook_secret": SECRET},
        YeastarSettings,
        {"hooks", "switchboard", "route"},
    ),
    "threecx": (THREECX, ThreeCxSettings, {"source", "reader", "switchboard"}),
    "wazo": (WAZO, WazoSettings, {"source", "reader", "switchboard"}),
    "uis": (UIS, UisSettings, {"hooks", "reporter", "switchboard", "route"}),
    "generic": ({"kind": "generic", "signing_secret": SECRET}, GenericSettings, {"hooks"}),
    "pbxware": ({"kind": "pbxware", "crm": "shop"}, PbxwareSettings, set()),
}


def the_site(*pbx: Mapping[str, Any], box: SecretBox = BOX, **more: Any) -> Site:
    """As ``callmesh apply`` stores it; JSON is YAML."""
    named = [{"name": f"p{n}"} | dict(one) for n, one in enumerate(pbx)]
    tenant = {"tenant": "acme", "zone": "Europe/Berlin", "pbx": named} | more
    text = json.dumps({"version": 1, "tenants": [tenant]})
    (site,) = read_site_file(text, source="test", sealing=Sealing(box, {}, Path()))
    return Site.model_validate_json(site.stored.model_dump_json())


@pytest.fixture
def adapters() -> Adapters:
    return made()


def made(*, box: SecretBox = BOX, allow: str = "") -> Adapters:
    http = HttpClient(AddressGuard(networks(allow, setting="X")))
    return Adapters(secrets=box, http=http, clock=SystemClock(), metrics=Metrics())


def can(adapter: PbxAdapter) -> set[str]:
    names = ("source", "reader", "hooks", "reporter", "switchboard", "route")
    return {name for name in names if getattr(adapter, name) is not None}


@pytest.mark.parametrize("name", KINDS)
def test_an_entry_becomes_an_adapter_of_its_kind(adapters: Adapters, name: str) -> None:
    entry, kind, expected = KINDS[name]
    crm: dict[str, Any] = {"crm": [CRM_ENTRY]} if entry["kind"] == "pbxware" else {}
    site = the_site(entry, **crm)
    settings = adapters.settings(site, site.pbx[0])

    assert type(settings) is kind
    assert can(adapters.of(site, site.pbx[0])) == expected
    assert SECRET not in repr(settings)
    assert SECRET not in repr(site)
    assert SECRET not in site.model_dump_json()


CRM_ENTRY = {
    "name": "shop",
    "template": "zoho",
    "parameters": {"data_centre": "eu", "organisation": "1"},
    "credentials": {"client_id": "a", "client_secret": "b", "refresh_token": "c"},
}


@pytest.mark.parametrize("name", ["asterisk", "freeswitch", "yeastar", "wazo", "uis"])
def test_what_the_site_calls_a_status_is_known_to_its_adapter(
    adapters: Adapters, name: str
) -> None:
    """And a change of it makes another adapter."""
    plain = the_site(KINDS[name][0])
    named = the_site({**KINDS[name][0], "statuses": {"dinner": "On Break", "busy": "break"}})
    found: list[Any] = [adapters.settings(site, site.pbx[0]) for site in (plain, named)]
    before, after = found

    assert not before.statuses
    assert after.statuses == {AgentStatus.DINNER: "On Break", AgentStatus.BUSY: "break"}
    assert before != after


@pytest.mark.parametrize("name", [name for name in KINDS if name != "pbxware"])
def test_its_secrets_are_open_in_it(adapters: Adapters, name: str) -> None:
    site = the_site(KINDS[name][0])
    settings = adapters.settings(site, site.pbx[0])
    secrets = ("secret", "password", "client_secret", "access_token", "signing_secret")
    found = [getattr(settings, field) for field in secrets if getattr(settings, field, None)]
    assert [secret.get_secret_value() for secret in found] == [SECRET]


def test_what_an_administrator_says_arrives(adapters: Adapters) -> None:
    """What is left out has the default that the reference promises."""
    site = the_site(
        {**ASTERISK, "port": 5039, "tls": True, "fingerprint": PRINT, "technology": "SIP"},
        {**FREESWITCH, "username": "u@d", "domain": "d"},
        {**YEASTAR, "queues": ["6500"], "auto_answer": True, "fingerprint": PRINT},
        {**YEASTAR, "zone": "Asia/Dubai"},
        {
            **UIS,
            "data_token": "other",
            "statuses": {"break": "pause"},
            "branches": {"queue:support": 2},
            "default_branch": 9,
        },
        {**WAZO, "tenant_uuid": "t", "context": "out", "fingerprint": PRINT},
    )
    settings: list[Any] = [adapters.settings(site, pbx) for pbx in site.pbx]
    asterisk, freeswitch, yeastar, abroad, uis, wazo = settings

    assert (asterisk.port, asterisk.tls, asterisk.technology) == (5039, True, "SIP")
    assert asterisk.outbound_context == "outbound"
    assert {s.fingerprint for s in (asterisk, yeastar, wazo)} == {b"\xab" * 32}
    assert (freeswitch.port, freeswitch.username, freeswitch.domain) == (8021, "u@d", "d")
    assert (yeastar.url, yeastar.zone) == ("https://pbx.example:8088", "Europe/Berlin")
    assert (yeastar.queues, yeastar.auto_answer) == (frozenset({"6500"}), True)
    assert abroad.zone == "Asia/Dubai"
    assert (uis.data_token.get_secret_value(), uis.default_branch) == ("other", 9)
    assert (uis.statuses, uis.branches) == ({AgentStatus.BREAK: "pause"}, {"queue:support": 2})
    assert (uis.zone, uis.call_api) == ("Europe/Moscow", "https://callapi.uiscom.ru/v4.0")
    assert (wazo.tenant_uuid, wazo.context) == ("t", "out")


@pytest.mark.parametrize(
    "text",
    [
        PRINT,
        PRINT.lower().replace(":", ""),
        f"sha256 Fingerprint={PRINT}",
        f"SHA256 Fingerprint = {PRINT}",
    ],
)
def test_a_fingerprint_is_taken_as_openssl_and_browsers_show_it(
    adapters: Adapters, text: str
) -> None:
    site = the_site({**ASTERISK, "fingerprint": text})
    settings = adapters.settings(site, site.pbx[0])
    assert isinstance(settings, AsteriskSettings)
    assert settings.fingerprint == b"\xab" * 32


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({**YEASTAR, "url": "http://pbx.example"}, "url"),
        ({**THREECX, "url": "http://pbx.example"}, "url"),
        ({**WAZO, "url": "http://10.0.0.7"}, "url"),
        ({**UIS, "call_api": "http://pbx.example"}, "call_api"),
        ({**UIS, "data_api": "http://pbx.example"}, "data_api"),
    ],
)
async def test_credentials_do_not_go_out_in_clear(entry: Mapping[str, Any], field: str) -> None:
    site = the_site(entry)
    with pytest.raises(BadSetting, match=f"{field}: http sends the credentials in clear"):
        made().of(site, site.pbx[0])
    (found,) = [one async for one in made().check(site, site.pbx[0])]
    assert found.what == "settings"
    assert "CALLMESH_NET_ALLOW" in str(found.fault)


def test_but_where_the_operator_says_so_they_do() -> None:
    site = the_site({**WAZO, "url": "http://10.0.0.7"})
    assert made(allow="10.0.0.0/8").of(site, site.pbx[0]).source is not None


def test_an_adapter_is_kept_while_the_connection_stays_as_it_is(adapters: Adapters) -> None:
    def of(**changes: Any) -> PbxAdapter:
        site = the_site({**WAZO, **changes})  # each time read and sealed anew
        return adapters.of(site, site.pbx[0])

    first = of()
    assert of() is first
    assert of(ring_agent="40s") is first, "that is no matter of the connection"
    changed = of(password="another")
    assert changed is not first
    assert of(password="another") is changed


def test_a_pbx_s_clock_without_a_zone_of_its_own_follows_the_tenant_s(adapters: Adapters) -> None:
    def zone(of_tenant: str) -> str:
        settings = adapters.settings(site := the_site(YEASTAR, zone=of_tenant), site.pbx[0])
        assert isinstance(settings, YeastarSettings)
        return settings.zone

    assert [zone("Europe/Berlin"), zone("Asia/Dubai")] == ["Europe/Berlin", "Asia/Dubai"]


def test_connections_of_one_name_at_two_tenants_are_two(adapters: Adapters) -> None:
    ours, theirs = the_site(WAZO), the_site(WAZO, tenant="globex")
    assert adapters.of(ours, ours.pbx[0]) is not adapters.of(theirs, theirs.pbx[0])


async def book_of(db: SqliteFile, *sites: Site) -> SiteBook:
    clock = ManualClock()
    stored = SqliteStore(db, clock).collection(SITES)
    for site in sites:
        await stored.put(
            SiteDocument(
                key=site.tenant,
                tenant=site.tenant,
                site=site,
                changed_at=clock.now(),
                changed_by="test",
            )
        )
    book = SiteBook(stored, clock, poll=timedelta(seconds=1))
    await book.refresh()
    return book


@pytest.fixture
async def db() -> AsyncIterator[SqliteFile]:
    found = SqliteFile(None)
    await found.open()
    yield found
    await found.close()


async def test_one_that_cannot_be_used_is_told_and_does_not_stop_the_others(
    adapters: Adapters, db: SqliteFile
) -> None:
    sealed_elsewhere = the_site(WAZO, box=SecretBox([new_key()]), tenant="globex")
    plain = the_site({**WAZO, "url": "http://pbx.example"}, tenant="initech")
    # As an earlier version may have stored it.
    yeastar = the_site(YEASTAR, tenant="umbrella")
    broken = yeastar.pbx[0].model_copy(update={"zone": "Nowhere/City"})
    zoneless = yeastar.model_copy(update={"pbx": (broken,)})
    book = await book_of(db, the_site(ASTERISK), sealed_elsewhere, plain)
    book._current = {**book.current, "umbrella": zoneless}
    with capture_logs() as logs:
        wanted = adapters.wanted(book)

    assert set(wanted) == {("acme", "p0")}
    assert {(line["event"], line["tenant"]) for line in logs} == {
        ("pbx_not_usable", "globex"),
        ("pbx_not_usable", "initech"),
        ("pbx_not_usable", "umbrella"),
    }
    assert SECRET not in str(logs)
    for (tenant, pbx), settings in wanted.items():
        adapters.make(tenant, pbx, settings)


async def test_what_was_removed_is_not_wanted(adapters: Adapters, db: SqliteFile) -> None:
    book = await book_of(db, the_site(ASTERISK, WAZO))
    assert set(adapters.wanted(book)) == {("acme", "p0"), ("acme", "p1")}
    book = await book_of(db, the_site(ASTERISK))
    assert set(adapters.wanted(book)) == {("acme", "p0")}


def test_the_phones_of_a_pbx_are_those_that_no_other_has() -> None:
    site = the_site(
        ASTERISK,
        UIS,
        agents=[
            {"extension": "101", "pbx": "p0"},
            {"extension": "102", "pbx": "p1", "pbx_user": "u102"},
            {"extension": "103", "pbx_user": "u103"},
        ],
    )
    asterisk, uis = (phones_of(site, pbx) for pbx in site.pbx)
    assert asterisk == Phones(
        trunks=frozenset({"trunk"}),
        extensions=frozenset({"101", "103"}),
        users={"u103": "103"},
    )
    assert uis.trunks == frozenset()
    assert uis.users == {"u102": "102", "u103": "103"}
    assert (uis.user_at("102"), uis.user_at("101")) == ("u102", None)


def test_who_may_send_is_who_is_listed_or_everybody() -> None:
    site = the_site(
        {"kind": "generic"}, {"kind": "generic", "senders": ["192.0.2.0/24", "2001:db8::/32"]}
    )
    anybody, listed = site.pbx
    check_sender(anybody, "203.0.113.9")
    for peer in ("192.0.2.9", "::ffff:192.0.2.9", "2001:db8::7"):
        check_sender(listed, peer)
    for peer in ("203.0.113.9", "2001:db9::7", "::1"):
        with pytest.raises(Forbidden, match="`senders` of PBX p1"):
            check_sender(listed, peer)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**YEASTAR, "zone": "Nowhere/City"}, "no time zone"),
        ({**UIS, "zone": "/etc/passwd"}, "no time zone"),
        ({**ASTERISK, "secret": " "}, "the secret is empty"),
        ({"kind": "generic", "signing_secret": ""}, "the secret is empty"),
        ({**WAZO, "url": "https://u:p@pbx.example"}, "no user"),
        ({**WAZO, "url": "pbx.example"}, "an address is needed"),
        ({**ASTERISK, "fingerprint": "AB:CD"}, "64 hexadecimal digits"),
    ],
)
def test_what_could_not_work_is_refused_when_it_is_applied(
    entry: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(BadSetting, match=words):
        the_site(entry)
