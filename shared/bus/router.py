"""Handlers in a table that knows no broker; a service binds them to its dependencies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel

from shared.bus.port import Consumer, Handler, RetryPolicy, Subscription
from shared.contracts.envelope import Contract, Message, Query

D = TypeVar("D")
C = TypeVar("C", bound=Contract)
#: ``None`` for events and commands, the answer's model for queries.
A = TypeVar("A", bound=BaseModel | None)

_Handle = Callable[[D, Message[C]], Awaitable[A]]


@dataclass(frozen=True, slots=True)
class Route(Generic[D]):
    contract: type[Contract]
    handler: Callable[[D, Message[Any]], Awaitable[Any]]
    retry: RetryPolicy
    prefetch: int
    live: bool


class Router(Generic[D]):
    """``@router.on(Contract)`` over a function of the dependencies and the message."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.routes: list[Route[D]] = []

    def on(
        self,
        contract: type[C],
        *,
        retry: RetryPolicy | None = None,
        prefetch: int = 32,
        live: bool = False,
    ) -> Callable[[_Handle[D, C, A]], _Handle[D, C, A]]:
        def register(handler: _Handle[D, C, A]) -> _Handle[D, C, A]:
            self.routes.append(
                Route(
                    contract,
                    cast("Callable[[D, Message[Any]], Awaitable[Any]]", handler),
                    retry or RetryPolicy(),
                    prefetch,
                    live,
                )
            )
            return handler

        return register

    def on_each(
        self, *contracts: type[Contract], live: bool = False
    ) -> Callable[[_Handle[D, Any, None]], _Handle[D, Any, None]]:
        """One function for several contracts."""

        def register(handler: _Handle[D, Any, None]) -> _Handle[D, Any, None]:
            for contract in contracts:
                self.on(contract, live=live)(handler)
            return handler

        return register

    @property
    def consumers(self) -> list[Consumer]:
        """The durable subscriptions: what has a queue even while the service is away."""
        return [
            Consumer(self.service, route.contract)
            for route in self.routes
            if not route.live and not issubclass(route.contract, Query)
        ]

    @property
    def contracts(self) -> list[type[Contract]]:
        """Everything the service receives."""
        return list(dict.fromkeys(route.contract for route in self.routes))

    def bind(self, deps: D) -> list[Subscription]:
        return [
            Subscription(
                consumer=Consumer(self.service, route.contract),
                handler=_bound(route.handler, deps),
                retry=route.retry,
                prefetch=route.prefetch,
                live=route.live,
            )
            for route in self.routes
        ]


def joined(*routers: Router[Any]) -> Router[Any]:
    """One service's tables, each over dependencies of its own, as one: to be listed, not bound."""
    found: Router[Any] = Router(routers[0].service)
    found.routes = [route for router in routers for route in router.routes]
    return found


def _bound(handler: Callable[[D, Message[Any]], Awaitable[Any]], deps: D) -> Handler:
    async def call(message: Message[Any]) -> BaseModel | None:
        return cast("BaseModel | None", await handler(deps, message))

    return call
