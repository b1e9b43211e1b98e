from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import Any

import pytest

from shared import errors
from shared.errors import MeshError, PermanentError, TransientError, Unavailable, by_code

_DRAWN = re.compile(r"^(?P<indent> *)[*x+-] (?P<name>[A-Z][A-Za-z]+)")


def drawn() -> dict[str, str | None]:
    """Each name of the tree in the module's docstring, with the one it hangs below."""
    found: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if item := _DRAWN.match(line):
            depth = len(item["indent"])
            above = [(d, name) for d, name in above if d < depth]
            found[item["name"]] = above[-1][1] if above else None
            above.append((depth, item["name"]))
    return found


def classes() -> list[type[MeshError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, MeshError)
    ]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real: dict[str, str | None] = {
        cls.__name__: None if cls is MeshError else cls.__bases__[0].__name__ for cls in classes()
    }

    assert drawn() == real


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in classes()]

    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("cls", classes())
def test_an_error_is_found_by_its_code(cls: type[MeshError]) -> None:
    assert by_code(cls.code) is cls


@pytest.mark.parametrize("code", ["", "of_a_newer_version"])
def test_a_code_that_is_not_known_is_an_error_of_the_mesh(code: str) -> None:
    assert by_code(code) is MeshError


@pytest.mark.parametrize("cls", classes())
def test_an_error_keeps_its_message_and_details(cls: type[MeshError]) -> None:
    error: Any = cls("the door is shut", door="front")

    assert (error.message, str(error), error.details) == (
        "the door is shut",
        "the door is shut",
        {"door": "front"},
    )


@pytest.mark.parametrize("cls", classes())
def test_no_error_is_both_permanent_and_transient(cls: type[MeshError]) -> None:
    assert not (issubclass(cls, PermanentError) and issubclass(cls, TransientError))


def test_an_error_that_may_pass_says_when_to_try_again() -> None:
    assert Unavailable("busy", retry_after=timedelta(seconds=5)).retry_after == timedelta(seconds=5)


def test_when_to_try_again_is_not_always_known() -> None:
    assert Unavailable("busy").retry_after is None
