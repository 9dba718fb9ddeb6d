"""The generator of the tiny teacher's problems: what it promises, tried on thousands of them."""

import random

import pytest

from synthkd.teachers.tiny import corpus
from synthkd.teachers.tiny.problems import LARGEST, Problem, generate, read, split_of
from synthkd.teachers.tiny.stories import STORIES

SIGNS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


@pytest.fixture(scope="module")
def many() -> list[Problem]:
    return generate(4000, 3)


def test_no_question_stands_in_both_splits(many: list[Problem]) -> None:
    held_out = {problem.question for problem in generate(1000, 3, "test")}
    assert not held_out & {problem.question for problem in many}
    assert all(split_of(question) == "test" for question in held_out)
    assert all(split_of(problem.question) == "train" for problem in many)


def test_as_many_different_problems_come_as_were_asked_for(many: list[Problem]) -> None:
    assert len({problem.question for problem in many}) == 4000


def test_equal_seeds_give_equal_problems_and_others_do_not() -> None:
    assert generate(50, 7) == generate(50, 7)
    assert generate(50, 7) != generate(50, 8)


def test_every_step_is_true_and_the_last_one_is_the_answer(many: list[Problem]) -> None:
    for problem in many:
        for step in problem.steps:
            left, sign, right, _, result = step.split()
            if sign == "/":
                assert int(left) == int(right) * int(result)
            else:
                assert SIGNS[sign](int(left), int(right)) == int(result)
            assert 0 < int(result) <= LARGEST
        assert problem.steps[-1].endswith(f"= {problem.answer}")
        assert problem.solution.endswith(f". The answer is {problem.answer}.")


def test_every_problem_is_read_back_as_itself(many: list[Problem]) -> None:
    for problem in many:
        assert read(problem.question) == problem


def test_every_template_is_used_and_leaves_no_hole(many: list[Problem]) -> None:
    assert len({problem.question.split(maxsplit=1)[1][-25:] for problem in many}) >= len(STORIES) // 2
    assert not [problem.question for problem in many if set("{}[]|") & set(problem.question)]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is the capital of France?",
        "There are 5 figs in the jar. Tom eats 9 of them. How many figs are left?",
        "There are 9 figs in the jar. Tom eats 5 of them. How many buns are left?",
        "Tom has 9 pens. Tom gives him 5 more. How many pens does Tom have now?",
        "Anna has 9 pens. Tom gives him 5 more. How many pens does Anna have now?",
    ],
)
def test_what_is_not_a_sound_problem_is_not_read(question: str) -> None:
    assert read(question) is None


def test_a_wrong_answer_is_wrong_and_a_right_one_right(many: list[Problem]) -> None:
    rng = random.Random(0)
    for problem in many:
        answer, _, score = corpus.rated(problem, rng)
        says_it = answer == str(problem.answer) or answer.endswith(f"The answer is {problem.answer}.")
        assert says_it == (score > 1)
        assert corpus.corrupt(problem, rng, keep_answer=True).endswith(f"The answer is {problem.answer}.")


def test_every_conversation_ends_with_a_reply_that_is_not_empty() -> None:
    rng = random.Random(0)
    stock = iter(generate(3000, 5))
    for _ in range(500):
        talk = corpus.converse(rng, stock)
        assert talk[-1]["role"] == "assistant"
        assert talk[-1]["content"]
        assert talk[-2]["role"] == "user"
