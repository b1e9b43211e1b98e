"""Requests of the REST API whose headers matter, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yarl import URL

from tests.contract.crm_api_kit import CrmApi

KEPT = "********"
PATCH = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    #: As it stands in the header, with its quotes; empty where there is none.
    etag: str

    @property
    def detail(self) -> str:
        return str(self.body.get("detail", "")) if isinstance(self.body, dict) else ""

    @property
    def code(self) -> str:
        return str(self.body["code"])


async def ask(
    api: CrmApi, method: str, path: str | URL, *, key: str | None = None, **more: Any
) -> Reply:
    headers = {"X-Api-Key": key or api.key, **more.pop("headers", {})}
    async with api.session.request(method, path, headers=headers, **more) as answer:
        is_json = answer.content_type.endswith("json")
        body = await (answer.json() if is_json else answer.text())
        return Reply(answer.status, body, answer.headers.get("ETag", ""))


async def patch(api: CrmApi, path: str | URL, body: Any, **more: Any) -> Reply:
    more["headers"] = {**PATCH, **more.get("headers", {})}
    return await ask(api, "PATCH", path, json=body, **more)
