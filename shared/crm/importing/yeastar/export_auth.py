"""Our auth, headers and set-up form → Yeastar's AuthMethod."""

from __future__ import annotations

import re
from datetime import timedelta

from shared.crm.form.access import Auth, ClientPlace, Encoding, Grant, OAuth2, Place, PlaceKind
from shared.crm.form.manifest import Manifest
from shared.crm.importing.yeastar.auth import WHERE_ERRORS_ARE
from shared.crm.importing.yeastar.says import Speaker, Xml, json_source, query_text

_PLACE = "auth"
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z-]+) \{\{\.(?P<name>\w+)\}\}")
_MINUTE = timedelta(minutes=1)


def add_auth(manifest: Manifest, scenarios: Xml, speaker: Speaker) -> None:
    scenario = scenarios.add("Scenario", Id="AuthMethod", Type="AUTH")
    parameters = scenario.add("Parameters")
    scenario.add("Requests")
    for name, value in _method(manifest, speaker):
        parameters.add("Parameter", Name=name, Value=value)
    oauth2 = manifest.auth.oauth2
    if oauth2 is not None and oauth2.refresh_every == timedelta(0):
        parameters.add("Parameter", Father="AuthOption", Name="NoNeedRefreshAccessToken", Value="1")
    _add_token_errors(manifest, parameters, speaker)
    _add_fields(manifest, parameters, speaker)
    _add_headers(manifest, parameters, speaker)


def auth_kind(manifest: Manifest) -> str:
    auth = manifest.auth
    if auth.oauth2 is not None:
        return "oauth2" if auth.oauth2.grant is Grant.AUTHORIZATION_CODE else "bearer"
    if auth.basic is not None:
        return "basic"
    return "none" if _bearer(auth) is None else "bearer"


def _method(manifest: Manifest, speaker: Speaker) -> list[tuple[str, str]]:
    auth = manifest.auth
    for name in ("discover", "login", "compute"):
        if getattr(auth, name):
            speaker.notes.left(f"auth.{name}", "Yeastar has no steps that sign in")
    if auth.oauth2 is not None:
        return _oauth2(auth.oauth2, manifest, speaker)
    if auth.basic is not None:
        kind = "username_password" if ":" in auth.basic else "api_key"
        return [
            ("AuthMethod", auth_kind(manifest)),
            ("CredentialType", kind),
            ("Base64EncodedCredential", speaker.text(auth.basic, "auth.basic", {})),
        ]
    if (place := _bearer(auth)) is not None:
        return [("AuthMethod", "bearer"), ("TokenType", place)]
    return [("AuthMethod", "none")]


def _bearer(auth: Auth) -> str | None:
    """The scheme, where a typed-in token is all that there is."""
    found = next((_SCHEME.fullmatch(place.value) for place in _authorizing(auth)), None)
    return found["scheme"] if found is not None else None


def _authorizing(auth: Auth) -> list[Place]:
    return [
        place
        for place in auth.apply
        if place.kind is PlaceKind.HEADER and place.name.lower() == "authorization"
    ]


def _oauth2(oauth2: OAuth2, manifest: Manifest, speaker: Speaker) -> list[tuple[str, str]]:

    def said(text: str | None) -> str:
        return speaker.text(text or "", "auth.oauth2", {})

    found = [
        ("AuthMethod", auth_kind(manifest)),
        ("TokenType", _bearer(manifest.auth) or "Bearer"),
        ("AuthEndPoint", said(oauth2.authorize_url)),
        ("TokenEndPoint", said(_token_url(oauth2))),
        ("AdditionalQueryString", _pairs(oauth2.authorize_parameters, speaker)),
        ("Scope", said(oauth2.scope)),
        ("TokenContentType", "application/json" if oauth2.encoding is Encoding.JSON else ""),
        ("TokenRefreshEndPoint", said(oauth2.refresh_url)),
    ]
    if oauth2.token_parameters:
        grant = {"grant_type": "refresh_token", "refresh_token": "{{.refresh_token}}"}
        body = json_source({**grant, **oauth2.token_parameters})
        # A variable of the vendor's own, and none of ours.
        text = speaker.text(body, "auth.oauth2", {"refresh_token": "refresh_token"})
        found.append(("TokenRefreshRequestBody", text))
    if oauth2.refresh_every:
        minutes = max(1, oauth2.refresh_every // _MINUTE)
        found.append(("TokenRefreshTime", str(minutes)))
    if oauth2.take:
        speaker.notes.left("auth.oauth2.take", "use a follow-up request")
    if oauth2.client is ClientPlace.BASIC:
        speaker.notes.left("auth.oauth2.client", "Yeastar sends the client in the address or body")
    return [pair for pair in found if pair[1]]


def _token_url(oauth2: OAuth2) -> str:
    """With the client in its query, where that is how it is sent."""
    if oauth2.encoding is not Encoding.QUERY and oauth2.grant in {
        Grant.AUTHORIZATION_CODE,
        Grant.CLIENT_CREDENTIALS,
    }:
        return oauth2.token_url
    pairs = ["client_id={{.client_id}}", "client_secret={{.client_secret}}"]
    if oauth2.grant is not Grant.AUTHORIZATION_CODE:
        pairs.append(f"grant_type={oauth2.grant}")
    if oauth2.grant is Grant.PASSWORD:
        pairs += ["username={{UrlEncode .username}}", "password={{UrlEncode .password}}"]
    mark = "&" if "?" in oauth2.token_url else "?"
    return f"{oauth2.token_url}{mark}{'&'.join(pairs)}"


def _pairs(parameters: dict[str, str], speaker: Speaker) -> str:
    return "&".join(
        f"{query_text(name)}={query_text(speaker.text(text, _PLACE, {}))}"
        for name, text in parameters.items()
    )


def _add_token_errors(manifest: Manifest, parameters: Xml, speaker: Speaker) -> None:
    for number, rule in enumerate(manifest.outcome.rules):
        words = rule.like[0] if len(rule.like) == 1 else ""
        if rule.path != WHERE_ERRORS_ARE or words[:1] != "*" or words[-1:] != "*":
            speaker.notes.left(f"outcome.rules.{number}", "Yeastar goes by the status alone")
            continue
        parameters.add(
            "Parameter",
            Father="TokenErrorMap",
            Type="TokenInvalid",
            Name="TokenInvalid",
            Value=re.sub(r"\[([*?[])\]", r"\1", words[1:-1]),
        )


def _add_fields(manifest: Manifest, parameters: Xml, speaker: Speaker) -> None:
    for parameter in manifest.parameters:
        default = parameter.default
        if default is not None and "{{" in default:
            place = f"parameters.{parameter.name}.default"
            speaker.notes.left(place, "a default with placeholders; it has to be typed in")
            default = None
        parameters.add(
            "Parameter",
            Father="CustomFieldList",
            Name=parameter.name,
            Key=parameter.name,
            Editor="list" if parameter.options else "string",
            Title=parameter.title,
            Description=parameter.help or None,
            Options=",".join(parameter.options) or None,
            Value=default,
        )
    for credential in manifest.credentials:
        parameters.add(
            "Parameter",
            Father="CustomFieldList",
            Name=credential.name,
            Key=credential.name,
            Editor="password",
            Title=credential.title,
            Description=credential.help or None,
        )


def _add_headers(manifest: Manifest, parameters: Xml, speaker: Speaker) -> None:
    kinds = {"Content-Type": "application/json", "Accept": f"application/{manifest.answer}"}
    headers = {**kinds, **manifest.headers}
    known = _authorizing(manifest.auth) if _bearer(manifest.auth) else []
    for number, place in enumerate(manifest.auth.apply):
        if place in known:
            continue
        if place.kind is PlaceKind.HEADER:
            headers[place.name] = place.value
        else:
            speaker.notes.left(f"auth.apply.{number}", f"put {place.name} into each request")
    for name, value in headers.items():
        parameters.add(
            "Parameter",
            Father="PopulateTemplateString",
            Name=name,
            Type="Header",
            Value=speaker.text(value, f"headers.{name}", {}),
        )
