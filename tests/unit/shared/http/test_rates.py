"""Buckets and strangers, alone: how much, how long, and never more memory than they have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.http.peers import network_of
from shared.http.rates import Buckets, Strangers

NOW = datetime(2100, 1, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def test_a_full_bucket_gives_four_seconds_at_once_and_then_its_rate() -> None:
    buckets: Buckets[str] = Buckets()
    at_once = [buckets.take("k", 50, NOW).wait is None for _ in range(201)]
    assert at_once == [True] * 200 + [False]

    later = [buckets.take("k", 50, NOW + SECOND).wait is None for _ in range(51)]
    assert later == [True] * 50 + [False]


def test_who_is_refused_is_told_when_the_next_token_comes() -> None:
    buckets: Buckets[str] = Buckets()
    for _ in range(8):
        buckets.take("k", 2, NOW)
    refused = buckets.take("k", 2, NOW)
    assert refused.wait == timedelta(seconds=0.5)
    assert (refused.limit, refused.remaining, refused.reset_seconds) == (8, 0, 4)
    assert buckets.take("k", 2, NOW + timedelta(seconds=0.5)).wait is None


def test_to_ask_while_it_is_empty_does_not_make_it_longer() -> None:
    buckets: Buckets[str] = Buckets()
    for n in range(2000):
        buckets.take("k", 1, NOW + n * timedelta(milliseconds=1))
    assert buckets.take("k", 1, NOW + 10 * SECOND).wait is None


def test_a_clock_that_is_set_back_gives_nothing_away() -> None:
    buckets: Buckets[str] = Buckets()
    for _ in range(4):
        buckets.take("k", 1, NOW)
    assert buckets.take("k", 1, NOW - timedelta(hours=1)).wait is not None


def test_one_does_not_use_up_what_another_has() -> None:
    buckets: Buckets[str] = Buckets()
    for _ in range(300):
        buckets.take("a", 50, NOW)
    assert buckets.take("b", 50, NOW).remaining == 199


def test_buckets_are_as_many_as_fit_and_those_in_use_stay() -> None:
    buckets: Buckets[str] = Buckets(most=10)
    for n in range(1000):
        buckets.take("busy", 1, NOW)
        buckets.take(f"k{n}", 1, NOW)
    assert len(buckets) == 10
    assert buckets.take("busy", 1, NOW).wait is not None


def test_the_last_wrong_key_of_a_minute_shuts_for_a_minute() -> None:
    strangers = Strangers(20)
    for n in range(20):
        assert strangers.shut_for("192.0.2.1", NOW) is None, n
        strangers.came_with_wrong_key("192.0.2.1", NOW)
    assert strangers.shut_for("192.0.2.1", NOW) == MINUTE
    assert strangers.shut_for("192.0.2.2", NOW) is None
    assert strangers.shut_for("192.0.2.1", NOW + MINUTE) is None


def test_wrong_keys_now_and_then_shut_nobody_out() -> None:
    strangers = Strangers(20)
    for n in range(200):
        now = NOW + n * timedelta(seconds=4)
        strangers.came_with_wrong_key("192.0.2.1", now)
        assert strangers.shut_for("192.0.2.1", now) is None


def test_a_clock_that_is_set_back_does_not_shut_for_hours() -> None:
    strangers = Strangers(1)
    strangers.came_with_wrong_key("192.0.2.1", NOW)
    assert strangers.shut_for("192.0.2.1", NOW - timedelta(hours=1)) is None


def test_no_limit_is_none() -> None:
    strangers = Strangers(0)
    for _ in range(1000):
        strangers.came_with_wrong_key("192.0.2.1", NOW)
    assert strangers.shut_for("192.0.2.1", NOW) is None
    assert len(strangers) == 0


def test_an_attack_from_everywhere_costs_no_more_than_so_much_memory() -> None:
    strangers = Strangers(2)
    for n in range(30_000):
        strangers.came_with_wrong_key(f"198.51.{n // 250}.{n % 250}", NOW)
        strangers.came_with_wrong_key(f"198.51.{n // 250}.{n % 250}", NOW)
    assert len(strangers) <= 10_000


def test_a_network_of_ipv6_is_one_stranger() -> None:
    strangers = Strangers(20)
    for n in range(20):
        strangers.came_with_wrong_key(f"2001:db8:1:2:{n:x}::1", NOW)
    assert strangers.shut_for("2001:db8:1:2:ffff::2", NOW) == MINUTE
    assert strangers.shut_for("2001:db8:1:3::1", NOW) is None


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "20010db800000000::/64"),
        ("fe80::1%eth0", "fe80000000000000::/64"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_what_one_who_asks_can_choose_his_address_from(peer: str, network: str) -> None:
    assert network_of(peer) == network
