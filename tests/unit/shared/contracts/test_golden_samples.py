"""
One message of each contract as it goes over the wire, kept for ever: whoever changes a contract
of this version so that a stored or delayed message no longer reads sees it here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import shared.contracts
from shared.contracts.calls import CallEvent
from shared.contracts.envelope import REGISTRY, Contract, Message, decode, decode_known
from shared.ids import call_id, derived_id

FOLDER = Path(__file__).parents[3] / "data" / "contracts"
FILES = sorted(FOLDER.glob("*.json"))
CONTRACTS = {contract.wire_name(): contract for contract in REGISTRY.values()}

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> Message[Any]:
    return decode(file.read_bytes(), contract_of(file), tenant="acme")


def contract_of(file: Path) -> type[Contract]:
    return CONTRACTS[file.stem]


def test_every_module_of_contracts_is_imported() -> None:
    """Else the next test would not miss its contracts."""
    modules = {
        file.stem for file in Path(shared.contracts.__path__[0]).glob("*.py") if file.stem[0] != "_"
    }

    assert modules - {"envelope", "asyncapi"} == set(shared.contracts.__all__)


def test_every_contract_has_a_sample_and_every_sample_a_contract() -> None:
    assert {file.stem for file in FILES} == set(CONTRACTS)


@each_file
def test_a_sample_is_read_and_written_again_without_a_loss(file: Path) -> None:
    sample = json.loads(file.read_bytes())

    assert json.loads(read(file).model_dump_json(exclude_unset=True)) == sample


@each_file
def test_a_sample_is_in_the_order_of_its_model(file: Path) -> None:
    sample = json.loads(read(file).model_dump_json(exclude_unset=True))

    assert file.read_text() == json.dumps(sample, indent=2, ensure_ascii=False) + "\n"


@each_file
def test_a_sample_is_read_whichever_it_is(file: Path) -> None:
    assert decode_known(file.read_bytes()) == read(file)


@each_file
def test_a_sample_with_a_field_of_a_newer_version_is_read_too(file: Path) -> None:
    sample = json.loads(file.read_bytes())
    newer = sample | {"mood": "sunny", "body": sample["body"] | {"mood": {"of": ["the", "day"]}}}

    assert decode(json.dumps(newer), contract_of(file), tenant="acme") == read(file)


@each_file
def test_the_samples_tell_one_story(file: Path) -> None:
    """The ids in them are those that the program makes for this call."""
    message = read(file)
    call = call_id("acme", "main", "1795244075.0")
    subject = message.body.subject()

    assert message.tenant == "acme"
    if isinstance(message.body, CallEvent):
        assert message.body.call_id == call
    if subject is not None:
        assert message.correlation == derived_id("subject", "acme", subject)
