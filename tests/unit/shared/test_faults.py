from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, ValidationError

from shared.faults import faults_by_path, faults_in
from shared.moments import Duration


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
            [((), "Input should be an object")],
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


class Phone(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["phone"] = "phone"
    number: str = ""


class Mail(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["mail"] = "mail"
    address: str = ""


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str | None = None
    ways: tuple[Annotated[Phone | Mail, Field(discriminator="kind")], ...] = ()
    by_name: dict[str, Phone] = Field(default_factory=dict)


class People(RootModel[list[Person]]):
    pass


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param([{"titel": "Dr"}], "0.titel: unknown key; did you mean `title`?", id="close"),
        pytest.param([{"zip": "1"}], "0.zip: unknown key", id="close to none"),
        pytest.param(
            [{"ways": [{"kind": "mail", "adress": "a"}]}],
            "0.ways.0.mail.adress: unknown key; did you mean `address`?",
            id="in a member of a union",
        ),
        pytest.param(
            [{"by_name": {"a": {"nunber": "1"}}}],
            "0.by_name.a.nunber: unknown key; did you mean `number`?",
            id="in a mapping",
        ),
    ],
)
def test_an_unknown_key_comes_with_the_known_one_that_it_is_close_to(
    document: Any, expected: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        People.model_validate(document)

    ((path, what),) = faults_by_path(caught.value, People)
    assert f"{'.'.join(map(str, path))}: {what}" == expected


class Wait(BaseModel):
    within: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=10))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("11s", "Input should be at most 10s"),
        ("0ms", "Input should be more than 0s"),
        ("soon", "not a length of time: 250ms, 1.5s, 10m, 2h"),
        ([], "not a length of time: 250ms, 1.5s, 10m, 2h"),
    ],
)
def test_a_wrong_length_of_time_is_told_in_words_of_the_file(text: Any, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Wait.model_validate({"within": text})

    assert faults_by_path(caught.value) == [(("within",), expected)]


class Strict(BaseModel, extra="forbid"):
    within: int = 0


def test_of_thousands_of_faults_the_first_are_told_and_the_rest_counted() -> None:
    document = {f"unknown{number}": 1 for number in range(5000)}
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate(document)

    told = faults_by_path(caught.value, Strict)
    (path, what) = told[-1]
    assert len(told) < 300
    assert path == ()
    assert "faults more" in what
