"""Files that are no XML, or hardly."""

from __future__ import annotations

import pytest

from shared.crm.importing.xml import LARGEST, read_xml
from shared.crm.importing.yeastar.importer import import_yeastar
from shared.errors import BadSetting


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "line 1, column 1", "nothing"),
        ('<a>\n <b x="say "hi" now"/>\n</a>', "line 2, column 13", "&quot;"),
        ('<a x="p?a=1&b=2" y="say "hi""/>', "line 1, column 26", "&quot;"),
        ("<a>\n<b></a>", "line 2, column 6", "not the one"),
        ('<a x="1" x="2"/>', "line 1, column 10", "twice"),
        ('<!DOCTYPE a [<!ENTITY e "e">]><a>&e;</a>', "line 1", "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "line 1", "DOCTYPE"),
        (b"<a x='caf\xe9'/>", "line 1, column 10", "UTF-8"),
        ("<a>" * 35, "line 1", "too deep"),
        ("x" * (LARGEST + 1), "line 1", "larger"),
        ("<a>\ud800</a>", "line 1", "surrogate"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str | bytes, where: str, what: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read_xml(text)
    assert caught.value.message.startswith(where)
    assert what in caught.value.message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<Crm Name='x'/>", "a template of 3CX"),
        ("<html/>", "<Information>"),
        ("<Information Name='x'/>", "no request whose records have a ContactsId"),
    ],
)
def test_xml_that_is_no_template_is_refused(text: str, what: str) -> None:
    with pytest.raises(BadSetting, match=what):
        import_yeastar(text)


@pytest.mark.parametrize("declaration", ['<?xml version="1.0"?>', '<?xml version="1.1"?>', ""])
def test_either_declaration_is_taken_with_or_without_a_mark(declaration: str) -> None:
    assert read_xml(f"{declaration}\n<a/>".encode("utf-8-sig")).root.line == 2


def test_a_bare_ampersand_is_repaired_and_its_line_told() -> None:
    document = read_xml('<a>\n<!-- a & b -->\n<b url="/?x=1&y=2&amp;z=3&#38;q=4&copy=5"/></a>')
    (element,) = document.root.all("b")
    assert element.get("url") == "/?x=1&y=2&z=3&q=4&copy=5"
    assert document.repaired == (3,)


def test_many_comments_that_never_end_are_no_work() -> None:
    with pytest.raises(BadSetting):
        read_xml("<a>" + "<!--" * 200_000)
