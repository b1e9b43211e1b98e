"""Which address of its recording an entry has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.ingest.store import REPORT_WAITS
from services.journal.recordings import address_in_entry, may_be_told_in
from shared.contracts.calls import CallRecord, Direction, Disposition
from shared.recordings.links import PURPOSE, RecordingLinks, mark_of
from shared.secrets import SecretBox, new_key
from shared.site.models import Site
from shared.site.pbx import UisPbx
from shared.testing.builders import NOON

BOX = SecretBox([new_key()])
LINKS = RecordingLinks(BOX.signing_keys(PURPOSE), public_url="https://mesh.example")
BARE = RecordingLinks(BOX.signing_keys(PURPOSE), public_url=None)
FILE = "/var/spool/asterisk/monitor/1.wav"
FILES = {"kind": "files", "folder": "/var/spool/asterisk/monitor"}
HTTP = {"kind": "http", "url": "https://pbx.example/{{.File}}"}


def address(
    *recordings: str,
    links: RecordingLinks | None = LINKS,
    fetched: dict[str, str] | None = None,
    pbx: str = "main",
    disposition: Disposition = Disposition.ANSWERED,
    **policy: Any,
) -> str | None:
    record = CallRecord(
        call_id="c1",
        pbx=pbx,
        direction=Direction.INBOUND,
        started_at=NOON,
        ended_at=NOON + timedelta(minutes=3),
        disposition=disposition,
        recordings=recordings,
    )
    site = Site.model_validate(
        {
            "tenant": "acme",
            "pbx": [{"name": "main", "kind": "generic", "fetch_recordings": fetched}],
            "crm": [{"name": "zoho", "template": "zoho", "journal": policy}],
        }
    )
    return address_in_entry(record, site, site.crm[0], links, disposition=record.disposition)


def test_what_can_be_fetched_has_a_link_that_lasts_as_the_policy_says() -> None:
    made = address(FILE, fetched=FILES, recording_links_last="2h")
    assert made is not None
    token = made.removeprefix("https://mesh.example/recordings/")
    found = LINKS.read(token, now=NOON + timedelta(hours=2))
    assert (found.tenant, found.call_id, found.mark) == ("acme", "c1", mark_of(FILE))
    with pytest.raises(Exception, match="has ended"):
        LINKS.read(token, now=NOON + timedelta(hours=3))
    assert address(FILE, fetched=FILES, recording_links_last="2h") == made


@pytest.mark.parametrize(
    "without",
    [
        {"fetched": None},
        {"links": None, "fetched": FILES},
        {"links": BARE, "fetched": FILES},
        {"pbx": "gone", "fetched": FILES},
    ],
)
def test_else_there_is_none(without: dict[str, Any]) -> None:
    assert address(FILE, **without) is None


@pytest.mark.parametrize("elsewhere", ["https://other.example/a.wav", "/etc/passwd", "../a.wav"])
def test_what_cannot_be_fetched_has_no_dead_link(elsewhere: str) -> None:
    on_the_web = elsewhere if "://" in elsewhere else None
    assert address(elsewhere, fetched=FILES) == on_the_web
    if on_the_web:
        assert address(elsewhere, fetched=HTTP) == elsewhere


def test_the_connection_s_own_text_comes_first() -> None:
    text = "https://rec.example/{{.CallId}}?f={{.Recording}}"
    assert address("a.wav", fetched=FILES, recording=text) == "https://rec.example/c1?f=a.wav"
    assert address("a.wav", recording="{{if false}}x{{end}}") is None


def test_an_own_text_that_cannot_be_made_is_not_replaced_by_a_link_for_everybody() -> None:
    assert address("a.wav", fetched=FILES, recording="{{.Recording | number}}") is None


@pytest.mark.parametrize(
    "name",
    [
        "javascript:alert(1)",
        " JavaScript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,<script>",
        "file:///etc/passwd",
        "ftp://pbx.example/a.wav",
    ],
)
def test_what_a_browser_would_run_or_open_elsewhere_is_no_address(name: str) -> None:
    assert address(name) is None


def test_an_address_of_the_web_is_told_as_it_is() -> None:
    assert address("HTTPS://pbx.example/a.wav") == "HTTPS://pbx.example/a.wav"


@pytest.mark.parametrize("name", ["/var/spool/a.wav", "C:\\rec\\a.wav", "a b.wav", "7.0"])
def test_a_file_that_nobody_can_play_is_no_address(name: str) -> None:
    assert address(name) is None


def test_there_is_none_where_nothing_shall_or_can_be_heard() -> None:
    assert address(fetched=FILES) is None
    assert address(FILE, fetched=FILES, play_recordings=False) is None
    for silent in (Disposition.MISSED, Disposition.BUSY, Disposition.FAILED):
        assert address(FILE, fetched=FILES, disposition=silent) is None
    assert address(FILE, fetched=FILES, disposition=Disposition.VOICEMAIL) is not None


# -- how long it may be on its way ---------------------------------------------------------------


UIS = {"kind": "uis", "access_token": "sealed:x", "virtual_number": "74993720692"}


def may_come_in(
    pbx: dict[str, str], *recordings: str, disposition: Disposition, **policy: Any
) -> timedelta:
    record = CallRecord(
        call_id="c1",
        pbx="main",
        started_at=NOON,
        ended_at=NOON + timedelta(minutes=3),
        disposition=disposition,
        recordings=recordings,
    )
    site = Site.model_validate(
        {
            "tenant": "acme",
            "pbx": [{"name": "main", **pbx}],
            "crm": [{"name": "zoho", "template": "zoho", "journal": policy}],
        }
    )
    return may_be_told_in(record, site, site.crm[0])


def test_a_pbx_that_tells_by_a_report_may_tell_it_for_three_questions() -> None:
    assert may_come_in(UIS, disposition=Disposition.ANSWERED) == UisPbx.tells_late
    asked_for = sum(REPORT_WAITS[:3], timedelta(0))
    assert asked_for + timedelta(seconds=5) < UisPbx.tells_late


@pytest.mark.parametrize(
    ("pbx", "recordings", "more"),
    [
        ({"kind": "generic"}, (), {}),
        (UIS, ("https://pbx.example/1.wav",), {}),
        (UIS, (), {"disposition": Disposition.MISSED}),
        (UIS, (), {"play_recordings": False}),
    ],
)
def test_what_is_told_or_never_will_be_is_not_on_its_way(
    pbx: dict[str, str], recordings: tuple[str, ...], more: dict[str, Any]
) -> None:
    said = {"disposition": Disposition.ANSWERED, **more}
    assert may_come_in(pbx, *recordings, **said) == timedelta(0)
