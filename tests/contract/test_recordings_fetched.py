"""Recordings that are somewhere else: on a web server, or at the PBX's own API."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.gateway.recordings.playing import LATE
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import SECRET
from tests.contract.recordings_kit import (
    CALL,
    MINUTE,
    Heard,
    Listener,
    Web,
    a_listener,
    a_web_server,
    tone,
)
from tests.contract.yeastar_server import CLIENT_ID, a_yeastar, good, refused
from tests.contract.yeastar_server import SECRET as CLIENT_SECRET

BY_KEY = f"/v1/calls/{CALL}/recordings/1"


@asynccontextmanager
async def a_web_pbx(
    folder: Path, *recordings: str, path: str = "/monitor/{{.Recording}}", **said: Any
) -> AsyncIterator[tuple[Listener, Web]]:
    async with (
        a_web_server() as server,
        a_listener(
            folder, fetch_recordings={"kind": "http", "url": f"{server.url}{path}", **said}
        ) as listener,
    ):
        await listener.a_call(*recordings)
        yield listener, server


async def heard(listener: Listener, **headers: str) -> Heard:
    return await listener.get(BY_KEY, key=listener.api.key, **headers)


async def test_it_is_fetched_once_and_played_in_parts(tmp_path: Path) -> None:
    async with a_web_pbx(tmp_path, "2026/11/a b.wav") as (listener, server):
        server.has("/monitor/2026/11/a b.wav", tone(tmp_path))
        await listener.clock.advance(LATE)
        whole = await heard(listener)
        part = await heard(listener, Range="bytes=4-7")

    assert whole.seconds == pytest.approx(2.0)
    assert (part.status, part.body) == (206, whole.body[4:8])
    assert server.asked == ["/monitor/2026/11/a%20b.wav"]


async def test_many_listeners_are_one_fetch(tmp_path: Path) -> None:
    async with a_web_pbx(tmp_path, "a.wav") as (listener, server):
        server.has("/monitor/a.wav", tone(tmp_path))
        await listener.clock.advance(LATE)
        server.gate.clear()
        asking = [asyncio.create_task(heard(listener)) for _ in range(8)]
        await eventually(lambda: bool(server.asked))
        server.gate.set()
        found = await asyncio.gather(*asking)
    assert {one.status for one in found} == {200}
    assert len(server.asked) == 1


async def test_user_and_headers_go_with_it(tmp_path: Path) -> None:
    async with a_web_server() as server, a_listener(tmp_path) as listener:
        box = listener.api.box
        fetched = {
            "kind": "http",
            "url": f"{server.url}/get?file={{{{.File}}}}",
            "username": "rec",
            "password": box.seal(SecretStr("s3cret")),
            "headers": {"X-Api-Key": box.seal(SecretStr("key of ours"))},
        }
        await listener.api.apply(
            pbx=[{"name": "main", "kind": "generic", "fetch_recordings": fetched}]
        )
        server.has("/get", tone(tmp_path))
        await listener.a_call("/var/spool/a&b.wav")
        assert (await heard(listener)).status == 200

        login = base64.b64encode(b"rec:s3cret").decode()
        assert server.asked == ["/get?file=a%26b.wav"]
        assert server.headers[0]["Authorization"] == f"Basic {login}"
        assert server.headers[0]["X-Api-Key"] == "key of ours"


@pytest.mark.parametrize(
    "name",
    [
        "../admin",
        "a/../../admin",
        "./a.wav",
        "a//b.wav",
        "a\r\nX: y",
        "https://127.0.0.1:1/a.wav",
        "http://user:pass@{host}/a.wav",
        "ftp://{host}/a.wav",
        "file:///etc/passwd",
        "http://[/a.wav",
    ],
)
async def test_a_name_that_leads_elsewhere_is_not_asked_for(tmp_path: Path, name: str) -> None:
    async with a_web_server() as server:
        fetched = {"kind": "http", "url": f"{server.url}/monitor/{{{{.Recording}}}}"}
        async with a_listener(tmp_path, fetch_recordings=fetched) as listener:
            await listener.a_call(name.format(host=server.url.removeprefix("http://")))
            await listener.clock.advance(LATE)
            found = await heard(listener)
    assert found.status == 404
    assert server.asked == []


async def test_an_address_is_fetched_where_it_leads_to_the_server_that_is_set_up(
    tmp_path: Path,
) -> None:
    async with a_web_server() as server, a_web_server() as other:
        server.has("/else/where.wav", tone(tmp_path))
        other.has("/a.wav", tone(tmp_path))
        fetched = {"kind": "http", "url": f"{server.url}/monitor/{{{{.Recording}}}}"}
        async with a_listener(tmp_path, fetch_recordings=fetched) as listener:
            await listener.a_call(f"{server.url}/else/where.wav?x=1", f"{other.url}/a.wav")
            await listener.clock.advance(LATE)
            assert (await heard(listener)).seconds == pytest.approx(2.0)
            second = await listener.get(f"/v1/calls/{CALL}/recordings/2", key=listener.api.key)
    assert second.status == 404
    assert (server.asked, other.asked) == (["/else/where.wav?x=1"], [])


async def test_a_redirect_to_another_host_goes_without_the_credentials(tmp_path: Path) -> None:
    async with a_web_server() as server, a_web_server() as other, a_listener(tmp_path) as listener:
        other.has("/stored.wav", tone(tmp_path))

        async def moved(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{other.url}/stored.wav"})

        server.answers["/a.wav"] = moved
        fetched = {
            "kind": "http",
            "url": f"{server.url}/{{{{.Recording}}}}",
            "headers": {"X-Api-Key": listener.api.box.seal(SecretStr("key of ours"))},
        }
        await listener.api.apply(
            pbx=[{"name": "main", "kind": "generic", "fetch_recordings": fetched}]
        )
        await listener.a_call("a.wav")
        assert (await heard(listener)).seconds == pytest.approx(2.0)
    assert server.headers[0]["X-Api-Key"] == "key of ours"
    assert "X-Api-Key" not in other.headers[0]


@pytest.mark.parametrize(
    "location",
    ["http://10.1.2.3/a.wav", "http://169.254.169.254/latest", "ftp://127.0.0.1/a", "", "/a.wav"],
)
async def test_a_redirect_to_where_we_may_not_go_is_refused(tmp_path: Path, location: str) -> None:
    async with a_web_pbx(tmp_path, "a.wav", path="/{{.Recording}}") as (listener, server):

        async def moved(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": location})

        server.answers["/a.wav"] = moved
        found = await heard(listener)
    assert found.status == 502
    assert b"10.1.2.3" not in found.body


async def _cut_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "audio/wav", "Content-Length": "100000"})
    await answer.prepare(request)
    await answer.write(b"RIFF half of it")
    assert request.transport is not None
    request.transport.close()
    return answer


async def _huge(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "audio/wav"})
    await answer.prepare(request)
    for _ in range(40):
        await answer.write(bytes(100_000))
    return answer


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="<html>log in</html>", content_type="text/html")


async def _forbidden(_: web.Request) -> web.Response:
    return web.Response(status=401, text="who are you")


async def _broken(_: web.Request) -> web.Response:
    return web.Response(status=500)


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        (_cut_off, 503, "broke off"),
        (_huge, 502, "CALLMESH_GATEWAY_RECORDING_BYTES"),
        (_page, 502, "text/html"),
        (_forbidden, 502, "credentials"),
        (_broken, 503, "(500)"),
    ],
)
async def test_what_goes_wrong_there_is_told_in_the_log_and_nothing_of_it_is_played(
    tmp_path: Path, answer: Any, status: int, word: str
) -> None:
    async with a_web_pbx(tmp_path, "a.wav", path="/{{.Recording}}") as (listener, server):
        server.answers["/a.wav"] = answer
        await listener.clock.advance(LATE)
        with capture_logs() as logs:
            found = await heard(listener)
        assert found.status == status
        assert b"RIFF" not in found.body
        assert server.url.encode() not in found.body
        assert word in str(logs)
        server.has("/a.wav", tone(tmp_path))
        assert (await heard(listener)).seconds == pytest.approx(2.0)


async def test_an_upload_may_be_late_and_a_part_of_it_is_not_kept(tmp_path: Path) -> None:
    async with a_web_pbx(tmp_path, "a.wav", path="/{{.Recording}}") as (listener, server):
        assert (await heard(listener)).status == 503
        server.has("/a.wav", tone(tmp_path)[:8000])
        half = await heard(listener)
        server.has("/a.wav", tone(tmp_path))
        await listener.clock.advance(MINUTE)
        whole = await heard(listener)
        await listener.clock.advance(LATE)
        asked = len(server.asked)
        for _ in range(2):
            await heard(listener)

    assert len(half.body) == 8000
    assert whole.seconds == pytest.approx(2.0)
    assert len(server.asked) == asked + 1


async def test_a_yeastar_gives_its_recordings_by_its_api(tmp_path: Path) -> None:
    name = "20220427190445-1651057476.362-2005-2002-Internal.wav"
    async with a_yeastar() as pbx, a_listener(tmp_path) as listener:
        sealed = listener.api.box.seal(SecretStr(CLIENT_SECRET))
        await listener.api.apply(
            pbx=[
                {
                    "name": "main",
                    "kind": "yeastar",
                    "url": pbx.url,
                    "client_id": CLIENT_ID,
                    "client_secret": sealed,
                }
            ]
        )
        pbx.answers["recording/download"] = lambda _, query: (
            good(file=name, download_resource_url="/api/download/Recording-X.7.wav")
            if query == {"file": name}
            else refused(40001, "NOT FOUND")
        )
        pbx.answers["/api/download/Recording-X.7.wav"] = lambda request, _: web.Response(
            body=tone(tmp_path), content_type="application/octet-stream"
        )
        await listener.a_call(name, "unknown.wav", "../x.wav")
        await listener.clock.advance(LATE)
        first = await heard(listener)
        others = [
            await listener.get(f"/v1/calls/{CALL}/recordings/{number}", key=listener.api.key)
            for number in (2, 3)
        ]

    assert first.seconds == pytest.approx(2.0)
    assert first.headers["Content-Type"] == "audio/wav"
    assert [one.status for one in others] == [404, 404]
    assert ("recording/download", {"file": "../x.wav"}, None) not in pbx.asked


@pytest.mark.parametrize("place", ["//evil.example/a.wav", "/api/../../a", "https://x/a.wav", ""])
async def test_a_yeastar_is_not_followed_elsewhere(tmp_path: Path, place: str) -> None:
    async with a_yeastar() as pbx, a_listener(tmp_path) as listener:
        sealed = listener.api.box.seal(SecretStr(CLIENT_SECRET))
        connection = {
            "name": "main",
            "kind": "yeastar",
            "url": pbx.url,
            "client_id": CLIENT_ID,
            "client_secret": sealed,
        }
        await listener.api.apply(pbx=[connection])
        pbx.answers["recording/download"] = lambda *_: good(download_resource_url=place)
        await listener.a_call("a.wav")
        assert (await heard(listener)).status == 502
    assert set(pbx.paths()) <= {"get_token", "recording/download"}


async def test_a_wazo_gives_its_recordings_by_the_address_it_tells(tmp_path: Path) -> None:
    media = "/api/call-logd/1.0/cdr/17/recordings/4f6c-01/media"
    async with a_web_server() as server, a_listener(tmp_path) as listener:
        tokens: list[str] = []

        async def token(_: web.Request) -> web.Response:
            tokens.append(f"t{len(tokens)}")
            return web.json_response({"data": {"token": tokens[-1]}})

        async def sound(request: web.Request) -> web.Response:
            if request.headers.get("X-Auth-Token") != "t1":
                return web.Response(status=401)
            return web.Response(body=tone(tmp_path), content_type="audio/wav")

        server.answers = {"/api/auth/0.1/token": token, media: sound}
        await listener.api.apply(
            pbx=[
                {
                    "name": "main",
                    "kind": "wazo",
                    "url": server.url,
                    "username": "callmesh",
                    "password": listener.api.box.seal(SecretStr(SECRET)),
                }
            ]
        )
        await listener.a_call(
            server.url + media, "https://127.0.0.1:1" + media, server.url + "/api/confd/1.1/users"
        )
        await listener.clock.advance(LATE)
        # The first token is not taken any more: one more is got, and not a third.
        assert (await heard(listener)).seconds == pytest.approx(2.0)
        for number in (2, 3):
            path = f"/v1/calls/{CALL}/recordings/{number}"
            assert (await listener.get(path, key=listener.api.key)).status == 404
        assert tokens == ["t0", "t1"]
        assert server.asked.count("/api/confd/1.1/users") == 0


async def test_a_uis_recording_is_fetched_from_the_account_s_host_alone(tmp_path: Path) -> None:
    path = "/system/media/talk/237859081/b0e2f1/"
    async with a_web_server() as server, a_listener(tmp_path) as listener:
        server.has(path, b"ID3\x04 sound", "audio/mpeg")
        sealed = listener.api.box.seal(SecretStr(SECRET))
        await listener.api.apply(
            pbx=[
                {
                    "name": "main",
                    "kind": "uis",
                    "access_token": sealed,
                    "virtual_number": "74950000000",
                    "recordings": server.url,
                }
            ]
        )
        await listener.a_call(server.url + path, "https://elsewhere.example" + path)
        await listener.clock.advance(LATE)
        found = await heard(listener)
        assert (found.status, found.headers["Content-Type"]) == (200, "audio/mpeg")
        second = await listener.get(f"/v1/calls/{CALL}/recordings/2", key=listener.api.key)
        assert second.status == 404
        assert "Authorization" not in server.headers[0]


async def test_the_password_of_a_web_server_is_not_shown_and_not_sent_to_another(
    tmp_path: Path,
) -> None:
    async with a_listener(tmp_path) as listener:
        said = {
            "kind": "http",
            "url": "https://rec.example/{{.File}}",
            "username": "rec",
            "password": "s3cret",
            "headers": {"X-Api-Key": "key of ours"},
        }
        put = ("PUT", "/v1/pbx/main")
        status, shown = await listener.api.send(
            *put, json={"kind": "generic", "fetch_recordings": said}
        )
        assert status == 200
        kept = shown["settings"]["fetch_recordings"]
        assert (kept["password"], kept["headers"]) == ("********", {"X-Api-Key": "********"})
        # As it was shown it comes back, and stays.
        status, _ = await listener.api.send(
            *put, json={"kind": "generic", "fetch_recordings": kept}
        )
        assert status == 200
        site = listener.api.site.site("acme")
        assert site is not None
        stored = site.pbx[0].fetch_recordings
        assert stored is not None
        assert stored.kind == "http"
        assert stored.password is not None
        assert listener.api.box.open(stored.password).get_secret_value() == "s3cret"
        moved = {**kept, "url": "https://evil.example/{{.File}}"}
        status, problem = await listener.api.send(
            *put, json={"kind": "generic", "fetch_recordings": moved}
        )
        assert status == 422
        assert "fetch_recordings.url: is another" in problem["detail"]
        sealed = {**said, "password": stored.password, "url": moved["url"]}
        status, _ = await listener.api.send(
            *put, json={"kind": "generic", "fetch_recordings": sealed}
        )
        assert status == 422
