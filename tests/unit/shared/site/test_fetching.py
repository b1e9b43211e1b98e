"""How a site says where recordings are, and which names lead there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.errors import BadSetting
from shared.secrets import SecretBox, new_key
from shared.site.fetching import FetchRecordings, HttpOfPbx
from shared.site.file import read_site_file
from shared.site.parts import Sealing, Typed
from shared.site.pbx import Pbx
from shared.site.recordings import address_of, can_fetch

PBX: TypeAdapter[Pbx] = TypeAdapter(Pbx)
FETCH: TypeAdapter[FetchRecordings] = TypeAdapter(FetchRecordings)
BOX = SecretBox([new_key()])
TYPED = Typed(BOX, {})
YEASTAR = {"kind": "yeastar", "url": "https://y.example", "client_id": "a", "client_secret": "b"}
WAZO = {"kind": "wazo", "url": "https://w.example", "username": "a", "password": "b"}
UIS = {"kind": "uis", "access_token": "a", "virtual_number": "74950000000"}
THREECX = {"kind": "threecx", "url": "https://x.example", "client_id": "a", "client_secret": "b"}
MEDIA = "/api/call-logd/1.0/cdr/17/recordings/4f6c-01/media"


def by_http(url: str) -> HttpOfPbx:
    return HttpOfPbx(kind="http", url=url)


@pytest.mark.parametrize(
    ("pbx", "recording", "can"),
    [
        (YEASTAR, "2022-1651.362-2005-2002-Internal.wav", True),
        (YEASTAR, "../a.wav", False),
        (YEASTAR, "https://other.example/a.wav", False),
        (WAZO, f"https://w.example{MEDIA}", True),
        (WAZO, f"https://w.example.evil.example{MEDIA}", False),
        (WAZO, f"https://w.example{MEDIA}/../../x", False),
        (WAZO, "file.wav", False),
        (UIS, "https://app.uiscom.ru/system/media/talk/1/b0/", False),
        (THREECX, "17", False),
        ({**THREECX, "fetch_recordings": {"kind": "files", "folder": "/rec"}}, "17.wav", True),
        ({**YEASTAR, "fetch_recordings": {"kind": "files", "folder": "/rec"}}, "/a.wav", False),
    ],
)
def test_what_can_be_fetched(pbx: dict[str, Any], recording: str, *, can: bool) -> None:
    assert can_fetch(PBX.validate_python({"name": "main", **pbx}, context=TYPED), recording) is can


@pytest.mark.parametrize(
    ("url", "recording", "address"),
    [
        ("https://p.example/m/{{.Recording}}", "a.wav", "https://p.example/m/a.wav"),
        ("https://p.example/m/{{.Recording}}", "/x/y/a b.wav", "https://p.example/m/x/y/a%20b.wav"),
        ("https://p.example/m/{{.File}}", "/x/y/a#1?.wav", "https://p.example/m/a%231%3F.wav"),
        (
            "https://p.example/?f={{.File}}&x=1",
            "a&b=c.wav",
            "https://p.example/?f=a%26b%3Dc.wav&x=1",
        ),
        ("https://p.example/{{.File}}", "https://p.example/q?id=1", "https://p.example/q?id=1"),
        ("https://p.example/{{.File}}", "https://p.example:444/q", None),
        ("https://p.example/{{.File}}", "http://p.example/q", None),
        ("https://p.example/{{.File}}", "https://u:p@p.example/q", None),
        ("https://p.example/{{.File}}", "..", None),
        ("https://p.example/{{.File}}", "", None),
    ],
)
def test_the_address_of_a_recording(url: str, recording: str, address: str | None) -> None:
    found = address_of(recording, by_http(url))
    assert (str(found) if found is not None else None) == address


@given(recording=st.text(max_size=60))
def test_no_name_changes_the_host_or_leaves_the_folder(recording: str) -> None:
    found = address_of(recording, by_http("https://p.example/m/{{.Recording}}"))
    assert (
        found is None
        or "://" in recording
        or (
            found.host == "p.example"
            and found.raw_path.startswith("/m/")
            and ".." not in found.parts
        )
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "files", "folder": "monitor"}, "a folder in full is needed"),
        ({"kind": "files", "folder": "/"}, "a folder in full is needed"),
        ({"kind": "files", "folder": "/rec/../etc"}, "a folder in full is needed"),
        ({"kind": "http", "url": "https://p.example/a.wav"}, "the same for all recordings"),
        ({"kind": "http", "url": "https://{{.File}}/a.wav"}, "would change the host"),
        ({"kind": "http", "url": "ftp://p.example/{{.File}}"}, "an address is needed"),
        ({"kind": "http", "url": "https://u:p@p.example/{{.File}}"}, "an address is needed"),
        ({"kind": "http", "url": "https://p.example/{{.Name}}"}, "no variable .Name"),
        (
            {"kind": "http", "url": "https://p.example/{{.File}}", "username": "a"},
            "belong together",
        ),
        (
            {"kind": "http", "url": "https://p.example/{{.File}}", "headers": {"Host": "x"}},
            "not for you to say",
        ),
        ({"kind": "ftp", "url": "ftp://p.example"}, "files"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FETCH.validate_python(said)


def test_a_fault_in_a_site_file_is_shown_at_its_line() -> None:
    text = """\
version: 1
tenants:
  - tenant: acme
    pbx:
      - name: door
        kind: generic
        fetch_recordings:
          kind: http
          url: https://pbx.example/a.wav
"""
    with pytest.raises(BadSetting) as caught:
        read_site_file(text, source="site.yaml", sealing=Sealing(BOX, {}, Path()))
    assert caught.value.message.startswith(
        "site.yaml:9: tenants.0.pbx.0.fetch_recordings.url: it is the same for all recordings"
    )
