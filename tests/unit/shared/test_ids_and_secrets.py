from __future__ import annotations

import re
import stat
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from shared.errors import BadSetting
from shared.ids import (
    TenantId,
    call_id,
    derived_id,
    new_id,
    new_token,
    reference,
)
from shared.secrets import Sealed, SecretBox, key_kept_in, new_key

TENANT: TypeAdapter[str] = TypeAdapter(TenantId)
SEALED: TypeAdapter[str] = TypeAdapter(Sealed)

parts = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\x1f")), min_size=1, max_size=4
)


# -- ids ----------------------------------------------------------------------------------------


def test_the_id_of_a_call_never_changes() -> None:
    """Another value here would double every call of the installations that run."""
    assert call_id("acme", "main", "1795244075.0") == "a12e28ce-ae2a-5cc6-af25-4506f246cd28"


def test_a_derived_id_never_changes() -> None:
    """Another value here would double every event of the installations that run."""
    assert derived_id("a", "b") == UUID("45ac18e8-d168-59e8-8ed1-55c519e6a614")


@given(parts, parts)
@settings(deadline=None)
def test_the_same_parts_give_the_same_id_and_others_another(one: list[str], two: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*two)) == (one == two)


@pytest.mark.parametrize(
    "other",
    [
        ("acme", "main", "1795244075.1"),
        ("acme", "second", "1795244075.0"),
        ("other", "main", "1795244075.0"),
    ],
)
def test_a_call_of_another_tenant_pbx_or_identity_is_another_call(
    other: tuple[str, str, str],
) -> None:
    assert call_id(*other) != call_id("acme", "main", "1795244075.0")


def test_a_new_id_is_new() -> None:
    assert new_id() != new_id()


def test_a_reference_is_the_ten_last_characters_of_an_id() -> None:
    assert reference("6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11") == "1c1f0c3a11"


@pytest.mark.parametrize("tenant", ["a", "1", "acme", "acme-2", "0-0", "a--b", "a" * 40])
def test_a_tenant_is_named_in_small_letters_digits_and_hyphens(tenant: str) -> None:
    assert TENANT.validate_python(tenant) == tenant


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        "-acme",
        "Acme",
        "a_b",
        "a.b",
        "a*",
        "#",
        "a b",
        "a/b",
        "acme\n",
        "\nacme",
        "ä",
        "a٣",
        "a" * 41,
    ],
)
def test_a_tenant_has_no_other_name(tenant: str) -> None:
    with pytest.raises(ValidationError):
        TENANT.validate_python(tenant)


def test_a_token_shows_its_prefix_and_has_256_bits_behind_it() -> None:
    """43 characters of base64 hold 32 bytes."""
    assert re.fullmatch(r"cmk_[A-Za-z0-9_-]{43}", new_token("cmk"))


def test_no_two_tokens_are_alike() -> None:
    assert len({new_token("cmk") for _ in range(100)}) == 100


# -- secrets ------------------------------------------------------------------------------------


@given(st.text())
@settings(deadline=None, max_examples=50)
def test_what_was_sealed_is_opened(value: str) -> None:
    box = SecretBox([new_key()])

    assert box.open(box.seal(SecretStr(value))).get_secret_value() == value


def test_a_sealed_text_is_marked_as_one_and_does_not_show_the_secret() -> None:
    sealed = SecretBox([new_key()]).seal(SecretStr("hunter2"))

    assert SEALED.validate_python(sealed) == sealed
    assert "hunter2" not in sealed


@pytest.mark.parametrize("value", ["", "hunter2", "sealed:", "sealed:a b", "x sealed:abc"])
def test_a_plain_text_is_not_taken_for_a_sealed_one(value: str) -> None:
    with pytest.raises(ValidationError):
        SEALED.validate_python(value)


def test_the_same_secret_is_sealed_into_another_text_each_time() -> None:
    box = SecretBox([new_key()])

    assert box.seal(SecretStr("hunter2")) != box.seal(SecretStr("hunter2"))


def test_an_old_key_behind_a_new_one_opens_what_it_sealed() -> None:
    old, new = new_key(), new_key()
    sealed = SecretBox([old]).seal(SecretStr("hunter2"))

    assert SecretBox([new, old]).open(sealed).get_secret_value() == "hunter2"


def test_the_key_in_front_is_the_one_that_seals() -> None:
    old, new = new_key(), new_key()
    sealed = SecretBox([new, old]).seal(SecretStr("hunter2"))

    assert SecretBox([new]).open(sealed).get_secret_value() == "hunter2"


def test_a_secret_that_no_key_opens_names_the_setting() -> None:
    sealed = SecretBox([new_key()]).seal(SecretStr("hunter2"))

    with pytest.raises(BadSetting, match="CALLMESH_SECRET_KEYS"):
        SecretBox([new_key()]).open(sealed)


@pytest.mark.parametrize("sealed", ["sealed:", "sealed:AAAA", "hunter2", ""])
def test_what_was_never_sealed_is_not_opened(sealed: str) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_SECRET_KEYS"):
        SecretBox([new_key()]).open(sealed)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([], id="none at all"),
        pytest.param([""], id="empty"),
        pytest.param(["hunter2"], id="too short"),
        pytest.param(["%" * 44], id="no base64"),
        pytest.param(["ключ"], id="not ASCII"),
        pytest.param([None, "hunter2"], id="the second one"),
    ],
)
def test_a_key_that_is_none_names_the_setting_and_not_the_key(keys: list[str | None]) -> None:
    given_keys = [new_key() if key is None else SecretStr(key) for key in keys]

    with pytest.raises(BadSetting, match="CALLMESH_SECRET_KEYS") as caught:
        SecretBox(given_keys)

    assert "hunter2" not in str(caught.value)


def test_a_key_is_made_in_a_file_that_its_owner_alone_reads(tmp_path: Path) -> None:
    key_kept_in(tmp_path / "key")

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_the_key_in_a_file_is_made_once(tmp_path: Path) -> None:
    assert key_kept_in(tmp_path / "key") == key_kept_in(tmp_path / "key")


def test_the_key_in_a_file_is_one_that_seals(tmp_path: Path) -> None:
    box = SecretBox([key_kept_in(tmp_path / "key")])

    assert box.open(box.seal(SecretStr("hunter2"))).get_secret_value() == "hunter2"


def test_a_key_that_lies_in_the_file_already_is_taken(tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "key").write_text(f"{key.get_secret_value()}\n")

    assert key_kept_in(tmp_path / "key") == key
