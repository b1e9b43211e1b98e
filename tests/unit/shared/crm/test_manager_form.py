"""What a template says of the CRM's responsible manager."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.crm.form.manifest import Manifest
from shared.crm.registry import shipped

RETAIL = shipped("retailcrm").model_dump(mode="json", by_alias=True, exclude_unset=True)


def with_manager(**changes: Any) -> Manifest:
    return Manifest.model_validate({**RETAIL, "manager": {**RETAIL["manager"], **changes}})


def test_a_manager_is_no_duty() -> None:
    without = {name: value for name, value in RETAIL.items() if name != "manager"}
    assert Manifest.model_validate(without).manager is None


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"request": {"url": "{{.api_url}}/manager"}}, "does not say which number"),
        ({"user_id": None, "extension": None}, "say `user_id` or `extension`"),
        ({"formats": ["loudly"]}, "'loudly' is no format"),
        ({"request": {"url": "{{.api_url}}/{{.Phone}}/{{.Owner}}"}}, r"manager\.request\.url"),
        ({"request": {"url": "{{.api_url}}/{{.Phone"}}, r"manager\.request\.url"),
        ({"user_id": "a.{{.Field}}"}, r"manager\.user_id"),
        ({"status": "free"}, "status"),
    ],
)
def test_a_fault_is_told_with_its_place(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        with_manager(**changes)


def test_a_path_may_name_the_number() -> None:
    path = 'clients.#(phone=="{{.Phone}}").manager'
    made = with_manager(user_id=path, answered="clients.#")
    assert made.manager is not None
    assert made.manager.user_id == path
