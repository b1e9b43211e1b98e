"""Who is who in a UIS call, and which leg is whose: the same in notifications and reports. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.contracts.calls import Party
from shared.pbx.port import Phones

#: The one leg of who is not one of ours.
CONTACT_LEG = "contact"
_EXTENSION = re.compile(r"[A-Za-z0-9_.*#-]{1,32}")
_SESSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RECORD = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Employee:
    """
    Somebody of the account. UIS speaks of employees, who have several phones; a call's leg is an
    employee's, whichever of the phones it was.
    """

    leg_id: str
    party: Party


def employee(
    phones: Phones,
    *,
    user: str | None,
    extension: str | None = None,
    number: str | None = None,
    name: str | None = None,
) -> Employee | None:
    """None where nothing says who."""
    known = phones.users.get(user) if user else None
    if known is None and extension and _EXTENSION.fullmatch(extension):
        known = extension
    if known is None and number in phones.extensions:
        known = number
    if user is None and known is not None:
        user = phones.user_at(known)
    identity = f"employee-{user}" if user else known or number
    if identity is None:
        return None
    party = Party(extension=known) if known else Party(number=number, name=name)
    return Employee(identity[:256], party)


def anybody(phones: Phones, number: str | None, name: str | None = None) -> Party:
    if number is not None and number in phones.extensions:
        return Party(extension=number)
    return Party(number=number, name=None if name == number else name)


def is_session(text: str) -> bool:
    return bool(_SESSION.fullmatch(text))


def record_of(link: str) -> str | None:
    """``https://…/system/media/talk/SESSION/RECORD/`` → RECORD."""
    path = link.partition("?")[0].partition("://")[2].partition("/")[2]
    last = path.rstrip("/").rpartition("/")[2]
    return last if _RECORD.fullmatch(last) else None


def is_record(text: str) -> bool:
    return bool(_RECORD.fullmatch(text))
