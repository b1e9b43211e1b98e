"""Contracts are not about slow servers; tests/integration is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.testing.patience import patient_with_mongodb


@pytest.fixture(scope="module", autouse=True)
def patience_with_mongodb() -> Iterator[None]:
    with patient_with_mongodb():
        yield
