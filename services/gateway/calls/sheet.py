"""Calls' rows as CSV (RFC 4180) that a spreadsheet opens and does not run. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import JsonValue

from shared.contracts.columns import Kind
from shared.contracts.history import COLUMNS
from shared.errors import ContractError

#: With these a spreadsheet takes a text for a formula; the wide ones are those of East Asia.
_RUNS = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
#: Figures and telephone numbers; nothing of them can be run.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_BETWEEN = ";"


def head(names: Sequence[str]) -> bytes:
    return _written([names])


def body(
    rows: Iterable[Mapping[str, JsonValue]], names: Sequence[str], zone: tzinfo = UTC
) -> bytes:
    """Lists are joined by semicolons; times are ISO 8601 in *zone*."""
    moments = {name for name in names if COLUMNS.named(name).kind is Kind.MOMENT}
    return _written(
        [_cell(row[name], zone if name in moments else None) for name in names] for row in rows
    )


def zone_named(name: str) -> tzinfo:
    """Raises: ContractError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ContractError(
            "zone: no time zone of this name; they are such as Europe/London"
        ) from None


def harmless(text: str) -> str:
    """A spreadsheet shows what stands behind an apostrophe as it is."""
    return f"'{text}" if _RUNS.match(text) and not _NUMBER.fullmatch(text) else text


def _cell(value: JsonValue, zone: tzinfo | None) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            # Each: where a semicolon parts cells, each is one.
            return _BETWEEN.join(harmless(str(one)) for one in value)
        case str() if zone is None:
            return harmless(value)
        case str() if zone is UTC:
            return value
        case str():
            return datetime.fromisoformat(value).astimezone(zone).isoformat(timespec="milliseconds")
    return str(value)


def _written(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()
