"""The tenants' CRM connections as open connectors: made at the first use, anew when changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from pydantic import SecretStr

from shared.clock import Clock
from shared.crm.bodies import read_body
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.connector import TemplateConnector
from shared.crm.engine.noting import CrmNotes
from shared.crm.engine.showing import secrets_of
from shared.crm.form.access import Limits
from shared.crm.form.manifest import Manifest
from shared.crm.glance import Glance
from shared.crm.registry import Templates, parameters_of
from shared.crm.rendering import Scope
from shared.crm.sessions.consent import Connected, Consents
from shared.crm.sessions.keeper import SESSIONS, SessionKeeper
from shared.crm.sessions.noting import signing_in
from shared.crm.sessions.session import fingerprint, session_key
from shared.crm.sessions.standing import SessionStanding, standing_of
from shared.crm.turns.gate import Gate
from shared.crm.turns.replicas import Replicas
from shared.errors import BadSetting, NeedsReconnect, NotFound
from shared.net.client import Answer, HttpClient
from shared.net.requests import NoNotes, RequestNotes
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox
from shared.storage.port import DocumentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a connector is made of; equal accounts share one."""

    tenant: str
    name: str
    template: str
    region: str | None
    #: IANA name: the zone in which the CRM's users read times, where a template asks for it.
    zone: str = "UTC"
    #: As pairs, so that an account can be a key.
    parameters: tuple[tuple[str, str], ...]
    credentials: tuple[tuple[str, str], ...]  # sealed
    phone_formats: tuple[str, ...]
    #: Empty, or who signs in by credentials other than the connection's: a rule, by its name.
    #: Sessions and answers are its own; limits, breaker and the cards' `connection` are not.
    login: str = ""


#: What a gate stands before: connection, where that is, and what it takes.
_Gated = tuple[str, str, str, tuple[tuple[str, str], ...], Limits]


class CrmConnections:
    def __init__(
        self,
        store: DocumentStore,
        *,
        http: HttpClient,
        secrets: SecretBox,
        clock: Clock,
        metrics: Metrics,
        templates: Templates | None = None,
        glance: Glance | None = None,
        notes: RequestNotes | None = None,
    ) -> None:
        """
        *glance*: how long the store is waited for, where that differs from a ringing call's.
        *notes*: where each request is noted.
        """
        self._notes = notes or NoNotes()
        self.glance = glance or Glance(clock)
        self.templates = templates or Templates()
        self._store = store
        self._sessions = store.collection(SESSIONS)
        #: Those in use, and of connections that were changed meanwhile what is still under way.
        self._keepers: WeakSet[SessionKeeper] = WeakSet()
        self._requests: WeakSet[CrmRequests] = WeakSet()
        #: One for all logins of a connection, as long as one is open.
        self._gates: WeakValueDictionary[_Gated, Gate] = WeakValueDictionary()
        self._replicas = Replicas(store, glance=self.glance, clock=clock)
        self._http = http
        self._secrets = secrets
        self._clock = clock
        self._metrics = metrics
        self._open: dict[tuple[str, str, str], tuple[Account, Manifest, TemplateConnector]] = {}

    def connector(self, account: Account) -> TemplateConnector:
        """
        Raises: NotFound for an unknown template, BadSetting for parameters or sealed credentials
        that do not fit it.
        """
        key = (account.tenant, account.name, account.login)
        manifest = self.templates.get(account.template)
        known = self._open.get(key)
        if known is not None and known[0] == account and known[1] is manifest:
            return known[2]
        connector = self.open(account)
        self._open[key] = (account, manifest, connector)
        return connector

    def open(
        self,
        account: Account,
        *,
        http: HttpClient | None = None,
        auth_http: HttpClient | None = None,
    ) -> TemplateConnector:
        """
        A connector of its own, that asks by *http* and signs in by *auth_http*. Raises as
        :meth:`connector`.
        """
        http = http or self._http
        manifest = self.templates.get(account.template)
        scope = self._scope(account, manifest)
        requests = CrmRequests(
            manifest,
            scope=scope,
            sessions=self._keeper(
                account, manifest, scope, self._noting(account, manifest, scope, auth_http or http)
            ),
            gate=self._gate(account, manifest),
            http=http,
            clock=self._clock,
            metrics=self._metrics,
            notes=CrmNotes(
                manifest,
                tenant=account.tenant,
                connection=account.name,
                notes=self._notes,
                clock=self._clock,
            ),
        )
        self._requests.add(requests)
        return TemplateConnector(
            manifest,
            requests,
            connection=account.name,
            region=account.region,
            phone_formats=account.phone_formats,
        )

    async def close(self) -> None:
        """What goes on in the background gets a moment, then is given up."""
        for requests in list(self._requests):
            await requests.close()
        for keeper in list(self._keepers):
            await keeper.close()
        await self._replicas.close()

    async def forget(self, account: Account) -> None:
        """
        What the sessions of its login left in the store, where nobody keeps that any more. Raises:
        MeshError.
        """
        manifest = self.templates.get(account.template)
        scope = self._scope(account, manifest)
        key = session_key(account.tenant, account.name, manifest.auth, scope, login=account.login)
        await self._sessions.delete(key)

    async def standing(self, account: Account) -> SessionStanding | None:
        """
        How its sign-in is, as far as that is stored; None where its template needs none. Raises as
        :meth:`connector`, and Unavailable.
        """
        manifest = self.templates.get(account.template)
        scope = self._scope(account, manifest)
        if not manifest.auth.needs_session:
            return None
        key = session_key(account.tenant, account.name, manifest.auth, scope, login=account.login)
        try:
            document = await self._sessions.get(key)
        except NotFound:
            document = None
        return standing_of(
            document,
            manifest.auth,
            grant=_grant(scope),
            has_token=bool(scope.own.get("refresh_token")),
            now=self._clock.now(),
        )

    def connected(self, account: Account) -> Connected:
        """
        *account* as a consent of its CRM's user is asked for it. Raises as :meth:`connector`, and
        BadSetting for a login that is not the connection's.
        """
        if account.login:
            raise BadSetting(
                f"{account.login} signs in to {account.name} by credentials of its own: a consent "
                "is that of the connection"
            )
        manifest = self.templates.get(account.template)
        scope = self._scope(account, manifest)
        return Connected(
            tenant=account.tenant,
            connection=account.name,
            auth=manifest.auth,
            scope=scope,
            grant=_grant(scope),
            read_answer=_reader(manifest),
            http=self._noting(account, manifest, scope, self._http),
        )

    def consents(self) -> Consents:
        return Consents(self._store, http=self._http, secrets=self._secrets, clock=self._clock)

    def credentials(self, account: Account) -> dict[str, SecretStr]:
        """Raises: NeedsReconnect where the key that sealed them is gone."""
        try:
            return {name: self._secrets.open(sealed) for name, sealed in account.credentials}
        except BadSetting as error:
            # The operator's fault to mend, not that of the calls, which wait for it.
            raise NeedsReconnect(error.message) from error

    def _scope(self, account: Account, manifest: Manifest) -> Scope:
        opened = self.credentials(account)
        return Scope(
            own={
                **{credential.name: "" for credential in manifest.credentials},
                **parameters_of(
                    manifest, dict(account.parameters), may_be_plain=self._http.may_be_plain
                ),
                **{name: secret.get_secret_value() for name, secret in opened.items()},
                "Zone": account.zone,
            },
            maps=manifest.maps,
        )

    def _noting(
        self, account: Account, manifest: Manifest, scope: Scope, http: HttpClient
    ) -> HttpClient:
        """*http* for the sign-in of *account*."""
        return signing_in(
            http,
            tenant=account.tenant,
            connection=account.name,
            secrets=secrets_of(manifest, scope),
            notes=self._notes,
            clock=self._clock,
        )

    def _gate(self, account: Account, manifest: Manifest) -> Gate:
        """The CRM counts what comes from us, whoever signed in."""
        tenant, name = account.tenant, account.name
        key = (tenant, name, account.template, account.parameters, manifest.limits)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(
                manifest.limits,
                share=lambda: self._replicas.share(tenant, name),
                clock=self._clock,
            )
        return gate

    def _keeper(
        self, account: Account, manifest: Manifest, scope: Scope, http: HttpClient
    ) -> SessionKeeper | None:
        """Of the connection's session; None where its template needs none."""
        if not manifest.auth.needs_session:
            return None
        keeper = SessionKeeper(
            manifest.auth,
            tenant=account.tenant,
            connection=account.name,
            login=account.login,
            scope=scope,
            grant=_grant(scope),
            sessions=self._sessions,
            glance=self.glance,
            http=http,
            secrets=self._secrets,
            clock=self._clock,
            read_answer=_reader(manifest),
        )
        self._keepers.add(keeper)
        return keeper


def _grant(scope: Scope) -> str:
    return fingerprint({name: str(value) for name, value in scope.own.items()})


def _reader(manifest: Manifest) -> Callable[[Answer], Any]:
    return lambda answer: read_body(manifest.answer, answer.body)
