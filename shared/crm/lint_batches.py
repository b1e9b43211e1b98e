"""What of ``journal.batch`` is allowed and cannot work: places, and what to change there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared.crm.form.journal import JOURNAL_VARIABLES, Journal
from shared.crm.form.manifest import Manifest
from shared.crm.language.text import compile_text

#: A path that finds nothing on purpose.
_NOWHERE = "-"


def batch_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    journal = manifest.journal
    if journal is None or journal.batch is None:
        return
    at = journal.batch.list_at
    if journal.create.json_text is None and not _is_list_of_one(_body(journal), at):
        yield (
            "journal.batch.list",
            f"`create` has no list with one element at {at or 'its top'}: that element is the entry",
        )
    is_linked = any(contact.journal for contact in manifest.contacts.values())
    if is_linked and not _is_in(journal.record, f"{at}.0" if at else "0"):
        yield "journal.record", "the contact's link has to go into the element of `batch.list`"
    yield from _differing(manifest, journal, at)
    yield from _answers(journal, journal.batch.answers)


def _differing(manifest: Manifest, journal: Journal, at: str) -> Iterator[tuple[str, str]]:
    """What is said of a call outside its element would be said of all of them."""
    of_a_call = {*JOURNAL_VARIABLES} - {"Zone"}
    of_a_call |= {name for step in journal.before for name in step.makes}
    for contact in manifest.contacts.values():
        of_a_call |= {*contact.variables, *contact.map.custom}
    kind = "form" if journal.create.form is not None else "json"
    element = ".".join(filter(None, ("create", kind, at, "0")))
    for place, text in journal.create.texts("create"):
        # Where `when` says no to one of them, each goes alone; a JSON text is one place.
        if _is_in(place, element) or place in {"create.when", "create.json_text"}:
            continue
        if names := sorted(set(compile_text(text).names) & of_a_call if "{{" in text else ()):
            what = f"{', '.join(names)} differs by call, and a batch has one for all of them"
            yield f"journal.{place}", f"{what}: it can stand in the element of `batch.list` only"


def _answers(journal: Journal, answers: str | None) -> Iterator[tuple[str, str]]:
    paths = {"entry_id": journal.entry_id, "accepted": journal.accepted or _NOWHERE}
    paths |= {f"take.{name}": path for name, path in journal.take.items()}
    for name, path in paths.items():
        if answers is None and name != "accepted" and path != _NOWHERE:
            what = "`batch.taken` has no answer for each call to read this from"
            yield f"journal.{name}", f'{what}: say `entry_id: "{_NOWHERE}"`, and take nothing'
        if answers is not None and path != _NOWHERE and not _is_in(path, answers):
            what = "this reads the same for each call of a batch"
            yield f"journal.{name}", f"{what}: begin it with `{answers}.`, as `batch.answers` says"


def _body(journal: Journal) -> Any:
    return journal.create.form if journal.create.form is not None else journal.create.json_body


def _is_list_of_one(body: Any, at: str) -> bool:
    for name in at.split(".") if at else ():
        if isinstance(body, Mapping):
            body = body.get(name)
        elif isinstance(body, list | tuple) and name.isdigit() and int(name) < len(body):
            body = body[int(name)]
        else:
            return False
    return isinstance(body, list | tuple) and len(body) == 1


def _is_in(path: str, at: str) -> bool:
    return not at or path == at or path.startswith(f"{at}.")
