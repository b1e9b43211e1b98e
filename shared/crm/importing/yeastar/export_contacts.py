"""Our contact types → Yeastar's searches and creations."""

from __future__ import annotations

from shared.crm.form.contacts import ContactType, Search
from shared.crm.form.manifest import Manifest
from shared.crm.importing.yeastar.columns import column, parts_of
from shared.crm.importing.yeastar.contacts import CARD, PHONES
from shared.crm.importing.yeastar.export_requests import RequestWriter
from shared.crm.importing.yeastar.says import CREATE, PAGE, SEARCH, Speaker, Xml


class ContactsWriter:
    def __init__(self, manifest: Manifest, speaker: Speaker) -> None:
        self._manifest = manifest
        self._speaker = speaker
        self._writer = RequestWriter(speaker, answer=str(manifest.answer))
        self.notes = speaker.notes

    def add_contacts(self, scenarios: Xml) -> None:
        scenario = scenarios.add("Scenario", Id="SyncContactAuto", Type="REST")
        parameters, requests = scenario.add("Parameters"), scenario.add("Requests")
        shown: set[str] = set()
        for name, contact in self._manifest.contacts.items():
            place = f"contacts.{name}"
            search = self._search(name, place)
            if search is None:
                continue
            literals = self._literals(contact, name, search)
            element = self._writer.add(
                requests, name, search.request, place, SEARCH, literals=literals
            )
            outputs = element.add("Outputs")
            for output, path in self._outputs(contact, place).items():
                shown.add(output)
                text = self._speaker.text(column(search.records, path), place, SEARCH)
                outputs.add("Output", Name=output, Path=text, Type="string")
        self._add_page(parameters)
        for output in ("ContactsId", *CARD, *PHONES, "CustomValue"):
            if output != "DisplayName":
                enabled = str(int(output in shown))
                parameters.add("Parameter", Name=f"{output}Enable", Value=enabled)

    def _search(self, name: str, place: str) -> Search | None:
        search, *others = self._manifest.searches(name)
        if others:
            self.notes.left(place, "the searches after the first")
        if search.then:
            self.notes.left(place, "requests that follow for each record (`then`)")
        if search.test is not None and not isinstance(search.test, str):
            self.notes.left(place, "a search whose tests are a structure")
            return None
        return search

    def _literals(self, contact: ContactType, name: str, search: Search) -> dict[str, str]:
        """What is known beforehand, and the tests of all fields as one text."""
        fields = search.fields or contact.phone_fields
        names = dict.fromkeys([contact.map.id, *contact.card_fields])
        found = {**contact.variables, "Module": name, "Fields": ",".join(names)}
        if fields:
            found["Field"] = fields[0]
        if isinstance(search.test, str):
            tests = [
                self._speaker.text(
                    search.test, f"contacts.{name}", SEARCH, literals={**found, "Field": field}
                )
                for field in fields or ("",)
            ]
            found["Tests"] = search.join.join(tests)
        return found

    def _outputs(self, contact: ContactType, place: str) -> dict[str, str]:
        found = {"ContactsId": contact.map.id}
        for output, ours in CARD.items():
            if path := getattr(contact.map, ours):
                found[output] = self._wrapped(path)
        phones = contact.map.phones or contact.phone_fields
        for output, path in zip(PHONES, phones, strict=False):
            found[output] = self._wrapped(path)
        if len(phones) > len(PHONES):
            self.notes.left(place, f"numbers after the first {len(PHONES)}")
        found |= {name: self._wrapped(path) for name, path in contact.map.custom.items()}
        for name in ("owner_id", "changed_at"):
            if getattr(contact.map, name):
                self.notes.left(f"{place}.map.{name}", "Yeastar has no such field")
        if contact.journal:
            self.notes.left(
                f"{place}.journal", "put these fields into the journal's request by hand"
            )
        return found

    def _wrapped(self, path: str) -> str:
        pattern = self._manifest.field_path
        return ",".join(
            part[1:] if part.startswith("^") else pattern.replace("{}", part)
            for part in parts_of(path)
        )

    def _add_page(self, parameters: Xml) -> None:
        pages = {
            name: (contact.page_url or "", contact.map.page or "")
            for name, contact in self._manifest.contacts.items()
        }
        name, (url, path) = next(
            ((name, page) for name, page in pages.items() if any(page)), ("", ("", ""))
        )
        kind = "retrieve_from_contact" if path else "specify_url_format"
        custom = {
            one: one for contact in self._manifest.contacts.values() for one in contact.map.custom
        }
        if any(any(page) and page != (url, path) for page in pages.values()):
            self.notes.changed("page_url", f"Yeastar has one for all types: that of {name}")
        field = column(self._manifest.searches(name)[0].records, path) if path else ""
        place = f"contacts.{name}.page_url"
        said = self._speaker.text(url, place, {**PAGE, **custom})
        for parameter, value in (
            ("ContactUrlType", kind),
            ("URLFormat", "" if path else said),
            ("ContactFieldForUri", field),
        ):
            parameters.add("Parameter", Name=parameter, Value=value)

    def add_creates(self, scenarios: Xml) -> None:
        if not any(contact.create for contact in self._manifest.contacts.values()):
            return
        scenario = scenarios.add("Scenario", Id="CreateNewContact", Type="REST")
        requests = scenario.add("Requests")
        for name, contact in self._manifest.contacts.items():
            if contact.create is None:
                continue
            place = f"contacts.{name}.create"
            if contact.create.before:
                self.notes.left(place, "requests before it")
            literals = {**contact.variables, "Module": name}
            element = self._writer.add(
                requests, name, contact.create.request, place, CREATE, literals=literals
            )
            outputs = element.add("Outputs")
            outputs.add("Output", Name="ContactId", Path=contact.create.contact_id, Type="string")
