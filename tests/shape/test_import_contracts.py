"""Each import contract fails when it is broken: a rule that cannot fail guards nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Contract, file, what is planted there.
PLANTED = [
    (
        "services sit on shared, never the other way",
        "shared/clock.py",
        "import services.catalog",
    ),
    (
        "services do not know each other",
        "services/lookup/handlers.py",
        "import services.journal.store",
    ),
    (
        "rooms of shared, from the street to the cellar",
        "shared/contracts/calls.py",
        "import shared.bus.port",
    ),
    (
        "rooms of shared, from the street to the cellar",
        "shared/helpers.py",
        '"""A room without a place."""',
    ),
    (
        "rooms of shared, from the street to the cellar",
        "shared/recordings/links.py",
        "import shared.site.models",
    ),
    (
        "rooms of shared, from the street to the cellar",
        "shared/recordings/shelf.py",
        "import shared.pbx.port",
    ),
    (
        "rooms of the CRM engine",
        "shared/crm/form/answers.py",
        "import shared.crm.engine.pages",
    ),
    (
        "kinds of PBX do not know each other",
        "shared/pbx/yeastar/reader.py",
        "import shared.pbx.asterisk.channels",
    ),
    (
        "only the adapter touches its driver",
        "services/ingest/handlers.py",
        "import aio_pika",
    ),
    ("the domain is pure", "services/routing/domain.py", "import asyncio"),
    ("the domain is pure", "shared/pbx/freeswitch/reader.py", "import asyncio"),
    (
        "services see ports, the platform sees adapters",
        "services/journal/store.py",
        "import shared.storage.sqlite",
    ),
    (
        "what runs does not know the test kit or the sandbox",
        "services/gateway/app.py",
        "import shared.testing.builders",
    ),
]


_LINT = "from importlinter.cli import lint_imports_command as command; command()"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for name in ("shared", "services"):
        ignored = shutil.ignore_patterns("__pycache__", "*.txt")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> str:
    """What the linter says of the tree in *folder*, and of no other."""
    found = subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return " ".join((found.stdout + found.stderr).split())


def test_the_tree_as_it_is_keeps_them(tree: Path) -> None:
    assert "Contracts: 9 kept, 0 broken." in lint(tree)


@pytest.mark.parametrize(("contract", "file", "planted"), PLANTED)
def test_a_planted_violation_breaks(tree: Path, contract: str, file: str, planted: str) -> None:
    path = tree / file
    before = path.read_text() if path.exists() else None
    try:
        path.write_text(f"{before or ''}\n{planted}\n")
        assert f"{contract} BROKEN" in lint(tree)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
