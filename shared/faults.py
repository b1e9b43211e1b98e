"""What pydantic found wrong with something from outside, in words that never repeat its values."""

from __future__ import annotations

from pydantic import ValidationError

Path = tuple[str | int, ...]


def faults_by_path(error: ValidationError) -> list[tuple[Path, str]]:
    """
    Path and message of each fault. "Too few items" is left out where items are there and are
    faulty themselves: that is what makes them too few.
    """
    found = [
        (tuple(fault["loc"]), fault["msg"].removeprefix("Value error, "))
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return [
        (path, what)
        for path, what in found
        if not any(len(other) > len(path) and other[: len(path)] == path for other, _ in found)
    ]


def faults_in(error: ValidationError) -> str:
    """``body.caller.number: Field required; …``."""
    return "; ".join(
        f"{'.'.join(map(str, path)) or 'document'}: {what}" for path, what in faults_by_path(error)
    )
