"""Quotas and balance: enough of a kind is enough, and the earlier record stays."""

from __future__ import annotations

import pytest

from synthkd.errors import ConfigError, DataError
from synthkd.filters import balance, first, quota
from synthkd.record import Instruction


def kinds(*values: object) -> list[Instruction]:
    return [
        Instruction(prompt=str(place), meta={"kind": value})  # type: ignore[dict-item]
        for place, value in enumerate(values)
    ]


def test_exactly_the_first_records_stay() -> None:
    assert list(first(2)(kinds(*"abc"))) == [None, None, "more than asked for"]
    assert list(first(0)(kinds("a"))) == ["more than asked for"]
    with pytest.raises(ConfigError, match="at least 0"):
        first(-1)


def test_a_quota_holds_for_each_kind() -> None:
    assert list(quota("kind", 1)(kinds(*"abab"))) == [None, None, "quota is full", "quota is full"]
    records = kinds("a", "b", "c", "b", "b")
    assert list(quota("kind", {"a": 1, "b": 2})(records)) == [None, None, "no quota", None, "quota is full"]
    with pytest.raises(ConfigError, match="at least 0"):
        quota("kind", {"a": -1})


def test_kinds_are_compared_by_value_whatever_they_are() -> None:
    assert list(quota("kind", {5: 1})(kinds(5.0, 5, "5"))) == [None, "quota is full", "no quota"]
    assert list(quota("kind", 1)(kinds(["a"], ["a"], {"x": 1}, None))) == [None, "quota is full", None, None]
    assert list(quota(lambda record: len(record.prompt), 1)(kinds("a", "b"))) == [None, "quota is full"]


def test_balance_keeps_as_many_of_each_as_of_the_rarest() -> None:
    many = "too many of a kind"
    assert list(balance("kind")(kinds(*"aababa"))) == [None, None, None, many, None, many]
    assert list(balance("kind", times=1.5)(kinds(*"aababa"))) == [None, None, None, None, None, many]
    with pytest.raises(ConfigError, match="at least 1"):
        balance("kind", times=0.5)
    with pytest.raises(DataError, match="looks for 'sort'"):
        list(balance("sort")(kinds("a")))
