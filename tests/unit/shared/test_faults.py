from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from shared.faults import faults_by_path, faults_in


def even(number: int) -> int:
    if number % 2:
        raise ValueError("not an even number")
    return number


class Row(BaseModel):
    value: str
    number: Annotated[int, AfterValidator(even)]


class Table(BaseModel):
    rows: Annotated[tuple[Row, ...], Field(min_length=2)]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(
            {"rows": [{"value": "a", "number": "2"}, {"number": "x"}]},
            [
                (("rows", 1, "value"), "Field required"),
                (
                    ("rows", 1, "number"),
                    "Input should be a valid integer, unable to parse string as an integer",
                ),
            ],
            id="two of one row",
        ),
        pytest.param(
            {"rows": [{"value": "a", "number": "2"}, {"value": "b", "number": "3"}]},
            [(("rows", 1, "number"), "not an even number")],
            id="one of ours",
        ),
        pytest.param(
            {"rows": [{"value": "a", "number": "3"}]},
            [(("rows", 0, "number"), "not an even number")],
            id="a faulty row is why there are too few",
        ),
        pytest.param(
            {"rows": []},
            [(("rows",), "Tuple should have at least 2 items after validation, not 0")],
            id="too few",
        ),
        pytest.param({}, [(("rows",), "Field required")], id="none"),
        pytest.param(
            "rows",
            [((), "Input should be a valid dictionary or instance of Table")],
            id="no mapping",
        ),
    ],
)
def test_a_models_faults_are_told_by_path_without_what_only_follows_from_them(
    document: Any, expected: list[tuple[tuple[str | int, ...], str]]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate(document)

    assert faults_by_path(caught.value) == expected


def test_in_one_line_each_fault_has_its_place_and_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate({"rows": [{"number": "hunter2"}, {"value": "a", "number": "3"}]})

    assert faults_in(caught.value) == (
        "rows.0.value: Field required; "
        "rows.0.number: Input should be a valid integer, unable to parse string as an integer; "
        "rows.1.number: not an even number"
    )
