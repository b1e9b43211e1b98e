"""
The lane with a real Asterisk: ``make asterisk-lab`` brings it. Where it cannot be had the lane says
why; in CI (environment CI=true) that is a failure, on other machines a skip.
"""

from __future__ import annotations

import os

import pytest

from tests.lab.asterisk.server import missing


@pytest.fixture(scope="session")
def asterisk_lab() -> None:
    """For whoever places calls."""
    refuse(missing(), ci=os.environ.get("CI", ""))  # noqa: TID251  CI's own setting, not one of ours


def refuse(reason: str | None, *, ci: str) -> None:
    """Raises: what pytest takes for a failure or for a skip, where there is a *reason*."""
    if reason is None:
        return
    if ci.lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
