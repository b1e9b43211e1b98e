"""A dotted path of 3CX finds in each shape of an answer what 3CX finds there."""

from __future__ import annotations

from typing import Any

import pytest

from shared.crm.importing.threecx.paths import Condition, Paths, names_of, shared_beginning
from shared.crm.language.paths import at_path, list_at, of_record
from shared.errors import ContractError

JSON, XML = Paths(), Paths(xml=True)
ANN, BOB = {"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}


def test_all_paths_of_an_answer_share_the_way_to_its_records() -> None:
    paths = ["data.items.item.id", "data.items.item.phones", "data.items.item.org.name"]
    assert shared_beginning(names_of(path)[:-1] for path in paths) == ("data", "items", "item")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"data": {"items": [{"item": ANN}, {"item": BOB}]}}, [ANN, BOB]),
        ({"data": {"items": {"item": [ANN, BOB]}}}, [ANN, BOB]),
        ({"data": {"items": {"item": ANN}}}, [ANN]),
        ({"data": [{"items": {"item": ANN}}, {"items": {"item": BOB}}]}, [ANN, BOB]),
        ({"data": [{"items": [{"item": ANN}, {"item": BOB}]}]}, [ANN, BOB]),
        ({"data": {"items": []}}, []),
        ({"data": None}, []),
    ],
)
def test_records_are_found_wherever_the_list_is(answer: Any, expected: list[Any]) -> None:
    assert list_at(answer, JSON.records(("data", "items", "item"))) == expected


@pytest.mark.parametrize("answer", [[ANN, BOB], ANN])
def test_without_a_beginning_the_answer_is_the_records(answer: Any) -> None:
    assert list_at(answer, JSON.records(())) in ([ANN, BOB], [ANN])


def test_the_root_of_xml_may_be_named_or_not() -> None:
    answer = {"response": {"contacts": {"contact": [ANN, BOB]}}}
    assert list_at(answer, XML.records(("response", "contacts", "contact"))) == [ANN, BOB]
    assert list_at(answer, XML.records(("contacts", "contact"))) == [ANN, BOB]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"firm": {"name": "Acme"}}, "Acme"),
        ({"firm": [{"name": "Acme"}, {"name": "Other"}]}, "Acme"),
        ({"firm": None}, None),
    ],
)
def test_a_value_may_be_in_a_list(record: Any, expected: Any) -> None:
    assert of_record(record, JSON.value(("firm", "name"))) == expected


def test_a_filter_takes_the_element_that_it_describes() -> None:
    record = {"phones": [{"l": "home", "v": "1"}, {"l": "work", "v": "2"}, {"l": "work", "v": "3"}]}
    test = Condition(("phones", "l"), "work")
    assert of_record(record, JSON.value(("phones", "v"), inner=[test])) == "2"
    assert of_record(record, JSON.value(("phones", "v"), inner=[test], every=True)) == ["2", "3"]
    there = Condition(("phones", "v"))
    assert of_record(record, JSON.value(("phones", "v"), inner=[there])) == "1"


def test_one_element_of_xml_is_a_list_too() -> None:
    record = {"tel": {"kind": "work", "number": "5"}}
    path = XML.value(("tel", "number"), inner=[Condition(("tel", "kind"), "work")])
    assert of_record(record, path) == "5"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"id": 1, "active": True, "kind": "a"}, 1),
        ({"id": 1, "active": "True", "kind": "a"}, 1),
        ({"id": 1, "active": False, "kind": "a"}, None),
        ({"id": 1, "active": True, "kind": "b"}, None),
        ({"id": 1, "active": True}, None),
    ],
)
def test_a_record_counts_where_all_rules_hold(record: Any, expected: Any) -> None:
    tests = [Condition(("active",), "True"), Condition(("kind",), "a")]
    assert of_record(record, JSON.of_record("id", tests)) == expected


def test_a_rule_looks_into_a_list() -> None:
    path = JSON.of_record("id", [Condition(("phones", "v"))])
    assert of_record({"id": 1, "phones": [{"v": ""}, {"v": "5"}]}, path) == 1
    assert of_record({"id": 1, "phones": {"v": "5"}}, path) == 1
    assert of_record({"id": 1, "phones": [{"v": ""}]}, path) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"id": 7, "status": "open"}},
        {"data": [{"id": 7, "status": "open"}]},
        {"data": [{"id": 6, "status": "lost"}, {"id": 7, "status": "open"}]},
    ],
)
def test_a_step_takes_from_the_first_record_that_the_rules_let_through(answer: Any) -> None:
    tests = [Condition(("status",), "open")]
    assert at_path(answer, JSON.out_of_answer(("data",), "id", tests)) == 7


@pytest.mark.parametrize("answer", [{"id": 7}, [{"id": 7}, {"id": 8}]])
def test_a_step_takes_from_the_root(answer: Any) -> None:
    assert at_path(answer, JSON.out_of_answer((), "id", [])) == 7


def test_what_is_compared_stays_one_text() -> None:
    record = {"id": 1, "kind": 'a"]{{.b}}*'}
    path = JSON.of_record("id", [Condition(("kind",), 'a"]{{.b}}*')])
    assert "{{" not in path
    assert of_record(record, path) == 1


@pytest.mark.parametrize("path", ['a."b"', "a\\.b", "{{.a}}", "a." * 20])
def test_a_path_that_means_something_else_is_refused(path: str) -> None:
    with pytest.raises(ContractError):
        names_of(path)
