"""The lane with a real browser: `make setup` installs Chromium where it may."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, chromium, missing
from tests.lab.conftest import refuse


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """Where there is none the lane says why: in CI (environment CI=true) a failure, else a skip."""
    refuse(missing(), ci=os.environ.get("CI", ""))  # noqa: TID251  CI's own setting, not one of ours
    folder = tmp_path / "chromium"
    folder.mkdir()
    async with chromium(folder) as found:
        yield found
