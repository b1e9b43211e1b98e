"""Templates by name: those that ship, those of the operator's folder, and the faulty ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shared.crm.form.manifest import Manifest
from shared.crm.registry import Templates, check_credentials, parameters_of, read_template
from shared.errors import BadSetting, NotFound

SHOP = (Path(__file__).parents[3] / "data/templates/own/corner-shop.yaml").read_text()


def test_a_file_in_the_folder_is_a_template(tmp_path: Path) -> None:
    known = Templates(tmp_path)
    with pytest.raises(NotFound, match=r"there is no template corner-shop; there are: .*zoho"):
        known.get("corner-shop")
    (tmp_path / "corner-shop.yaml").write_text(SHOP)
    assert known.get("corner-shop").title == "Corner Shop"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "corner-shop.yaml"
    file.write_text(SHOP)
    known = Templates(tmp_path)
    first = known.get("corner-shop")
    assert known.get("corner-shop") is first
    file.write_text(SHOP.replace("Corner Shop", "Corner Shop of Bo"))
    assert known.get("corner-shop").title == "Corner Shop of Bo"


def test_a_faulty_file_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("schema: 2\nname: broken\n")
    (tmp_path / "corner-shop.yaml").write_text(SHOP)
    known = Templates(tmp_path)
    assert known.get("corner-shop").name == "corner-shop"
    with pytest.raises(BadSetting, match=r"broken.yaml:1: title"):
        known.get("broken")


def test_a_file_is_called_as_its_template(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(SHOP)
    with pytest.raises(BadSetting, match=r"call it corner-shop.yaml"):
        Templates(tmp_path).get("other")


@pytest.mark.parametrize("name", ["../corner-shop", "/etc/passwd", "", "."])
def test_a_name_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "corner-shop.yaml").write_text(SHOP)
    with pytest.raises(NotFound):
        Templates(folder).get(name)


def test_a_folder_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_TEMPLATES_DIR"):
        Templates(tmp_path / "missing")


def test_a_wrong_template_says_file_line_place_and_what_to_do() -> None:
    wrong = SHOP.replace("{{.LastName}}", "{{.Lastname}}").replace(
        "title: Address", "titel: Address"
    )
    with pytest.raises(BadSetting) as caught:
        read_template(wrong, source="shop.yaml")
    assert "shop.yaml:8: parameters.0.titel: unknown key; did you mean `title`?" in str(
        caught.value
    )
    wrong = SHOP.replace("{{.LastName}}", "{{.Lastname}}")
    with pytest.raises(
        BadSetting, match=r"contacts.People.create.*there is no variable \.Lastname"
    ):
        read_template(wrong, source="shop.yaml")


def shop(kind: str) -> Manifest:
    return read_template(SHOP.replace("kind: url", kind), source="shop.yaml")


@pytest.mark.parametrize(
    "address",
    ["http://crm.example", "ftp://x", "crm.example", "https://", "https://ann:pw@crm.example/"],
)
def test_an_address_is_https_and_holds_no_password(address: str) -> None:
    with pytest.raises(BadSetting, match="url"):
        parameters_of(shop("kind: url"), {"url": address})


def test_plain_http_goes_where_the_operator_lets_it() -> None:
    given = {"url": "http://127.0.0.1:8000/x"}
    assert parameters_of(shop("kind: url"), given, may_be_plain=lambda host: host == "127.0.0.1")
    assert parameters_of(shop("kind: url, https: false"), {"url": "http://crm.lan"})


def test_plain_http_goes_to_an_ipv6_address_too() -> None:
    given = {"url": "http://[fd00::7]:8000/x"}
    assert parameters_of(shop("kind: url"), given, may_be_plain=lambda host: host == "fd00::7")


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{99999}", "[a-z]{999}" * 6])
def test_a_pattern_that_is_none_is_said(pattern: str) -> None:
    with pytest.raises(BadSetting, match="pattern"):
        shop(f"pattern: '{pattern}'")


def test_no_pattern_takes_for_ever() -> None:
    began = time.process_time()
    with pytest.raises(BadSetting, match="must look like"):
        parameters_of(shop("pattern: '(a|a)*(a?){50}b'"), {"url": "a" * 500})
    assert time.process_time() - began < 2


def test_the_text_of_a_template_is_that_of_the_file_that_counts(tmp_path: Path) -> None:
    known = Templates(tmp_path)
    assert "name: zoho" in known.source("zoho")
    (tmp_path / "zoho.yaml").write_text("# mine")
    assert known.source("zoho") == "# mine"
    with pytest.raises(NotFound, match="there is no template nobody"):
        known.source("nobody")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("kind: number", "10", "ten"),
        ("kind: switch", "yes", "maybe"),
        ("options: [a, b]", "a", "c"),
        ("pattern: '[a-z]{2}'", "eu", "eu1"),
    ],
)
def test_a_parameter_is_as_its_field_says(kind: str, good: str, bad: str) -> None:
    assert parameters_of(shop(kind), {"url": good}) == {"url": good}
    with pytest.raises(BadSetting, match="url"):
        parameters_of(shop(kind), {"url": bad})


def test_credentials_are_those_of_the_template() -> None:
    check_credentials(shop("kind: url"), {"api_key": "x"})
    with pytest.raises(BadSetting, match="needs the credential api_key"):
        check_credentials(shop("kind: url"), {})
    with pytest.raises(BadSetting, match="no credential password"):
        check_credentials(shop("kind: url"), {"api_key": "x", "password": "y"})
