"""Names of exchanges, queues and dead letters, computed, never written by hand. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from shared.bus.port import Consumer

#: A retry waits in the first of these that is long enough: RetryPolicy's own waits. One delay queue per step serves the
#: whole mesh: a queue per message TTL would let a long wait hold up the short ones behind it.
RETRY_STEPS = tuple(
    timedelta(milliseconds=ms) for ms in (250, 1_000, 4_000, 16_000, 64_000, 256_000)
)
#: Deliveries of one message after the first, none of them finished, before it is taken for a
#: killer of processes.
DELIVERY_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Topology:
    """All names begin with *prefix*, so that several meshes (or tests) share one broker."""

    prefix: str = "mesh"

    @property
    def events(self) -> str:
        """The topic exchange of everything that is ours: no PBX may write to it."""
        return f"{self.prefix}.events"

    @property
    def pbx(self) -> str:
        """The topic exchange of PBXs that publish by themselves; the key is ``TENANT.PBX``."""
        return f"{self.prefix}.pbx"

    @property
    def pbx_in(self) -> str:
        """The queue behind it."""
        return f"{self.prefix}.pbx.in"

    def routing_key(self, tenant: str, wire_name: str) -> str:
        """The tenant comes first: a broker user can be confined to it by topic permissions."""
        return f"{tenant}.{wire_name}"

    def binding_key(self, wire_name: str) -> str:
        return f"*.{wire_name}"

    def work(self, consumer: Consumer) -> str:
        return f"{self.prefix}.{consumer.service}.{consumer.contract.wire_name()}"

    def dead(self, service: str) -> str:
        return f"{self.prefix}.{service}.dead"

    def asks(self, wire_name: str) -> str:
        return f"{self.prefix}.ask.{wire_name}"

    def answers(self, instance: str) -> str:
        return f"{self.prefix}.answers.{instance}"

    def live(self, consumer: Consumer, instance: str) -> str:
        return f"{self.prefix}.live.{consumer.service}.{consumer.contract.wire_name()}.{instance}"

    def retry(self, step: timedelta) -> str:
        return f"{self.prefix}.retry.{round(step / timedelta(milliseconds=1))}"


def retry_step(wait: timedelta) -> timedelta:
    """The shortest step that is not shorter than *wait*; the last one for anything longer."""
    return next((step for step in RETRY_STEPS if step >= wait), RETRY_STEPS[-1])
