"""The tenants' CRM connections as open connectors: made at the first use, anew when changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shared.clock import Clock
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.auth import TOKENS, TokenKeeper
from shared.crm.engine.connector import TemplateConnector
from shared.crm.engine.manifest import Manifest, OAuth2Refresh
from shared.crm.glance import Glance
from shared.crm.language.text import compile_text
from shared.crm.registry import parameters_of, template
from shared.errors import BadSetting, NeedsReconnect
from shared.net.client import HttpClient
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
    #: As pairs, so that an account can be a key.
    parameters: tuple[tuple[str, str], ...]
    credentials: tuple[tuple[str, str], ...]  # sealed
    phone_formats: tuple[str, ...]


class CrmConnections:
    def __init__(
        self,
        store: DocumentStore,
        *,
        http: HttpClient,
        secrets: SecretBox,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.glance = Glance(clock)
        self._tokens = store.collection(TOKENS)
        self._http = http
        self._secrets = secrets
        self._clock = clock
        self._metrics = metrics
        self._open: dict[tuple[str, str], tuple[Account, TemplateConnector]] = {}

    def connector(self, account: Account) -> TemplateConnector:
        """
        Raises: NotFound for an unknown template, BadSetting for parameters or sealed credentials
        that do not fit it.
        """
        key = (account.tenant, account.name)
        known = self._open.get(key)
        if known is not None and known[0] == account:
            return known[1]
        connector = self._made(account)
        self._open[key] = (account, connector)
        return connector

    def _made(self, account: Account) -> TemplateConnector:
        manifest = template(account.template)
        parameters = parameters_of(manifest, dict(account.parameters))
        requests = CrmRequests(
            manifest,
            parameters=parameters,
            tokens=self._keeper(account, manifest, parameters),
            http=self._http,
            clock=self._clock,
            metrics=self._metrics,
        )
        return TemplateConnector(
            manifest,
            requests,
            connection=account.name,
            region=account.region,
            parameters=parameters,
            phone_formats=account.phone_formats,
        )

    def _keeper(
        self, account: Account, manifest: Manifest, parameters: dict[str, str]
    ) -> TokenKeeper | None:
        auth = manifest.auth
        if not isinstance(auth, OAuth2Refresh):
            return None
        try:
            opened = {name: self._secrets.open(sealed) for name, sealed in account.credentials}
        except BadSetting as error:
            # The operator's fault to mend, not that of the calls, which wait for it.
            raise NeedsReconnect(error.message) from error
        grant = hashlib.sha256()
        for name, secret in sorted(opened.items()):
            grant.update(f"{name}={secret.get_secret_value()}\n".encode())
        return TokenKeeper(
            tenant=account.tenant,
            connection=account.name,
            url=compile_text(auth.token_url).text(parameters),
            credentials=opened,
            grant=grant.hexdigest(),
            base_url_path=auth.base_url,
            tokens=self._tokens,
            glance=self.glance,
            http=self._http,
            secrets=self._secrets,
            clock=self._clock,
        )
