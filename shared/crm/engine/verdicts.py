"""What a CRM's answer comes to: a value and its meaning, or the error that says it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from shared.contracts.journal import Exchange
from shared.crm.bodies import read_body
from shared.crm.engine.orders import Error, Last, Reply, Sent
from shared.crm.engine.showing import exchange, mask_of
from shared.crm.engine.together import each_alone
from shared.crm.form.answers import AnswerKind, Meaning, Outcome
from shared.crm.form.manifest import Manifest
from shared.crm.language.jsontext import write_json
from shared.crm.masking import Mask
from shared.crm.meaning import in_words, meaning, words
from shared.crm.rendering import Rendered, Scope
from shared.errors import (
    ContractError,
    MeshError,
    NeedsReconnect,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import Answer

#: Bytes; a longer body is read beside the loop, for eight megabytes of it take seconds.
_LONG = 256 * 1024


async def read(kind: AnswerKind, body: bytes) -> tuple[Any, str | None]:
    """The value; None, and why, where the body is none of its *kind*."""
    try:
        if len(body) > _LONG:
            return await asyncio.to_thread(read_body, kind, body), None
        return read_body(kind, body), None
    except ContractError as error:
        return None, error.message


def meaning_of(
    outcome: Outcome, answer: Answer, value: Any, *, searching: bool, each: str | None = None
) -> Meaning:
    """
    With *each*, the path of a list with what became of several: success where some of them were
    taken, or each was refused by itself; what else all of them say, such as to slow down.
    """
    views = each_alone(value, each) if each is not None else []
    found = {meaning(outcome, answer, one, searching=searching) for one in views or [value]}
    if len(found) > 1 or (views and found == {Meaning.REJECTED}):
        return Meaning.SUCCESS
    return found.pop()


class Verdicts:
    """
    Of one template's answers. *last* is what was sent, a *scope* what it would be filled from now:
    the secrets of both are in no word of an error.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def check(self, sent: Sent, last: Last, scope: Scope) -> None:
        """Raises: Throttled, Unavailable, NeedsReconnect, Rejected."""
        error = self._refusal(
            sent.means, sent.answer, sent.value, sent.wait, last=last, scope=scope
        )
        if error is not None:
            raise error

    def words(self, answer: Answer, value: Any, last: Last, scope: Scope) -> str:
        """The CRM's own, without what it repeats of our secrets."""
        return words(self._manifest.outcome, answer, value, hide=self._mask(last, scope).text)

    def repeated(self, text: str, last: Last, scope: Scope) -> str:
        """As :meth:`words`, of one *text* out of an answer."""
        return in_words(text, hide=self._mask(last, scope).text)

    def each(self, last: Last, reply: Reply, answers: str, scope: Scope) -> list[Reply | MeshError]:
        """
        *reply*, whose list at *answers* has what became of each part of the request, once for each;
        Unavailable for all where it has more or fewer.
        """
        views, answer = each_alone(reply.value, answers), last.answer
        if answer is None or len(views) != len(last.parts):
            # Whose the answers are that there are, nobody can say.
            why = f"the CRM answered {len(views)} of {len(last.parts)} entries"
            return [Unavailable(why, exchange=shown) for shown in self._of_parts(last, scope)]
        found: list[Reply | MeshError] = []
        for part, view in zip(last.parts, views, strict=True):
            means = meaning_of(self._manifest.outcome, answer, view, searching=False)
            error = self._refusal(means, answer, view, None, last=last, scope=scope)
            if error is not None:
                found.append(self.with_exchange(error, last, scope, part, view))
            else:
                shown = partial(self.exchange_of, last, scope, part, view)
                found.append(replace(reply, value=view, shown=shown))
        return found

    def with_exchange(
        self,
        error: Error,
        last: Last,
        scope: Scope,
        part: Rendered | None = None,
        view: Any = None,
    ) -> Error:
        """As of :meth:`exchange_of`, where *error* has none of its own."""
        if "exchange" not in error.details:
            shown = self.exchange_of(last, scope, part, view)
            error.details |= {"exchange": shown} if shown is not None else {}
        return error

    def exchange_of(
        self, last: Last, scope: Scope, part: Rendered | None = None, view: Any = None
    ) -> Exchange | None:
        """
        What was sent last and its answer, or the *part* of it and the *view* of the answer that is
        about that; None where nothing was sent. *scope*: that of now.
        """
        if last.sent is None:
            return None
        sent, answer = last.sent, last.answer
        if part is not None:
            sent = replace(sent, body=part.body)
        if answer is not None and view is not None:
            answer = replace(answer, body=write_json(view).encode())
        return exchange(sent, answer, self._mask(last, scope))

    def _of_parts(self, last: Last, scope: Scope) -> Iterator[Exchange]:
        """Of each its part of the request; the answer, which may be long, is gone through once."""
        if last.sent is None:
            return
        mask = self._mask(last, scope)
        whole = exchange(last.sent, last.answer, mask)
        for part in last.parts:
            body = exchange(replace(last.sent, body=part.body), None, mask).body
            yield whole.model_copy(update={"body": body})

    def _mask(self, last: Last, scope: Scope) -> Mask:
        # The session may have been renewed since it was sent.
        scopes = (scope,) if last.scope is None else (last.scope, scope)
        return mask_of(last.sent, manifest=self._manifest, scopes=scopes)

    def _refusal(
        self,
        means: Meaning,
        answer: Answer,
        value: Any,
        wait: timedelta | None,
        *,
        last: Last,
        scope: Scope,
    ) -> MeshError | None:
        if means in {Meaning.SUCCESS, Meaning.NOTHING}:
            return None
        said = self.words(answer, value, last, scope)
        match means:
            case Meaning.SLOW_DOWN:
                return Throttled(f"the CRM asks to slow down: {said}", retry_after=wait)
            case Meaning.UNAVAILABLE:
                return Unavailable(said, retry_after=wait)
            case Meaning.CREDENTIALS:
                return NeedsReconnect(
                    f"{said}: it does not accept its own token or the credentials; the grant is "
                    "lost or lacks a right; connect it again with every scope that is needed"
                )
            case Meaning.FORBIDDEN:
                return NeedsReconnect(f"{said}: the account lacks a right or was blocked")
            case _:
                return Rejected(said, status=answer.status)
