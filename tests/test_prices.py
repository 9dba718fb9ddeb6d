"""What tokens cost: the caller's price, the list's, and that nobody's is said to be nobody's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkd.errors import ConfigError
from synthkd.prices import FREE, Price, price_of
from synthkd.request import Limits, Usage
from synthkd.teachers import OpenAITeacher
from synthkd.testing import FunctionTeacher

OPENAI = "https://api.openai.com/v1"
amounts = st.integers(0, 10**7)
rates = st.floats(0, 1000)


def teacher(price: Price | None = None, factor: float | None = None, endpoint: str = "f") -> FunctionTeacher:
    found = FunctionTeacher(lambda request: "x", limits=Limits(endpoint), price=price)
    if factor is not None:
        found.price_factor = factor  # type: ignore[attr-defined]
    return found


def test_a_price_is_dollars_per_million_tokens_and_the_cache_s_are_a_part_of_the_prompt_s() -> None:
    used = Usage(prompt_tokens=1_000_000, completion_tokens=500_000, cached_tokens=400_000)
    assert Price(2.0, 8.0).cost(used) == pytest.approx(2.0 + 4.0)
    assert Price(2.0, 8.0, cached=0.5).cost(used) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5 + 4.0)


@given(amounts, amounts, amounts, rates, rates, st.none() | rates)
def test_no_usage_costs_more_than_what_was_said_to_be_the_most(
    prompt: int, new: int, cached: int, a: float, b: float, c: float | None
) -> None:
    price = Price(a, b, c)
    used = Usage(prompt, new, cached_tokens=cached)
    assert 0 <= price.cost(used) <= price.most(prompt, new) * (1 + 1e-9)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(wrong: float) -> None:
    for price in ((wrong, 1.0, None), (1.0, wrong, None), (1.0, 1.0, wrong)):
        with pytest.raises(ConfigError, match="dollars per million tokens"):
            Price(*price)


def test_the_list_knows_hosted_models_by_url_and_name() -> None:
    price = price_of(OpenAITeacher("gpt-4.1-mini", api_key="sk-none"))
    assert price is not None
    assert (price.prompt, price.completion, price.cached) == pytest.approx((0.4, 1.6, 0.1))
    routed = price_of(OpenAITeacher("openai/gpt-4o", base_url="https://openrouter.ai/api/v1"))
    assert routed is not None
    assert routed.completion > routed.prompt > 0


def test_the_caller_s_price_goes_before_the_list_s() -> None:
    hosted = OpenAITeacher("gpt-4.1-mini", api_key="sk-none", price=Price(7.0, 9.0))
    assert price_of(hosted) == Price(7.0, 9.0)


@pytest.mark.parametrize(
    "hosted",
    [
        OpenAITeacher("no-such-model", api_key="sk-none", base_url=OPENAI),
        OpenAITeacher("gpt-4.1-mini", base_url="https://llm.example.org/v1"),
        OpenAITeacher("gpt-4.1-mini", base_url="http://127.0.0.1:4000/v1"),
        OpenAITeacher("gpt-4.1-mini", base_url="http://[::1]:4000/v1"),
        OpenAITeacher("gpt-4.1-mini", base_url="http://localhost/v1"),
        FunctionTeacher(lambda request: "x"),
    ],
    ids=lambda hosted: hosted.limits.endpoint,
)
def test_what_nobody_knows_is_unknown_and_not_free(hosted: OpenAITeacher | FunctionTeacher) -> None:
    assert price_of(hosted) is None


def test_a_model_in_this_process_costs_nothing() -> None:
    assert price_of(teacher(endpoint="local:model#1")) == FREE


def test_batches_cost_their_part_of_the_price() -> None:
    assert price_of(teacher(Price(2.0, 8.0, 1.0), factor=0.5)) == Price(1.0, 4.0, 0.5)
    assert price_of(teacher(Price(2.0, 8.0), factor=0.5)) == Price(1.0, 4.0)
    assert price_of(teacher(None, factor=0.5)) is None


def test_a_free_price_stays_free_and_can_be_compared() -> None:
    assert FREE.times(0.5) == FREE == replace(FREE, prompt=0.0)
    assert FREE.cost(Usage(10, 10)) == 0.0


def test_the_list_is_not_loaded_where_it_cannot_know_anything() -> None:
    code = """
import sys
from synthkd.prices import price_of
from synthkd.teachers import OpenAITeacher
assert price_of(OpenAITeacher("m", base_url="http://127.0.0.1:9/v1")) is None
assert price_of(OpenAITeacher("m", base_url="http://box:9/v1")) is None
assert "genai_prices" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
