"""Final answers: found in texts, compared as numbers, words and expressions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkd.errors import MissingExtra
from synthkd.verify import exact, final_answer, marked_answer, matches, symbolic
from synthkd.verify.answers import number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so it is \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"first \boxed{3}, no: \boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("6*12 = <<6*12=72>>72\n#### 72", "72"),
        ("The answer is 3.5. That took long.", "3.5"),
        ("the answer to the question is **5.**", "5"),
        ("The answer is that Natalia sold 72 clips.", "72"),
        ("The answer is 42 because 6*7", "42"),
        (r"The answer is \(\frac{3}{4}\), about 1.", r"\frac{3}{4}"),
        ("The answer is $5 and not $6", "$5 and not $6"),
        ("**Final Answer**: $x=5$.", "x=5"),
        ("**Answer:** (B)", "(B)"),
        ("Answer:\n$$\n42\n$$", "42"),
        ('{"thought": "6 by 7", "answer": "42 km"}', "42 km"),
        ('{"answer": 12, "certain": true}', "12"),
        ("#### Step 2: add\nso there are 8 of them", "8"),
        ("it costs $1,234.50.", "$1,234.50"),
        ("between 3 and -5", "-5"),
        ("10-5", "5"),
        ("1,2,3", "3"),
        ("about 3/4", "3/4"),
        ("答案是5", "5"),
        (r"\boxed{5", "5"),
    ],
)
def test_the_final_answer_is_the_last_one_that_is_marked_or_else_the_last_number(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("text", ["", "no idea", "What is the answer?", "The answer is: ", r"\boxed{}"])
def test_a_text_without_an_answer_has_none(text: str) -> None:
    assert final_answer(text) is None


def test_a_lone_number_is_not_a_marked_answer() -> None:
    assert marked_answer("she was born in 1990") is None


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1,000", "1000"),
        ("$18.00", "18"),
        ("50%", "50"),
        (r"\$18", "18"),
        ("12 apples", "12"),
        (r"5\text{ cm}", "5 cm"),
        (r"90^\circ", "90"),
        ("1/2", "0.5"),
        (r"\frac12", r"\frac{1}{2}"),
        ("−5", "-5"),
        ("New  York", "new york"),
        ("(B)", "B"),
        (r"\boxed{7.0}", "7"),
        (r"$\fbox{\text{New York}}$", "new york"),
        (r"\text{Tuesday}", "tuesday"),
    ],
)
def test_spelling_makes_no_difference(answer: str, gold: str) -> None:
    assert exact(answer, gold)
    assert exact(gold, answer)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("5", "6"), ("5 million", "5"), ("2x", "2"), ("5 or 6", "5"), ("3 pi", "3"), ("1,2", "12"), ("", "0"), ("A", "B")],
)
def test_what_differs_is_different(answer: str, gold: str) -> None:
    assert not exact(answer, gold)
    assert not exact(gold, answer)


@given(st.text())
def test_every_text_is_answered_without_an_error_and_equals_itself(text: str) -> None:
    found = final_answer(text)
    assert found is None or found.strip()
    assert exact(text, text)


@given(st.text(alphabet="0123456789.,$%/\\{}()boxedanswer is:#\n \"'*", max_size=60))
def test_an_answer_once_found_is_stable(text: str) -> None:
    found = final_answer(text)
    if found is not None:
        assert matches(found, found)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "{}.0", "{:,}.00", "${}", "{} apples", "**{}**"]))
def test_a_number_is_found_and_equal_however_it_is_written(value: int, form: str) -> None:
    written = form.format(value)
    assert number(written) == value
    for text in (
        f"The answer is {written}.",
        f"so\n#### {written}",
        rf"thus \boxed{{{written}}}",
        f"Answer: {written}",
    ):
        found = final_answer(text)
        assert found is not None
        assert exact(found, str(value)), (text, found)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_fractions_are_equal_exactly_where_their_values_are(a: Fraction, b: Fraction) -> None:
    assert exact(f"{a.numerator}/{a.denominator}", f"{b.numerator * 3}/{b.denominator * 3}") == (a == b)


@given(st.text(), st.text())
def test_equality_goes_both_ways(a: str, b: str) -> None:
    assert exact(a, b) == exact(b, a)


@pytest.mark.parametrize("unit", ["answer is ", "\\boxed{", '"answer":"', "$", "answer to ", "#### ", "1,", "*", "{"])
def test_a_hostile_text_takes_no_time(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    began = time.perf_counter()
    final_answer(text)
    exact(text, text + "1")
    assert time.perf_counter() - began < 1


class TestExpressions:
    @pytest.fixture(autouse=True)
    def _math_verify(self) -> None:
        pytest.importorskip("math_verify", reason="needs math-verify: pip install 'synthkd[eval]'")

    @pytest.mark.parametrize(
        ("answer", "gold"),
        [
            (r"\frac{x}{2}", "x/2"),
            ("x^2 + 1", "1 + x**2"),
            ("sqrt(2)", r"\sqrt{2}"),
            ("2*pi", r"2\pi"),
            ("x=5", "5"),
            ("0.333333", "1/3"),
            ("50%", "0.5"),
            (r"\{1,2\}", r"\{2,1\}"),
        ],
    )
    def test_equal_expressions_match(self, answer: str, gold: str) -> None:
        assert matches(answer, gold)

    @pytest.mark.parametrize(("answer", "gold"), [("2x", "2"), ("x+1", "x-1"), ("1/3", "0.34"), ("(1, 2)", "(2, 1)")])
    def test_other_expressions_do_not(self, answer: str, gold: str) -> None:
        assert not matches(answer, gold)

    def test_words_are_no_products_of_letters(self) -> None:
        assert not matches("evil", "live")
        assert not matches("it is evil = 1", "it is live = 1")

    def test_they_match_in_any_thread(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda i: matches(f"x+{i}", f"{i}+x"), range(16)))

    def test_one_that_takes_too_long_is_wrong_and_does_the_next_no_harm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(symbolic, "_SECONDS", 0.3)
        began = time.perf_counter()
        assert not matches("9^{9^{9^{9}}}", "7^{7^{7^{7}}}")
        assert time.perf_counter() - began < 5
        monkeypatch.undo()
        assert matches("x+1", "1+x")

    def test_a_script_ends_cleanly_after_it_has_asked(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"  # without an `if __name__` guard, which multiprocessing would need
        script.write_text("from synthkd.verify import matches\nprint(matches('x+1', '1+x'))\n")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert (done.stdout, done.stderr) == ("True\n", "")


def test_without_math_verify_only_what_needs_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "find_spec", lambda name: None)
    symbolic._worker.stop()
    assert matches("72", "72.0")
    assert not matches("72", "73")
    with pytest.raises(MissingExtra, match=r"synthkd\[eval\]"):
        matches("x+1", "1+x")


def test_every_answer_of_gsm8k_is_found_and_equals_itself() -> None:
    folder = os.environ.get("SYNTHKD_DATA")
    if folder is None:
        pytest.skip("SYNTHKD_DATA does not name a folder with gsm8k_train.jsonl")
    lines = (Path(folder) / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["answer"] for line in lines]
    golds = [text.rsplit("####", 1)[1].strip() for text in texts]
    wrong = [g for text, g in zip(texts, golds, strict=True) if not matches(final_answer(text) or "", g)]
    assert (len(texts), wrong) == (7473, [])
