"""A record of a CRM → a card. Per record, so that values of two records cannot be mixed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.contacts import ContactCard
from shared.crm.engine.manifest import ContactType, Manifest, Request
from shared.crm.engine.requests import render
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path
from shared.crm.language.text import compile_text

#: What a document store holds as a number.
_INTEGER_BITS = 63


class CardMaker:
    def __init__(
        self, manifest: Manifest, *, connection: str, parameters: Mapping[str, str]
    ) -> None:
        self._manifest = manifest
        self._connection = connection
        self._parameters = parameters

    def card(self, record: Mapping[str, Any], module: str, fields: Sequence[str]) -> ContactCard:
        """*fields*: those that were asked for by name, beside what a card shows."""
        contact = self._manifest.contacts[module]
        contact_id = plain_text(record.get(self._manifest.id_field))
        phones = [plain_text(record.get(name)) for name in contact.phone_fields]
        return ContactCard(
            connection=self._connection,
            module=module,
            contact_id=contact_id,
            display_name=self._shown(record, contact.display_name) or contact_id,
            company=self._shown(record, contact.company),
            email=self._shown(record, contact.email),
            owner_id=self._shown(record, contact.owner_id),
            page_url=self._page(contact, module, contact_id),
            phones=tuple(dict.fromkeys(phone for phone in phones if phone)),
            fields={name: self._plain(at_path(record, name)) for name in fields},
        )

    def _shown(self, record: Mapping[str, Any], path: str | None) -> str | None:
        if path is None:
            return None
        value = at_path(record, path)
        if value is None and "." in path:
            # A field that is an object in one API version is a text in another.
            value = record.get(path.partition(".")[0])
        return plain_text(self._plain(value)) or None

    def _plain(self, value: Any) -> Any:
        """A looked-up record stands for its name; what no store can hold becomes text."""
        if isinstance(value, Mapping):
            return self._plain(value.get(self._manifest.value_in_object))
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
            return str(value)
        return value

    def _page(self, contact: ContactType, module: str, contact_id: str) -> str | None:
        """None where a part of the address is not known: a wrong link is worse than none."""
        if contact.page_url is None:
            return None
        variables = {"ContactId": contact_id, "Module": module}
        known = {**self._parameters, **variables}
        if not all(known.get(name) for name in compile_text(contact.page_url).names):
            return None
        request = Request(url=contact.page_url)
        return str(render(request, variables, trusted=self._parameters, maps={}).url)
