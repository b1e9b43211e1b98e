"""``template test``: a template against a real connection, every request shown, secrets masked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from services.cli.attempts import Attempts, Trial
from services.cli.console import looking, out, run_async
from shared.crm.bodies import read_body
from shared.crm.connections import Account, CrmConnections
from shared.crm.form.manifest import Event, Manifest
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path
from shared.crm.masking import Mask, basic_forms, printable
from shared.crm.registry import Templates, check_credentials, read_file
from shared.crm.rendering import Scope
from shared.errors import BadSetting, ContractError, MeshError, NotFound
from shared.ids import new_id
from shared.net.client import Exchange
from shared.runtime.service import Platform
from shared.site.accounts import account_of

#: Of a connection that is there for this command only.
_TRIAL = "trial"


def try_out(  # noqa: PLR0917  options of a command
    name: Annotated[str, typer.Argument(help="A template's name, its file, or TENANT/CONNECTION.")],
    number: Annotated[str, typer.Option(help="Whose number is searched.")],
    parameter: Annotated[
        list[str] | None, typer.Option(help="name=value; may be given again.")
    ] = None,
    credential: Annotated[
        list[str] | None,
        typer.Option(help="name=ENVIRONMENT_VARIABLE that holds it; may be given again."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Country of national numbers: GB.")] = None,
    module: Annotated[list[str] | None, typer.Option(help="Contact type; may be repeated.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="Field of the CRM to read too.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Also make a contact and log a call, for real.")
    ] = False,
) -> None:
    """Try a template against a real CRM: check, users, search; with --write create, journal and update.

    Shows each request and answer with its time, and what was read out of it. Secrets are masked.
    """
    trial = Trial(number, tuple(module or ()), tuple(field or ()), write)

    async def work() -> bool:
        async with looking() as platform:
            connections, account = await _account(
                platform, name, _pairs(parameter), _pairs(credential), region
            )
            try:
                return await _try(platform, connections, account, trial)
            finally:
                await connections.close()
                if account.tenant == _TRIAL:
                    with suppress(MeshError):
                        await connections.forget(account)

    if not run_async(work()):
        raise typer.Exit(1)


async def _account(
    platform: Platform,
    name: str,
    parameters: dict[str, str],
    credentials: dict[str, str],
    region: str | None,
) -> tuple[CrmConnections, Account]:
    """Raises: BadSetting, NotFound."""
    tenant, slash, connection = name.partition("/")
    if slash and not name.endswith((".yaml", ".yml")):
        await platform.site.refresh()
        site = platform.site.site(tenant)
        crm = site.crm_named(connection) if site else None
        if site is None or crm is None:
            raise NotFound(f"there is no CRM connection {connection} of tenant {tenant}")
        return platform.crm_connections(), account_of(site, crm)
    templates = platform.templates
    if name.endswith((".yaml", ".yml")):
        file = Path(name)
        templates, name = Templates(file.parent), read_file(file).name
    secrets = {key: _from_environment(variable) for key, variable in credentials.items()}
    check_credentials(templates.get(name), secrets)
    account = Account(
        tenant=_TRIAL,
        name=f"trial-{new_id()}",
        template=name,
        region=region,
        parameters=tuple(sorted(parameters.items())),
        credentials=tuple(
            sorted((key, platform.secrets.seal(secret)) for key, secret in secrets.items())
        ),
        phone_formats=(),
    )
    return platform.crm_connections(templates), account


async def _try(
    platform: Platform, connections: CrmConnections, account: Account, trial: Trial
) -> bool:
    """Whether all went well."""
    secrets = [s.get_secret_value() for s in connections.credentials(account).values()]
    made = _Made(connections.templates.get(account.template))

    def shown(exchange: Exchange) -> None:
        own = connector.requests.scope
        basic = connector.manifest.auth.basic
        pairs = basic_forms([own.text(basic)]) if basic else []
        _show(exchange, Mask([*secrets, *pairs, *made.of(own), *made.in_answer(exchange)]))

    http = platform.http.watched(shown)
    signing_in = platform.http.watched(lambda exchange: shown(made.noted(exchange)))
    connector = connections.open(account, http=http, auth_http=signing_in)
    well = True
    for title, attempt in Attempts(connector, trial, account.region, platform.clock).all():
        out.print(f"\n[bold]{title}[/]")
        try:
            for line in await attempt():
                out.print(f"  = {printable(line)}", markup=False)
            await connector.requests.followed()
        except MeshError as error:
            well = False
            out.print(f"  ✗ {error.code}: {error.message}", style="red", markup=False)
    return well


class _Made:
    """What a sign-in makes: secret from the moment at which the CRM says it."""

    def __init__(self, manifest: Manifest) -> None:
        auth, oauth2 = manifest.auth, manifest.auth.oauth2
        after = [one for one in manifest.follow_ups if one.on is Event.AUTH]
        takes = [path for step in (*auth.discover, *auth.login) for path in step.take.values()]
        if oauth2 is not None:
            takes += [oauth2.access_token, oauth2.refresh_token, *oauth2.take.values()]
        self._kind = manifest.answer
        self._paths = [path for path in takes if "{{" not in path]
        self._after = [path for one in after for path in one.take.values() if "{{" not in path]
        self._names = {*auth.session_variables, *(name for one in after for name in one.makes)}
        self._seen: set[str] = set()

    def noted(self, exchange: Exchange) -> Exchange:
        """Of a request that signs in."""
        self._seen |= self._taken(exchange, self._paths)
        return exchange

    def of(self, scope: Scope) -> set[str]:
        return self._seen | _secrets(scope.own.get(name) for name in self._names)

    def in_answer(self, exchange: Exchange) -> set[str]:
        """Of a request that may be one that follows the sign-in."""
        return self._taken(exchange, self._after)

    def _taken(self, exchange: Exchange, paths: Sequence[str]) -> set[str]:
        try:
            value = read_body(self._kind, exchange.answer.body) if exchange.answer else None
        except ContractError:
            return set()
        return _secrets(at_path(value, path) for path in paths)


def _secrets(values: Iterable[Any]) -> set[str]:
    """An address is none, and no number or flag of a few letters."""
    texts = (plain_text(value) for value in values if not isinstance(value, Mapping | list))
    return {text for text in texts if not text.startswith(("http://", "https://"))}


def _show(exchange: Exchange, mask: Mask) -> None:
    milliseconds = exchange.took.total_seconds() * 1000
    out.print(f"  → {exchange.method} {mask.address(str(exchange.url))}", markup=False)
    for name, value in exchange.headers.items():
        out.print(f"      {name}: {mask.header(name, value)}", style="dim", markup=False)
    if exchange.body:
        out.print(_indented(mask.body(exchange.body)), markup=False)
    if exchange.answer is None:
        out.print(f"  ← {exchange.error}, {milliseconds:.0f} ms", style="red", markup=False)
        return
    out.print(f"  ← {exchange.answer.status}, {milliseconds:.0f} ms", markup=False)
    if exchange.answer.body:
        out.print(_indented(mask.body(exchange.answer.body)), style="dim", markup=False)


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise BadSetting(f"{text}: say name=value")
        pairs[name] = value
    return pairs


def _from_environment(variable: str) -> SecretStr:
    value = os.environ.get(variable)  # noqa: TID251  named on the command line
    if value is None:
        raise BadSetting(
            f"the environment has no {variable}; secrets are not taken from the command line"
        )
    return SecretStr(value)
