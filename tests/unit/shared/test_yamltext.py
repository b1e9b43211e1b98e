from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadSetting
from shared.yamltext import YamlText, read_yaml

SITE = """\
# a comment
version: 1
tenants:
  - tenant: acme
    pbx:
      - name: main
        trunks: [trunk, second]
      - {name: door, kind: generic}
    title: |
      two
      lines
  - tenant: other
    region:
"""


# -- scalars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0123456",
        "NO",
        "yes",
        "true",
        "+4917",
        "1.0",
        "1e3",
        "0x1F",
        "12:30:45",
        "2026-11-21",
        ".inf",
        "=",
        "<<",
    ],
)
def test_a_scalar_stays_the_text_it_is(text: str) -> None:
    assert read_yaml(f"value: {text}").value == {"value": text}


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_nothing_means_nothing(text: str) -> None:
    assert read_yaml(f"value: {text}").value == {"value": None}


@pytest.mark.parametrize("text", ["''", '""', "|\n", ">\n"])
def test_an_empty_text_in_quotes_stays_an_empty_text(text: str) -> None:
    assert read_yaml(f"value: {text}").value == {"value": ""}


@pytest.mark.parametrize("word", ["null", "~"])
def test_a_word_in_quotes_is_that_word(word: str) -> None:
    assert read_yaml(f"value: '{word}'").value == {"value": word}


def test_a_key_is_text_too() -> None:
    assert read_yaml("0123: a\nNO: b\n'': c").value == {"0123": "a", "NO": "b", "": "c"}


def test_a_tag_guesses_nothing() -> None:
    assert read_yaml("value: !!int 0123").value == {"value": "0123"}


def test_lists_and_mappings_are_lists_and_dicts() -> None:
    assert read_yaml(SITE).value == {
        "version": "1",
        "tenants": [
            {
                "tenant": "acme",
                "pbx": [
                    {"name": "main", "trunks": ["trunk", "second"]},
                    {"name": "door", "kind": "generic"},
                ],
                "title": "two\nlines\n",
            },
            {"tenant": "other", "region": None},
        ],
    }


# -- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("version",), 2),
        (("tenants",), 3),
        (("tenants", 0), 4),
        (("tenants", 0, "tenant"), 4),
        (("tenants", 0, "pbx", 0), 6),
        (("tenants", 0, "pbx", 0, "trunks"), 7),
        (("tenants", 0, "pbx", 0, "trunks", 1), 7),
        (("tenants", 0, "pbx", 1, "kind"), 8),
        (("tenants", 0, "title"), 9),
        (("tenants", 1), 12),
        (("tenants", 1, "region"), 13),
    ],
)
def test_a_value_knows_the_line_of_its_key(path: tuple[str | int, ...], line: int) -> None:
    assert read_yaml(SITE).line_of(path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("tenants", 0, "pbx", 0, "secret"), 6),
        (("tenants", 0, "pbx", 0, "trunks", 7), 7),
        (("tenants", 0, "crm", 3, "name"), 4),
        (("tenants", 2), 3),
        (("nothing", "at", "all"), 2),
    ],
)
def test_what_is_missing_is_shown_at_the_nearest_that_is_there(
    path: tuple[str | int, ...], line: int
) -> None:
    assert read_yaml(SITE).line_of(path) == line


def test_a_value_below_its_key_is_shown_where_the_key_stands() -> None:
    assert read_yaml("a:\n\n\n  - b\n").line_of(("a",)) == 1


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: 1\nb: 2\na: 3", "line 3: a is there twice", id="a key twice"),
        pytest.param("a: {b: 1,\n b: 2}", "line 2: b is there twice", id="twice, in one line"),
        pytest.param("1: a\n'1': b", "line 2: 1 is there twice", id="twice, once in quotes"),
        pytest.param("a:\n  ? [x]\n  : b", "line 2: a key is a plain word", id="a list as key"),
        pytest.param("", "line 1: the file is empty", id="empty"),
        pytest.param("\n# only this\n", "line 1: the file is empty", id="a comment alone"),
    ],
)
def test_a_fault_names_its_line(text: str, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read_yaml(text)

    assert caught.value.message == said


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param("a: [1, 2", "line 1, column 9: ", id="never closed"),
        pytest.param("a: 1\nb: [}\n", "line 2, column 5: ", id="closed by another"),
        pytest.param("a: 1\n b: 2", "line 2, column 3: ", id="indented too far"),
        pytest.param("a: 'x\n", "line 2, column 1: ", id="a quote never closed"),
        pytest.param("a: b\n\tc: d", "line 2, column 1: ", id="a tab"),
        pytest.param("a: *nowhere", "line 1, column 4: ", id="an alias of nothing"),
        pytest.param("a: 1\n---\nb: 2", "line 2, column 1: ", id="two documents"),
        pytest.param("a: 1\nb: \x00", "line 2, column 4: ", id="a control character"),
        pytest.param('a: "\\xZZ"', "line 1, column 7: ", id="a bad escape"),
    ],
)
def test_what_is_not_yaml_names_its_line_and_column(text: str, where: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read_yaml(text)

    assert caught.value.message.startswith(where)


@pytest.mark.parametrize("escape", ["\\UFFFFFFFF", "\\U00110000"])
def test_an_escape_of_no_character_is_a_fault_of_the_file(escape: str) -> None:
    with pytest.raises(BadSetting):
        read_yaml(f'a: "{escape}"')


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadSetting, match="4 MiB"):
        read_yaml("a: " + "x" * (4 * 1024 * 1024))


def test_nesting_as_people_write_it_is_read() -> None:
    found: Any = read_yaml("[" * 30 + "x" + "]" * 30).value

    for _ in range(30):
        (found,) = found
    assert found == "x"


@pytest.mark.parametrize("depth", [60, 1_000, 20_000])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_that_nobody_writes_is_refused(opening: str, depth: int) -> None:
    with pytest.raises(BadSetting):
        read_yaml(opening * depth + "x" + {"[": "]", "{a: ": "}"}.get(opening, "") * depth)


@given(st.one_of(st.text(), st.text("ab:- \n[]{},'\"|>&*!?#%@`~\\xU0", max_size=40)))
@settings(deadline=None)
def test_any_text_is_read_or_is_a_bad_setting(text: str) -> None:
    try:
        found = read_yaml(text)
    except BadSetting as error:
        assert error.message.startswith("line ")  # noqa: PT017  both ways out are right
    else:
        assert isinstance(found, YamlText)


# -- anchors ------------------------------------------------------------------------------------


def test_a_value_that_contains_itself_is_refused() -> None:
    with pytest.raises(BadSetting):
        read_yaml("a: &a [*a, *a]")


def test_a_document_that_multiplies_itself_is_refused() -> None:
    """
    "A billion laughs": a few lines that mean 10^9 values. Read in a process of its own, so that
    a reader which unfolds them fails this test and not the machine.
    """
    lines = [f"l0: &l0 [{', '.join(['lol'] * 10)}]"] + [
        f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 10)}]" for number in range(1, 9)
    ]
    program = (
        "import resource, sys\n"
        "from shared.errors import BadSetting\n"
        "from shared.yamltext import read_yaml\n"
        "resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20,) * 2)\n"
        "try:\n"
        "    read_yaml(sys.stdin.read())\n"
        "except BadSetting:\n"
        "    print('refused')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert (done.stdout, done.stderr[-200:]) == ("refused\n", "")
