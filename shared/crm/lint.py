"""What is allowed in a template and will not do what its author means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.crm.form.contacts import Search
from shared.crm.form.manifest import Manifest
from shared.crm.form.requests import PAGE_VARIABLES, Method, PageKind, Pages, Request, Step
from shared.crm.language.text import compile_text
from shared.crm.lint_batches import batch_faults
from shared.crm.lint_telephony import telephony_faults, telephony_warnings

#: A value between quotes or behind an operator, inside a longer text: somebody's query language.
_IN_QUERY = re.compile(r"""['"][^'"{}]*\{\{|(?:=|:|\beq|\blike|\bcontains)\s*\{\{""", re.IGNORECASE)
#: What looks like a key and is written into the template: long, with letters and digits.
_WORD = re.compile(r"[A-Za-z0-9_-]{32,}")
_OUTSIDE = frozenset(
    {
        "Phone",
        "Number",
        "Reference",
        "Subject",
        "Description",
        "DisplayName",
        "FirstName",
        "LastName",
    }
)

#: Variables by which an entry is known again.
_REFERENCES = frozenset({"Reference", "LongReference", "CallId"})
_A_KEY = "this looks like a secret: make it a credential"


class Level(StrEnum):
    #: It cannot work as it stands.
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """*path*: where in the file; *what* says what to change."""

    level: Level
    path: tuple[str | int, ...]
    what: str


def lint(manifest: Manifest) -> list[Finding]:
    """In the order of the form."""
    return [
        *_unused(manifest),
        *_searches(manifest),
        *_contacts(manifest),
        *_users(manifest),
        *_journal(manifest),
        *(_error(at, what) for at, what in telephony_faults(manifest)),
        *(_warning(at, what) for at, what in telephony_warnings(manifest)),
        *_places(manifest),
    ]


def _error(at: str, what: str) -> Finding:
    return Finding(Level.ERROR, _path(at), what)


def _warning(at: str, what: str) -> Finding:
    return Finding(Level.WARNING, _path(at), what)


def _path(at: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in at.split("."))


def _names(texts: Iterable[str]) -> set[str]:
    return {name for text in texts if "{{" in text for name in compile_text(text).names}


def _used_by(request: Request) -> set[str]:
    return _names(text for _, text in request.texts(""))


def _unused(manifest: Manifest) -> Iterator[Finding]:
    used = _names(text for _, _, text in manifest.texts())
    # The grants of OAuth 2 and the checks of hooks take these by their names.
    if manifest.auth.oauth2 is not None:
        used |= {"client_id", "client_secret", "username", "password", "refresh_token"}
    if manifest.changes and manifest.changes.hook:
        used.add(manifest.changes.hook.check.secret or "")
    for kind in ("parameters", "credentials"):
        for place, field in enumerate(getattr(manifest, kind)):
            if field.name not in used:
                yield _warning(f"{kind}.{place}", f"{field.name} is asked for and used nowhere")
    for name in sorted(set(manifest.maps) - _maps_used(manifest)):
        yield _warning(f"maps.{name}", "this map is used nowhere")


def _maps_used(manifest: Manifest) -> set[str]:
    texts = (text for _, _, text in manifest.texts() if "{{" in text)
    return {name for text in texts for name in compile_text(text).maps_used}


def _searches(manifest: Manifest) -> Iterator[Finding]:
    places = [(f"search.{place}", search) for place, search in enumerate(manifest.search)]
    for name, contact in manifest.contacts.items():
        places += [
            (f"contacts.{name}.search.{place}", search)
            for place, search in enumerate(contact.search)
        ]
    for at, search in places:
        used = _used_by(search.request)
        if not used & {"Phone", "Phones", "Tests", "Number"}:
            yield _error(
                f"{at}.request",
                "the request does not say which number: use Phone, Phones or Tests",
            )
        if search.test is not None and "Tests" not in used:
            yield _error(f"{at}.test", "the request does not use Tests: the test is never sent")
        if search.test is None and "Tests" in used:
            yield _error(f"{at}.request", "the request uses Tests: say one test as `test`")


def _contacts(manifest: Manifest) -> Iterator[Finding]:
    for name, contact in manifest.contacts.items():
        at = f"contacts.{name}"
        if not (contact.phone_fields or contact.map.phones):
            yield _error(
                at,
                "no number is read out of a record: map at least one (`phone_fields` or "
                "`map.phones`), or who was found cannot be checked against who calls",
            )
        named = contact.map.display_name or contact.map.first_name or contact.map.last_name
        if not (named or contact.map.company):
            yield _warning(at, "a card shows the id only: map display_name, first or last name")
        if contact.page_url is None and contact.map.page is None:
            yield _warning(at, "a card has no link: say page_url or map.page")


def _users(manifest: Manifest) -> Iterator[Finding]:
    if manifest.users is None:
        yield _warning("template", "no `users`: agents have to be matched to the CRM's users by id")
        return
    if manifest.users.email is None and manifest.users.extension is None:
        yield _warning("users", "without email or extension agents cannot be matched by themselves")
    yield from _pages("users", manifest.users.request, manifest.users.pages)


def _pages(at: str, request: Request, pages: Pages | None) -> Iterator[Finding]:
    used = _used_by(request)
    if pages is None:
        if reached := used & PAGE_VARIABLES:
            yield _error(at, f"the request uses {', '.join(sorted(reached))} and has no `pages`")
        return
    needed = {
        PageKind.PAGE: "Page",
        PageKind.OFFSET: "Offset",
        PageKind.CURSOR: "Cursor",
    }.get(pages.kind)
    if needed is not None and needed not in used:
        yield _error(
            f"{at}.pages",
            f"pages after the first are never reached: the request does not use {needed}",
        )


def _journal(manifest: Manifest) -> Iterator[Finding]:
    journal = manifest.journal
    if journal is None:
        yield _warning("template", "no `journal`: calls are not logged in this CRM")
        return
    texts = [text for _, text in journal.create.texts("")]
    known = _names([*texts, *(text for _, text in journal.texts(""))])
    if not known & _REFERENCES:
        yield _error(
            "journal",
            "the entry does not hold the call's Reference: after a lost answer it cannot be known "
            "again",
        )
    create = journal.create
    if create.body is not None or create.multipart is not None:
        for name, contact in manifest.contacts.items():
            if contact.journal:
                yield _error(
                    f"contacts.{name}.journal",
                    "these fields go into a `json`, `json_text` or `form` of journal.create, and "
                    "it has none: they are never sent",
                )
    yield from _update(manifest)
    yield from (_error(at, what) for at, what in batch_faults(manifest))
    if journal.find is not None:
        asked = _used_by(journal.find.request) | _names([journal.find.entry_id])
        if not asked & {*_REFERENCES, "Subject", "Description"}:
            yield _error("journal.find", "it does not ask for the Reference of the call")
        yield from _pages("journal.find", journal.find.request, journal.find.pages)


def _update(manifest: Manifest) -> Iterator[Finding]:
    journal = manifest.journal
    update = journal.update if journal else None
    if journal is None or update is None:
        return
    names = _names(text for step in journal.before for _, text in step.texts(""))
    if "EntryId" not in names | _used_by(update):
        yield _error("journal.update", "it does not say which entry is changed: use EntryId")
    # Requests that ask something first are fine, those that make something would make it again.
    for place, step in enumerate(journal.before):
        request = step.request
        if request is None or request.method is Method.GET:
            continue
        if "EntryId" not in _names([request.when or ""]):
            yield _warning(
                f"journal.before.{place}.request",
                "it is sent before each change of the entry, too: if it makes something, say "
                "`when` there is no EntryId",
            )
    if update.record is not None and (update.body is not None or update.multipart is not None):
        yield _error(
            "journal.update.record",
            "the contact's link goes into a `json`, `json_text` or `form`, and it has none: it is "
            "never sent",
        )


def _places(manifest: Manifest) -> Iterator[Finding]:
    """Values in a query language that nobody escapes; addresses and keys that stand there."""
    for request, at in _requests(manifest):
        if request.language == "none":
            for place, text in request.texts(at):
                if ".query." in place and _IN_QUERY.search(text) and _names([text]) & _OUTSIDE:
                    yield _warning(
                        place,
                        "a value stands inside a query and is not escaped for it: say `language`",
                    )
        if request.url.startswith("http://"):
            yield _warning(f"{at}.url", "plain http: keys and customers' data can be read by all")
        for place, text in request.texts(at):
            if ".headers." in place and "{{" not in text and _looks_like_a_key(text):
                yield _error(place, _A_KEY)
    for name, text in manifest.headers.items():
        if "{{" not in text and _looks_like_a_key(text):
            yield _error(f"headers.{name}", _A_KEY)


def _looks_like_a_key(text: str) -> bool:
    return any(
        any(sign.isdigit() for sign in word) and any(sign.isalpha() for sign in word)
        for word in _WORD.findall(text)
    )


def _requests(manifest: Manifest) -> Iterator[tuple[Request, str]]:
    """Every request but those of ``auth.oauth2``, which are no such."""
    for name in ("discover", "login"):
        yield from _of_steps(getattr(manifest.auth, name), f"auth.{name}")
    yield manifest.check, "check"
    yield from _of_contacts(manifest)
    if manifest.users is not None:
        yield manifest.users.request, "users.request"
    if manifest.manager is not None:
        yield manifest.manager.request, "manager.request"
    if manifest.journal is not None:
        yield from _of_steps(manifest.journal.before, "journal.before")
        yield manifest.journal.create, "journal.create"
        yield from _of_steps(manifest.journal.after, "journal.after")
        if manifest.journal.update is not None:
            yield manifest.journal.update, "journal.update"
            yield from _of_steps(manifest.journal.update.after, "journal.update.after")
        if manifest.journal.find is not None:
            yield manifest.journal.find.request, "journal.find.request"
    if manifest.changes is not None and manifest.changes.poll is not None:
        yield manifest.changes.poll.request, "changes.poll.request"
    if manifest.telephony is not None:
        yield from manifest.telephony.requests("telephony")
    yield from _of_steps(manifest.follow_ups, "follow_ups")


def _of_contacts(manifest: Manifest) -> Iterator[tuple[Request, str]]:
    # The `test` of a search is escaped by the request's language as well.
    yield from _of_searches(manifest.search, "search")
    for name, contact in manifest.contacts.items():
        yield from _of_searches(contact.search, f"contacts.{name}.search")
        if contact.create is not None:
            yield from _of_steps(contact.create.before, f"contacts.{name}.create.before")
            yield contact.create.request, f"contacts.{name}.create.request"


def _of_steps(steps: Sequence[Step], at: str) -> Iterator[tuple[Request, str]]:
    for place, step in enumerate(steps):
        if step.request is not None:
            yield step.request, f"{at}.{place}.request"


def _of_searches(searches: Sequence[Search], at: str) -> Iterator[tuple[Request, str]]:
    for place, search in enumerate(searches):
        yield search.request, f"{at}.{place}.request"
        for number, then in enumerate(search.then):
            yield then.request, f"{at}.{place}.then.{number}.request"
