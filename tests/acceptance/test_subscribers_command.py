"""``callmesh subscribers``: what an operator sees, and deliveries sent again from the keyboard."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

from services.gateway.subscribers.delivery import (
    DELIVERIES,
    Attempt,
    Delivery,
    DeliveryState,
)
from services.gateway.subscribers.subscriber import (
    SUBSCRIBERS,
    SubscriberDocument,
    SubscriberSettings,
    SwitchedOff,
)
from shared.clock import SystemClock
from shared.ids import new_id
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.acceptance.commands_kit import callmesh


async def fill(file: Path, *, off: SwitchedOff | None = None) -> str:
    """A subscriber with a delivery that is dead and one that is done; the dead one's key."""
    clock, uid, keys = SystemClock(), str(new_id()), [str(new_id()), str(new_id())]
    db, now = SqliteFile(file), clock.now()
    await db.open()
    store = SqliteStore(db, clock)
    await store.collection(SUBSCRIBERS).put(
        SubscriberDocument(
            key="acme/crm",
            tenant="acme",
            name="crm",
            uid=uid,
            settings=SubscriberSettings(url="https://e.com/[b]", events=("*",)),
            secret="sealed:x",
            created_at=now,
            changed_at=now,
            changed_by="test",
            off=off,
        )
    )
    for key, state in zip(keys, (DeliveryState.DEAD, DeliveryState.DONE), strict=True):
        await store.collection(DELIVERIES).put(
            Delivery(
                key=key,
                tenant="acme",
                subscriber="crm",
                lane=uid,
                webhook_id=f"msg_{key}",
                type="calls.ended",
                event='{"id": "e1"}',
                state=state,
                tries=10,
                attempts=(Attempt(at=now, status=503, error="\x1b[2Jthe answer was 503"),),
                created_at=now,
                due_at=None,
                expires_at=now + timedelta(days=1),
            )
        )
    await db.close()
    return keys[0]


def audited(folder: Path) -> str:
    with sqlite3.connect(f"file:{folder / 'mesh.db'}?mode=ro", uri=True) as db:
        return "\n".join(line for line in db.iterdump() if "gateway_audit" in line)


def test_what_is_dead_is_sent_again_and_that_is_noted(tmp_path: Path) -> None:
    dead = asyncio.run(fill(tmp_path / "mesh.db"))
    of = ("--tenant", "acme")
    assert "https://e.com/[b]" in callmesh(tmp_path, "subscribers", "list", *of).stdout
    shown = callmesh(tmp_path, "subscribers", "show", "crm", dead, *of).stdout
    assert "the answer was 503" in shown
    assert "\x1b" not in shown
    done = callmesh(tmp_path, "subscribers", "replay", "crm", *of)
    assert (done.returncode, done.stdout) == (0, "1 to be sent again\n"), done.stderr
    waiting = callmesh(tmp_path, "subscribers", "deliveries", "crm", "--state", "waiting", *of)
    assert dead in waiting.stdout
    assert "replay_deliveries" in audited(tmp_path)


def test_nothing_is_sent_again_to_who_is_switched_off(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path / "mesh.db", off=SwitchedOff.GONE))
    done = callmesh(tmp_path, "subscribers", "replay", "crm", "--tenant", "acme")
    assert (done.returncode, done.stdout) == (1, "")
    assert "switched off" in done.stderr
    other = callmesh(tmp_path, "subscribers", "replay", "crm", "--tenant", "other")
    assert "no subscriber crm" in other.stderr
