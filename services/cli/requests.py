"""``requests``: what was asked of CRMs and PBXs, and what they said."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.times import moment
from shared.crm.masking import printable
from shared.errors import ContractError, NotFound
from shared.net.requests import AskedSide
from shared.runtime.requests import RequestLine, RequestQuery
from shared.runtime.service import Platform

#: Of one question to the store.
_PAGE = 500
_LONGEST_URL = 100
_HTTP_CLASSES = range(1, 6)

Tenant = Annotated[str | None, typer.Option(help="Whose; needed where there are several.")]


def register(app: typer.Typer) -> None:
    requests = typer.Typer(
        help="Requests to CRMs and PBXs, as CALLMESH_REQUEST_LOG keeps them.", no_args_is_help=True
    )
    requests.command("list")(list_requests)
    requests.command()(show)
    app.add_typer(requests, name="requests")


def list_requests(  # noqa: PLR0917  options of a command
    tenant: Tenant = None,
    side: Annotated[AskedSide | None, typer.Option(help="Of CRMs or of PBXs alone.")] = None,
    connection: Annotated[str | None, typer.Option(help="Of this CRM or PBX connection.")] = None,
    operation: Annotated[
        list[str] | None,
        typer.Option(help="For this: search, journal, originate. May be given again."),
    ] = None,
    status: Annotated[
        str | None, typer.Option(help="Answered by a status of this class: 2xx, 4xx, 5xx.")
    ] = None,
    failed: Annotated[
        bool | None, typer.Option("--failed/--well", help="Those that failed, or did not.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Made since: 6h ago, or 2026-12-24T18:30.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Made before.")] = None,
    text: Annotated[str | None, typer.Option(help="With this in the URL.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
) -> None:
    """List requests, newest first. Secrets in them are masked."""

    async def work() -> list[RequestLine]:
        found: list[RequestLine] = []
        async with looking() as platform:
            whose, zone = await _whose(platform, tenant)
            now = platform.clock.now()
            query = RequestQuery(
                side=side,
                connection=connection,
                operations=operation or (),
                status_class=_class(status),
                failed=failed,
                since=moment(since, "--since", now=now, zone=zone) if since else None,
                until=moment(until, "--until", now=now, zone=zone) if until else None,
                text=text,
                limit=min(limit, _PAGE),
            )
            async for line in platform.requests.every(whose, query):
                found.append(line)
                if len(found) >= limit:
                    break
        return found

    found = run_async(work())
    if not found:
        out.print("no requests")
        return
    table = Table("at", "side", "connection", "for", "request", "status", "ms", "error", "id")
    for line in found:
        cells = (
            f"{line.at:%Y-%m-%d %H:%M:%S}",
            line.side,
            line.connection,
            line.operation,
            f"{line.method} {_short(line.url)}",
            str(line.status or "-"),
            str(line.took_ms),
            line.error or ("failed" if line.failed else ""),
            line.request_id,
        )
        table.add_row(*(escape(printable(cell)) for cell in cells))
    out.print(table)


def show(
    request: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    tenant: Tenant = None,
) -> None:
    """Show one request, with its bodies where they are kept."""

    async def work() -> RequestLine:
        async with looking() as platform:
            whose, _ = await _whose(platform, tenant)
            page = await platform.requests.page(whose, RequestQuery(request_ids=(request,)))
            if not page.requests:
                raise NotFound(f"there is no request {request} of tenant {whose}")
            return page.requests[0]

    line = run_async(work())
    told = line.model_dump(mode="json", exclude={"request", "answer"})
    for name, value in told.items():
        out.print(printable(f"{name}: {value}"), markup=False)
    for name, body in (("request", line.request), ("answer", line.answer)):
        if body:
            out.print(printable(f"\n{name}:\n{body}"), markup=False)


async def _whose(platform: Platform, tenant: str | None) -> tuple[str, str]:
    """The tenant and its time zone. Raises: NotFound."""
    await platform.site.refresh()
    known = platform.site.current
    if tenant is None and len(known) == 1:
        tenant = next(iter(known))
    if tenant is None or tenant not in known:
        names = ", ".join(sorted(known)) or "none"
        wrong = f"there is no tenant {tenant}" if tenant else "say --tenant"
        raise NotFound(f"{wrong}; there are: {names}")
    return tenant, known[tenant].zone


def _class(text: str | None) -> int | None:
    """Raises: ContractError."""
    if text is None:
        return None
    digit = text.lower().removesuffix("xx")
    if not digit.isdigit() or int(digit) not in _HTTP_CLASSES:
        raise ContractError(f"--status {text}: say 2xx, 4xx or 5xx")
    return int(digit)


def _short(url: str) -> str:
    return url if len(url) <= _LONGEST_URL else f"{url[: _LONGEST_URL - 1]}…"
