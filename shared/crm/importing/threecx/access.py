"""``<Authentication>`` → the template's auth."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from shared.crm.importing.naming import HEADER_NAME
from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.expressions import read_text
from shared.crm.importing.threecx.meanings import Known, text
from shared.crm.importing.threecx.parameters import Settings
from shared.crm.importing.threecx.paths import Paths
from shared.crm.importing.threecx.records import record_of
from shared.crm.importing.threecx.scenarios import Scenario, chain_from
from shared.crm.importing.threecx.steps import Steps
from shared.crm.importing.threecx.tree import constant
from shared.crm.importing.threecx.words import Words
from shared.crm.importing.xml import Element
from shared.errors import BadSetting

_OF_GRANT = frozenset({"client_id", "redirect_uri", "response_type", "state", "code_challenge"})


class Access:
    """*auth* is the template's; *known* what every request may use then."""

    def __init__(
        self, settings: Settings, scenarios: list[Scenario], paths: Paths, notes: Notes
    ) -> None:
        self.auth: dict[str, Any] = {}
        self.known = Known((settings.meanings,))
        self.used: list[Scenario] = []
        self._settings = settings
        self._scenarios = scenarios
        self._paths = paths
        self._notes = notes

    def read(self, element: Element | None) -> None:
        kind = element.get("Type").lower() if element is not None else "no"
        if element is not None and kind == "basic":
            self._basic(element)
        elif element is not None and kind == "scenario":
            self._scenario(element)
        elif kind not in {"", "no", "oauth", "oauth2"}:
            self._notes.left("Authentication@Type", f"{kind[:30]}: write `auth` by hand")
        if self._settings.oauth is not None:
            self._oauth(self._settings.oauth)

    def _value(self, element: Element) -> str:
        value = element.first("Value")
        return (value.text if value is not None else element.text).strip()

    def _basic(self, element: Element) -> None:
        place = f"Authentication, line {element.line}"
        made = Words(self.known, self._notes, place).of_text(self._value(element))
        if made:
            self.auth["basic"] = made
            self._notes.taken(place, "auth.basic")

    # -- a scenario that signs in ------------------------------------------------------------

    def _scenario(self, element: Element) -> None:
        place = f"Authentication, line {element.line}"
        wanted = self._value(element)
        first = next((one for one in self._scenarios if one.id and one.id == wanted), None)
        if first is None:
            self._notes.left(place, f"there is no scenario {wanted[:60]!r}: write `auth.login`")
            return
        chain = chain_from(first, self._scenarios, self._notes)
        self.used = chain
        steps = Steps(self.known, self._paths, self._notes)
        rest = [one for one in self._scenarios if one not in chain]
        self.auth["login"] = [
            # The last one's own outputs use its variables, too.
            steps.add(one, [*chain[at:], *rest])
            for at, one in enumerate(chain)
        ]
        self.known = steps.known
        self._applied(chain[-1], element)

    def _applied(self, last: Scenario, element: Element) -> None:
        place, outputs = last.at("Outputs"), last.outputs
        name = _fixed(outputs.get("headername", ""))
        value = Words(self.known, self._notes, place).of_text(outputs.get("headervalue", ""))
        if name and HEADER_NAME.fullmatch(name) and value:
            self.auth["apply"] = [{"in": "header", "name": name, "value": value}]
            self._notes.taken(place, f"auth.apply: the header {name}")
        else:
            self._notes.left(place, "no HeaderName and HeaderValue: write `auth.apply`")
        minutes = _fixed(outputs.get("bearerexpiration", ""))
        seconds = element.get("DefaultExpiration")
        if minutes and re.fullmatch(r"[0-9]{1,5}", minutes) and int(minutes):
            self.auth["life"] = f"{int(minutes)}m"
        elif re.fullmatch(r"[0-9]{1,7}", seconds) and int(seconds):
            self.auth["life"] = f"{int(seconds)}s"
            self._notes.changed(place, f"DefaultExpiration {seconds} was taken for seconds")
        else:
            self._notes.changed(place, "how long a session lasts is not said: `auth.life` is 30m")

    # -- OAuth 2 -----------------------------------------------------------------------------

    def _oauth(self, element: Element) -> None:
        place = f"Parameter {element.get('Name')}, line {element.line}"
        words = Words(self.known, self._notes, place)
        response = element.get("ResponseScenario")
        scenario = next((one for one in self._scenarios if one.id and one.id == response), None)
        token = words.of_text(scenario.request.get("Url")) if scenario is not None else ""
        address = words.of_text(element.get("RequestUrl"))
        if not token or not address or scenario is None:
            self._notes.left(
                place, "OAuth without RequestUrl or ResponseScenario: write `auth.oauth2`"
            )
            return
        self.used = [*self.used, *chain_from(scenario, self._scenarios, self._notes)]
        made: dict[str, Any] = {
            "grant": "authorization_code",
            "authorize_url": address.partition("?")[0],
            "token_url": token,
            **self._authorize(element, address.partition("?")[2], words),
            **self._token(scenario),
        }
        self.auth["oauth2"] = made
        self._credentials(place)
        self._notes.changed(
            place,
            "callmesh asks for the consent, and for tokens, by itself: look at scope, pkce, client "
            "and the names of the token's answer",
        )
        self.known = self.known.having(
            {name: text(".AccessToken") for name in ("AccessToken", "access_token")}
        )
        for variable in scenario.variables:
            if variable.path.lower().endswith("access_token"):
                self.known = self.known.having({variable.name: text(".AccessToken")})

    def _authorize(self, element: Element, more: str, words: Words) -> dict[str, Any]:
        found: dict[str, Any] = {}
        extra: dict[str, str] = {}
        asked = element.get("RequestUrlParameters").lstrip("?&")
        for name, value in parse_qsl(f"{more}&{asked}", max_num_fields=100):
            if name == "scope":
                found["scope"] = words.of_text(value)
            elif name not in _OF_GRANT and not name.startswith("code_challenge"):
                extra[name[:100]] = words.of_text(value)
        return {**found, **({"authorize_parameters": extra} if extra else {})}

    def _token(self, scenario: Scenario) -> dict[str, Any]:
        is_json = scenario.request.get("RequestEncoding").lower() == "json"
        made: dict[str, Any] = {"encoding": "json"} if is_json else {}
        headers = " ".join(
            value.get("Key").lower() for value in scenario.request.all("Headers", "Value")
        )
        if "authorization" in headers:
            made["client"] = "basic"
        record = record_of(scenario, self._paths, self._notes)
        steps = Steps(self.known, self._paths, self._notes)
        for variable in scenario.variables:
            for name in ("access_token", "refresh_token", "expires_in"):
                near = variable.path.lower().replace("_", "")
                if near.endswith(name.replace("_", "")) and (path := steps.path(record, variable)):
                    plain = path.partition(",")[0]
                    if plain != name:
                        made[name] = plain
        return made

    def _credentials(self, place: str) -> None:
        """The grant looks for these two by their names."""
        parameters, credentials = self._settings.parameters, self._settings.credentials
        for name, title in (("client_id", "Client ID"), ("client_secret", "Client secret")):
            if any(one["name"] == name for one in (*parameters, *credentials)):
                continue
            credentials.append({"name": name, "title": title})
            self._notes.changed(place, f"the credential {name} was added: the grant needs it")


def _fixed(source: str) -> str:
    try:
        return (constant(read_text(source)) or "").strip()
    except BadSetting:
        return ""
