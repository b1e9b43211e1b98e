"""The steps of a sign-in: compute, ask, take; what each makes is there for all that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shared.crm.form.requests import Step
from shared.crm.language.functions import plain_text
from shared.crm.language.gjson import escape_literal
from shared.crm.language.text import compile_text
from shared.crm.rendering import Scope, render
from shared.crm.sessions.replies import AuthRequests
from shared.errors import NeedsReconnect


async def run(
    steps: Sequence[Step], scope: Scope, requests: AuthRequests, *, again: str
) -> dict[str, str]:
    """
    The variables that *steps* made. One may be the address of what follows, as a parameter may.
    *again* says how the connection is mended.

    Raises: NeedsReconnect with the CRM's words for a step that does not succeed or whose answer
    lacks what is taken; Unavailable, Throttled, Rejected, ContractError for a wrong template.
    """
    made: dict[str, str] = {}
    for step in steps:
        for name, text in step.compute.items():
            made[name] = _own(scope, made).text(text)
        if step.request is None:
            continue
        known = _own(scope, made)
        rendered = render(step.request, known)
        if rendered is None:
            continue
        reply = await requests.send(rendered)
        found, missing = reply.take({n: _path(path, known) for n, path in step.take.items()})
        if missing or not reply.is_success:
            said = reply.words(str(plain_text(value)) for value in known.own.values())
            without = f", without {', '.join(missing)}" if missing else ""
            raise NeedsReconnect(f"the CRM refuses the sign-in ({said}{without}); {again}")
        made |= found
    return made


def _own(scope: Scope, made: dict[str, str]) -> Scope:
    return replace(scope, own={**scope.own, **made})


def _path(path: str, scope: Scope) -> str:
    if "{{" not in path:
        return path
    shown = {name: escape_literal(str(plain_text(value))) for name, value in scope.all.items()}
    return compile_text(path).text(shown, maps=scope.maps)
