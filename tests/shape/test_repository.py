"""The repository keeps its own rules."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.catalog import CATALOG
from services.cli.contracts import generated
from shared.contracts.envelope import REGISTRY, Query
from shared.crm.lint import lint
from shared.crm.registry import shipped, shipped_names
from shared.observe.metrics import METRICS
from shared.testing.docs import linked_files, shell_blocks

ROOT = Path(__file__).parents[2]
#: Of a service; a larger one has a folder of the name.
SERVICE_PARTS = {"__init__", "app", "settings", "domain", "handlers", "store"}
#: Words that say nothing about what a thing is.
EMPTY_WORDS = re.compile(
    r"(^|_)(utils?|helpers?|managers?|processors?|common|misc|base|core|data|info|temp)(_|$)"
)


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / line for line in listed.stdout.splitlines()]
    return [f for f in files if f.is_file() and (not suffixes or f.suffix in suffixes)]


def python_files() -> list[Path]:
    return [f for f in tracked(".py") if "tests" not in f.relative_to(ROOT).parts]


def test_every_service_has_the_same_files() -> None:
    for name in CATALOG:
        folder = ROOT / "services" / name
        assert {file.stem for file in folder.iterdir()} >= SERVICE_PARTS, name


def test_the_folders_of_services_are_the_catalogue() -> None:
    folders = {f.parent.name for f in (ROOT / "services").glob("*/app.py")}
    assert folders == set(CATALOG)


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_services_docstring_says_what_it_receives_and_publishes(name: str) -> None:
    text = (ROOT / "services" / name / "__init__.py").read_text()
    entry = CATALOG[name]
    for contract in (*entry.router.contracts, *entry.publishes):
        assert contract.__name__ in text, contract.__name__


def test_every_contract_is_received_by_somebody_or_said_to_wait() -> None:
    """A contract of the design whose service cannot take it yet stands in the README's list."""
    received = {c for entry in CATALOG.values() for c in entry.router.contracts}
    published = {c for entry in CATALOG.values() for c in entry.publishes}
    readme = (ROOT / "README.md").read_text()
    for contract in REGISTRY.values():
        used = contract in received or contract in published
        assert used or contract.__name__ in readme, contract.__name__


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_service_makes_only_the_messages_that_it_declares(name: str) -> None:
    sendable = {c.__name__ for c in REGISTRY.values() if not issubclass(c, Query)}
    made = {
        node.func.id
        for file in (ROOT / "services" / name).rglob("*.py")
        # What is pure can send nothing.
        if "domain" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert made & sendable <= {c.__name__ for c in CATALOG[name].publishes}


def test_each_query_has_one_service_that_answers_it() -> None:
    for contract in REGISTRY.values():
        if issubclass(contract, Query):
            owners = [n for n, e in CATALOG.items() if contract in e.router.contracts]
            assert len(owners) == 1, contract.__name__


def test_no_name_of_a_module_is_empty() -> None:
    for file in python_files():
        for part in file.relative_to(ROOT).with_suffix("").parts:
            assert not EMPTY_WORDS.search(part), file


def test_every_module_says_what_it_is() -> None:
    for file in python_files():
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_a_suppression_has_its_reason() -> None:
    bare = re.compile(r"#\s*(noqa: [A-Z0-9, ]+|type: ignore\[[a-z0-9, -]+\])\s*$")
    for file in tracked(".py"):
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            assert not bare.search(line), f"{file}:{number}"


def test_generated_references_are_current() -> None:
    for path, text in generated().items():
        assert (ROOT / path).read_text() == text, f"{path}: run `make contracts`"


def test_every_metric_of_the_code_is_in_the_table() -> None:
    used = {
        found
        for file in python_files()
        for found in re.findall(
            r'"(callmesh_[a-z_]+(?:_total|_seconds|_waiting))"', file.read_text()
        )
    }
    assert used <= set(METRICS)


@pytest.mark.parametrize("name", shipped_names())
def test_a_template_that_ships_has_no_faults_and_a_page_for_its_administrator(name: str) -> None:
    assert not lint(shipped(name))
    page = (ROOT / "docs" / "how-to" / "crm" / f"{name}.md").read_text()
    manifest = shipped(name)
    asked_for = [*(p.name for p in manifest.parameters), *(c.name for c in manifest.credentials)]
    assert [field for field in asked_for if field not in page] == [], "not explained"


#: Put together here, so that this file does not hold them.
FORBIDDEN = {
    "a package registry's host": "|".join(
        ["py" + r"pi\.org", "python" + r"hosted\.", "npm" + r"js\.(org|com)", r"deb\.deb" + "ian"]
    ),
    "a path of somebody's machine": "|".join(["/wo" + "rk/", "/ro" + "ot/", r"/ho" + r"me/[a-z]"]),
}


@pytest.mark.parametrize("what", list(FORBIDDEN))
def test_no_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    for file in tracked():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        assert not pattern.search(text), file


def test_lock_files_pin_with_hashes() -> None:
    for file in (ROOT / "deploy" / "locks").glob("*.txt"):
        text = file.read_text()
        pins = re.findall(r"^[A-Za-z0-9._-]+==\S+", text, re.MULTILINE)
        assert pins
        assert not re.search(r"^--(index-url|extra-index-url|find-links)", text, re.MULTILINE)
        for block in re.split(r"\n(?=[A-Za-z0-9])", text):
            if re.match(r"[A-Za-z0-9._-]+==", block):
                assert "--hash=sha256:" in block, block.splitlines()[0]


def test_links_between_documents_lead_somewhere() -> None:
    for page in tracked(".md"):
        for target in linked_files(page):
            assert target.exists(), f"{page}: {target}"


def _commands() -> Iterator[tuple[Path, str]]:
    for page in tracked(".md"):
        for block in shell_blocks(page.read_text()):
            for line in block.splitlines():
                yield page, line.strip().removeprefix("$ ")


def test_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, line in _commands():
        for target in re.findall(r"(?:^|&& )make ([a-z-]+)", line):
            assert target in targets, f"{page}: make {target}"


def test_callmesh_commands_that_documents_name_exist() -> None:
    from typer.main import get_command

    from services.cli.main import app

    known = set(getattr(get_command(app), "commands"))  # noqa: B009  click's type hides it
    for page, line in _commands():
        for command in re.findall(r"(?:^|&& |bin/)callmesh ([a-z-]+)", line):
            assert command in known or command.startswith("-"), f"{page}: callmesh {command}"
