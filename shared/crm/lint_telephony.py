"""What a template says of the CRM's telephony and of new contacts, and will not do so. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shared.crm.form.manifest import Manifest
from shared.crm.form.requests import Request
from shared.crm.form.telephony import Addressed, Cards, Module, Rows, RowsOf, Telephony
from shared.crm.language.text import compile_text

#: A place in the template, and what to change there.
Fault = tuple[str, str]


def telephony_faults(manifest: Manifest) -> Iterator[Fault]:
    """What cannot work."""
    for name, contact in manifest.contacts.items():
        page = contact.new_page_url
        if page is not None and compile_text(page).names.isdisjoint({"Number", "Phone"}):
            yield f"contacts.{name}.new_page_url", "the page is opened without the number: use it"
    telephony = manifest.telephony
    if telephony is None:
        return
    for place, module in enumerate(telephony.modules):
        at = f"telephony.modules.{place}"
        yield from _unused_rows(module.rows, module.register_by, at)
        yield from _not_told(telephony, module, at)
    for place, cards in enumerate(telephony.cards):
        at = f"telephony.cards.{place}"
        yield from _unused_rows(cards.rows, cards.request, at)
        if cards.to is Addressed.USERS and not _names_users(cards):
            yield f"{at}.to", "the request names no user: use Users, User or rows of users"


def telephony_warnings(manifest: Manifest) -> Iterator[Fault]:
    """What works and is likely not meant."""
    telephony = manifest.telephony
    if telephony is None:
        return
    for place, module in enumerate(telephony.modules):
        at = f"telephony.modules.{place}"
        told = module.register_by.used
        if "Active" not in told:
            yield f"{at}.register", "a module that is switched off stays on there: use Active"
        for name in ("ClientId", "DialUrl", "StatusUrl", *module.rows):
            if name in told and name not in _compared(module):
                yield f"{at}.compare", f"nobody sees that {name} was changed there: compare it"
    for place, cards in enumerate(telephony.cards):
        if not (cards.unknown or cards.absent):
            yield (
                f"telephony.cards.{place}",
                "a card that nobody saw is taken for one that was seen: say `unknown` or `absent`",
            )


def _unused_rows(rows: dict[str, Rows], request: Request, at: str) -> Iterator[Fault]:
    for name in rows.keys() - request.used:
        yield f"{at}.rows.{name}", "these rows go into no request"


def _not_told(telephony: Telephony, module: Module, at: str) -> Iterator[Fault]:
    told = module.register_by.used
    wanted = {"ClientId", "DialUrl"} if telephony.click is not None else set()
    if telephony.status is not None and telephony.status.query is not None:
        wanted |= {"ClientId", "StatusUrl"}
    for name in sorted(wanted - told):
        yield f"{at}.register", f"the CRM is not told {name}: its requests cannot come"


def _names_users(cards: Cards) -> bool:
    rows = {name for name, one in cards.rows.items() if one.of is RowsOf.USERS}
    return not cards.request.used.isdisjoint({"Users", "User"} | rows)


def _compared(module: Module) -> set[str]:
    found = {one.rows for one in module.compare if one.rows is not None}
    for one in module.compare:
        found |= compile_text(one.text).names if one.text is not None else set()
    return found
