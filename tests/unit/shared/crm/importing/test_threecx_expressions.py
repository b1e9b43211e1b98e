"""The expressions of 3CX, and what they become in a template of ours."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.form.call_words import CALL_MAPS
from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.expressions import read_condition, read_text
from shared.crm.importing.threecx.formats import moment_format
from shared.crm.importing.threecx.meanings import (
    Kind,
    Known,
    Meaning,
    inline,
    journal_variables,
    taken,
    text,
)
from shared.crm.importing.threecx.tree import variables_in
from shared.crm.importing.threecx.words import Words
from shared.crm.language.text import compile_text
from shared.errors import BadSetting

SETTINGS = {
    "Name": text(".name"),
    "Enabled": Meaning(Kind.SWITCH, ".enabled"),
    "Greeting": inline(read_text("Call of [Number] at [[CallStartTimeUTC].ToString(HH:mm)]")),
    "Endless": inline(read_text("[[Endless]]")),
    "Flag": taken("Flag"),
}
VALUES: dict[str, Any] = {
    "name": "Anna Lee",
    "enabled": "yes",
    "Flag": False,
    "Kind": "inbound answered",
    "Direction": "inbound",
    "Number": "+442071234567",
    "ContactId": None,
    "Agent": "101",
    "AgentName": "Ben van Dyk",
    "StartedAt": datetime(2026, 11, 21, 6, 54, 35, 958000, UTC),
    "AnsweredAt": None,
    "EndedAt": datetime(2026, 11, 21, 6, 56, 0, tzinfo=UTC),
    "TalkTime": timedelta(seconds=75),
    "Recording": "https://pbx.example/r/1",
    "Zone": "Europe/Berlin",
}
#: Texts close to the language, so that a search finds its edges.
words = """[ ] [[ ]] [Name] [Number] IIf( , ) == != || && ! . .ToString( .Replace( .Trim() "x" " ' {{ }} ^^
 a True 5 + - < > [CallStartTimeUTC] [Duration] [Enabled] [Greeting] [Endless] { } {{.X}}"""
fragments = st.lists(st.sampled_from([*words.split(), " ", "\n"]), max_size=20).map("".join)
anything = fragments | st.text(max_size=40)


def known() -> Known:
    return Known((SETTINGS, journal_variables(".Number")))


def said(source: str, **more: Any) -> str:
    """What the text says in a call."""
    made = Words(known(), Notes(), "here").of_text(source)
    return compile_text(made).text({**VALUES, **more}, maps=CALL_MAPS)


def left(source: str) -> list[str]:
    notes = Notes()
    Words(known(), notes, "here").of_text(source)
    return [note.what for note in notes.all if note.level == "left"]


def changed(source: str) -> list[str]:
    notes = Notes()
    Words(known(), notes, "here").of_text(source)
    return [note.what for note in notes.all if note.level == "changed"]


def holds(source: str, *, negated: bool = False, **more: Any) -> bool:
    notes = Notes()
    made = Words(known(), notes, "here").of_condition(source, negated=negated)
    assert made is not None, notes.all
    return (
        compile_text(f"{{{{if {made}}}}}x{{{{end}}}}").text({**VALUES, **more}, maps=CALL_MAPS)
        == "x"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", ""),
        ("Call of [Name].", "Call of Anna Lee."),
        ("{{Download}}([RecordingUrl])", "[Download](https://pbx.example/r/1)"),
        ("^^[Agent]^^", '"101"'),
        ("{ [Agent]", "{ 101"),
        ("{[Agent]}", "{101}"),
        ("{{[Agent]}}", "[101]"),
        ("[[Greeting]]", "Call of +442071234567 at 06:54"),
        ("[[Name].ToUpper()]", "ANNA LEE"),
        ("[[Name].ToLower().Replace(a,b)]", "bnnb lee"),
        ('[[Number].Replace("+","00")]', "00442071234567"),
        ("[[Number].Substring(0,3)]", "+44"),
        ("[[Number].Substring(3)]", "2071234567"),
        ("[[Number].Substring(1,[Number].Length)]", "442071234567"),
        ("[[Number].Substring(99)]", ""),
        ("[[Number].Length]", "13"),
        ('[[Name].Split(" ")[1]]', "Lee"),
        ('[[Name].Split(" ")[1].ToUpper().Substring(0,1)]', "L"),
        ('[[Name].Split(" ").Last()]', "Lee"),
        ('[[Name].Split(" ").First()]', "Anna"),
        ('[[Name].Split(" ")[7]]', ""),
        ("[[Name].Trim()]", "Anna Lee"),
        ('[IIf([Name]=="","nobody",[Name])]', "Anna Lee"),
        ("[IIf([Name]==Ben,it is Ben,it is [Name])]", "it is Anna Lee"),
        ('[IIf([Name]=="Ben","b","a").ToUpper()]', "A"),
        ("[[Name]+[Agent]]", "Anna Lee101"),
        ("[Enabled]", "True"),
        ("[CallType]", "Inbound"),
        ("[CallDirection]", "Inbound"),
        ("[AgentFirstName], [AgentLastName]", "Ben, van Dyk"),
        ("[Duration]", "00:01:15"),
        ('[[Duration].ToString("mm\\:ss")]', "01:15"),
        ('[[[DurationTimespan].get_TotalSeconds()].ToString("F0")]', "75"),
        ("[CallStartTimeUTCMillis]", "1795244075958"),
        ("[CallEstablishedTimeUTC]", ""),
        ("a[LineBreak]b", "a\nb"),
    ],
)
def test_a_text_says_the_same(source: str, expected: str) -> None:
    assert said(source) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inbound answered", "Inbound"),
        ("inbound missed", "Missed"),
        ("inbound voicemail", "Missed"),
        ("outbound answered", "Outbound"),
        ("outbound busy", "Notanswered"),
    ],
)
def test_a_call_type_is_direction_and_disposition(kind: str, expected: str) -> None:
    assert said("[CallType]", Kind=kind) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("yyyy-MM-dd", "2026-11-21"),
        ("yyyy-MM-ddTHH:mm:ssZ", "2026-11-21T06:54:35Z"),
        ("yyyy-MM-dd'T'HH:mm:ss.fffK", "2026-11-21T06:54:35.958Z"),
        ("s", "2026-11-21T06:54:35"),
        ("u", "2026-11-21 06:54:35Z"),
        ("o", "2026-11-21T06:54:35.9580000Z"),
        ("hh:mm tt", "06:54 AM"),
        ("dd'/'MM", "21/11"),
        # Letters of a text between quotes are no tokens.
        ("HH:mm 'sharp, madam'", "06:54 sharp, madam"),
        ("d.M.yyyy H:m:s h", "21.11.2026 6:54:35 6"),
        ("%d", "21"),
        ("dddd, d MMMM yyyy", "Saturday, 21 November 2026"),
        ("ddd d MMM", "Sat 21 Nov"),
        ("R", "Sat, 21 Nov 2026 06:54:35 GMT"),
        ("HH:mm zzz", "06:54 +00:00"),
        ("HH:mmK", "06:54Z"),
    ],
)
def test_a_moment_is_written_as_the_format_says(wanted: str, expected: str) -> None:
    assert said(f'[[CallStartTimeUTC].ToString("{wanted}")]') == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("HH\\hmm", "HH'h'mm"),
        ('HH "o\'clock"', "HH' o''clock'"),
        ("'a''b'", "'ab'"),
        ("yyyy'-'MM", "yyyy-MM"),
        ("HH'Z'K", "HH'ZZ'"),
    ],
)
def test_what_is_no_token_stands_in_quotes_where_it_might_be_one(
    wanted: str, expected: str
) -> None:
    assert moment_format(wanted, utc=True) == (expected, "")


def test_local_times_are_those_of_the_connections_zone() -> None:
    assert said('[[CallStartTimeLocal].ToString("HH:mm")]') == "07:54"
    assert said('[[CallStartTimeLocal].ToString("HH:mmK")]') == "07:54+01:00"
    assert said('[[CallStartTimeLocal].ToUniversalTime().ToString("HH:mm")]') == "06:54"


@pytest.mark.parametrize("wanted", ["zz", "fffffffff", "gg", "x", "yyyy 'open"])
def test_a_format_without_an_equal_is_left_out(wanted: str) -> None:
    source = f'at [[CallStartTimeUTC].ToString("{wanted}")]!'
    assert said(source) == "at !"
    assert left(source)


def test_a_format_of_a_culture_is_noted() -> None:
    assert said('[[CallStartTimeUTC].ToString("t")]') == "06:54"
    assert changed('[[CallStartTimeUTC].ToString("t")]')
    assert changed("[DateTime]")


@pytest.mark.parametrize(
    "source",
    [
        "[Nobody]",
        "[[Name].Substring()]",
        "[[Name].Substring(-1)]",
        "[[Name].Substring(²)]",
        "[[Name].Split(a,b)]",
        "[[Name].IndexOf(a)]",
        "[[Name].Split(a).GetValue(99999999)]",
        "[[Name].Trim(x)]",
        "[replaceq([Name])]",
        "[[IIf([Name]==a,b,c)].PadLeft(3)]",
        "[[Endless]]",
    ],
)
def test_what_cannot_be_said_is_left_out_and_noted(source: str) -> None:
    assert said(f"a {source} b") == "a  b"
    assert left(f"a {source} b")


def test_what_nobody_told_comes_out_empty() -> None:
    assert said("Summary: [Summary].") == "Summary: ."
    assert said("Summary: [Summary].", Summary="wants a boat") == "Summary: wants a boat."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[Enabled]==True", True),
        ("[Enabled]!=True", False),
        ("[Enabled]", True),
        ("![Enabled]", False),
        ("[CallType]==Inbound", True),
        ('[CallType]!="Inbound"', False),
        ('"Inbound"==[CallType]', True),
        ('[EntityId]==""', True),
        ('[Enabled]!=True||[EntityId]==""', True),
        ('[Enabled]==True&&[EntityId]!=""', False),
        ('([Name]=="x"||[Name]=="Anna Lee")&&[Enabled]==True', True),
        ("[Duration]>60", True),
        ("[Duration]<=60", False),
        ('[Flag]=="False"', True),
        ("[Flag]==True", False),
        ("[[Name].Contains(Lee)]", True),
        ("[[Name].StartsWith(Lee)]", False),
        ("[[Name].EndsWith(Lee)]", True),
        ("[[Name].Contains([Agent])]", False),
        ("[[Name].Contains([Name])]", True),
        ("[[Number].StartsWith([Number])]", True),
        ("[[Number].Length]>12", True),
        ("[[Number].Length]==5", False),
        ('[[Name].Split(" ")[0]]==Anna', True),
        ("[IIf([Name]==Ben,True,False)]", False),
        ("False", False),
    ],
)
def test_a_condition_holds_as_it_did(source: str, expected: bool) -> None:
    assert holds(source) is expected
    assert holds(source, negated=True) is not expected


@given(anything)
@settings(max_examples=50, deadline=None)
def test_any_text_is_read_or_refused(source: str) -> None:
    for read in (read_text, read_condition):
        with suppress(BadSetting):
            list(variables_in(read(source)))


@given(anything)
@settings(max_examples=50, deadline=None)
def test_any_text_becomes_one_of_ours(source: str) -> None:
    words = Words(known(), Notes(), "here")
    compile_text(words.of_text(source), known={*VALUES, "ContactName", "Module", "AgentEmail"})
    words.of_condition(source)


@pytest.mark.parametrize(
    "source",
    ["[" * 5_000, "!" * 5_000, "(" * 5_000, "[A]" + ".Trim()" * 500, "[IIf(" * 500, "x" * 10_001],
)
def test_no_text_is_read_without_an_end(source: str) -> None:
    with pytest.raises(BadSetting):
        read_condition(source)


def test_settings_in_settings_do_not_grow_without_bound() -> None:
    line = inline(read_text("[B]" * 2_000))
    more = {"A": line, "B": inline(read_text("[C]" * 2_000)), "C": inline(read_text("x" * 2_000))}
    notes = Notes()
    made = Words(Known((more,)), notes, "here").of_text("[A]" * 2_000)
    assert len(made) <= 65_536
    assert notes.all
