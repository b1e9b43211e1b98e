"""Yeastar's AuthMethod → parameters, credentials, headers, auth, what a refusal looks like."""

from __future__ import annotations

import glob
import re
from typing import Any

from shared.crm.importing.yeastar.bodies import folded
from shared.crm.importing.yeastar.fields import AUTH, Fields
from shared.crm.importing.yeastar.oauth import oauth2_of
from shared.crm.importing.yeastar.requests import File, Parameters, at
from shared.crm.importing.yeastar.words import NOTHING, SECRET
from shared.crm.language.text import compile_text

#: Where CRMs say that a token is not accepted; of these, and not of a record that holds the word.
WHERE_ERRORS_ARE = "[error,errors,code,message,error_description,errorCode,errorMessage,status]"
_PLAIN_TOKENS = ("access_token", "token", "api_token", "api_key")
_STATIC = re.compile(r"[^{}]*")
_LONGEST_STATIC = 8


def headers_of(file: File, given: Parameters) -> dict[str, str]:
    """The custom headers. A secret that stands in one as it is becomes a credential."""
    headers: dict[str, str] = {}
    for element in given.group("PopulateTemplateString"):
        name, value = element.get("Name"), element.get("Value")
        place = at(element, AUTH)
        if folded(element.get("Type")) not in {"", "header"}:
            file.notes.left(place, f"a {element.get('Type')} for every request; put it into each")
            continue
        if folded(name) == "contenttype" and "form" in value.lower():
            file.bodies_are_forms = True
            continue
        if ".basic_string" in value:
            file.notes.taken(place, "auth.basic sends it")
            continue
        is_secret = SECRET.search(name) or name.lower().endswith(("key", "auth"))
        if value and is_secret and _STATIC.fullmatch(value):
            scheme, _, rest = value.rpartition(" ")
            raw = file.names.secret(name if rest else "token", place)
            value = f"{scheme} {{{{.{raw}}}}}".strip()
        file.header(headers, name, value, place, NOTHING)
    return headers


def auth_of(file: File, given: Parameters, fields: Fields) -> dict[str, Any]:
    """Empty where nothing is needed."""
    kind = folded(given.get("AuthMethod") or file.information.get("AuthType") or "none")
    if kind in {"none", "no", ""}:
        return {}
    if kind == "basic":
        return _basic(file, given, fields)
    if kind == "oauth2":
        return oauth2_of(file, given, fields, grant="authorization_code")
    if "bearer" in kind:
        if given.get("TokenEndPoint"):
            return oauth2_of(file, given, fields, grant="client_credentials")
        return _bearer(file, given, fields)
    file.notes.left(AUTH, f"authentication by {kind[:20]}; write `auth` by hand")
    return {}


def _basic(file: File, given: Parameters, fields: Fields) -> dict[str, Any]:
    by_key = "key" in folded(given.get("CredentialType") or "")
    usual = "{{.api_key}}" if by_key else "{{.username}}:{{.password}}"
    source = given.get("Base64EncodedCredential") or usual
    place = f"{AUTH}, Base64EncodedCredential"
    _, _, behind = source.rpartition("}}")
    if "{{" not in source or len(behind) > _LONGEST_STATIC:
        # ``admin:secret`` and ``{{.user}}:secret``; ``{{.key}}:X`` is the way of some CRMs.
        head = source[: len(source) - len(behind)] if "{{" in source else "{{.username}}"
        source = f"{head}:{{{{.{file.names.secret('password', place)}}}}}"
    text = file.names.text(source, place, NOTHING) or usual
    for name in sorted(compile_text(text).names, key=lambda name: text.index(f".{name}")):
        fields.need(name)
    return {"basic": text}


def _bearer(file: File, given: Parameters, fields: Fields) -> dict[str, Any]:
    """A token that somebody types in."""
    known = (*fields.credentials, *fields.parameters)
    name = next((one for one in _PLAIN_TOKENS if one in known), None) or next(
        (one for one in fields.credentials if "token" in one or "key" in one), "access_token"
    )
    fields.need(name)
    file.names.own["AccessToken"] = name
    value = f"{given.get('TokenType') or 'Bearer'} {{{{.{name}}}}}"
    return {"apply": [{"in": "header", "name": "Authorization", "value": value}]}


def outcome_of(file: File, given: Parameters) -> dict[str, Any]:
    """``TokenInvalid``: the words by which a CRM refuses a token."""
    rules = []
    for element in given.group("TokenErrorMap"):
        value = element.get("Value")
        if folded(element.get("Name")) != "tokeninvalid":
            file.notes.left(at(element, AUTH), "an error of tokens that has no place here")
        elif value:
            like = [f"*{glob.escape(value)}*"]
            rules.append({"path": WHERE_ERRORS_ARE, "like": like, "means": "credentials"})
    return {"rules": rules} if rules else {}
