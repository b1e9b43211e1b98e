"""``subscribers``: who is told of events by webhooks, and what became of telling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from services.gateway.settings import GatewaySettings
from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import (
    DELIVERIES,
    Delivery,
    DeliveryBook,
    DeliveryState,
)
from services.gateway.subscribers.subscriber import SUBSCRIBERS, SubscriberDocument
from shared.crm.masking import printable
from shared.errors import Conflict
from shared.runtime.service import Platform

_STEP = 200
Tenant = Annotated[str, typer.Option(help="Whose subscribers.")]
Name = Annotated[str, typer.Argument(help="As `list` shows it.")]
States = Annotated[
    list[DeliveryState] | None, typer.Option("--state", help="In this state; may be given again.")
]


def register(app: typer.Typer) -> None:
    subscribers = typer.Typer(
        help="Who is told of events by webhooks; they are set up over the API.",
        no_args_is_help=True,
    )
    subscribers.command("list")(list_subscribers)
    subscribers.command()(deliveries)
    subscribers.command()(show)
    subscribers.command()(replay)
    app.add_typer(subscribers, name="subscribers")


@dataclass(frozen=True, slots=True)
class _Desk:
    platform: Platform
    book: SubscriberBook
    deliveries: DeliveryBook


@asynccontextmanager
async def _at_desk() -> AsyncIterator[_Desk]:
    async with looking() as platform:
        store, clock = platform.store, platform.clock
        keep = GatewaySettings.read().keep_deliveries
        yield _Desk(
            platform,
            SubscriberBook(store.collection(SUBSCRIBERS), clock),
            DeliveryBook(store.collection(DELIVERIES), clock, keep=keep),
        )


def list_subscribers(tenant: Tenant) -> None:
    """List a tenant's subscribers, and how telling them goes."""

    async def work() -> list[SubscriberDocument]:
        async with _at_desk() as desk:
            return await desk.book.list(tenant)

    found = run_async(work())
    if not found:
        out.print(f"tenant {tenant} has no subscribers")
        return
    table = Table("subscriber", "events", "where", "is", "told last", "failing since")
    for one in found:
        table.add_row(
            one.name,
            " ".join(one.settings.events),
            escape(printable(one.settings.url)),
            f"off: {one.off}" if one.off else "on" if one.settings.active else "off",
            f"{one.last_done_at:%Y-%m-%d %H:%M}" if one.last_done_at else "never",
            f"{one.failing_since:%Y-%m-%d %H:%M}" if one.failing_since else "",
        )
    out.print(table)


def deliveries(
    subscriber: Name,
    tenant: Tenant,
    state: States = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
) -> None:
    """List what a subscriber was told or is to be told, the newest first."""

    async def work() -> list[Delivery]:
        async with _at_desk() as desk:
            to = await desk.book.get(tenant, subscriber)
            return [one async for one in _each(desk, to, state or (), limit)]

    found = run_async(work())
    if not found:
        out.print("no deliveries")
        return
    # Whole: it is copied from here.
    table = Table(Column("delivery", no_wrap=True), "made", "event", "state", "tries", "last")
    for one in found:
        last = one.attempts[-1] if one.attempts else None
        table.add_row(
            one.key,
            f"{one.created_at:%Y-%m-%d %H:%M:%S}",
            one.type,
            one.state,
            str(one.tries),
            escape(printable(last.error or str(last.status))) if last else "",
        )
    out.print(table)


def show(
    subscriber: Name,
    delivery: Annotated[str, typer.Argument(help="As `deliveries` shows it.")],
    tenant: Tenant,
) -> None:
    """Show one delivery: its event, and each try with the answer."""

    async def work() -> Delivery:
        async with _at_desk() as desk:
            return await desk.deliveries.get(await desk.book.get(tenant, subscriber), delivery)

    found = run_async(work())
    out.print(f"{found.webhook_id}: {found.type}, {found.state}", markup=False)
    for attempt in found.attempts:
        became = attempt.error or f"the answer was {attempt.status}"
        out.print(
            f"{attempt.at:%Y-%m-%d %H:%M:%S} {attempt.took_ms} ms: {printable(became)}",
            markup=False,
        )
        if attempt.answer:
            out.print(f"  {printable(attempt.answer)}", markup=False)
    out.print_json(found.event)


def replay(
    subscriber: Name,
    tenant: Tenant,
    delivery: Annotated[
        list[str] | None, typer.Option(help="This one; may be given again. [dead and ended ones]")
    ] = None,
    state: States = None,
) -> None:
    """Send deliveries again, under their ids: ten tries each. A running gateway sends them."""

    async def work() -> int:
        async with _at_desk() as desk:
            to = await desk.book.get(tenant, subscriber)
            if not to.is_on:
                raise Conflict(f"Subscriber {to.name} is switched off; switch it on first.")
            async with noted(
                desk.platform, tenant, "replay_deliveries", f"subscriber {subscriber}"
            ):
                if delivery:
                    found = [await desk.deliveries.get(to, key) for key in delivery]
                    return sum([await desk.deliveries.replay(one) for one in found])
                states = tuple(state or (DeliveryState.DEAD, DeliveryState.ENDED))
                replayed = 0
                async for one in _each(desk, to, states, None):
                    replayed += await desk.deliveries.replay(one)
                return replayed

    out.print(f"{run_async(work())} to be sent again")


async def _each(
    desk: _Desk,
    to: SubscriberDocument,
    states: list[DeliveryState] | tuple[DeliveryState, ...],
    limit: int | None,
) -> AsyncIterator[Delivery]:
    cursor, left = None, limit
    while left is None or left > 0:
        page = await desk.deliveries.page(
            to,
            states=states,
            limit=_STEP if left is None else min(left, _STEP),
            cursor=cursor,
        )
        for one in page.documents:
            yield one
        left = None if left is None else left - len(page.documents)
        cursor = page.next_cursor
        if cursor is None:
            return
