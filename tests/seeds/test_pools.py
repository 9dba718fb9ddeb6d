"""Pools: what is drawn comes once, by its weight, and from products that nobody could hold."""

import time
from collections import Counter
from itertools import islice, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError
from synthkd.record import Document, Instruction
from synthkd.seeds import Seed, pool
from synthkd.seeds.shuffling import shuffled

LISTS = st.lists(st.integers(0, 9), min_size=1, max_size=9)


@settings(deadline=None, derandomize=True)
@given(LISTS, LISTS, st.integers(0, 99))
def test_every_combination_comes_once(a: list[int], b: list[int], seed: int) -> None:
    found = [(one.meta["a"], one.meta["b"]) for one in pool(a=a, b=b, seed=seed)]
    assert sorted(found) == sorted(product(set(a), set(b)))
    assert found == [(one.meta["a"], one.meta["b"]) for one in pool(a=a, b=b, seed=seed)]


@settings(deadline=None, derandomize=True)
@given(LISTS, LISTS, st.dictionaries(st.integers(0, 9), st.floats(0.001, 1000)), st.integers(0, 99))
def test_weights_change_the_order_and_not_what_there_is(
    a: list[int], b: list[int], weights: dict[int, float], seed: int
) -> None:
    weights = {value: weight for value, weight in weights.items() if value in a}
    found = [(one.meta["a"], one.meta["b"]) for one in pool(a=a, b=b, weights={"a": weights}, seed=seed)]
    assert sorted(found) == sorted(product(set(a), set(b)))


@settings(deadline=None, derandomize=True)
@given(LISTS, LISTS, st.integers(0, 99), st.data())
def test_each_value_of_one_pool_comes_as_often_as_was_asked(
    a: list[int], b: list[int], seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(set(b))))
    found = [(one.meta["a"], one.meta["b"]) for one in pool(a=a, b=b, each="a", n=n, seed=seed)]
    assert Counter(value for value, _ in found) == dict.fromkeys(a, n)
    assert len(set(found)) == len(found)
    first = [value for value, _ in found[: len(set(a))]]
    assert sorted(first) == sorted(set(a)), "the first turn has all of them"


@pytest.mark.parametrize("size", [1, 2, 4096, 4097, 10_000, 65_536])
def test_a_shuffle_gives_every_number_once_and_another_seed_another_order(size: int) -> None:
    found = list(shuffled(size, "a"))
    assert sorted(found) == list(range(size))
    if size > 2:
        assert found != list(shuffled(size, "b"))
        assert found != sorted(found)


def test_a_shuffle_of_many_is_even() -> None:
    """Among the first tenth of a large shuffle every region has its share, as it would by chance."""
    size = 1_000_000
    regions = Counter(number * 10 // size for number in islice(shuffled(size, "even"), 20_000))
    assert all(abs(count - 2000) < 250 for count in regions.values())


def test_a_product_that_nobody_could_hold_costs_nothing() -> None:
    began = time.monotonic()
    lists = {name: range(1_000) for name in "abcd"}
    found = [one.id for one in islice(pool(**lists), 1000)]
    assert len(set(found)) == 1000
    assert time.monotonic() - began < 2


def test_likely_values_come_first_and_unlikely_ones_in_the_end() -> None:
    found = [one.meta["a"] for one in pool(a=["x", "y", "z"], b=range(1000), weights={"a": {"x": 8, "z": 0}})]
    assert Counter(found) == {"x": 1000, "y": 1000}
    assert 840 < Counter(found[:1000])["x"] < 935


def test_a_source_is_as_likely_as_its_weight_says_however_much_it_holds() -> None:
    sources = {"web": range(100_000), "hand": range(100_000, 101_000)}
    even = [one.meta["topic_source"] for one in pool(topic=sources, n=1000)]
    assert 420 < even.count("hand") < 580
    found = list(pool(topic=sources, n=1000, weights={"topic": {"web": 9}}))
    assert 60 < sum(one.meta["topic_source"] == "hand" for one in found) < 145
    assert all((one.meta["topic"] >= 100_000) == (one.meta["topic_source"] == "hand") for one in found)


def test_fields_of_the_kind_are_filled_and_the_rest_travels_in_meta() -> None:
    class Asked(Instruction):
        persona: str

    [row] = pool(Asked, prompt=["Why?"], persona=["a child"], level=[{"of": 3}])
    assert row == Asked(prompt="Why?", persona="a child", meta={"level": {"of": 3}})


def test_a_record_in_a_pool_offers_what_it_holds_and_becomes_a_parent() -> None:
    page = Document(text="Oaks 木.", title="Oak", meta={"license": "cc0"})
    [row] = pool(Document, page=[page, page], persona=["a child"])
    assert row == Document(
        parents=(page.id,), text="Oaks 木.", title="Oak", meta={"license": "cc0", "persona": "a child"}
    )
    [seed] = pool(page=[page])
    assert seed == Seed(parents=(page.id,), meta={"text": "Oaks 木.", "title": "Oak", "license": "cc0"})


def test_templates_find_what_was_drawn_by_its_name() -> None:
    assert next(pool(topic=["oak"])).variables()["topic"] == "oak"


def test_values_that_are_alike_but_not_the_same_are_two() -> None:
    assert len(list(pool(a=[1, True, 1.0, "1", [1], 1, [1]]))) == 5


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "was given no pool"),
    ({"a": "oak"}, "one str; expected a list"),
    ({"a": []}, "holds nothing"),
    ({"a": {"web": []}}, "holds nothing"),
    ({"a": [1], "weights": {"a": {1: 0}}}, "holds nothing"),
    ({"a": [1], "weights": {"b": {1: 2}}}, "no pool 'b'; there are 'a'"),
    ({"a": [1], "weights": {"a": {2: 2}}}, "does not hold 2"),
    ({"a": {"web": [1]}, "weights": {"a": {"wab": 2}}}, "does not hold 'wab'"),
    ({"a": [1], "weights": {"a": {1: -1}}}, "finite number from 0 on"),
    ({"a": [1], "weights": {"a": {1: float("nan")}}}, "finite number from 0 on"),
    ({"a": [1, 2], "b": [1, 2], "n": 5}, "there are 4 combinations"),
    ({"a": [1], "n": 0}, "n=0"),
    ({"a": [1, 2], "b": [1], "each": "a", "n": 2}, "there are 1 combinations of 'b' for each a"),
    ({"a": [1], "each": "a"}, "and n for how many"),
    ({"a": [1], "each": "b", "n": 1}, "the name of a pool"),
    ({"a": [1], "each": "a", "n": 1, "weights": {"a": {1: 1}}}, "without weights"),
    ({"meta": [1]}, "'meta' is what every record has"),
    ({"a": [{1, 2}]}, "holds a set"),
    ({name: range(2000) for name in "ab"} | {"weights": {n: {i: i + 1 for i in range(2000)} for n in "ab"}}, "sources"),
]


@pytest.mark.parametrize(("names", "said"), WRONG)
def test_a_pool_that_cannot_be_drawn_from_is_refused_at_once(names: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pool(**names)


def test_a_kind_that_does_not_take_the_names_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cannot make a Instruction of 'topic': prompt: Field required"):
        pool(Instruction, topic=["oak"])
