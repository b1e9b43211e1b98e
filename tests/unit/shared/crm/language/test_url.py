from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.url import compile_url
from shared.errors import ContractError

OWN = {"api_url": "https://api.example/crm", "sub": "acme", "version": "v8", "odd": "a/b c"}
values = st.text(
    st.sampled_from(list("/?#&=+%;:@\\(),'\"<> \r\n\t.a1")) | st.characters(), max_size=12
) | st.sampled_from(["..", ".", "//evil.example", "%2e%2e", "@evil", ""])


def url(source: str, **variables: Any) -> str:
    return compile_url(source).text(variables, trusted=OWN, maps={"m": {"*": "Mapped"}})


# -- places -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.api_url}}/Contacts/{{.Id}}", "https://api.example/crm/Contacts/a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/x?q={{.Id}}", "https://api.example/crm/x?q=a/b%20%2B1%3F"),
        ("{{.api_url}}/x?{{.Id}}={{.Id}}&z=1", "https://api.example/crm/x?a/b%20%2B1%3F=a/b%20%2B1%3F&z=1"),
        ("{{.api_url}}/#Contact/view/{{.Id}}", "https://api.example/crm/#Contact/view/a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/x?a=1#{{.Id}}", "https://api.example/crm/x?a=1#a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/x#a?b={{.Id}}", "https://api.example/crm/x#a?b=a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/{{.version}}/{{.odd}}", "https://api.example/crm/v8/a%2Fb%20c"),
        ("https://{{.sub}}.example/x/{{.Id}}", "https://acme.example/x/a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/x?q={{UrlEncode .Id}}", "https://api.example/crm/x?q=a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/{{UrlEncode .Id}}", "https://api.example/crm/a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/{{.Id | map `m`}}", "https://api.example/crm/Mapped"),
        ("{{.api_url}}/a b/ä", "https://api.example/crm/a%20b/%C3%A4"),
        (" {{.api_url}}/x\n", "https://api.example/crm/x"),
        ("{{.api_url | replace `api` `www`}}/x", "https://www.example/crm/x"),
        ("{{.api_url}}/x{{if .Id}}?a={{.Id}}{{end}}", "https://api.example/crm/x?a=a/b%20%2B1%3F"),
        ("{{.api_url}}/x{{if .No}}?a={{.Id}}{{end}}/{{.Id}}", "https://api.example/crm/x/a%2Fb%20%2B1%3F"),
        ("{{.api_url}}/x/{{.Missing}}", "https://api.example/crm/x/"),
        ("https://bücher.example/{{.Id}}", "https://bücher.example/a%2Fb%20%2B1%3F"),
    ],
)  # fmt: skip
def test_a_value_is_escaped_for_the_place_where_it_lands(source: str, expected: str) -> None:
    assert url(source, Id="a/b +1?") == expected


@pytest.mark.parametrize("source", ["", " ", "{{if .RecordPath}}{{.api_url}}/x{{end}}\n"])
def test_a_url_may_come_out_as_nothing(source: str) -> None:
    assert url(source) == ""


def test_a_parameter_wins_over_a_variable_of_its_name() -> None:
    assert url("{{.api_url}}/x", api_url="https://evil.example") == "https://api.example/crm/x"


def test_a_value_from_outside_is_no_address() -> None:
    assert url("{{.Link}}/x", Link="https://evil.example") == "https%3A%2F%2Fevil.example/x"


def test_a_query_in_the_address_makes_the_rest_a_query() -> None:
    found = compile_url("{{.base}}{{.V}}").text(
        {"V": "&b=2"}, trusted={"base": "https://h.example/?a="}
    )
    assert found == "https://h.example/?a=%26b%3D2"


# -- attacks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "https://{{.V}}/x",
        "https://api.{{.V}}/x",
        "https://{{.V}}.example/x",
        "https://a:{{.V}}@api.example/x",
        "https:{{.V}}",
        "https:/{{.V}}",
        "{{.Scheme}}://{{.V}}/x",
        "htt{{.V}}",
        "{{.host}}{{.V}}/x",
    ],
)
def test_no_value_from_outside_stands_in_a_host(source: str) -> None:
    with pytest.raises(ContractError, match="host"):
        compile_url(source).text(
            {"V": "evil", "Scheme": "https"}, trusted={"host": "https://api.example"}
        )


@pytest.mark.parametrize("sub", ["evil.example/", "a@b", "a b", "a\\b", "a#", "a?", "é", "%2F"])
def test_a_parameter_in_a_host_is_a_part_of_its_name(sub: str) -> None:
    with pytest.raises(ContractError, match="host"):
        compile_url("https://{{.sub}}.example/x").text({}, trusted={"sub": sub})


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("{{.api_url}}/a/{{.V}}/b", {"V": ".."}),
        ("{{.api_url}}/a/{{.V}}", {"V": "."}),
        ("{{.api_url}}/a/{{.V}}?x=1", {"V": ".."}),
        ("{{.api_url}}/a/{{.V}}#x", {"V": ".."}),
        ("{{.api_url}}/a/{{.V}}{{.V}}/b", {"V": "."}),
        ("{{.api_url}}/a/.{{.V}}/b", {"V": "."}),
        ("{{.api_url}}/a/%2e{{.V}}/b", {"V": "."}),
        ("{{.api_url}}/a/{{UrlEncode .V}}/b", {"V": ".."}),
        ("{{.api_url}}#/a/{{.V}}", {"V": ".."}),
    ],
)
def test_no_value_walks_up_the_path(source: str, variables: dict[str, str]) -> None:
    with pytest.raises(ContractError, match="dots alone"):
        url(source, **variables)


def test_dots_with_something_else_are_data() -> None:
    assert url("{{.api_url}}/{{.V}}x/{{.W}}", V="..", W="...") == (
        "https://api.example/crm/..x/..."
    )


@pytest.mark.parametrize(
    "source", ["{{.api_url}}/a\nb", "{{.api_url}}/a\x00", "//{{.sub}}/x", "https://a b/"]
)
def test_what_is_no_url_is_refused(source: str) -> None:
    with pytest.raises(ContractError):
        url(source)


def test_two_empty_segments_make_no_host() -> None:
    with pytest.raises(ContractError, match="before its host"):
        url("/{{.A}}/{{.B}}", A="", B="evil.example")


@given(values, values, values)
@settings(deadline=None, max_examples=80)
def test_no_value_changes_the_host_the_depth_or_the_parameters(
    one: str, two: str, three: str
) -> None:
    source = "{{.api_url}}/{{.A}}/x{{.A}}{{.B}}/y?q={{.B}}&{{.C}}=1&r={{.C}}#/{{.A}}"
    try:
        found = url(source, A=one, B=two, C=three)
    except ContractError as error:
        assert "dots alone" in error.message  # noqa: PT017  both ways out are right
        return
    parts = urlsplit(found)

    assert found.isascii()
    assert (parts.scheme, parts.netloc) == ("https", "api.example")
    assert parts.path.count("/") == 4
    assert not {".", ".."} & {unquote(segment) for segment in parts.path.split("/")}
    assert len(parse_qsl(parts.query, keep_blank_values=True)) == 3
    assert [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)][::2] == ["q", "r"]


# -- reading ------------------------------------------------------------------------------------


def test_a_url_knows_its_variables_and_maps() -> None:
    template = compile_url("{{.api_url}}/{{.Id | map `m`}}")

    assert template.names == {"api_url", "Id"}
    assert template.maps_used == {"m"}


def test_a_variable_that_is_not_known_is_a_fault() -> None:
    with pytest.raises(ContractError, match=r"there is no variable \.Id"):
        compile_url("{{.api_url}}/{{.Id}}", known={"api_url"})
