"""
Tests with real CRM systems, which take minutes to install: collected only when this folder, or a
file in it, is asked for by name.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """True keeps a path out; None leaves it to the rest of pytest."""
    asked = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True
