"""Our users, journal and follow-up requests → Yeastar's."""

from __future__ import annotations

from collections.abc import Mapping

from shared.crm.form.contacts import Users
from shared.crm.form.journal import Journal, NeedsContact
from shared.crm.form.manifest import Event, Manifest
from shared.crm.form.requests import PageKind, Step
from shared.crm.importing.yeastar.columns import column
from shared.crm.importing.yeastar.contacts import CARD
from shared.crm.importing.yeastar.export_requests import RequestWriter
from shared.crm.importing.yeastar.journal import DEFAULT_SUBJECT
from shared.crm.importing.yeastar.says import CREATE, JOURNAL, SEARCH, WORDS, Names, Speaker, Xml
from shared.crm.importing.yeastar.users import SPELLINGS

_ENTRY = "JournalId"
_PAGE_VARIABLES = ("{{.Page}}", "{{.Offset}}", "{{.Limit}}")
_NAMES: dict[Event, Names] = {
    Event.AUTH: {},
    Event.USERS: {},
    Event.SEARCH: SEARCH,
    Event.CREATE: CREATE,
    Event.JOURNAL: JOURNAL,
}


class CallsWriter:
    def __init__(self, manifest: Manifest, speaker: Speaker) -> None:
        self._manifest = manifest
        self._speaker = speaker
        self._writer = RequestWriter(speaker, answer=str(manifest.answer))
        self.notes = speaker.notes

    def add_users(self, scenarios: Xml, users: Users) -> None:
        scenario = scenarios.add("Scenario", Id="UserAssociation", Type="REST")
        parameters, requests = scenario.add("Parameters"), scenario.add("Requests")
        query = users.request.query
        names = {str(text): name for name, text in query.items() if text in _PAGE_VARIABLES}
        plain = users.request.model_copy(
            update={"query": {n: text for n, text in query.items() if text not in _PAGE_VARIABLES}}
        )
        for name, value in self._pages(users, names):
            parameters.add("Parameter", Name=name, Value=value)
        element = self._writer.add(requests, "UserAssociation", plain, "users.request", {})
        outputs = element.add("Outputs")
        paths = {"UserUniqueId": users.user_id}
        for output in ("FirstName", "LastName", "DisplayName", "Email"):
            if path := getattr(users, CARD[output]):
                paths[output] = path
        if users.extension:
            paths["Extension"] = users.extension
        for output, path in paths.items():
            outputs.add("Output", Name=output, Path=column(users.records, path), Type="string")
        if users.active:
            self.notes.left("users.active", "Yeastar takes all users; ask for active ones alone")

    def _pages(self, users: Users, names: Mapping[str, str]) -> list[tuple[str, str]]:
        pages = users.pages
        if pages is None:
            return []
        size = str(pages.size) if "size" in pages.model_fields_set else ""
        if pages.kind is PageKind.NEXT_LINK:
            return [("PaginationType", "link"), ("NextPageLinkPath", pages.link or "")]
        spelling = SPELLINGS.get(pages.kind)
        if spelling is None:
            self.notes.left("users.pages", f"pages of kind {pages.kind}: only the first is read")
            return []
        found = [
            ("PaginationType", str(pages.kind)),
            (spelling.page[0], names.get(spelling.variable, "")),
            (spelling.start[0], str(pages.start)),
            (spelling.size_name[0], names.get("{{.Limit}}", "")),
            (spelling.size[0], size),
        ]
        return [(name, value) for name, value in found if value]

    # -- journal ---------------------------------------------------------------------------------

    def add_journal(self, scenarios: Xml, journal: Journal) -> None:
        scenario = scenarios.add("Scenario", Id="CallJournal", Type="REST")
        parameters, requests = scenario.add("Parameters"), scenario.add("Requests")
        steps = (*journal.before, *journal.after)
        made = {name: name for step in steps for name in step.makes}
        made |= {n: n for contact in self._manifest.contacts.values() for n in contact.map.custom}
        for name, text in (("Subject", journal.subject), ("Description", journal.description)):
            said = "" if text == DEFAULT_SUBJECT else text
            if said:
                place = f"journal.{name.lower()}"
                value = self._speaker.text(said, place, {**WORDS, **made})
                parameters.add("Parameter", Name=f"Enable{name}", Value="1")
                parameters.add("Parameter", Name=name, Value=value)
        if journal.contact is NeedsContact.YES:
            parameters.add("Parameter", Name="NeedSyncContact", Value="1")
        names = {**JOURNAL, **made, "EntryId": _ENTRY}
        weight = 0
        for step in journal.before:
            weight += self._add_step(requests, step, "journal.before", names, weight)
        place = "journal.create"
        element = self._writer.add(
            requests, "CallJournal", journal.create, place, names, weight=weight
        )
        path = self._speaker.text(journal.entry_id, "journal.entry_id", names)
        element.add("Outputs").add("Output", Name=_ENTRY, Path=path, Type="string")
        for step in journal.after:
            weight += 1
            self._add_step(requests, step, "journal.after", names, weight)
        if journal.find is not None:
            self.notes.left("journal.find", "Yeastar does not look whether an entry is there")
        if journal.accepted is not None:
            self.notes.left("journal.accepted", "Yeastar goes by the status alone")

    def _add_step(self, requests: Xml, step: Step, place: str, names: Names, weight: int) -> int:
        if step.compute:
            self.notes.left(place, "values that are computed")
        if step.request is None:
            return 0
        if place == "journal.before" and step.request.method != "GET":
            self.notes.left(place, "a request that writes, before the entry")
            return 0
        name = f"{place.rpartition('.')[2].capitalize()}{weight}"
        element = self._writer.add(requests, name, step.request, place, names, weight=weight)
        outputs = element.add("Outputs")
        for output, path in step.take.items():
            text = self._speaker.text(path, place, names)
            outputs.add("Output", Name=output, Path=text, Type="string")
        return 1

    def add_follow_ups(self, scenarios: Xml) -> None:
        if not self._manifest.follow_ups:
            return
        scenario = scenarios.add("Scenario", Id="FollowUpRequests", Type="REST")
        requests = scenario.add("Requests")
        self.notes.changed(
            "follow_ups", "written as the vendor's form names it; no file with them was seen"
        )
        for number, follow_up in enumerate(self._manifest.follow_ups):
            place = f"follow_ups.{number}"
            known = _NAMES[follow_up.on]
            element = self._writer.add(
                requests, f"FollowUp{number}", follow_up.request, place, known, event=follow_up.on
            )
            parameters = element.within("Parameters")
            for name, value in (
                ("ResponseFieldPath", ", ".join(follow_up.take.values())),
                ("TargetVariableName", ", ".join(follow_up.take)),
            ):
                parameters.add("Parameter", Name=name, Value=value)
