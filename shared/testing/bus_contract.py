"""
What every MessageBus must do. An adapter subclasses :class:`BusContract` in its tests and says
how to open it; opening it twice on one *place* is a restart, or a second replica.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from shared.bus.port import (
    OF_NO_TENANT,
    Consumer,
    DeadLetter,
    MessageBus,
    RetryPolicy,
    Subscription,
    WhichLetters,
)
from shared.bus.publisher import ServicePublisher
from shared.bus.topology import DELIVERY_LIMIT
from shared.clock import SystemClock
from shared.contracts.calls import CallEnded, CallStarted
from shared.contracts.contacts import ContactAnswer, FindContact
from shared.contracts.envelope import Contract, Message, wrap
from shared.errors import NotFound, Rejected, Throttled, Unavailable
from shared.observe import tracing
from shared.testing.builders import NOON, a_call, a_contact
from shared.testing.waiting import eventually

QUICK = RetryPolicy(
    attempts=3, base=timedelta(milliseconds=50), ceiling=timedelta(milliseconds=100)
)
SOON = timedelta(seconds=60)
#: Long enough for a message that should not come to have come.
_A_WHILE = 0.3

Handle = Callable[[Message[Any]], Awaitable[BaseModel | None]]


class Seen:
    """A handler that remembers, and fails as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.messages: list[Message[Any]] = []
        self.at: list[datetime] = []
        self._failures = list(failures)

    async def __call__(self, message: Message[Any]) -> BaseModel | None:
        self.messages.append(message)
        self.at.append(SystemClock().now())
        if self._failures:
            raise self._failures.pop(0)
        return None

    def __len__(self) -> int:
        return len(self.messages)


class Busy:
    """Takes a moment, and until a second is in it too; knows how many were in it at once."""

    def __init__(self) -> None:
        self.now, self.most, self.done = 0, 0, 0
        self._together = asyncio.Event()

    async def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.most > 1:
            self._together.set()
        await self._together.wait()
        await asyncio.sleep(0.02)  # noqa: TID251  for the others to pile up
        self.now -= 1
        self.done += 1


def listening(
    handler: Handle,
    *,
    service: str = "journal",
    contract: type[Contract] = CallStarted,
    retry: RetryPolicy = QUICK,
    prefetch: int = 32,
    live: bool = False,
) -> Subscription:
    return Subscription(
        consumer=Consumer(service, contract),
        handler=handler,
        retry=retry,
        prefetch=prefetch,
        live=live,
    )


class BusContract(ABC):
    @abstractmethod
    def opened(
        self, *subscriptions: Subscription, consumers: Sequence[Consumer] = ()
    ) -> AbstractAsyncContextManager[MessageBus]:
        """A started bus at this test's place; leaving it stops it without drain."""

    @abstractmethod
    async def inject(self, bus: MessageBus, data: bytes, *, consumer: Consumer, to: str) -> None:
        """Put raw *data* before *consumer*, addressed to tenant *to*."""

    async def test_every_service_that_subscribed_gets_one_copy(self) -> None:
        journal, lookup = Seen(), Seen()
        async with self.opened(
            listening(journal, service="journal"), listening(lookup, service="lookup")
        ) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(journal) == len(lookup) == 1)
            await asyncio.sleep(_A_WHILE)  # noqa: TID251  for a second copy to show
        assert (len(journal), len(lookup)) == (1, 1)

    async def test_the_message_arrives_as_it_was_sent(self) -> None:
        seen = Seen()
        async with self.opened(listening(seen)) as bus:
            with tracing.span("test") as trace:
                sent = await publishing(bus).publish(a_call(), tenant="acme", key="k", at=NOON)
            await eventually(lambda: len(seen) == 1)
        (got,) = seen.messages
        assert got == sent
        assert got.body is not sent.body
        assert got.traceparent == trace.traceparent
        assert got.occurred_at == NOON

    async def test_a_consequence_carries_tenant_and_story_of_its_cause(self) -> None:
        ended = Seen()

        async def hang_up(message: Message[Any]) -> None:
            await publishing(bus).publish(
                CallEnded(call_id=message.body.call_id, pbx="main"), cause=message
            )

        async with self.opened(listening(hang_up), listening(ended, contract=CallEnded)) as bus:
            cause = await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(ended) == 1)
        (got,) = ended.messages
        assert (got.tenant, got.correlation, got.causation) == ("acme", cause.correlation, cause.id)

    async def test_an_event_that_nobody_wants_is_accepted(self) -> None:
        async with self.opened() as bus:
            await publishing(bus).publish(a_call(), tenant="acme")

    async def test_a_transient_error_is_tried_again_with_growing_delay(self) -> None:
        seen = Seen(Unavailable("not yet"), Unavailable("not yet"))
        policy = RetryPolicy(attempts=5, base=timedelta(milliseconds=250), ceiling=SOON)
        async with self.opened(listening(seen, retry=policy)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(seen) == 3)
            assert not await bus.dead_letters.list()
        assert [m.attempt for m in seen.messages] == [1, 2, 3]
        assert len({m.id for m in seen.messages}) == 1
        first, second = (b - a for a, b in zip(seen.at, seen.at[1:], strict=False))
        # A busy machine may make any of them longer.
        assert first >= timedelta(milliseconds=240)
        assert second >= timedelta(milliseconds=990)

    async def test_what_is_away_is_tried_longer_than_a_fault_of_ours(self) -> None:
        seen = Seen(*[Unavailable("the store is away")] * 5)
        policy = RetryPolicy(attempts=2, base=QUICK.base, ceiling=QUICK.ceiling)
        async with self.opened(listening(seen, retry=policy)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(seen) == 6)
            assert not await bus.dead_letters.list()

    async def test_patience_has_an_end(self) -> None:
        seen = Seen(*[Unavailable("for ever")] * 100)
        policy = RetryPolicy(patience=timedelta(milliseconds=600), ceiling=QUICK.ceiling)
        async with self.opened(listening(seen, retry=policy)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
        assert letter.error_code == "unavailable"
        assert letter.attempts == len(seen) >= 2
        assert letter.first_failed_at is not None
        assert letter.died_at - letter.first_failed_at >= policy.patience

    async def test_whoever_asks_for_patience_gets_it(self) -> None:
        seen = Seen(Throttled("slow down", retry_after=timedelta(milliseconds=900)))
        async with self.opened(listening(seen)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(seen) == 2)
        assert seen.at[1] - seen.at[0] >= timedelta(milliseconds=890)

    async def test_a_permanent_error_is_a_dead_letter_at_once(self) -> None:
        seen = Seen(Rejected("the CRM says no, token=s3cret"))
        async with self.opened(listening(seen)) as bus:
            sent = await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
        assert len(seen) == 1
        assert letter.service == "journal"
        assert letter.type == "calls.started.v1"
        assert letter.tenant == "acme"
        assert letter.message_id == str(sent.id)
        assert letter.error_code == "rejected"
        assert letter.error == "the CRM says no, token=***"
        assert letter.attempts == 1
        assert letter.message == sent.encode().decode()

    async def test_a_fault_of_ours_is_tried_as_often_as_the_policy_says(self) -> None:
        seen = Seen(*[ZeroDivisionError("oops")] * 3)
        async with self.opened(listening(seen)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
        assert len(seen) == 3
        assert (letter.attempts, letter.error_code) == (3, "internal")
        assert letter.error == "ZeroDivisionError: oops"
        assert letter.first_failed_at is not None
        assert letter.first_failed_at < letter.died_at

    async def test_an_error_that_is_no_text_has_its_letter(self) -> None:
        """A lone surrogate, as JSON may hold it, has no UTF-8."""
        seen = Seen(Rejected("the CRM knows no \ud83d"))
        async with self.opened(listening(seen)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
        assert len(seen) == 1
        assert letter.error == "the CRM knows no ?"

    async def test_what_a_handler_waits_for_may_be_cancelled_without_holding_up_the_queue(
        self,
    ) -> None:
        handled = Seen()

        async def share(message: Message[Any]) -> None:
            await handled(message)
            if message.body.call_id == "c1":
                shared = asyncio.create_task(asyncio.Event().wait())
                shared.cancel()
                await shared

        async with self.opened(listening(share, prefetch=1)) as bus:
            await publishing(bus).publish(a_call(call_id="c1"), tenant="acme")
            await publishing(bus).publish(a_call(call_id="c2"), tenant="acme")
            letter = await the_only_letter(bus)
        assert "was cancelled" in letter.error
        assert [m.body.call_id for m in handled.messages].count("c1") == QUICK.attempts
        assert "c2" in {m.body.call_id for m in handled.messages}

    async def test_a_message_that_ends_every_process_is_a_dead_letter(self) -> None:
        """The end is a cut here; what counts is that no handler ever returned."""
        begun = asyncio.Event()

        async def hang(_: Message[Any]) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with self.opened(consumers=[Consumer("journal", CallStarted)]) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
        for _ in range(DELIVERY_LIMIT + 1):
            begun.clear()
            async with self.opened(listening(hang)):
                await begun.wait()
        begun.clear()
        async with self.opened(listening(hang)) as bus:
            letter = await the_only_letter(bus)
            await bus.dead_letters.replay(letter.letter_id)
            await begun.wait()
        assert (letter.error_code, letter.attempts, letter.tenant) == ("crashed", 1, "acme")

    async def test_the_oldest_letters_come_first_whosesoever_they_are(self) -> None:
        old, new = Seen(*[Rejected("no")] * 2), Seen(*[Rejected("no")] * 2)
        async with self.opened(
            listening(old, service="lookup"),
            listening(new, service="journal", contract=CallEnded),
        ) as bus:
            for call in ("c1", "c2"):
                await publishing(bus).publish(a_call(call_id=call), tenant="acme")
            await eventually(lambda: letters(bus, 2))
            for call in ("c1", "c2"):
                await publishing(bus).publish(CallEnded(call_id=call, pbx="main"), tenant="acme")
            await eventually(lambda: letters(bus, 4))
            oldest = await bus.dead_letters.list(limit=2)
        assert [letter.service for letter in oldest] == ["lookup", "lookup"]

    async def test_letters_are_found_by_what_they_are_of(self) -> None:
        started, ended = Seen(*[Rejected("no")] * 2), Seen(Rejected("no"))
        async with self.opened(
            listening(started, service="lookup"),
            listening(ended, service="journal", contract=CallEnded),
        ) as bus:
            await publishing(bus).publish(a_call(call_id="c1"), tenant="acme")
            await eventually(lambda: letters(bus, 1))
            await publishing(bus).publish(a_call(call_id="c2"), tenant="globex")
            await eventually(lambda: letters(bus, 2))
            await publishing(bus).publish(CallEnded(call_id="c1", pbx="main"), tenant="acme")
            await eventually(lambda: letters(bus, 3))

            async def found(limit: int = 100, **which: Any) -> list[tuple[str, str | None]]:
                shown = await bus.dead_letters.list(WhichLetters(**which), limit=limit)
                return [(letter.type, letter.tenant) for letter in shown]

            first, second, third = await bus.dead_letters.list()
            a, g = (first.type, "acme"), (first.type, "globex")
            assert await found(tenant="acme") == [a, (third.type, "acme")]
            assert await found(tenant="acme", limit=1) == [a]
            assert await found(tenant="globex", limit=1) == [g]
            assert await found(tenant=OF_NO_TENANT) == await found(tenant="initech") == []
            assert await found(contract=first.type) == [a, g]
            assert await found(service="journal", tenant="acme") == [(third.type, "acme")]
            assert await found(since=second.died_at) == [g, (third.type, "acme")]
            assert await found(since=third.died_at + timedelta(milliseconds=1)) == []

    async def test_a_letter_is_kept_however_often_it_is_looked_at(self) -> None:
        seen = Seen(Rejected("no"))
        async with self.opened(listening(seen)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
            for _ in range(30):
                assert await bus.dead_letters.get(letter.letter_id) == letter
            assert await bus.dead_letters.list(WhichLetters(service="lookup")) == []
            with pytest.raises(NotFound):
                await bus.dead_letters.get("unknown")

    async def test_a_replay_goes_to_its_service_alone_as_a_first_attempt(self) -> None:
        journal, lookup = Seen(Rejected("no")), Seen()
        async with self.opened(
            listening(journal, service="journal"), listening(lookup, service="lookup")
        ) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
            await bus.dead_letters.replay(letter.letter_id)
            await eventually(lambda: len(journal) == 2)
            await eventually(lambda: nothing_dead(bus))
            with pytest.raises(NotFound):
                await bus.dead_letters.replay(letter.letter_id)
        assert [m.attempt for m in journal.messages] == [1, 1]
        assert journal.messages[0] == journal.messages[1]
        assert len(lookup) == 1

    async def test_a_replay_that_fails_again_is_a_letter_again(self) -> None:
        seen = Seen(Rejected("no"), Rejected("still no"))
        async with self.opened(listening(seen)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
            await bus.dead_letters.replay(letter.letter_id)
            await eventually(lambda: len(seen) == 2)
            again = await the_only_letter(bus)
        assert (again.letter_id, again.message_id) == (letter.letter_id, letter.message_id)
        assert again.error == "still no"

    async def test_what_cannot_be_read_is_a_dead_letter_that_says_why(self) -> None:
        seen = Seen()
        async with self.opened(listening(seen)) as bus:
            await self.inject(
                bus, b'{"id": 7}', consumer=Consumer("journal", CallStarted), to="acme"
            )
            letter = await the_only_letter(bus)
        assert not seen.messages
        assert letter.error_code == "contract_violation"
        assert "tenant: Field required" in letter.error
        assert letter.message == '{"id": 7}'

    async def test_no_message_reaches_another_tenant(self) -> None:
        """The envelope says acme, the address says globex: neither gets it."""
        seen = Seen()
        forged = wrap(a_call(), source="pbx", occurred_at=NOON, tenant="acme")
        async with self.opened(listening(seen)) as bus:
            await self.inject(
                bus, forged.encode(), consumer=Consumer("journal", CallStarted), to="globex"
            )
            letter = await the_only_letter(bus)
        assert not seen.messages
        assert letter.tenant == "globex"
        assert "addressed to tenant globex" in letter.error

    async def test_a_handler_cannot_answer_into_another_tenant(self) -> None:
        async def stray(message: Message[Any]) -> None:
            await publishing(bus).publish(
                CallEnded(call_id="c1", pbx="main"), cause=message, tenant="globex"
            )

        ended = Seen()
        one_try = RetryPolicy(attempts=1)
        async with self.opened(
            listening(stray, retry=one_try), listening(ended, contract=CallEnded)
        ) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            letter = await the_only_letter(bus)
        assert "cannot lead into globex" in letter.error
        assert not ended.messages

    async def test_what_was_sent_while_the_service_was_away_waits_for_it(self) -> None:
        away = [Consumer("journal", CallStarted)]
        async with self.opened(consumers=away) as bus:
            for number in range(20):
                await publishing(bus).publish(a_call(call_id=f"c{number}"), tenant="acme")
        seen = Seen()
        async with self.opened(listening(seen)):
            await eventually(lambda: len(seen) == 20)
        assert {m.body.call_id for m in seen.messages} == {f"c{n}" for n in range(20)}

    async def test_a_handler_that_was_cut_off_gets_its_message_again(self) -> None:
        begun = asyncio.Event()

        async def hang(_: Message[Any]) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with self.opened(listening(hang)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await begun.wait()
            await bus.stop(drain=timedelta(milliseconds=50))
        seen = Seen()
        async with self.opened(listening(seen)):
            await eventually(lambda: len(seen) == 1)

    async def test_stop_lets_a_running_handler_finish_and_publish(self) -> None:
        begun, go = asyncio.Event(), asyncio.Event()
        ended = Seen()

        async def slow(message: Message[Any]) -> None:
            begun.set()
            await go.wait()
            await publishing(bus).publish(CallEnded(call_id="c1", pbx="main"), cause=message)

        async with self.opened(listening(slow), consumers=[Consumer("journal", CallEnded)]) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await begun.wait()
            stopping = asyncio.create_task(bus.stop(drain=SOON))
            await asyncio.sleep(0.05)  # noqa: TID251  for the drain to have begun
            go.set()
            await stopping
            assert not await bus.ready()
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(), tenant="acme")
        async with self.opened(listening(Seen()), listening(ended, contract=CallEnded)) as bus:
            await eventually(lambda: len(ended) == 1)

    async def test_no_more_handlers_run_at_once_than_were_asked_for(self) -> None:
        busy = Busy()

        async def work(_: Message[Any]) -> None:
            await busy()

        async with self.opened(listening(work, prefetch=3)) as bus:
            for number in range(12):
                await publishing(bus).publish(a_call(call_id=f"c{number}"), tenant="acme")
            await eventually(lambda: busy.done == 12)
        assert 1 < busy.most <= 3

    async def test_a_question_is_answered(self) -> None:
        async def answer(message: Message[Any]) -> ContactAnswer:
            return ContactAnswer(candidates=(a_contact(display_name=message.body.number),))

        async with self.opened(listening(answer, service="lookup", contract=FindContact)) as bus:
            got = await publishing(bus).request(
                FindContact(number="+447700900123"), within=SOON, tenant="acme"
            )
        assert got.chosen is not None
        assert got.chosen.display_name == "+447700900123"

    async def test_an_error_crosses_as_what_it_is(self) -> None:
        refuse = Seen(Rejected("this CRM has no such module"))
        async with self.opened(listening(refuse, service="lookup", contract=FindContact)) as bus:
            with pytest.raises(Rejected, match="no such module"):
                await publishing(bus).request(FindContact(number="1"), within=SOON, tenant="acme")

    async def test_an_error_crosses_bounded_and_with_the_time_to_wait(self) -> None:
        after = timedelta(seconds=77)
        refuse = Seen(Throttled("slow down " * 20_000, retry_after=after))
        async with self.opened(listening(refuse, service="lookup", contract=FindContact)) as bus:
            with pytest.raises(Throttled) as told:
                await publishing(bus).request(FindContact(number="1"), within=SOON, tenant="acme")
        assert told.value.retry_after == after
        assert len(told.value.message) == 500

    async def test_no_more_questions_are_answered_at_once_than_were_asked_for(self) -> None:
        busy = Busy()

        async def answer(_: Message[Any]) -> ContactAnswer:
            await busy()
            return ContactAnswer()

        async with self.opened(
            listening(answer, service="lookup", contract=FindContact, prefetch=3)
        ) as bus:
            ask = publishing(bus).request
            questions = (FindContact(number=str(number)) for number in range(12))
            await asyncio.gather(*(ask(q, within=SOON, tenant="acme") for q in questions))
        assert 1 < busy.most <= 3

    async def test_no_more_live_copies_are_shown_at_once_than_were_asked_for(self) -> None:
        busy = Busy()

        async def show(_: Message[Any]) -> None:
            await busy()

        async with self.opened(listening(show, service="gateway", prefetch=3, live=True)) as bus:
            for number in range(12):
                await publishing(bus).publish(a_call(call_id=f"c{number}"), tenant="acme")
            await eventually(lambda: busy.done == 12)
        assert 1 < busy.most <= 3

    async def test_a_fault_in_the_answering_service_tells_nothing_of_it(self) -> None:
        broken = Seen(ZeroDivisionError("secret detail"))
        async with self.opened(listening(broken, service="lookup", contract=FindContact)) as bus:
            with pytest.raises(Exception, match=r"^(?!.*secret detail).*$"):
                await publishing(bus).request(FindContact(number="1"), within=SOON, tenant="acme")

    async def test_a_late_answer_is_no_answer_and_disturbs_no_other_question(self) -> None:
        waiting = asyncio.Event()

        async def answer(message: Message[Any]) -> ContactAnswer:
            if message.body.number == "slow":
                await waiting.wait()
            return ContactAnswer(candidates=(a_contact(display_name=message.body.number),))

        async with self.opened(listening(answer, service="lookup", contract=FindContact)) as bus:
            ask = publishing(bus).request
            with pytest.raises(Unavailable, match=r"within 0\.2 s"):
                await ask(FindContact(number="slow"), within=timedelta(seconds=0.2), tenant="acme")
            waiting.set()
            got = await ask(FindContact(number="quick"), within=SOON, tenant="acme")
        assert got.chosen is not None
        assert got.chosen.display_name == "quick"

    async def test_a_question_that_nobody_answers_fails_in_its_time(self) -> None:
        async with self.opened() as bus:
            with pytest.raises(Unavailable):
                await publishing(bus).request(
                    FindContact(number="1"), within=timedelta(seconds=0.3), tenant="acme"
                )

    async def test_a_live_copy_is_neither_retried_nor_kept(self) -> None:
        screen = Seen(Unavailable("closed"))
        async with self.opened(listening(screen, service="gateway", live=True)) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(screen) == 1)
            await asyncio.sleep(_A_WHILE)  # noqa: TID251  for a retry to show
            assert await bus.dead_letters.list() == []
        assert len(screen) == 1

    async def test_what_is_sent_before_the_start_is_refused(self) -> None:
        async with self.opened() as bus:
            await bus.stop(drain=timedelta(0))
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(), tenant="acme")


def publishing(bus: MessageBus) -> ServicePublisher:
    return ServicePublisher(bus, service="test", clock=SystemClock())


async def the_only_letter(bus: MessageBus) -> DeadLetter:
    found: list[DeadLetter] = []

    async def there() -> bool:
        found[:] = await bus.dead_letters.list()
        return bool(found)

    await eventually(there)
    (letter,) = found
    return letter


async def letters(bus: MessageBus, count: int) -> bool:
    return len(await bus.dead_letters.list()) == count


async def nothing_dead(bus: MessageBus) -> bool:
    return await letters(bus, 0)
