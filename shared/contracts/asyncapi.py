"""AsyncAPI 3.0 from the contracts and from who sends and receives them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.contracts.envelope import Contract, Message, Query

_REF = "#/components/schemas/{model}"
_TENANT = {"description": "The tenant; the first word of every routing key."}


def build(
    contracts: Iterable[type[Contract]],
    *,
    version: str,
    sends: Mapping[str, Iterable[type[Contract]]],
    receives: Mapping[str, Iterable[type[Contract]]],
) -> dict[str, Any]:
    """*sends* and *receives* are by service."""
    known = sorted(set(contracts), key=lambda contract: contract.wire_name())
    models: list[tuple[type[BaseModel], str]] = [(c, "serialization") for c in known]
    models += [(c.answer_model, "serialization") for c in known if issubclass(c, Query)]
    models.append((Message, "serialization"))
    refs, schemas = models_json_schema(
        list(dict.fromkeys(models)),  # type: ignore[arg-type]  # the mode is one of two literals
        ref_template=_REF,
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "callmesh messages",
            "version": version,
            "description": (
                "Every message of the mesh. Events and commands go to the topic exchange "
                "`mesh.events` with the routing key `{tenant}.{channel}`; queries to the queue "
                "`mesh.ask.{channel}`, answered to their `reply_to`."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel_id(c): _channel(c) for c in known},
        "operations": {
            f"{service}.{action}.{c.wire_name()}": _operation(action, c)
            for action, table in (("send", sends), ("receive", receives))
            for service, used in table.items()
            for c in sorted(set(used), key=lambda contract: contract.wire_name())
        },
        "components": {
            "schemas": dict(sorted(schemas["$defs"].items())),
            "messages": _messages(known, refs),
        },
    }


def _channel_id(contract: type[Contract]) -> str:
    return contract.wire_name()


def _channel(contract: type[Contract]) -> dict[str, Any]:
    name = contract.wire_name()
    messages = {"message": {"$ref": f"#/components/messages/{name}"}}
    if issubclass(contract, Query):
        messages["answer"] = {"$ref": f"#/components/messages/{name}.answer"}
        queue = {"name": f"mesh.ask.{name}", "durable": True}
        return {
            "address": f"mesh.ask.{name}",
            "messages": messages,
            "bindings": {"amqp": {"is": "queue", "queue": queue, "bindingVersion": "0.3.0"}},
        }
    exchange = {"name": "mesh.events", "type": "topic", "durable": True}
    return {
        "address": f"{{tenant}}.{name}",
        "parameters": {"tenant": _TENANT},
        "messages": messages,
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _operation(action: str, contract: type[Contract]) -> dict[str, Any]:
    name = contract.wire_name()
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/message"}],
    }
    if issubclass(contract, Query):
        operation["reply"] = {"messages": [{"$ref": f"#/channels/{name}/messages/answer"}]}
        operation["reply"]["channel"] = {"$ref": f"#/channels/{name}"}
    return operation


def _messages(known: Iterable[type[Contract]], refs: Mapping[Any, Any]) -> dict[str, Any]:
    envelope = refs[Message, "serialization"]
    found: dict[str, Any] = {}
    for contract in known:
        name = contract.wire_name()
        body = refs[contract, "serialization"]
        found[name] = {
            "name": contract.__name__,
            "title": name,
            "summary": " ".join((inspect.getdoc(contract) or "").split("\n\n")[0].split()),
            "payload": {"allOf": [envelope, {"type": "object", "properties": {"body": body}}]},
        }
        if issubclass(contract, Query):
            answer = refs[contract.answer_model, "serialization"]
            found[f"{name}.answer"] = {
                "name": contract.answer_model.__name__,
                "title": f"answer to {name}",
                "payload": answer,
            }
    return found
