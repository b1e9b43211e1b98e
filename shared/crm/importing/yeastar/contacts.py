"""Yeastar's contact scenarios → contact types with their searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.crm.form.contacts import SEARCH_VARIABLES
from shared.crm.importing.naming import VARIABLE_NAME
from shared.crm.importing.xml import Element
from shared.crm.importing.yeastar.bodies import folded
from shared.crm.importing.yeastar.columns import Columns, first_of
from shared.crm.importing.yeastar.requests import File, Parameters, at, next_of, outputs_of
from shared.crm.importing.yeastar.words import CREATE, PAGE, SEARCH
from shared.crm.language.paths import split_at_first_array
from shared.crm.language.text import compile_text

SYNC = "SyncContactAuto"
IDS = ("ContactsId", "ContactId", "ID", "Id")
CARD = {
    "FirstName": "first_name",
    "LastName": "last_name",
    "DisplayName": "display_name",
    "Company": "company",
    "Email": "email",
}
PHONES = (
    "BusinessNumber",
    "BusinessNumber2",
    "MobileNumber",
    "MobileNumber2",
    "HomeNumber",
    "HomeNumber2",
    "OtherNumber",
    "BusinessFaxNumber",
    "HomeFaxNumber",
)


@dataclass(slots=True)
class _Type:
    """A contact type as it is made: one record's paths by Yeastar's names."""

    place: str
    columns: Columns
    search: dict[str, Any]
    paths: dict[str, str]


def contacts_of(file: File) -> dict[str, dict[str, Any]]:
    """By their names. A type that cannot be searched or has no ids is left out, with a note."""
    parameters = file.parameters(SYNC)
    found: dict[str, dict[str, Any]] = {}
    for scenario in (SYNC, "SearchContact"):
        for request in file.requests(scenario):
            name = request.get("Name").removeprefix("SearchContact_") or "contacts"
            if name in found:
                _leave_search(file, request, scenario)
                continue
            made = _type(file, request, parameters, scenario)
            if made is not None:
                found[name] = _contact(file, made, parameters)
    _add_creates(file, found)
    return found


def _leave_search(file: File, request: Element, scenario: str) -> None:
    place = at(request, scenario)
    if scenario == SYNC:
        file.notes.left(place, "a second request for the same contact type")
    else:
        file.notes.left(
            place,
            "a search by any text has no place here: contacts are found by the number of a call",
        )


def _type(file: File, request: Element, parameters: Parameters, scenario: str) -> _Type | None:
    place = at(request, scenario)
    read = records_of(file, request, place, IDS, parameters)
    if read is None:
        file.notes.left(place, "a contact type without ContactsId: its records have no ids")
        return None
    if (asked := file.request(request, place, SEARCH)) is None:
        return None
    columns, paths = read
    search: dict[str, Any] = {"request": asked}
    if columns.records:
        search["records"] = columns.records
    made = _Type(place, columns, search, {"ContactsId": columns.id, **paths})
    _follow(file, request, made, parameters)
    return made


def records_of(
    file: File, request: Element, place: str, ids: Sequence[str], parameters: Parameters | None
) -> tuple[Columns, dict[str, str]] | None:
    """Where records are, and the paths within one of all but their ids. None without ids."""
    outputs = columns_of(file, request, place, parameters)
    id_path = next((outputs.pop(name) for name in ids if name in outputs), None)
    if id_path is None:
        return None
    columns, paths = Columns.of(id_path), dict[str, str]()
    for name, column in outputs.items():
        if (path := columns.path(column)) is not None:
            paths[name] = path
        else:
            _leave_column(file, place, name)
    return columns, paths


def _leave_column(file: File, place: str, name: str) -> None:
    file.notes.left(
        place,
        f"{name} is in another list than the ids; nothing tells which record a value is of. Write "
        "its path within one record by hand",
    )


def columns_of(
    file: File, request: Element, place: str, parameters: Parameters | None
) -> dict[str, str]:
    """Name → column, with our variables; those that are switched off are not taken."""
    found = {}
    for name, source in outputs_of(request).items():
        switch = parameters.get(f"{name}Enable") if parameters is not None else None
        if switch == "0" and name not in IDS:
            file.notes.left(place, f"{name} is switched off ({name}Enable is 0)")
        elif (path := file.names.text(source, f"{place}, Output {name}", SEARCH)) is not None:
            found[name] = path
    return found


# -- requests that follow ------------------------------------------------------------------------


def _follow(file: File, request: Element, made: _Type, parameters: Parameters) -> None:
    """``Next``: another request for each record; what it finds is put to the record."""
    for following, place in file.following(request, made.place):
        if not _then(file, following, made, parameters, place):
            return


def _then(file: File, request: Element, made: _Type, parameters: Parameters, place: str) -> bool:
    known = {name: "ContactId" if name in IDS else name for name in made.paths}
    known |= dict.fromkeys(IDS, "ContactId")
    also = {n: f".{ours}" for n, ours in known.items() if ours not in SEARCH_VARIABLES}
    asked = file.request(request, place, SEARCH, also=also)
    if asked is None:
        return False
    used = {name for text in _texts(asked) for name in compile_text(text).names}
    take = {known[name]: path for name, path in made.paths.items() if known[name] in used}
    then: dict[str, Any] = {"take": take} if take else {}
    then["request"] = asked
    outputs = columns_of(file, request, place, parameters)
    listed = [split_at_first_array(path) for path in outputs.values()]
    if listed and all(halves is not None and halves[0] == "" for halves in listed):
        # The answer is a list; one more list of contacts would be made of it.
        then["records"] = "0"
        outputs = {n: halves[1] for n, halves in zip(outputs, listed, strict=True) if halves}
    then["merge"] = True
    made.search.setdefault("then", []).append(then)
    made.paths |= {
        name: path if name in PHONES else first_of(path) for name, path in outputs.items()
    }
    file.notes.changed(
        place,
        "its fields are put to those of the contact, and where both have one of a name, these "
        "count; a contact for which it finds nothing is not shown",
    )
    return True


def _texts(request: Mapping[str, Any]) -> list[str]:
    found = []
    for value in request.values():
        found += [value] if isinstance(value, str) else [str(text) for text in value.values()]
    return found


# -- a contact type ------------------------------------------------------------------------------


def _contact(file: File, made: _Type, parameters: Parameters) -> dict[str, Any]:
    paths = dict(made.paths)
    mapping: dict[str, Any] = {"id": paths.pop("ContactsId")}
    for name, ours in CARD.items():
        if name in paths:
            mapping[ours] = paths.pop(name)
    if phones := [paths.pop(name) for name in PHONES if name in paths]:
        mapping["phones"] = phones
    contact: dict[str, Any] = {"search": [made.search], "map": mapping}
    for name in [name for name in paths if not VARIABLE_NAME.fullmatch(name)]:
        file.notes.left(made.place, f"{name[:40]} is no name of a variable")
        del paths[name]
    if paths:
        mapping["custom"] = paths
    _add_page(file, contact, made, parameters)
    return contact


def _add_page(file: File, contact: dict[str, Any], made: _Type, parameters: Parameters) -> None:
    kind = folded(parameters.get("ContactUrlType") or "")
    place = f"{SYNC}, URLFormat"
    if kind == "retrievefromcontact" or (not kind and parameters.get("ContactFieldForUri")):
        source = parameters.get("ContactFieldForUri") or ""
        found = file.names.text(source, f"{SYNC}, ContactFieldForUri", SEARCH)
        if found and (own := made.columns.path(found)):
            contact["map"]["page"] = own
        elif found:
            _leave_column(file, f"{SYNC}, ContactFieldForUri", "the address of the page")
        return
    if address := parameters.get("URLFormat"):
        custom = {name: f".{name}" for name in contact["map"].get("custom", {})}
        if page := file.url(address, place, PAGE, also=custom):
            contact["page_url"] = page


def _add_creates(file: File, contacts: dict[str, dict[str, Any]]) -> None:
    if not file.is_on("CreateNewContact", "CreateNewContact"):
        return
    by_name = {folded(name): name for name in contacts}
    for request in file.requests("CreateNewContact"):
        place = at(request, "CreateNewContact")
        name = by_name.get(folded(request.get("Name")), "")
        if not name and len(contacts) == 1 and len(file.requests("CreateNewContact")) == 1:
            name = next(iter(contacts))
        if not name:
            file.notes.left(place, "there is no such contact type to be searched")
            continue
        asked = file.request(request, place, CREATE)
        if asked is None:
            continue
        outputs = columns_of(file, request, place, None)
        path: str = next((first_of(outputs[one]) for one in IDS if one in outputs), "")
        if not path:
            path = "id,data.id,data.0.id"
            file.notes.changed(
                place, f"where the new contact's id is, is not said; {path} is looked at"
            )
        if next_of(request):
            file.notes.left(place, f"the request that follows, {next_of(request)}")
        contacts[name]["create"] = {"request": asked, "contact_id": path}
