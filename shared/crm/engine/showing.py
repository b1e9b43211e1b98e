"""A request that did not go well, and its answer, as people may see them: secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.journal import Exchange
from shared.crm.form.manifest import Event, Manifest
from shared.crm.form.telephony import MODULE_SECRETS
from shared.crm.language.functions import plain_text
from shared.crm.masking import Mask, basic_forms, printable
from shared.crm.rendering import Rendered, Scope
from shared.net.client import Answer

#: Characters of a body, and of an address.
_LONGEST = 4000
#: Bytes; what is longer is no error's answer, and masking it would hold up everybody else.
_LARGEST = 256 * 1024
#: Of a path: a shorter part is a word of ours, and no secret.
_SHORTEST_PART = 16
_FORM = "application/x-www-form-urlencoded"


def secrets_of(manifest: Manifest, scope: Scope) -> list[str]:
    """The values of *scope* that nobody may see: credentials, and what a sign-in made of them."""
    given = {credential.name for credential in manifest.credentials}
    signing_in = (one for one in manifest.follow_ups if one.on is Event.AUTH)
    made = {*manifest.auth.session_variables, *(n for one in signing_in for n in one.makes)}
    # An address that a token's answer told is none.
    told = (plain_text(scope.own.get(name)) for name in made - given)
    known = [text for text in told if not text.startswith(("http://", "https://"))]
    known += [plain_text(scope.own.get(name)) for name in given]
    known += told_secrets(scope.variables)
    if manifest.auth.basic is not None:
        known += basic_forms([scope.text(manifest.auth.basic)])
    return known


def told_secrets(variables: Mapping[str, Any]) -> list[str]:
    """What a telephony module is told that nobody else may see, whole and in parts."""
    texts = [plain_text(variables.get(name)) for name in sorted(MODULE_SECRETS)]
    parts = [part for text in texts if "://" in text for part in re.split(r"[/?&=]+", text)[2:]]
    return [*texts, *(part for part in parts if len(part) >= _SHORTEST_PART)]


def mask_of(sent: Rendered | None, *, manifest: Manifest, scopes: Sequence[Scope]) -> Mask:
    """
    Of all that is secret in *sent* and in what its CRM may say to it. *scopes*: those that it, and
    what was sent since then, were filled from.
    """
    secrets, names = secrets_in(sent, manifest=manifest, scopes=scopes)
    return Mask(secrets, names=names, sign_in=False)


def secrets_in(
    sent: Rendered | None, *, manifest: Manifest, scopes: Sequence[Scope]
) -> tuple[frozenset[str], frozenset[str]]:
    """As :func:`mask_of`: the secrets, and the names of headers and keys that hold some."""
    secrets = {secret for scope in scopes for secret in secrets_of(manifest, scope)}
    names = {scope.text(place.name) for scope in scopes for place in manifest.auth.carried}
    by_name = Mask((), names=names, sign_in=False)
    # What is made anew for each request, such as a signature, no scope has. A CRM may repeat it
    # without the word before it, such as `Bearer`.
    fields = [*sent.headers.items(), *sent.url.query.items()] if sent is not None else []
    secrets |= {value.partition(" ")[2] or value for name, value in fields if by_name.hides(name)}
    return frozenset(secrets), frozenset(names)


def exchange(sent: Rendered, answer: Answer | None, mask: Mask) -> Exchange:
    """*answer* None: there was none."""
    return Exchange(
        method=sent.method,
        url=printable(mask.address(str(sent.url)))[:_LONGEST],
        headers={name: printable(mask.header(name, value)) for name, value in sent.headers.items()},
        body=body_of(sent, mask),
        status=answer.status if answer is not None else None,
        answer=shown(answer.body, mask) if answer is not None else "",
    )


def body_of(sent: Rendered, mask: Mask) -> str:
    return shown(sent.body or b"", mask, is_form=_is_form(sent))


def shown(body: bytes, mask: Mask, *, is_form: bool = False) -> str:
    if len(body) > _LARGEST:
        return f"({len(body)} bytes)"
    if is_form:
        return mask.form(body, longest=_LONGEST)
    return mask.body(body, longest=_LONGEST)


def _is_form(sent: Rendered) -> bool:
    kinds = [value for name, value in sent.headers.items() if name.lower() == "content-type"]
    return any(kind.startswith(_FORM) for kind in kinds)
