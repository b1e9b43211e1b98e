from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from shared.phone import (
    MAX_DIGITS,
    PhoneNumber,
    country_of,
    is_emergency,
    is_short_code,
    kind_of,
    number_to_dial,
    parse,
    plain_number,
    same_number,
    spellings,
    valid_format,
)

#: PBXware's three, and the forms of a valid number.
FORMATS = ("digits", "***-***-****", "*** *** ****", "e164", "national", "international")
FORMS = ("e164", "national", "national_digits", "international", "nsn")
REGIONS = (None, "US", "GB", "DE", "FR", "IT", "BR")

regions = st.sampled_from(REGIONS)
numeric_texts = st.text("0123456789+-() ./*#", max_size=30)


def an_example(region: str) -> str:
    """A mobile number of *region* in E.164, from the metadata."""
    found = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
    assert found is not None
    return phonenumbers.format_number(found, PhoneNumberFormat.E164)


# -- spellings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("region", [None, "US"])
def test_the_number_of_the_recorded_search_is_asked_in_its_three_recorded_spellings(
    region: str | None,
) -> None:
    found = spellings(parse("1202888888", region), FORMATS)

    assert found == ("1202888888", "120-288-8888", "120 288 8888")


def test_where_the_recorded_number_is_a_real_one_its_other_forms_follow_the_recorded_three() -> (
    None
):
    """In Britain 1202 is Bournemouth: `01202 888888` without the trunk zero."""
    found = spellings(parse("1202888888", "GB"), FORMATS)

    assert found == (
        "1202888888",
        "120-288-8888",
        "120 288 8888",
        "+441202888888",
        "01202 888888",
        "+44 1202 888888",
    )


@pytest.mark.parametrize("region", [None, "US", "GB"])
def test_a_number_that_fits_no_format_is_asked_as_it_came(region: str | None) -> None:
    assert spellings(parse("120222222", region), FORMATS) == ("120222222",)


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        pytest.param(
            "2025550101",
            "US",
            (
                "2025550101",
                "202-555-0101",
                "202 555 0101",
                "+12025550101",
                "(202) 555-0101",
                "+1 202-555-0101",
            ),
            id="american, national",
        ),
        pytest.param(
            "12025550101",
            None,
            (
                "12025550101",
                "202-555-0101",
                "202 555 0101",
                "+12025550101",
                "(202) 555-0101",
                "+1 202-555-0101",
            ),
            id="american, without the plus sign",
        ),
        pytest.param(
            "442079460000",
            "GB",
            (
                "442079460000",
                "207-946-0000",
                "207 946 0000",
                "+442079460000",
                "020 7946 0000",
                "+44 20 7946 0000",
            ),
            id="british, without the plus sign",
        ),
        pytest.param("101", "GB", ("101",), id="an extension"),
        pytest.param("anonymous", "GB", (), id="withheld"),
    ],
)
def test_a_number_is_spelled_in_every_format_that_fits_it_in_their_order(
    raw: str, region: str | None, expected: tuple[str, ...]
) -> None:
    assert spellings(parse(raw, region), FORMATS) == expected


def test_spellings_that_look_alike_are_one() -> None:
    number = parse("2025550101", "US")

    assert spellings(number, ["digits", "**********", "national_digits", "nsn"]) == ("2025550101",)


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        ("447700900123", "GB", "07700900123"),
        ("+4930123456", "GB", "030123456"),
        ("+12025550101", "US", "2025550101"),
        ("+390612345678", "IT", "0612345678"),
        ("+36301234567", "HU", "06301234567"),
    ],
)
def test_a_number_has_the_digits_that_are_dialled_in_its_country(
    raw: str, region: str, expected: str
) -> None:
    assert spellings(parse(raw, region), ["national_digits"]) == (expected,)


def test_a_number_of_no_region_has_no_national_digits() -> None:
    assert spellings(parse("1202888888", "US"), ["national_digits"]) == ()


def test_a_pattern_fits_the_number_as_given_before_its_national_part() -> None:
    assert spellings(parse("12025550101", "US"), ["*-***-***-****"]) == ("1-202-555-0101",)


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_every_written_form_of_a_valid_number_is_read_as_that_number_in_its_region(
    region: str,
) -> None:
    example = phonenumbers.example_number(region)
    assert example is not None
    e164 = phonenumbers.format_number(example, PhoneNumberFormat.E164)
    forms = spellings(parse(e164, region), FORMS)

    assert {form: parse(form, region).e164 for form in forms} == dict.fromkeys(forms, e164)


@pytest.mark.parametrize("region", ["GB", "US", "FR", "IT", "ES", "DE", "NL", "PL", "SE", "RU"])
def test_a_mobile_that_comes_without_its_plus_sign_is_that_mobile_in_its_region(
    region: str,
) -> None:
    e164 = an_example(region)

    assert parse(e164.removeprefix("+"), region).e164 == e164


# -- parse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "region", "e164"),
    [
        ("+447700900123", None, "+447700900123"),
        ("447700900123", None, "+447700900123"),
        ("07700 900123", "GB", "+447700900123"),
        ("0044 7700 900123", "GB", "+447700900123"),
        ("(020) 7946-0000", "GB", "+442079460000"),
        ("020 7946 0000", None, None),
        ("020 7946 0000", "US", None),
        ("1202888888", "US", None),
        ("101", "GB", None),
        ("*97", "GB", None),
    ],
)
def test_a_number_has_an_e164_form_where_its_region_knows_it(
    raw: str, region: str | None, e164: str | None
) -> None:
    assert parse(raw, region).e164 == e164


@pytest.mark.parametrize(
    "word",
    [
        "",
        "   ",
        "anonymous",
        "Anonymous",
        "unknown",
        "<unknown>",
        "PRIVATE",
        "restricted",
        "unavailable",
        "withheld",
        " Withheld ",
        "nobody",
        "+",
    ],
)
def test_a_caller_who_hides_has_no_number(word: str) -> None:
    number = parse(word, "GB")

    assert (number.withheld, number.key, str(number)) == (True, "", "withheld")


def test_no_number_is_longer_than_a_number_can_be() -> None:
    assert parse("1" * (MAX_DIGITS + 5), None).digits == "1" * MAX_DIGITS


@given(st.one_of(st.text(), numeric_texts), regions)
@settings(deadline=None)
def test_any_text_is_read_without_an_error(raw: str, region: str | None) -> None:
    assert isinstance(parse(raw, region), PhoneNumber)


@given(st.one_of(st.text(), numeric_texts, st.text("٠١٢٣٤٥٦٧٨٩०१२३四", max_size=12)), regions)
@settings(deadline=None)
def test_digits_are_digits_and_nothing_else(raw: str, region: str | None) -> None:
    """A CRM is asked in them, so they are those of a telephone: 0 to 9."""
    digits = parse(raw, region).digits

    assert set(digits) <= set("0123456789")
    assert len(digits) <= MAX_DIGITS


@given(st.one_of(st.text(), numeric_texts), regions)
@settings(deadline=None)
def test_what_is_read_as_valid_is_the_same_number_when_read_again(
    raw: str, region: str | None
) -> None:
    number = parse(raw, region)

    if number.e164 is not None:
        assert parse(number.e164, region).e164 == number.e164


# -- same_number --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "region"),
    [
        ("447700900123", "+44 7700 900123", None),
        ("447700900123", "07700 900123", "GB"),
        ("0044 7700 900123", "07700900123", "GB"),
        ("12025550101", "(202) 555-0101", "US"),
        ("1202888888", "120-288-8888", None),
        ("1202888888", "120 288 8888", "US"),
        ("07700 900123", "07700900123", None),
        ("101", "101", "GB"),
    ],
)
def test_two_spellings_of_one_number_are_the_same(one: str, other: str, region: str | None) -> None:
    assert same_number(one, other, region)


@pytest.mark.parametrize(
    ("one", "other", "region"),
    [
        ("07700900123", "07700900124", "GB"),
        ("07700900123", "+447700900123", "US"),
        ("1202888888", "+1 202 888 8888", "US"),
        ("101", "1010", None),
        ("2025550101", "+12025550102", "US"),
    ],
)
def test_two_numbers_are_not_the_same(one: str, other: str, region: str | None) -> None:
    assert not same_number(one, other, region)


@pytest.mark.parametrize("other", ["", "anonymous", "447700900123"])
def test_a_withheld_number_is_nobodys(other: str) -> None:
    assert not same_number("anonymous", other, "GB")


@given(numeric_texts, numeric_texts, regions)
@settings(deadline=None)
def test_being_the_same_number_holds_both_ways(one: str, other: str, region: str | None) -> None:
    assert same_number(one, other, region) == same_number(other, one, region)


# -- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "digits",
        "e164",
        "national",
        "international",
        "nsn",
        "national_digits",
        "*",
        "***-***-****",
        "*** *** ****",
        "(***) ***-****",
        "+* *** *** ****",
        "***.***.****",
        "***/***",
    ],
)
def test_a_named_form_or_a_pattern_of_stars_is_a_format(text: str) -> None:
    assert valid_format(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "---",
        "E164",
        "plain",
        "###-####",
        "***x***",
        "{}***",
        "0***",
        "***-***\n",
        "***\t***",
    ],
)
def test_anything_else_is_no_format(text: str) -> None:
    assert not valid_format(text)


@given(st.text("*() +./-", max_size=MAX_DIGITS).filter(lambda text: "*" in text))
@settings(deadline=None)
def test_a_pattern_spells_a_number_of_as_many_digits(pattern: str) -> None:
    digits = ("0123456789" * 2)[: pattern.count("*")]

    (text,) = spellings(PhoneNumber(digits, digits, None), [pattern])

    assert "".join(filter(str.isdigit, text)) == digits
    assert "".join("*" if c.isdigit() else c for c in text) == pattern


@pytest.mark.parametrize(
    ("e164", "country"),
    [
        ("+442079460000", "GB"),
        ("+441534123456", "JE"),
        # Of no range that the metadata knows: the main country of the code.
        ("+447700900145", "GB"),
        ("+15005550006", "US"),
        ("+77012345678", "KZ"),
        # Freephone of no country, and a code that nobody has.
        ("+80012345678", None),
        ("+999123", None),
        ("no number", None),
    ],
)
def test_a_number_is_of_a_country(e164: str, country: str | None) -> None:
    assert country_of(e164) == country


# -- numbers that somebody wants dialled -----------------------------------------------------------

some_region = st.none() | st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))


@settings(deadline=None)
@given(text=st.text(max_size=40) | numeric_texts)
def test_what_is_plain_is_plain_again_and_whatever_else_is_refused(text: str) -> None:
    plain = plain_number(text)

    assert plain is None or plain_number(plain) == plain
    assert plain is None or plain.removeprefix("+").isascii()


@settings(deadline=None, max_examples=300)
@given(text=st.from_regex(r"\+?[0-9]{2,20}", fullmatch=True), region=some_region)
def test_a_number_to_dial_is_the_same_wherever_it_is_read(text: str, region: str | None) -> None:
    e164 = number_to_dial(text, region)

    if e164 is not None:
        assert {number_to_dial(e164, other) for other in (None, "US", "GB", "IT", region)} == {e164}
        assert 6 <= len(e164) <= 16


def examples(kind: int) -> list[tuple[str, str]]:
    """Region and E.164 of each country of which the metadata has one."""
    found = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        number = phonenumbers.example_number_for_type(region, kind)
        if number is not None:
            found.append((region, phonenumbers.format_number(number, PhoneNumberFormat.E164)))
    return found


@pytest.mark.parametrize(("region", "e164"), examples(PhoneNumberType.FIXED_LINE))
def test_a_number_of_each_country_is_dialled_however_it_is_spelt(region: str, e164: str) -> None:
    number = phonenumbers.parse(e164)
    for form in (PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL):
        plain = plain_number(phonenumbers.format_number(number, form))
        assert plain is not None
        assert number_to_dial(plain, region) == e164, form
    assert not is_emergency(e164, region)
    assert not is_short_code(e164, region)


@pytest.mark.parametrize(("region", "e164"), examples(PhoneNumberType.PREMIUM_RATE))
def test_a_premium_number_is_one_with_digits_too_many(region: str, e164: str) -> None:
    """The network ignores them."""
    assert kind_of(e164) == "premium"
    for more in ("0", "00", "99"):
        let = number_to_dial(e164 + more, region)
        assert let is None or not let.startswith(e164) or kind_of(let) == "premium", more
