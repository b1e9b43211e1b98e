"""A record of a CRM → a card. Per record, so that values of two records cannot be mixed up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from yarl import URL

from shared.contracts.contacts import ContactCard
from shared.crm.engine.asking import CrmRequests
from shared.crm.form.contacts import ContactType
from shared.crm.form.manifest import Manifest
from shared.crm.language.contexts import url_only_http
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import is_there, of_record
from shared.crm.language.text import compile_text
from shared.crm.language.url import compile_url
from shared.errors import ContractError
from shared.phone import PhoneNumber

#: What a document store holds as a number.
_INTEGER_BITS = 63
#: Numbers of one record; a mapping gone wrong must not fill the cache.
_MOST_PHONES = 50
_LONGEST = 1000
#: In an address.
_LONGEST_NAME = 200
#: Of a field: a card is cached, and goes along with every event of its call.
_LONGEST_FIELD, _MOST_ITEMS = 10_000, 200


class CardMaker:
    def __init__(self, manifest: Manifest, requests: CrmRequests, *, connection: str) -> None:
        self._manifest = manifest
        self._requests = requests
        self.connection = connection

    def card(
        self, record: Any, module: str, fields: Sequence[str], variables: Mapping[str, Any]
    ) -> ContactCard | None:
        """
        *fields*: those that were asked for by name, beside what a card shows; *variables* those of
        the search. None for a record without an id.
        """
        contact = self._manifest.contacts[module]
        contact_id = self.id_of(record, module, variables)
        if contact_id is None:
            return None

        def shown(path: str | None) -> str | None:
            return self._text(self._at(record, path, variables)) if path else None

        first, last = shown(contact.map.first_name), shown(contact.map.last_name)
        company = shown(contact.map.company)
        name = shown(contact.map.display_name) or " ".join(filter(None, (first, last)))
        custom = {
            name: self._plain(self._at(record, path, variables))
            for name, path in contact.map.custom.items()
        }
        phones = contact.map.phones or contact.phone_fields
        card = ContactCard(
            connection=self.connection,
            module=module,
            contact_id=contact_id,
            display_name=name or company or contact_id,
            company=company,
            email=shown(contact.map.email),
            owner_id=shown(contact.map.owner_id),
            changed_at=_moment(shown(contact.map.changed_at)),
            phones=tuple(
                dict.fromkeys(
                    text
                    for path in phones
                    for text in _texts(self._plain(self._at(record, path, variables)))
                )
            )[:_MOST_PHONES],
            fields={
                **custom,
                **self._fields(record, fields, contact, variables),
            },
        )
        own = self._text(self._at(record, contact.map.page, variables, wrap=False))
        page = _link(own) if own else self.page(card)
        return card.model_copy(update={"page_url": page})

    def id_of(self, record: Any, module: str, variables: Mapping[str, Any]) -> str | None:
        path = self._manifest.contacts[module].map.id
        return self._text(self._at(record, path, variables, wrap=False))

    def page(self, card: ContactCard) -> str | None:
        """None where a part of the address is not known: a wrong link is worse than none."""
        contact = self._manifest.contacts[card.module]
        if contact.page_url is None:
            return None
        return self._address(contact.page_url, card_variables(card, contact))

    def new_page(self, module: str, number: PhoneNumber, display_name: str | None) -> str | None:
        """As :meth:`page`, of the page for a new one; the name need not be known."""
        contact = self._manifest.contacts[module]
        if contact.new_page_url is None:
            return None
        variables = {
            **contact.variables,
            **names_of((display_name or "").strip()[:_LONGEST_NAME]),
            "Module": module,
            "Phone": number.key,
            "Number": number.key,
        }
        return self._address(contact.new_page_url, variables, may_lack=names_of("").keys())

    def _address(
        self, source: str, variables: Mapping[str, Any], *, may_lack: Collection[str] = ()
    ) -> str | None:
        scope = self._requests.scope.having(variables)
        known = scope.all
        if not all(known.get(name) for name in compile_text(source).names.difference(may_lack)):
            return None
        try:
            whole = compile_url(source).text(scope.variables, trusted=scope.own, maps=scope.maps)
            return url_only_http(str(URL(whole, encoded=True)))
        except (ContractError, ValueError):
            return None

    def _fields(
        self,
        record: Any,
        names: Sequence[str],
        contact: ContactType,
        variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        """None for what is empty; what the record does not have at all is left out."""
        found = {name: self._named(record, name, contact, variables) for name in names}
        return {
            name: value
            for name, value in found.items()
            if value is not None or is_there(record, self._wrapped(name))
        }

    def _named(
        self, record: Any, name: str, contact: ContactType, variables: Mapping[str, Any]
    ) -> Any:
        """A field by the name that a rule gives it."""
        found = self._at(record, name, variables)
        if found is None and contact.map.field is not None:
            found = self._at(record, contact.map.field, {**variables, "Field": name}, wrap=False)
        return self._plain(found)

    def _at(
        self, record: Any, path: str | None, variables: Mapping[str, Any], *, wrap: bool = True
    ) -> Any:
        if path is None:
            return None
        found = of_record(
            record, self._requests.path(self._wrapped(path) if wrap else path, variables)
        )
        if found is None and "." in path and isinstance(record, Mapping):
            # A field that is an object in one API version is a text in another.
            short = path.split(",", 1)[0].split(".", 1)[0]
            value = of_record(record, self._wrapped(short)) if wrap else record.get(short)
            return value if isinstance(value, str | int | float) else None
        return found

    def _wrapped(self, path: str) -> str:
        pattern = self._manifest.field_path
        if pattern == "{}":
            return path.removeprefix("^")
        parts = (part.strip() for part in path.split(","))
        return ",".join(
            part[1:] if part.startswith("^") else pattern.replace("{}", part) for part in parts
        )

    def _text(self, value: Any) -> str | None:
        return plain_text(self._plain(value))[:_LONGEST].strip() or None

    def _plain(self, value: Any) -> Any:
        """A looked-up record stands for its name; what no store can hold is cut or becomes text."""
        values = self._manifest.values
        if value is False and values.false_is_empty:
            return None
        if isinstance(value, Mapping):
            part = value.get(values.in_object) if values.in_object else None
            return None if isinstance(part, Mapping) else self._plain(part)
        if isinstance(value, list):
            if values.in_pair is not None and len(value) == 2 and isinstance(value[0], int):  # noqa: PLR2004  a pair
                return self._plain(value[values.in_pair])
            return [self._plain(item) for item in value[:_MOST_ITEMS]]
        if isinstance(value, str):
            return value[:_LONGEST_FIELD]
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
            return str(value)
        if isinstance(value, float):
            # Of a kind that every store and JSON writer knows.
            return float(value)
        return value


def names_of(display_name: str) -> dict[str, str | None]:
    """A new contact's name and its parts, as texts say them; a lone word is the last name."""
    first, _, last = display_name.rpartition(" ")
    return {"FirstName": first or None, "LastName": last, "DisplayName": display_name}


def card_variables(card: ContactCard | None, contact: ContactType | None) -> dict[str, Any]:
    """What texts may say of a contact; all there, so that none is left from before."""
    if card is None:
        names = ("ContactId", "Module", "ContactName", "Company")
        return dict.fromkeys(names)
    return {
        **(contact.variables if contact is not None else {}),
        **({name: card.fields.get(name) for name in contact.map.custom} if contact else {}),
        "ContactId": card.contact_id,
        "Module": card.module,
        "ContactName": card.display_name,
        "Company": card.company,
        "Phone": card.phones[0] if card.phones else None,
    }


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    text = plain_text(value).strip()
    return [text[:_LONGEST]] if text else []


def _link(text: str) -> str | None:
    """What a browser may open; one record's script must not cost the caller all the others."""
    try:
        return url_only_http(text)
    except ContractError:
        return None


def _moment(text: str | None) -> datetime | None:
    """In UTC: ISO 8601, Unix seconds or milliseconds; without a zone it is taken for UTC."""
    if text is None:
        return None
    try:
        if text.isascii() and text.isdigit():
            seconds = int(text[:14])
            return datetime.fromtimestamp(seconds / (1000 if seconds > 10**11 else 1), UTC)
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
