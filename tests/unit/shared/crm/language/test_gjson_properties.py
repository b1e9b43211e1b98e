"""Nothing that stands in a path or in an answer is an error, or takes long."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.gjson import MISSING, compile_path, escape_literal, text_form
from shared.crm.language.jsontext import write_json
from shared.crm.language.paths import at_path, list_at, of_record, split_at_first_array

names = st.sampled_from(["a", "b", "0", "#", "", "a.b", "*"])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=25,
)
pieces = st.sampled_from(
    [
        *'abc01.|#*?@!{}[]()"\\,:~=<>% $',
        *("#(a==1)#", "#(", ")#", "#.", "..", '"a"', "{a,b}", "[a,0]", "!true", "==~true", "!%"),
        *("@this", "@reverse", "@flatten:", "@dig:", "@keys", "@values", "@group", "@tostr"),
        *("@fromstr", "@join", "@pretty:", '{"deep":true}', '{"sortKeys":true}', "\\u00", "\ud800"),
    ]
)
paths = st.lists(pieces, max_size=25).map("".join) | st.text(max_size=30)
records = st.lists(
    st.dictionaries(st.sampled_from(["k", "n", "m"]), st.none() | st.text(max_size=4), max_size=3)
)


@given(json_values, st.lists(paths, min_size=6, max_size=6))
@settings(deadline=None, max_examples=40)
def test_no_path_through_any_value_is_an_error(value: Any, some: list[str]) -> None:
    for path in some:
        found = compile_path(path).get(value)

        if found is not MISSING:
            write_json(found)
        text_form(found)


@given(json_values, st.lists(paths, min_size=6, max_size=6))
@settings(deadline=None, max_examples=30)
def test_no_alternative_is_an_error(value: Any, some: list[str]) -> None:
    for path in some:
        at_path(value, path)
        of_record(value, path)
        assert isinstance(list_at(value, path), list)
        split_at_first_array(path)


@given(st.text(), st.lists(st.text(max_size=5)))
@settings(deadline=None, max_examples=30)
def test_an_escaped_value_finds_its_own_records_and_no_other(value: str, others: list[str]) -> None:
    literal = escape_literal(value)
    kept = "".join(c for c in value if c >= " " and not "\x7f" <= c <= "\x9f")
    rows = [{"k": text} for text in [*others, kept, kept + "x", "x" + kept]]
    expected = [row for row in rows if row["k"] == kept]

    for operator in ("==", "%"):
        assert compile_path(f'#(k{operator}"{literal}")#').get(rows) == expected


@given(st.lists(st.text(alphabet="ab*?", max_size=8)), st.text(alphabet="ab", max_size=8))
@settings(deadline=None, max_examples=30)
def test_a_pattern_fits_as_one_that_tries_everything(patterns: list[str], text: str) -> None:
    for pattern in patterns:
        hits = compile_path(f'#(%"{pattern}")#|#').get([text])

        assert hits == int(fits(pattern, text))


@given(records)
@settings(deadline=None, max_examples=30)
def test_a_row_stays_with_its_record(rows: list[dict[str, Any]]) -> None:
    answer = {"users": rows}
    split = split_at_first_array("users.#.n")
    assert split is not None
    head, rest = split

    cells = [of_record(record, rest) for record in list_at(answer, head)]

    assert cells == [row.get("n") for row in rows]
    assert [row["n"] for row in rows if "n" in row] == at_path(answer, "users.#.n")


@given(records, st.text(max_size=4))
@settings(deadline=None, max_examples=30)
def test_a_condition_on_a_record_is_the_condition_on_the_list(
    rows: list[dict[str, Any]], value: str
) -> None:
    path = f'users.#(k=="{escape_literal(value)}")#.n'
    split = split_at_first_array(path)
    assert split is not None
    head, rest = split

    cells = [of_record(record, rest) for record in list_at({"users": rows}, head)]

    assert len(cells) == len(rows)
    chosen = [cell for cell in at_path({"users": rows}, path) if cell is not None]
    assert [cell for cell in cells if cell is not None] == chosen


def fits(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(fits(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in {"?", text[0]} and fits(pattern[1:], text[1:])
