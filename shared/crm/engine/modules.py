"""The telephony module in a CRM: how it is told, and what it has in place of that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.orders import Reply
from shared.crm.engine.showing import secrets_of
from shared.crm.form.manifest import Manifest
from shared.crm.form.telephony import MODULE_SECRETS, Compared, Module, Rows, RowsOf
from shared.crm.language.functions import plain_text
from shared.crm.language.jsonbody import fill
from shared.crm.language.paths import list_at
from shared.crm.language.text import compile_text
from shared.crm.masking import Mask, printable
from shared.crm.port import ModuleReport, Priority, TelephonyModule
from shared.crm.rendering import Scope
from shared.errors import ContractError, Rejected

#: Elements of one list of the CRM that are looked at, differences that are told of it, and
#: characters of a value.
_MOST_ROWS, _MOST_TOLD, _LONGEST = 5000, 10, 200
_GONE = frozenset({404, 410})
#: `+7-499-999-99-99` and `+74999999999` are one number.
_AS_NUMBER = re.compile(r"\+?[0-9][0-9 ().-]*")

#: An element as it is compared: its keys with their values.
_Fact = tuple[tuple[str, str], ...]


async def register(
    requests: CrmRequests, module: Module, told: TelephonyModule, *, within: timedelta
) -> ModuleReport:
    """Raises: as CrmRequests.ask; Rejected for a user or a shop that cannot be said there."""
    variables = _variables(requests.scope, module, told)
    reply = await requests.ask(module.register_by, variables, within=within, priority=Priority.SYNC)
    if reply is None:
        raise Rejected("the template makes no request that registers the telephony module")
    return ModuleReport(
        registered=True, unknown=texts_at(requests, reply, module.unknown, variables)
    )


async def read(
    manifest: Manifest,
    requests: CrmRequests,
    module: Module,
    told: TelephonyModule,
    *,
    within: timedelta,
) -> ModuleReport:
    """Raises: as :func:`register`."""
    variables = _variables(requests.scope, module, told)
    try:
        reply = await requests.ask(module.read, variables, within=within, priority=Priority.SYNC)
    except Rejected as error:
        if error.details.get("status") in _GONE:
            return ModuleReport(registered=False)
        raise
    if reply is None:
        raise Rejected("the template makes no request that reads the telephony module")
    if module.there is not None and requests.at(reply.value, module.there, variables) is None:
        return ModuleReport(registered=False)
    mask = Mask(secrets_of(manifest, requests.scope.having(variables)), sign_in=False)
    differs = [
        what
        for compared in module.compare
        for what in _differences(requests, compared, reply, variables, mask)
    ]
    return ModuleReport(registered=True, differs=tuple(differs))


def rows_of(rows: Rows, items: Sequence[Mapping[str, Any]], scope: Scope) -> list[Any]:
    """Raises: Rejected, which says of which of *items* there can be none."""
    made = []
    for item in items:
        try:
            made.append(fill(rows.each, scope.having(item).all, maps=scope.maps))
        except ContractError as error:
            which = ", ".join(f"{name.lower()} {text}" for name, text in item.items())
            raise Rejected(f"{which}: the CRM cannot be told of it: {error.message}") from error
    return made


def texts_at(
    requests: CrmRequests, reply: Reply, paths: Sequence[str], variables: Mapping[str, Any]
) -> tuple[str, ...]:
    """What stands at *paths*, each once."""
    found: dict[str, None] = {}
    for path in paths:
        value = requests.at(reply.value, path, variables)
        for item in value if isinstance(value, list) else [value]:
            # A list where there should be words, and yes and no, name nobody.
            if isinstance(item, str | int) and not isinstance(item, bool):
                text = printable(reply.said(plain_text(item))).strip()[:_LONGEST]
                found |= {text: None} if text else {}
    return tuple(found)[:_MOST_ROWS]


def _variables(scope: Scope, module: Module, told: TelephonyModule) -> dict[str, Any]:
    codes = [{"Extension": code, "User": user} for code, user in sorted(told.codes.items())]
    shops = [{"Shop": shop, "Number": number} for shop, number in sorted(told.shops.items())]
    of = {RowsOf.CODES: codes, RowsOf.SHOPS: shops}
    return {
        "ModuleCode": told.code,
        "Title": told.title,
        "Logo": told.logo,
        "ClientId": told.client_id,
        "DialUrl": told.dial_url,
        "StatusUrl": told.status_url,
        "SettingsUrl": told.settings_url,
        "Editable": told.editable,
        "Active": told.active,
        **{name: rows_of(rows, of[rows.of], scope) for name, rows in module.rows.items()},
    }


# -- compared ------------------------------------------------------------------------------------


def _differences(
    requests: CrmRequests,
    compared: Compared,
    reply: Reply,
    variables: Mapping[str, Any],
    mask: Mask,
) -> Iterator[str]:
    """In words; what the CRM was not told of is not compared."""
    there = requests.at(reply.value, compared.path, variables)
    if there is None and compared.if_shown:
        return
    if compared.rows is not None:
        for what in _rows_differ(variables[compared.rows], list_at(there, "")[:_MOST_ROWS]):
            yield f"{compared.what}: {_shown(what, mask)}"
        return
    source = compared.text or ""
    wanted = requests.scope.having(variables).text(source)
    found = plain_text(there)
    if not wanted or found == wanted:
        return
    if MODULE_SECRETS & compile_text(source).names:
        yield f"{compared.what}: {'another' if found else 'none'} is there"
    else:
        yield (
            f"{compared.what}: {_shown(found, mask) or 'nothing'} in place of "
            f"{_shown(wanted, mask)}"
        )


def _rows_differ(wanted: Sequence[Any], found: Sequence[Any]) -> Iterator[str]:
    names = list(dict.fromkeys(name for one in wanted if isinstance(one, dict) for name in one))
    ours = {_fact(one, names): one for one in wanted}
    theirs = {_fact(one, names): one for one in found}
    for those, others, words in ((ours, theirs, "is missing"), (theirs, ours, "is there, too")):
        more = [one for fact, one in those.items() if fact not in others]
        for one in more[:_MOST_TOLD]:
            yield f"{_in_words(one, names)} {words}"
        if len(more) > _MOST_TOLD:
            yield f"{len(more) - _MOST_TOLD} more {words.replace('is', 'are', 1)}"


def _fact(element: Any, names: Sequence[str]) -> _Fact:
    """With no *names* to go by, all that it has."""
    if not isinstance(element, dict):
        return (("", _plain(element)),)
    return tuple((name, _plain(element.get(name))) for name in names or sorted(element))


def _plain(value: Any) -> str:
    text = plain_text(value).strip()
    return "".join(filter(str.isdecimal, text)) if _AS_NUMBER.fullmatch(text) else text


def _in_words(element: Any, names: Sequence[str]) -> str:
    if not isinstance(element, dict):
        return plain_text(element)
    keys = names or sorted(element)
    return ", ".join(f"{name} {plain_text(element.get(name)) or 'none'}" for name in keys)


def _shown(text: str, mask: Mask) -> str:
    return printable(mask.text(text)).replace("\n", " ")[:_LONGEST]
