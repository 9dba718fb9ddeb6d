"""Exact duplicates, clusters, embeddings and core sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from synthkd.errors import ConfigError
from synthkd.filters import dedup
from synthkd.record import Demonstration, Instruction


def prompts(*texts: str) -> list[Instruction]:
    return [Instruction(prompt=text) for text in texts]


def test_equal_texts_leave_the_first() -> None:
    texts = ("Hello  World", "hello world\n", "hello, world", "Ｈｅｌｌｏ world")
    duplicate = "exact duplicate"
    assert list(dedup.exact()(prompts(*texts))) == [None, duplicate, None, duplicate]
    assert list(dedup.exact(normalise=False)(prompts(*texts))) == [None] * 4


def test_a_function_may_say_what_is_compared() -> None:
    rule = dedup.exact("completion", normalise=lambda text: "".join(text.split()))
    records = [Demonstration(prompt=str(n), completion=c) for n, c in enumerate(("a = 1", "a=1", "A=1"))]
    assert list(rule(records)) == [None, "exact duplicate", None]


def test_prompt_and_completion_must_both_be_equal_unless_told_otherwise() -> None:
    records = [Demonstration(prompt="p", completion=c) for c in ("a", "b")]
    assert list(dedup.exact()(records)) == [None, None]
    assert list(dedup.exact("prompt")(records)) == [None, "exact duplicate"]


def same_length(pairs: list[tuple[str, str]]) -> Sequence[float]:
    """As sure as the first is not longer than the second by more than one."""
    return [float(len(a) <= len(b) + 1) for a, b in pairs]


def test_a_cluster_is_what_links_connect_and_leaves_one() -> None:
    records = prompts("a" * 9, "b" * 3, "c" * 4, "d" * 5, "e" * 9)
    same = "same cluster"
    rule = dedup.clusters(same_length, of="prompt", batch=3)
    assert list(rule(records)) == [None, None, same, same, same]


def test_the_best_of_a_cluster_stays_and_groups_are_compared_apart() -> None:
    records = [
        Demonstration(prompt=p, completion="same", meta={"entailed": e})
        for p, e in (("x", 0.2), ("x", 0.9), ("y", 0.1))
    ]
    rule = dedup.clusters(same_length, within="prompt", best="entailed")
    assert list(rule(records)) == ["same cluster", None, None]


def test_same_must_give_one_value_a_pair() -> None:
    with pytest.raises(ConfigError, match="1 values for 2 pairs"):
        list(dedup.clusters(lambda pairs: [1.0], of="prompt")(prompts("a", "b")))


def on_a_circle(texts: list[str]) -> NDArray[np.float64]:
    """A text that is a number of degrees, as a vector twice the length of 1."""
    angles = np.radians([float(text) for text in texts])
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_a_text_near_a_kept_one_goes_whatever_the_batches(batch: int) -> None:
    rule = dedup.embedding(on_a_circle, threshold=0.95, batch=batch)  # some 18 degrees
    near = "embedding duplicate"
    assert list(rule(prompts("0", "15", "30", "359", "90", "20"))) == [None, near, None, near, None, near]


def test_many_texts_make_the_vectors_grow() -> None:
    rule = dedup.embedding(on_a_circle, threshold=1.0, batch=100)
    texts = [str(number / 8) for number in range(2500)]
    assert list(rule(prompts(*texts, *texts[:9]))).count(None) == 2500


def test_a_core_set_spreads_out_from_the_first() -> None:
    rule = dedup.k_center(on_a_circle, 3, batch=2)
    away = "not in the core set"
    assert list(rule(prompts("0", "1", "180", "91", "90", "179"))) == [None, away, None, away, None, away]
    assert list(dedup.k_center(on_a_circle, 9)(prompts("0", "1"))) == [None, None]


def test_what_is_no_embedding_is_refused() -> None:
    for wrong in (lambda texts: [1.0] * len(texts), lambda texts: [[1.0]], lambda texts: [[float("nan")]] * len(texts)):
        with pytest.raises(ConfigError, match=r"embed\(\) gave embedding\(\)"):
            list(dedup.embedding(wrong)(prompts("a", "b")))
    with pytest.raises(ConfigError, match="a cosine"):
        dedup.embedding(on_a_circle, 0)
    with pytest.raises(ConfigError, match="at least 1 record"):
        dedup.k_center(on_a_circle, 0)
    with pytest.raises(ConfigError, match="at least 1 text"):
        dedup.k_center(on_a_circle, 1, batch=0)


def test_a_vector_of_zeros_is_near_none() -> None:
    rule = dedup.embedding(lambda texts: np.zeros((len(texts), 3)))
    assert list(rule(prompts("a", "b"))) == [None, None]
