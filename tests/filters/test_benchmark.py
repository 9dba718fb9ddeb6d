"""The benchmark of the filters works, in little; its figures come from `python -m benchmarks.filters`."""

from __future__ import annotations

import pytest

pytest.importorskip("rouge_score", reason="needs rouge-score: pip install 'synthkd[dev]'")
pytest.importorskip("rensa", reason="needs rensa: pip install 'synthkd[filters]'")


def test_the_figures_of_a_small_run_are_right() -> None:
    bench = pytest.importorskip("benchmarks.filters", reason="the benchmarks are not in the wheel")
    novelty = bench.novelty_figures(200)
    assert novelty["verdicts_that_agree"] == novelty["verdicts_compared"] == 40
    minhash = bench.minhash_figures(500)
    assert minhash["true_duplicates_in_sample"] > 20
    assert minhash["recall"] == minhash["precision"] == 1.0
    assert "| novelty | times faster |" in bench.table({"novelty": novelty, "minhash": minhash})
