from __future__ import annotations

import pytest

from shared.errors import BadSetting
from shared.runtime.settings import MeshSettings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", None),
        ("https://mesh.example", "https://mesh.example"),
        ("https://mesh.example/", "https://mesh.example"),
        ("http://10.0.0.7:8080/callmesh/", "http://10.0.0.7:8080/callmesh"),
    ],
)
def test_the_public_address_is_read_without_its_last_slash(
    monkeypatch: pytest.MonkeyPatch, given: str, read: str | None
) -> None:
    monkeypatch.setenv("CALLMESH_PUBLIC_URL", given)
    assert MeshSettings.read().public_url == read


@pytest.mark.parametrize(
    "given",
    [
        "mesh.example",
        "ftp://mesh.example",
        "https://",
        "https://[",
        "https://a:b@mesh.example",
        "https://mesh.example?x=1",
        "https://mesh.example/#top",
    ],
)
def test_what_is_no_address_stops_the_start(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CALLMESH_PUBLIC_URL", given)
    with pytest.raises(BadSetting, match="CALLMESH_PUBLIC_URL: "):
        MeshSettings.read()
