from __future__ import annotations

from typing import Any

import openapi_spec_validator

from services.gateway.http import routes
from shared.http import openapi

HOOK = "/v1/crm/{connection}/hook"


def document() -> dict[str, Any]:
    return openapi.build("x", "1", routes.operations)


def test_the_document_of_all_operations_is_valid() -> None:
    openapi_spec_validator.validate(document())


def test_no_two_operations_have_one_name() -> None:
    names = [operation.operation_id for operation in routes.operations]
    assert len(names) == len(set(names))


def test_a_crms_hook_takes_any_body_and_says_that_it_may_be_unreadable() -> None:
    post, get = document()["paths"][HOOK]["post"], document()["paths"][HOOK]["get"]
    assert list(post["requestBody"]["content"]) == ["*/*"]
    assert "requestBody" not in get
    assert [parameter["name"] for parameter in post["parameters"]] == ["connection"]
    assert {"query": []} in post["security"]
    assert post["responses"]["400"]["description"] == "unreadable_body, bad_request"
    assert post["responses"]["422"]["description"] == "invalid_request"
    assert {"401", "404", "413"} <= set(post["responses"])
    assert "413" not in get["responses"]


def test_who_comes_back_from_a_consent_needs_no_key() -> None:
    assert "security" not in document()["paths"]["/v1/oauth/callback"]["get"]
