"""Searches of a template: which requests one number makes, and what their answers show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from shared.contracts.contacts import ContactCard
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.cards import CardMaker
from shared.crm.engine.orders import Reply
from shared.crm.engine.pages import records_in
from shared.crm.form.contacts import ContactType, Search, Then
from shared.crm.form.manifest import Manifest
from shared.crm.language.functions import plain_text
from shared.crm.language.jsonbody import fill
from shared.crm.language.paths import at_path
from shared.crm.language.searches import SEARCH_ESCAPES
from shared.crm.language.text import Fragment, compile_text
from shared.crm.port import Priority
from shared.errors import Unavailable
from shared.phone import PhoneNumber, same_number, spellings

#: Records of one answer that are looked at; a search by text may find the whole CRM.
_MOST_RECORDS = 200
#: Records of which further requests are made; a search by number has a handful.
_MOST_FOLLOWED = 20
#: Requests of one search, whatever the formats and fields.
_MOST_REQUESTS = 60


class Searcher:
    def __init__(
        self,
        manifest: Manifest,
        requests: CrmRequests,
        cards: CardMaker,
        *,
        region: str | None,
        formats: Sequence[str],
    ) -> None:
        self._manifest = manifest
        self._requests = requests
        self._cards = cards
        self._region = region
        self._formats = tuple(formats)

    async def of_module(
        self,
        number: PhoneNumber,
        module: str,
        *,
        fields: Sequence[str],
        card: bool,
        within: timedelta,
        priority: Priority,
    ) -> tuple[ContactCard, ...]:
        """One search after the other, one request after the other; a hit ends it."""
        contact = self._manifest.contacts[module]
        asked = [contact.map.id, *fields, *(contact.card_fields if card else ())]
        names = list(dict.fromkeys(asked))
        base = {
            **contact.variables,
            "Module": module,
            "Number": number.key,
            "Fields": Fragment(",".join(names)),
            "FieldList": names,
        }
        for search in self._manifest.searches(module):
            wanted = [
                {**base, **more} for more in self._requests_for(search, contact, number, base)
            ]
            async for records in self._answers(search, wanted, within, priority):
                made = (
                    self._cards.card(record, module, fields, variables)
                    for record, variables in records
                )
                kept = [
                    card for card in made if card is not None and self._fits(card, contact, number)
                ]
                if kept:
                    return tuple({card.contact_id: card for card in kept}.values())
        return ()

    def _fits(self, card: ContactCard, contact: ContactType, number: PhoneNumber) -> bool:
        """A search by text finds too much; a card that shows numbers must show this one."""
        if not contact.number_check or not card.phones:
            return True
        return any(same_number(phone, number.raw, self._region) for phone in card.phones)

    # -- what is asked -------------------------------------------------------------------------

    def _requests_for(
        self,
        search: Search,
        contact: ContactType,
        number: PhoneNumber,
        known: Mapping[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """The variables of each request."""
        forms = spellings(number, search.formats or self._formats)
        fields = search.fields or contact.phone_fields
        return _capped(self._spread(search, fields, forms, known))

    def _spread(
        self,
        search: Search,
        fields: Sequence[str],
        forms: Sequence[str],
        known: Mapping[str, Any],
    ) -> Iterator[dict[str, Any]]:
        used = search.used
        if search.test is not None:
            at_once = max(1, search.max_tests // max(1, len(fields)))
            for first in range(0, len(forms), at_once):
                some = forms[first : first + at_once]
                yield {"Tests": self._tests(search, fields, some, known)}
        elif "Phone" in used:
            for form in forms:
                if "Field" in used:
                    for field in fields:
                        yield {"Phone": form, "Field": Fragment(field)}
                else:
                    yield {"Phone": form}
        elif "Phones" in used:
            for first in range(0, len(forms), search.max_tests):
                chunk = {"Phones": list(forms[first : first + search.max_tests])}
                for field in fields if "Field" in used else ("",):
                    yield {**chunk, "Field": Fragment(field)}
        else:
            yield {}

    def _tests(
        self,
        search: Search,
        fields: Sequence[str],
        forms: Sequence[str],
        known: Mapping[str, Any],
    ) -> Any:
        """Every field with every spelling, in the CRM's own words; *known* is of the type."""
        escape = SEARCH_ESCAPES[search.request.language]
        scope = self._requests.scope.having(known)
        pairs = [(field, form) for field in fields or ("",) for form in forms]
        if isinstance(search.test, str):
            test = compile_text(search.test)
            spoken = {name: _escaped(value, escape) for name, value in scope.variables.items()}
            return Fragment(
                search.join.join(
                    test.text(
                        {**scope.own, **spoken, "Field": field, "Phone": escape(form)},
                        maps=scope.maps,
                    )
                    for field, form in pairs
                )
            )
        tests = [
            fill(search.test, {**scope.all, "Field": field, "Phone": form}, maps=scope.maps)
            for field, form in pairs
        ]
        prefix = [] if search.prefix is None else [search.prefix] * (len(tests) - 1)
        return [*prefix, *tests]

    # -- what comes back -----------------------------------------------------------------------

    async def _answers(
        self,
        search: Search,
        wanted: Sequence[Mapping[str, Any]],
        within: timedelta,
        priority: Priority,
    ) -> AsyncIterator[list[tuple[Any, Mapping[str, Any]]]]:
        """Records of one request, or of all, each with the variables that it was found by."""
        if search.at_once:
            found = await asyncio.gather(
                *(self._records(search, variables, within, priority) for variables in wanted)
            )
            yield [pair for records in found for pair in records]
            return
        for variables in wanted:
            yield await self._records(search, variables, within, priority)

    async def _records(
        self,
        search: Search,
        variables: Mapping[str, Any],
        within: timedelta,
        priority: Priority,
    ) -> list[tuple[Any, Mapping[str, Any]]]:
        reply = await self._requests.ask(
            search.request, variables, within=within, priority=priority, searching=True
        )
        if reply is None:
            return []
        path = self._requests.path(search.records, variables)
        records = records_in(reply, path, absent_is_nobody=search.absent_is_nobody)
        if not (search.then or search.absent_is_nobody):
            self._refuse_without_ids(reply, path, records[:_MOST_RECORDS], variables)
        found: list[tuple[Any, Mapping[str, Any]]] = [
            (record, variables) for record in records[:_MOST_RECORDS]
        ]
        for then in search.then:
            later: list[tuple[Any, Mapping[str, Any]]] = []
            for record, known in found[:_MOST_FOLLOWED]:
                later += await self._followed(then, record, known, within, priority)
            found = later[:_MOST_RECORDS]
        return found

    def _refuse_without_ids(
        self, reply: Reply, path: str, records: Sequence[Any], variables: Mapping[str, Any]
    ) -> None:
        """
        Raises: Unavailable for a list of what are no records, and for an object where the answer
        should be the list: words of an error with status 200. One that the template asks for is
        nobody where it has no id.
        """
        should_be = isinstance(at_path(reply.value, path), list) or (not path and reply.value)
        module = plain_text(variables["Module"])
        if (
            should_be
            and records
            and not any(self._cards.id_of(record, module, variables) for record in records)
        ):
            where = self._manifest.contacts[module].map.id
            raise Unavailable(f"what the CRM answers are no {module}: they have nothing at {where}")

    async def _followed(
        self,
        then: Then,
        record: Any,
        known: Mapping[str, Any],
        within: timedelta,
        priority: Priority,
    ) -> list[tuple[Any, Mapping[str, Any]]]:
        """What takes the place of *record*, with the variables that were taken out of it."""
        more = {
            **known,
            **{name: self._requests.at(record, where, known) for name, where in then.take.items()},
        }
        reply = await self._requests.ask(
            then.request, more, within=within, priority=priority, searching=True
        )
        found = []
        if reply is not None:
            path = self._requests.path(then.records, more)
            found = records_in(reply, path, absent_is_nobody=then.absent_is_nobody)
        if not found and then.keep:
            return [(record, more)]
        return [
            (_merged(record, new) if then.merge else new, more) for new in found[:_MOST_RECORDS]
        ]


def _merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new


def _capped(asked: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for count, one in enumerate(asked):
        if count == _MOST_REQUESTS:
            return
        yield {name: _typed(value) for name, value in one.items()}


def _escaped(value: Any, escape: Callable[[str], str]) -> Any:
    is_text = isinstance(value, str) and not isinstance(value, Fragment)
    return escape(value) if is_text else value


def _typed(value: Any) -> Any:
    return value if isinstance(value, list | str) else plain_text(value)
