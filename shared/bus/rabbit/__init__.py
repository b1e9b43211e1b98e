"""
RabbitBus: the bus over RabbitMQ 3.10 to 4.x.

One topic exchange; a quorum queue per consuming service and contract, with delivery limit; a
delay queue per retry step for the whole mesh; a dead-letter queue per service. Every process
declares all of it at its start, so a message waits for a service that has not started yet.

PBXs that publish by themselves have a topic exchange and a queue of their own, declared by who opens
the door; deploy/rabbitmq/pbx-user.sh makes users who may write there, each under its own key.

The connection is our own business, not ``connect_robust``'s: one loop opens a session (two
connections, topology, consumers) and opens a new one whenever it is lost, at the first start as
at any later time. Why, and what was measured: docs/decisions/0002-thin-bus-over-aio-pika.md.
"""

from shared.bus.rabbit.bus import RabbitBus

__all__ = ["RabbitBus"]
