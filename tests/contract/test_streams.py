"""Live streams as server-sent events: what comes, where it goes on, who hears what, who is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from services.gateway.screens.desk import ScreenDesk
from services.gateway.screens.following import BEHIND, Wants
from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusSettled, Side
from shared.contracts.contacts import ContactUnknown
from shared.contracts.screens import PopSeen, Seen
from shared.errors import Unavailable
from shared.http.auth import Scope
from shared.http.following import KEEP_ALIVE
from shared.moments import to_ms
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi
from tests.contract.office_kit import ALL, CALL, JANE, MINE, NOBODY, OTHER, PAGE, Office, office_at
from tests.contract.streams_kit import Event, Page, Phones, without_doubles


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with office_at(tmp_path) as found:
        yield found


# -- what comes ---------------------------------------------------------------------------------


async def test_a_call_comes_event_by_event_each_with_an_id_of_its_own(office: Office) -> None:
    async with office.listen() as heard:
        await office.rings()
        await heard.has(lambda event: event["kind"] == "pop")
        await office.jane.answers(CALL)
        await heard.until("answered")
        await office.jane.ends(CALL)
        await heard.until("closed")

    assert [kind for kind in heard.kinds if kind != "contact"] == [
        *("ringing", "pop", "answered", "closed"),
    ]
    assert len({event["id"] for event in heard.events}) == len(heard.events)
    for frame, event in zip(heard.frames, heard.events, strict=True):
        assert (frame["id"], frame["event"]) == (event["position"], event["kind"])
        assert event["position"].startswith(f"{event['id']}-at-")
    (pop,) = heard.of("pop")
    assert (pop["page_url"], pop["opens"], pop["direction"]) == (PAGE, "automatic", "inbound")
    assert pop["contact"]["display_name"] == "Jane Doe"


async def test_for_a_stranger_the_page_of_a_new_contact_is_told(office: Office) -> None:
    async with office.listen() as heard:
        await office.nobody.starts(CALL)
        await office.nobody.rings(CALL)
        pop = await heard.has(lambda event: event["kind"] == "pop")
    assert pop["contact_known"] is False
    assert pop["create_url"] == "https://crm.example/new?phone=%2B447700900999"
    assert "page_url" not in pop


async def test_where_that_page_cannot_be_had_the_pop_comes_all_the_same(office: Office) -> None:
    """The template is gone, and the connection's credentials could not be opened either."""
    api = office.api
    connection = {"name": "gone", "template": "none-of-that-name"}
    async with office.listen() as heard:
        await office.nobody.starts(CALL)
        await api.apply(connection, agents=[{"extension": "101"}])
        unknown = ContactUnknown(call_id=OTHER, number=NOBODY)
        await api.publisher("lookup").publish(unknown, tenant="acme")
        await office.nobody.rings(OTHER)
        pop = await heard.has(lambda event: event["kind"] == "pop")
    assert (pop["call_id"], pop["contact_known"]) == (OTHER, False)
    assert "create_url" not in pop


async def test_who_connects_in_the_middle_is_shown_what_there_is(office: Office) -> None:
    async with office.listen() as early:
        await office.rings()
        await office.jane.answers(CALL)
        await early.has(lambda event: event["kind"] == "answered")
        await early.has(lambda event: event["kind"] == "pop")
        async with office.listen() as late:
            shown = await late.until("ringing", "answered", "pop")
    known = {event["kind"]: event["id"] for event in early.events}
    assert {event["kind"]: event["id"] for event in shown} == {
        kind: known[kind] for kind in ("ringing", "answered", "pop")
    }
    assert all("id" not in frame for frame in late.frames), "it goes on from the beat before them"


async def test_an_agent_at_another_pbx_has_another_phone(office: Office) -> None:
    agents = [{"extension": "101", "pbx": "south"}, {"extension": "102"}]
    await office.api.apply(
        pbx=[{"name": name, "kind": "generic"} for name in ("main", "south")],
        agents=agents,
    )
    async with office.listen() as mine, office.listen("/v1/agents/102/events") as other:
        await office.rings()
        await office.jane.rings(CALL, "102")
        await other.has(lambda event: event["kind"] == "ringing")
    assert mine.events == []


async def test_a_status_is_told_to_the_agent_and_to_who_follows_all(office: Office) -> None:
    now = office.api.clock.now()
    settled = AgentStatusSettled(
        extension="101",
        status=AgentStatus.DINNER,
        own="lunch",
        since=now,
        source=Side.CRM,
        weighed=now,
    )
    async with office.listen() as mine, office.listen(ALL) as everyone:
        for _ in range(2):
            await office.api.publisher("dialer").publish(settled, tenant="acme")
        for heard in (mine, everyone):
            (event,) = await heard.until("status")
            assert (event["extension"], event["status"]) == ("101", "dinner")
            assert event["own_status"] == "lunch"
    assert len(everyone.events) == 1


# -- going on -----------------------------------------------------------------------------------


async def test_who_was_cut_off_goes_on_and_misses_nothing(office: Office) -> None:
    async with office.listen() as before:
        await office.rings()
        await before.has(lambda event: event["kind"] == "pop")
    assert before.last_id is not None
    await office.jane.answers(CALL)
    await office.jane.leaves(CALL)
    await office.rings(OTHER)
    async with office.listen(headers={"Last-Event-ID": before.last_id}) as after:
        await after.has(lambda event: event["kind"] == "pop" and event["call_id"] == OTHER)

    fresh = [e for e in after.events if e["id"] not in {e["id"] for e in before.events}]
    kinds = [e["kind"] for e in fresh if e["call_id"] == CALL and e["kind"] != "contact"]
    assert kinds == ["answered", "closed"]
    assert "reset" not in after.kinds


async def test_a_browser_that_comes_back_by_its_old_address_goes_on_from_its_last_event(
    office: Office,
) -> None:
    """EventSource sends the header, and has the first id in the address still."""
    async with office.listen() as heard:
        await office.rings()
        await heard.has(lambda event: event["kind"] == "pop")
    first = heard.events[0]["id"]
    assert heard.last_id not in {None, first}
    async with office.listen(last_event_id=first) as by_address:
        await by_address.has(lambda event: event["kind"] == "pop")
    now = str(heard.last_id)
    async with office.listen(headers={"Last-Event-ID": now}, last_event_id="x") as by_header:
        await office.jane.ends(CALL)
        await by_header.has(lambda event: event["kind"] == "closed")
    assert "reset" not in by_address.kinds + by_header.kinds


@pytest.mark.parametrize("unknown", ["00000000000000000000000000000000", "at-1", "gone"])
async def test_an_id_that_is_not_known_any_more_is_answered_by_what_there_is(
    office: Office, unknown: str
) -> None:
    await office.rings()
    async with office.listen() as heard:
        await heard.has(lambda event: event["kind"] == "pop")
    async with office.listen(last_event_id=unknown) as heard:
        await heard.until("reset", "ringing", "pop")
        # From here it goes on as any other.
        assert heard.last_id is not None
        assert heard.last_id.startswith("at-")


async def test_an_agents_stream_goes_on_by_an_id_of_anothers_and_tells_nothing_of_that(
    office: Office,
) -> None:
    async with office.listen("/v1/agents/102/events") as other:
        await office.jane.starts(CALL)
        await office.jane.rings(CALL, "102")
        await other.has(lambda event: event["kind"] == "pop")
    await office.rings(OTHER)
    assert other.last_id is not None
    async with office.listen(last_event_id=other.last_id) as mine:
        await mine.has(lambda event: event["kind"] == "pop")
    assert {event["call_id"] for event in mine.events} == {OTHER}


async def test_what_is_no_id_is_refused(office: Office) -> None:
    for odd in ("x" * 65, "a b", "é", "../x"):
        status, problem = await office.api.send("GET", MINE, params={"last_event_id": odd})
        assert (status, problem["code"]) == (422, "invalid_request")


async def test_a_fresh_process_shows_what_the_old_one_did_and_opens_no_card_again(
    office: Office,
) -> None:
    """The old one is killed: what it knew is gone. Calls are read from the journal."""
    page = Page()
    async with office.listen() as heard:
        await office.rings()
        await office.jane.answers(CALL)
        await office.rings(OTHER)
        await eventually(lambda: len(heard.of("pop")) == 2)
        for event in heard.events:
            page.take(event)
    assert heard.last_id is not None
    api = office.api
    await office.is_journaled(CALL, OTHER)
    old = api.screens.screens
    fresh = a_fresh_process(api)
    try:
        before = list(old.board.shown("acme", "101", now=api.clock.now()))
        following = await fresh.follow("acme", Wants(extension="101"), heard.last_id)
        told: list[Event] = []
        while len(told) < len(before) + 1:
            placed = await asyncio.wait_for(following.next(), 30)
            assert placed is not None
            told.append(json.loads(placed.json))
    finally:
        await fresh.close()
    assert told[0]["kind"] == "reset"
    assert [(e["kind"], e["id"]) for e in told[1:]] == [(e.kind, e.id) for e in before]
    for event in told:
        page.take(event)
    assert set(page.calls) == {CALL, OTHER}
    assert len(page.opened) == 2


def a_fresh_process(api: CrmApi) -> ScreenDesk:
    return ScreenDesk.over(
        api.store,
        site=api.site,
        connections=api.connections(),
        publisher=api.publisher("gateway"),
        tickets=api.tickets,
        clock=api.clock,
        metrics=api.metrics,
        bus_ready=api.bus.ready,
        ask_within=timedelta(seconds=5),
    )


# -- who hears what -----------------------------------------------------------------------------


async def test_an_agents_stream_has_that_agents_events_alone(office: Office) -> None:
    async with office.listen() as mine, office.listen("/v1/agents/102/events") as other:
        await office.rings()
        await mine.has(lambda event: event["kind"] == "pop")
        assert other.events == []


async def test_who_follows_the_tenant_hears_of_all_agents_and_of_no_other_tenant(
    office: Office,
) -> None:
    globex = Phones(office.api.publisher("ingest"), number=JANE, tenant="globex")
    async with office.listen(ALL) as heard:
        await globex.starts(OTHER)
        await globex.rings(OTHER)
        await office.rings()
        await office.jane.rings(CALL, "102")
        await eventually(lambda: len(heard.of("pop")) == 2)
    assert {event["extension"] for event in heard.events} == {"101", "102"}
    assert {event["call_id"] for event in heard.events} == {CALL}


async def test_a_tenants_stream_may_be_of_some_kinds_and_some_agents(office: Office) -> None:
    async with office.listen(ALL, kinds="pop, closed", extensions="102,103") as heard:
        await office.rings()
        await office.jane.rings(CALL, "102")
        await heard.has(lambda event: event["kind"] == "pop")
        await office.jane.ends(CALL)
        await heard.until("pop", "closed")
    assert [event["extension"] for event in heard.events] == ["102", "102"]
    for wrong in ({"kinds": "pops"}, {"extensions": ",".join(map(str, range(501)))}):
        status, _ = await office.api.send("GET", ALL, params=wrong)
        assert status == 422


async def test_a_key_hears_what_it_may_and_no_more(office: Office) -> None:
    api = office.api
    bound = await api.a_key(Scope.POPS_READ, Scope.EVENTS_READ, extension="102")
    pops = await api.a_key(Scope.POPS_READ)
    events = await api.a_key(Scope.EVENTS_READ)
    answers = {
        (MINE, bound): 403,
        (ALL, bound): 403,
        (ALL, pops): 403,
        (MINE, events): 403,
        (MINE, "cm_nobody"): 401,
    }
    for (path, key), expected in answers.items():
        status, _ = await api.send("GET", path, key=key)
        assert status == expected, (path, key)
    async with office.listen("/v1/agents/102/events", key=bound), office.listen(ALL, key=events):
        pass


# -- several devices ----------------------------------------------------------------------------


async def test_a_pop_that_one_device_saw_is_told_to_the_others(office: Office) -> None:
    async with office.listen() as desk, office.listen() as phone:
        await office.rings()
        for device in (desk, phone):
            await device.has(lambda event: event["kind"] == "pop")
        path = f"/v1/agents/101/pops/{CALL}"
        status, receipt = await office.api.send("POST", path, json={"seen": "dismissed"})
        assert (status, receipt["seen"]) == (202, "dismissed")
        for device in (desk, phone):
            (event,) = await device.until("seen")
            assert (event["call_id"], event["seen"]) == (CALL, "dismissed")
        async with office.listen() as late:
            pop = await late.has(lambda event: event["kind"] == "pop")
            assert pop["seen"] == "dismissed"


async def test_only_a_pop_of_ones_own_can_be_seen(office: Office) -> None:
    api = office.api
    bound = await api.a_key(Scope.POPS_READ, extension="102")
    events = await api.a_key(Scope.EVENTS_READ)
    await office.rings()
    await office.is_journaled(CALL)
    path = f"/v1/agents/101/pops/{CALL}"
    for key, wanted, body, expected in (
        (bound, path, {"seen": "opened"}, 403),
        (events, path, {"seen": "opened"}, 403),
        (api.key, f"/v1/agents/101/pops/{OTHER}", {"seen": "opened"}, 404),
        (api.key, f"/v1/agents/101/pops/{'x' * 65}", {"seen": "opened"}, 422),
        (api.key, path, {"seen": "stolen"}, 422),
        (api.key, path, {}, 422),
    ):
        status, _ = await api.send("POST", wanted, key=key, json=body)
        assert status == expected, (wanted, body)
    globex = await api.keys.issue(tenant="globex", name="k", scopes=tuple(Scope))
    status, _ = await api.send("POST", path, key=globex.get_secret_value(), json={"seen": "opened"})
    assert status == 404


async def test_that_a_pop_was_seen_outlives_the_process(office: Office) -> None:
    api = office.api
    await office.rings()
    await office.is_journaled(CALL)
    path = f"/v1/agents/101/pops/{CALL}"
    assert (await api.send("POST", path, json={"seen": "opened"}))[0] == 202
    fresh = a_fresh_process(api)
    await fresh.catching.caught_up("acme")
    shown = list(fresh.screens.board.shown("acme", "101", now=api.clock.now()))
    assert [(event.kind, event.seen) for event in shown] == [("ringing", None), ("pop", "opened")]
    await fresh.close()


# -- slow clients, silence, keys ------------------------------------------------------------------


async def test_who_is_too_slow_is_told_so_and_goes_on_when_it_is_back(office: Office) -> None:
    desk = office.api.screens
    following = await desk.follow("acme", Wants(extension="101"), None)
    now = office.api.clock.now()
    for number in range(BEHIND + 50):
        told = PopSeen(call_id=f"c{number}", extension="101", seen=Seen.OPENED)
        desk.screens.take("acme", told, at=now, now=now)
    heard = []
    while (placed := await asyncio.wait_for(following.next(), 30)) is not None:
        heard.append(placed)
    assert following.is_cut
    assert [placed.event.kind for placed in heard[-2:]] == ["seen", "behind"]
    assert len(heard) == BEHIND + 1
    last = heard[-2].event.position
    assert last is not None
    assert heard[-1].event.position == last
    again = await desk.follow("acme", Wants(extension="101"), last)
    calls = {placed.event.call_id for placed in heard}
    while len(calls) < BEHIND + 51:
        found = await asyncio.wait_for(again.next(), 30)
        assert found is not None
        calls.add(found.event.call_id)
    again.close()
    assert desk.screens.tenants_followed() == set()


async def test_in_silence_a_beat_comes_from_which_a_client_goes_on(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with office_at(tmp_path, clock) as office, office.listen() as heard:
        first = heard.last_id
        await _advance(clock, KEEP_ALIVE)
        await eventually(lambda: heard.last_id != first)
        assert heard.last_id == f"at-{to_ms(clock.now())}"
        assert heard.events == []


async def _advance(clock: ManualClock, by: timedelta) -> None:
    """Once the server waits for the clock."""
    await eventually(lambda: clock.sleepers >= 2)
    await clock.advance(by)


@pytest.mark.parametrize("path", [MINE, ALL])
async def test_a_key_that_is_revoked_ends_its_streams_within_a_minute(
    tmp_path: Path, clock: ManualClock, path: str
) -> None:
    async with office_at(tmp_path, clock) as office, AsyncExitStack() as stack:
        api = office.api
        revoked = await api.a_key(Scope.POPS_READ, Scope.EVENTS_READ)
        name = next(key.name for key in await api.keys.list("acme") if key.name != "k0")
        gone = await stack.enter_async_context(office.listen(path, key=revoked))
        stays = await stack.enter_async_context(office.listen(path))
        await api.keys.revoke(tenant="acme", name=name)
        for _ in range(4):
            await _advance(clock, KEEP_ALIVE)
        await eventually(lambda: gone.over)
        assert not stays.over


async def test_a_token_that_was_rotated_away_hears_no_more_within_a_minute(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with office_at(tmp_path, clock) as office:
        keys = office.api.keys
        lost = await office.api.a_key(Scope.EVENTS_READ)
        name = next(key.name for key in await keys.list("acme") if key.name != "k0")
        async with office.listen(ALL, key=lost) as gone:
            await keys.rotate(tenant="acme", name=name, overlap=timedelta(0), expires_at=None)
            for _ in range(4):
                await _advance(clock, KEEP_ALIVE)
            await eventually(lambda: gone.over)


async def test_while_the_store_is_away_what_is_open_stays(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office_at(tmp_path, clock) as office, office.listen() as heard:
        asked = 0

        async def away(_: object) -> None:
            nonlocal asked
            asked += 1
            raise Unavailable("the store is away")

        monkeypatch.setattr(office.api.keys, "again", away)
        for _ in range(4):
            await _advance(clock, KEEP_ALIVE)
        await eventually(lambda: asked > 0)
        await office.rings()
        await heard.has(lambda event: event["kind"] == "ringing")
        assert not heard.over


async def test_each_event_is_told_once_to_who_drops_doubles(office: Office) -> None:
    async with office.listen() as heard:
        for _ in range(3):
            await office.rings()
        await heard.has(lambda event: event["kind"] == "pop")
        await office.jane.ends(CALL)
        await heard.until("closed")
    assert without_doubles(heard.events) == heard.events
