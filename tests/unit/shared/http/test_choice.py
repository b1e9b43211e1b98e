"""``fields``: what of an answer is wanted."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue, RootModel

from shared.errors import ContractError
from shared.http.choice import cut, names_of, read_choice, things_at


class Kind(StrEnum):
    A = "a"


class Phone(BaseModel):
    number: str
    kind: Kind = Kind.A


class Cat(BaseModel):
    is_: Literal["cat"] = Field(alias="is", serialization_alias="is")
    lives: int


class Dog(BaseModel):
    is_: Literal["dog"] = Field(alias="is", serialization_alias="is")
    tricks: tuple[str, ...]


class Card(BaseModel):
    id: str
    phones: tuple[Phone, ...] = ()
    main: Phone | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="is_")] | None = None
    fields: dict[str, JsonValue] = Field(default_factory=dict)
    anything: JsonValue = None
    secret: str = Field(default="", exclude=True)


class Cards(BaseModel):
    cards: tuple[Card, ...]
    next_cursor: str | None = None


class Wrapped(RootModel[Card]):
    pass


CARDS: dict[str, Any] = {
    "cards": [
        {
            "id": "1",
            "phones": [{"number": "1", "kind": "a"}, {"number": "2", "kind": "a"}],
            "main": {"number": "1", "kind": "a"},
            "fields": {"Tier": {"Name": "GOLD", "Id": 1}, "City": "Bath"},
        },
        {"id": "2", "phones": []},
    ],
    "next_cursor": "x",
}


def chosen(text: str, model: Any = Card) -> Any:
    return read_choice(text, [model])


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("id", {"id": "1"}),
        (" id , main.number ", {"id": "1", "main": {"number": "1"}}),
        ("phones.number", {"phones": [{"number": "1"}, {"number": "2"}]}),
        ("fields.Tier.Name", {"fields": {"Tier": {"Name": "GOLD"}}}),
        ("fields.Tier.Name,fields", {"fields": CARDS["cards"][0]["fields"]}),
        ("fields,fields.Tier.Name", {"fields": CARDS["cards"][0]["fields"]}),
        ("pet", {}),
        ("id,id", {"id": "1"}),
        ("", CARDS["cards"][0]),
        (" , ", CARDS["cards"][0]),
    ],
)
def test_what_is_asked_for_is_left(text: str, first: dict[str, Any]) -> None:
    answer = cut(CARDS, ["cards"], chosen(text))

    assert answer["cards"][0] == first
    assert answer["next_cursor"] == "x"


def test_an_answer_that_is_one_thing_is_cut_itself() -> None:
    assert cut(CARDS["cards"][1], [""], chosen("id,main")) == {"id": "2"}


def test_what_is_answered_stays_as_it_was() -> None:
    before = repr(CARDS)
    cut(CARDS, ["cards"], chosen("phones.number"))
    assert repr(CARDS) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nam", "nam is not there; there are: anything, fields, id, main, pet, phones"),
        ("id,phones.numbr", "phones.numbr is not there; phones has: kind, number"),
        ("id.x", "id.x is not there; id has no parts"),
        ("main.kind.x", "main.kind.x is not there; main.kind has no parts"),
        ("pet.wings", "pet.wings is not there; pet has: is, lives, tricks"),
        ("secret", "secret is not there"),
        ("id.", "id. is not there; id has no parts"),
        (".", "one of the names is not there"),
        ("<script>", "one of the names is not there"),
        (",".join(f"a{n}" for n in range(101)), "at most 100 names"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_there_are(text: str, says: str) -> None:
    with pytest.raises(ContractError) as refused:
        chosen(text)
    assert refused.value.message.startswith(f"query.fields: {says}")


@pytest.mark.parametrize("text", ["pet.lives", "pet.tricks", "fields.x.y", "anything.at.all"])
def test_what_may_be_there_may_be_asked_for(text: str) -> None:
    assert chosen(text)


def test_things_are_found_through_lists_and_roots() -> None:
    (card,) = things_at(Cards, "cards")
    names = names_of(card)
    assert names is not None
    assert names.keys() == {"id", "phones", "main", "pet", "fields", "anything"}
    assert names_of(Wrapped) == names
    assert things_at(Cards, "") == [Cards]
    assert names_of(dict[str, int]) is None


@given(st.text(max_size=50), st.text(alphabet="id.,phones", max_size=30))
def test_no_text_does_more_than_be_refused(any_text: str, near: str) -> None:
    for text in (any_text, near):
        try:
            found = chosen(text)
        except ContractError:
            continue
        cut(CARDS, ["cards"], found)
