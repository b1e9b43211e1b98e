"""Yeastar's call journal (and its tickets, where a call's entry is one) → our journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.crm.form.journal import JOURNAL_VARIABLES
from shared.crm.importing.xml import Element
from shared.crm.importing.yeastar.columns import first_of
from shared.crm.importing.yeastar.requests import MOST_STEPS, File, Parameters, at, outputs_of
from shared.crm.importing.yeastar.words import JOURNAL, SEARCH, Renames

CALLS = "CallJournal"
TICKETS = "CreateNewTicket"
DEFAULT_SUBJECT = "{{.Direction}} call {{.From}} {{.To}} {{.Reference}}"
_SETTINGS = ("EnablePlayCallRecording", "PlayCallRecording", "EnableSubject", "EnableDescription")


@dataclass(slots=True)
class _Entry:
    """*also*: what the requests before made, and the entry's id, as variables."""

    also: dict[str, str]
    before: list[dict[str, Any]] = field(default_factory=list)
    create: dict[str, Any] | None = None
    entry_id: str = ""
    after: list[dict[str, Any]] = field(default_factory=list)


def journal_of(file: File, custom: set[str]) -> dict[str, Any] | None:
    """*custom*: further values of contacts. None where calls are not journaled."""
    has_calls = file.is_on("CallJournal", CALLS)
    tickets = _ticket_requests(file, has_calls=has_calls)
    if not has_calls:
        return None
    scenario = TICKETS if tickets else CALLS
    given = file.parameters(scenario)
    also = {name: f".{name}" for name in custom}
    entry = _Entry(also)
    for request in [*tickets, *file.requests(CALLS)]:
        _add(file, entry, request, scenario)
    if entry.create is None:
        file.notes.left(CALLS, "a journal without a request that writes; write `journal` by hand")
        return None
    journal = _words(file, given, scenario, also)
    for name in ("before", "create", "entry_id", "after"):
        if value := getattr(entry, name):
            journal[name] = value
    journal["idempotent"] = True
    file.notes.changed(
        CALLS,
        "the file does not say how an entry is found again. The CRM must refuse the same call sent "
        "twice, or an entry whose answer was lost may be doubled; write `journal.find` (by "
        "{{.Reference}}, which has to be in the entry) and take `idempotent` out",
    )
    if given.get("NeedSyncContact") == "1":
        journal["contact"] = "yes"
        file.notes.changed(CALLS, "NeedSyncContact: calls of unknown callers get no entry")
    _leave_settings(file, given)
    return journal


def _ticket_requests(file: File, *, has_calls: bool) -> list[Element]:
    """The request that makes a ticket, where the journal's own only complete it."""
    if not file.is_on(TICKETS, TICKETS):
        return []
    requests = file.requests(TICKETS)
    made = [one for one in requests if "TicketId" in outputs_of(one)][:1]
    is_used = has_calls and any(
        ".TicketId" in value
        for request in file.requests(CALLS)
        for value in (request.get("URLFormat"), *_bodies(request))
    )
    if made and is_used:
        file.notes.changed(
            at(made[0], TICKETS),
            "a ticket is the entry of a call: one is made for each, and the journal's own requests "
            "complete it",
        )
    else:
        made = []
    for request in requests:
        if request not in made:
            file.notes.left(
                at(request, TICKETS), "there are no tickets here, only entries of calls"
            )
    return made


def _bodies(request: Element) -> list[str]:
    return [one.get("Value") for one in request.all("Parameters", "Parameter")]


def _add(file: File, entry: _Entry, request: Element, scenario: str) -> None:
    """
    A request and those that follow it: one that reads comes before, the first that writes is the
    entry, the others complete it.
    """
    place = at(request, scenario)
    _step(file, entry, request, place)
    for following, at_next in file.following(request, place):
        _step(file, entry, following, at_next)


def _step(file: File, entry: _Entry, element: Element, place: str) -> None:
    request = file.request(element, place, JOURNAL, also=entry.also)
    if request is None:
        return
    outputs = _taken(file, element, place, entry.also)
    if entry.create is None and request.get("method", "GET") != "GET":
        entry.create = request
        name = next((n for n in outputs if n.lower().endswith("id")), next(iter(outputs), ""))
        entry.entry_id = outputs.pop(name, "") or "id,data.id,data.0.id"
        if name:
            entry.also[name] = ".EntryId"
        for other in outputs:
            file.notes.left(place, f"{other}: of the entry's answer its id alone is taken")
        return
    steps = entry.before if entry.create is None else entry.after
    if len(steps) >= MOST_STEPS:
        file.notes.left(place, f"over {MOST_STEPS} requests for one entry")
        return
    step: dict[str, Any] = {"request": request}
    take = {
        n: path for n, path in outputs.items() if n not in JOURNAL_VARIABLES and n.isidentifier()
    }
    if take:
        step["take"] = take
        entry.also |= {name: f".{name}" for name in take}
    steps.append(step)


def _taken(file: File, element: Element, place: str, also: Renames) -> dict[str, str]:
    found = {}
    for name, source in outputs_of(element).items():
        path = file.names.text(source, f"{place}, Output {name}", {**SEARCH, **JOURNAL}, also=also)
        if path:
            found[name] = first_of(path)
    return found


def _words(file: File, given: Parameters, scenario: str, also: Renames) -> dict[str, Any]:
    journal: dict[str, Any] = {}
    # The two are made of the others, not of each other.
    renames = {n: meant for n, meant in JOURNAL.items() if n not in {"Subject", "Description"}}
    for name in ("Subject", "Description"):
        place = f"{scenario}, {name}"
        source = file.names.scrubbed(given.get(name) or "", place)
        if source and (text := file.names.text(source, place, renames, also=also)):
            journal[name.lower()] = text
    if "subject" not in journal:
        file.notes.changed(scenario, "the file has no subject; ours is the call and its reference")
    return {"subject": DEFAULT_SUBJECT, **journal}


def _leave_settings(file: File, given: Parameters) -> None:
    for name in _SETTINGS:
        if given.get(name) is not None:
            file.notes.left(
                f"{CALLS}, {name}", "what may be set for a connection is not the template's to say"
            )
    for element in given.plain.values():
        if "missed" in element.get("Name").lower() or "unanswered" in element.get("Name").lower():
            file.notes.left(at(element, CALLS), "a call is one entry here, whoever was rung for it")
