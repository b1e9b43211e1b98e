"""Hooks of CRMs: who signed them, what changed."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.crm.engine.changes import Change, HookRequest, nested, read, verify
from shared.crm.form.changes import Hook
from shared.crm.rendering import Scope
from shared.errors import ContractError, Unauthenticated

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECRET = "s3cret"
SCOPE = Scope(own={"hook_secret": SECRET})
BODY = b'{"id": 7}'


def hook(check: dict[str, Any] | None = None, **more: Any) -> Hook:
    shape = {"check": check or {}, "map": {"contact_id": "id", "numbers": ["phones"]}, **more}
    return Hook.model_validate(shape)


def request(body: bytes = BODY, **headers: str) -> HookRequest:
    return HookRequest("POST", "https://mesh.example/v1/hook?x=1", {}, headers, body)


def mac(text: bytes, digest: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), text, digest).digest()


def test_a_signature_of_the_body_is_checked() -> None:
    check = {"kind": "hmac", "secret": "hook_secret", "header": "X-Sig", "prefix": "sha256="}
    verify(hook(check), request(BODY, **{"x-sig": f"sha256={mac(BODY).hex()}"}), SCOPE, now=NOW)
    forged = request(b'{"id": 8}', **{"x-sig": f"sha256={mac(BODY).hex()}"})
    with pytest.raises(Unauthenticated):
        verify(hook(check), forged, SCOPE, now=NOW)
    with pytest.raises(Unauthenticated):
        verify(hook(check), request(), SCOPE, now=NOW)


def test_a_signature_over_method_address_and_time_is_checked() -> None:
    check = {
        "kind": "hmac",
        "secret": "hook_secret",
        "header": "X-Sig",
        "form": "base64",
        "text": "{{.Method}}{{.Url}}{{.Body}}{{.Timestamp}}",
        "timestamp_header": "X-Time",
    }
    stamp = str(int(NOW.timestamp() * 1000))
    text = b"POSThttps://mesh.example/v1/hook?x=1" + BODY + stamp.encode()
    signed = {"x-sig": base64.b64encode(mac(text)).decode(), "x-time": stamp}
    verify(hook(check), request(BODY, **signed), SCOPE, now=NOW)
    with pytest.raises(Unauthenticated, match="too long ago"):
        verify(hook(check), request(BODY, **signed), SCOPE, now=NOW.replace(hour=13))


def test_a_token_is_checked_in_the_body_too() -> None:
    check = {"kind": "token", "secret": "hook_secret", "path": "token"}
    verify(hook(check), request(b'{"token": "s3cret"}'), SCOPE, now=NOW)
    with pytest.raises(Unauthenticated):
        verify(hook(check), request(b'{"token": "other"}'), SCOPE, now=NOW)


def test_without_its_secret_no_hook_is_believed() -> None:
    check = {"kind": "token", "secret": "hook_secret", "header": "X-Token"}
    with pytest.raises(Unauthenticated, match="no credential"):
        verify(
            hook(check), request(BODY, **{"x-token": ""}), Scope(own={"hook_secret": ""}), now=NOW
        )


def test_a_batch_tells_of_each_contact_once() -> None:
    body = (
        b'[{"id": 1, "phones": ["+12025550101"]}, {"id": 1, "phones": ["+12025550101"]}, {"id": 2}]'
    )
    assert read(hook(), body).changes == (
        Change(contact_id="1", numbers=("+12025550101",)),
        Change(contact_id="2"),
    )


def test_an_event_of_many_ids_is_many_changes() -> None:
    assert read(hook(), b'{"id": [1, 2]}').changes == (
        Change(contact_id="1"),
        Change(contact_id="2"),
    )


def test_a_challenge_is_sent_back() -> None:
    asked = hook(echo="challenge")
    assert read(asked, b'{"challenge": "abc"}').reply == {"challenge": "abc"}
    assert read(asked, BODY).reply is None


def test_a_form_with_nested_keys_is_the_structure_it_means() -> None:
    body = b"contacts[update][0][id]=7&contacts[update][1][id]=8&account[id]=1"
    assert nested(body) == {
        "contacts": {"update": [{"id": "7"}, {"id": "8"}]},
        "account": {"id": "1"},
    }
    form = hook(format="form", events="contacts.update,contacts.add")
    assert [change.contact_id for change in read(form, body).changes] == ["7", "8"]


@pytest.mark.parametrize(
    "body", [b"a" + b"[x]" * 50 + b"=1", b"\xff=1", b"&".join([b"a=1"] * 30000)]
)
def test_a_form_that_is_an_attack_is_refused(body: bytes) -> None:
    with pytest.raises(ContractError):
        nested(body)


def test_a_key_that_is_text_and_more_at_once_does_no_harm() -> None:
    assert nested(b"a=1&a[b]=2") == {"a": "1"}


def test_a_place_of_thousands_of_digits_is_a_key_like_others() -> None:
    assert nested(b"a[" + b"9" * 5000 + b"]=1") == {"a": {"9" * 5000: "1"}}
