"""A rule's file and its table of rows, right and wrong: every fault has its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.rules import _as_yaml
from services.cli.ruletext import RuleText, read_rows, read_rule_file
from shared.errors import BadSetting
from shared.secrets import SecretBox, new_key
from shared.site.documents import source_of
from shared.site.parts import Sealing
from shared.site.rules.rule import MOST_ROWS, RoutingRule

BOX = SecretBox([new_key()])
RULE = """\
name: main
dids: ["442079460000"]
crm: zoho
credentials: {password: hunter2}
field: Tier
default: queue:all
"""
ROWS = "operator,value,destination,priority\n"


def read(folder: Path, rule: str = RULE, rows: str | bytes | None = None) -> RuleText:
    file, table = folder / "main.yaml", folder / "rows.csv"
    file.write_text(rule)
    if rows is not None:
        table.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    sealing = Sealing(BOX, {}, folder)
    return read_rule_file(file, rows=table if rows is not None else None, sealing=sealing)


def faults(folder: Path, rule: str = RULE, rows: str | bytes | None = None) -> list[str]:
    with pytest.raises(BadSetting) as caught:
        read(folder, rule, rows)
    assert "hunter2" not in caught.value.message
    return caught.value.message.splitlines()


def test_a_rule_is_read_with_the_rows_of_its_table(tmp_path: Path) -> None:
    table = (
        f"{ROWS}=,GOLD,queue:support,5\n\n"
        'in,GREEN | BLUE,"manager|extension:101",\n'
        "between,10|20,queue:a\n"
        "exists,,voicemail:sales,\n"
        '=,"New\nYork",queue:b,\n'
        " >= , 7 , queue:c ,\n"
    )
    text = read(tmp_path, rows=table)

    assert [(str(row.operator), row.value, row.priority) for row in text.rule.rows] == [
        ("=", "GOLD", 5),
        ("in", ("GREEN", "BLUE"), None),
        ("between", ("10", "20"), None),
        ("exists", None, None),
        ("=", "New\nYork", None),
        (">=", "7", None),
    ]
    assert [*map(str, text.rule.rows[1].destination)] == ["manager", "extension:101"]
    assert BOX.open(text.rule.credentials["password"]).get_secret_value() == "hunter2"
    assert text.lines == (2, 4, 5, 6, 7, 9)
    assert text.at(("rows", 4, "value"), "no") == "rows.csv:7: value: no"
    assert text.at(("crm",), "no") == "main.yaml:3: crm: no"


def test_rows_of_a_table_may_ask_about_anything(tmp_path: Path) -> None:
    table = (
        "of,operator,value,destination\n"
        "caller.number,starts_with,+4420,queue:london\n"
        ",=,GOLD,queue:gold\n"
        "call.did,in,1|2,queue:a\n"
    )
    text = read(tmp_path, rows=table)

    assert [row.model_dump(mode="json", exclude_defaults=True) for row in text.rule.rows] == [
        {
            "when": {"of": "caller.number", "operator": "starts_with", "value": "+4420"},
            "destination": "queue:london",
        },
        {"operator": "=", "value": "GOLD", "destination": "queue:gold"},
        {
            "when": {"of": "call.did", "operator": "in", "value": ["1", "2"]},
            "destination": "queue:a",
        },
    ]


def test_a_rule_may_have_its_rows_itself(tmp_path: Path) -> None:
    row = '  - {operator: "=", value: GOLD, destination: "queue:a"}\n'
    text = read(tmp_path, f"{RULE}rows:\n{row}")
    assert len(text.rule.rows) == 1
    assert text.at(("rows", 0), "no") == "main.yaml:8: rows.0: no"
    assert faults(tmp_path, f"{RULE}rows:\n{row}", ROWS) == [
        "main.yaml:7: rows: they are in rows.csv; say them once"
    ]


@pytest.mark.parametrize(
    "table",
    [
        "operator;value;destination\n=;GOLD;queue:a\n",
        "operator\tvalue\tdestination\n=\tGOLD\tqueue:a\n",
        "\ufeffoperator,value,destination\r\n=,GOLD,queue:a\r\n",
        " Destination , OPERATOR,value\nqueue:a,=,GOLD",
    ],
)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, table: str) -> None:
    (row,) = read(tmp_path, rows=table).rule.rows
    assert (str(row.operator), row.value, *map(str, row.destination)) == ("=", "GOLD", "queue:a")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "rows.csv:1: the first line names the columns"),
        (
            "of,operator,value,destination\ncaller.colour,=,red,queue:a\n",
            "rows.csv:2: when: of: 'caller.colour' is nothing to ask about",
        ),
        ("=,GOLD,queue:a\n", "rows.csv:1: the first line names the columns"),
        ("operator,value\n", "rows.csv:1: the first line names the columns"),
        ("operator,value,destination,value\n", "rows.csv:1: the first line names the columns"),
        (ROWS, "rows.csv:1: there are no rows below the names of the columns"),
        (f"{ROWS}=,A,queue:a,1,2\n", "rows.csv:2: 5 cells under 4 columns"),
        (f"{ROWS}=,A,queue:a,\n=,B,moon:a,\n", "rows.csv:3: destination: "),
        (f"{ROWS}==,A,queue:a,\n", "rows.csv:2: operator: Input should be '='"),
        (f"{ROWS}=,,queue:a,\n", "rows.csv:2: `=` takes one value"),
        (f"{ROWS}=,A,,\n", "rows.csv:2: destination: Field required"),
        (f"{ROWS}matches,((,queue:a,\n", "rows.csv:2: '((' is no pattern"),
        (f"{ROWS}=,A,queue:a,high\n", "rows.csv:2: priority: "),
        (f'{ROWS}=,"A,queue:a,\n', "rows.csv:2: not CSV: "),
        (f'{ROWS}\n=,"A\nB",queue:a,\n=,"A"B,queue:a,\n', "rows.csv:5: not CSV: "),
    ],
)
def test_a_fault_of_a_table_is_shown_at_its_line(tmp_path: Path, table: str, said: str) -> None:
    (found,) = faults(tmp_path, rows=table)
    assert found.startswith(said)


def test_every_fault_of_a_table_is_shown_up_to_an_end(tmp_path: Path) -> None:
    lines = [f"=,V{number},moon:a," for number in range(300)]
    found = faults(tmp_path, rows=ROWS + "\n".join(lines))
    assert found[3].startswith("rows.csv:5: destination")
    assert (len(found), found[-1]) == (201, "rows.csv: and more faults")


def test_a_table_has_an_end(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(ROWS + "=,A,queue:a,\n" * MOST_ROWS)
    rows, lines = read_rows(file)
    assert (len(rows), lines[-1]) == (MOST_ROWS, MOST_ROWS + 1)
    file.write_text(ROWS + "=,A,queue:a,\n" * (MOST_ROWS + 1))
    with pytest.raises(BadSetting, match=f"rows.csv:{MOST_ROWS + 2}: a rule has up to 100000 rows"):
        read_rows(file)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "main.yaml: line 1: the file is empty"),
        ("- a\n", "main.yaml:1: a rule is needed"),
        ("rule\n", "main.yaml:1: a rule is needed"),
        (RULE.replace("field", "feld"), "main.yaml:5: feld: unknown key; did you mean `field`?"),
        (RULE.replace("queue:all", "nowhere"), "main.yaml:6: default: "),
        (RULE.replace("hunter2", "{env: NOSUCH}"), "main.yaml:4: credentials.password: "),
        (RULE.replace("field: Tier\n", ""), "main.yaml:1: the file: row 1 compares a field"),
    ],
)
def test_a_fault_of_the_rule_is_shown_at_its_line(tmp_path: Path, rule: str, said: str) -> None:
    assert faults(tmp_path, rule, f"{ROWS}=,A,queue:a,\n")[0].startswith(said)


@pytest.mark.parametrize("mark", list("\x00\t\n\x7f\x85\xa0\u2028\u2029\ufeff\uffff é😀\"\\'#:{|"))
def test_what_is_shown_of_a_rule_is_read_as_it_is(tmp_path: Path, mark: str) -> None:
    row = {"operator": "=", "value": f"A{mark}B", "destination": "queue:a"}
    rule = RoutingRule.model_validate(
        {
            "name": "main",
            "dids": ["44"],
            "crm": "z",
            "field": "F",
            "rows": [row],
            "default": "queue:b",
        }
    )
    assert read(tmp_path, _as_yaml(json.loads(source_of(rule)))).rule == rule


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, rows=f"{ROWS}=,café,queue:a,\n".encode("cp1252"))
    assert found.endswith("rows.csv:2: cannot be read: not UTF-8; save it anew in that encoding")
    with pytest.raises(BadSetting, match="cannot be read"):
        read_rule_file(tmp_path / "nosuch", rows=None, sealing=Sealing(BOX, {}, tmp_path))


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_garbage_is_refused_and_not_a_crash(
    tmp_path_factory: pytest.TempPathFactory, rows: str | bytes
) -> None:
    folder = tmp_path_factory.mktemp("garbage", numbered=True)
    if isinstance(rows, str):
        rows = ROWS.encode() + rows.encode("utf-8", "surrogatepass")
    with pytest.raises(BadSetting):
        read(folder, rows=rows)
