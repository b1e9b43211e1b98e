"""What the sample dialplan must not give away; `tests/lab` shows that Asterisk 22 takes it."""

from __future__ import annotations

import re
from pathlib import Path

SAMPLE = (Path(__file__).parents[2] / "deploy" / "asterisk" / "extensions.conf").read_text()
OUR_PHONES_ONLY = '${IF($["${CHANNEL(endpoint)}" != "${CM_TRUNK}"]?T)}'


def test_nobody_outside_can_send_a_call_on() -> None:
    """``T``: who calls may; ``t``: who is called may, which a line outside never gets."""
    options = re.findall(
        r"(Dial\([^,]*,\d+|Queue\([^,]*),(.*?)(?:,,,\d+)?\)$", SAMPLE, re.MULTILINE
    )

    assert len(options) == 4
    for what, given in options:
        may = "" if "@${CM_TRUNK}" in what else "t"
        assert given == may + OUR_PHONES_ONLY


def test_callmesh_is_asked_once_per_call() -> None:
    """A menu that asked again would get the same answer, and be played again."""
    assert re.findall(r"^.*(?:Goto\(crm-ask|CURL\().*$", SAMPLE, re.MULTILINE) == [
        " same => n,Goto(crm-ask,s,1)",
        next(line for line in SAMPLE.splitlines() if "${CURL(" in line),
    ]
