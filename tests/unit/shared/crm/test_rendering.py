"""A request of a template: what all its texts together may cost."""

from __future__ import annotations

import pytest

from shared.crm.form.requests import Request
from shared.crm.rendering import Scope, render
from shared.errors import ContractError

WORKS = "{{.A | lower | upper | lower | first 9}}"


def test_the_texts_of_a_request_share_what_they_may_cost() -> None:
    scope = Scope(own={}, variables={"A": "a" * 500_000})
    request = {"method": "POST", "url": "https://crm.example/calls"}
    assert render(Request.model_validate({**request, "json": [WORKS] * 4}), scope) is not None
    with pytest.raises(ContractError, match="too much work"):
        render(Request.model_validate({**request, "json": [WORKS] * 8}), scope)
    spread = {**request, "query": {"a": WORKS, "b": WORKS}, "headers": {"X-A": WORKS}}
    with pytest.raises(ContractError, match="too much work"):
        render(Request.model_validate({**spread, "json": [WORKS] * 4}), scope)
