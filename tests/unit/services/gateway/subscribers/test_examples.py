"""The page for who receives webhooks: its code does what it says, its list is whole."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.gateway.subscribers.public import TYPES
from services.gateway.subscribers.signing import new_secret, signed
from shared.clock import SystemClock

PAGE = (Path(__file__).parents[5] / "docs" / "how-to" / "webhooks.md").read_text()
BODY = '{"type": "ping", "who": "Zoë"}'.encode()
Check = Callable[[SecretStr, dict[str, str], bytes], bool]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def in_python(secret: SecretStr, headers: dict[str, str], body: bytes) -> bool:
    known: dict[str, Any] = {}
    exec(block("python"), known)  # noqa: S102  our own page
    return bool(known["is_genuine"](secret.get_secret_value(), headers, body))


def in_node(secret: SecretStr, headers: dict[str, str], body: bytes) -> bool:
    said = json.dumps([secret.get_secret_value(), headers, body.decode()])
    script = (
        f"{block('js')}\nconst [s, h, b] = {said}; console.log(isGenuine(s, h, Buffer.from(b)));"
    )
    done = subprocess.run(
        ["node", "-e", script], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip() == "true"


@pytest.mark.parametrize("check", [in_python, in_node])
def test_the_pages_code_knows_ours_from_others(check: Check) -> None:
    ours, old, others = new_secret(), new_secret(), new_secret()
    now = SystemClock().now()
    headers = signed([ours, old], webhook_id="msg_1", at=now, body=BODY)
    assert check(ours, headers, BODY)
    assert check(old, headers, BODY)
    assert not check(others, headers, BODY)
    assert not check(ours, headers, BODY + b" ")
    assert not check(ours, {**headers, "webhook-id": "msg_2"}, BODY)
    late = signed([ours], webhook_id="msg_1", at=now - timedelta(minutes=6), body=BODY)
    assert not check(ours, late, BODY)


def test_the_page_lists_every_event() -> None:
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", PAGE))
    assert set(TYPES) <= named
