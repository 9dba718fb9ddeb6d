"""Wording: keywords, refusals, repetition and openings."""

from __future__ import annotations

import re

import pytest

from synthkd.errors import ConfigError
from synthkd.filters import keywords, no_refusal, opening, repetition, words
from synthkd.record import Candidates, Demonstration, Instruction, Preference


def answers(*texts: str) -> list[Demonstration]:
    return [Demonstration(prompt="p", completion=text) for text in texts]


def test_a_forbidden_keyword_is_a_whole_word_of_any_letter_case() -> None:
    rule = keywords(forbid=["image", "go to"])
    texts = ("An IMAGE of it", "imagery and images", "Go\n to the shop", "cargo town", "pre-image")
    forbidden = "forbidden keyword"
    assert list(rule(answers(*texts))) == [forbidden, None, forbidden, None, forbidden]


def test_each_needed_keyword_must_be_there() -> None:
    rule = keywords(need=["because", re.compile(r"\d")])
    assert list(rule(answers("Because of 3", "because", "3"))) == [None, "missing keyword", "missing keyword"]


def test_keywords_in_scripts_without_spaces_are_found_anywhere() -> None:
    rule = keywords(forbid=["图片", "Python"])
    assert list(rule(answers("请看这张图片。", "用Python写", "pythonic"))) == ["forbidden keyword"] * 2 + [None]


def test_keywords_find_an_accent_however_it_is_encoded() -> None:
    assert list(keywords(forbid=["café"])(answers("a cafe\u0301!"))) == ["forbidden keyword"]


def test_keywords_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs keywords"):
        keywords()
    with pytest.raises(ConfigError, match="are lists of keywords"):
        keywords(forbid="image")
    with pytest.raises(ConfigError, match="is empty"):
        keywords(need=[" "])


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with that request.",
        "Unfortunately, I am unable to provide medical advice.",
        "As an AI language model, I don't have feelings.",
        "I cannot provide instructions for that.",
        "Hello! I won't be able to do that, since I can't access the internet.",
        "I am just an AI and I do not have access to files.",
        "I must respectfully decline.",
        "That goes against my guidelines.",
        "<think>Should I? No.</think>\n\nSorry, I can't do this.",
        "抱歉，我无法回答这个问题。",
        "作为一个人工智能，我没有感情。",
        "我不能提供这些信息。",
    ],
)
def test_a_refusal_is_seen(text: str) -> None:
    assert list(no_refusal()(answers(text))) == ["refusal"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sorry for the delay! The answer is 42.",
        "You can't divide by zero, so there is no solution.",
        "I can help with that: first, open the file.",
        "The AI in the story says hello.",
        "Dear Anna,\nI am sorry to hear that you cannot come. See you next week!",
        "The answer is 4. " * 30 + "I'm sorry, but I can't help with that.",
        "我们可以这样做。",
    ],
)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert list(no_refusal()(answers(text))) == [None]


def test_further_phrases_count_as_refusals() -> None:
    rule = no_refusal(phrases=["je ne peux pas"])
    assert list(rule(answers("Désolé, je ne peux pas répondre.", "Je peux."))) == ["refusal", None]
    with pytest.raises(ConfigError, match="expected a list of phrases"):
        no_refusal(phrases="no")


def test_every_text_of_a_record_must_pass() -> None:
    rule = no_refusal()
    refused, given = "I'm sorry, but I can't.", "Yes."
    assert list(rule([Preference(prompt="p", chosen=given, rejected=refused)])) == ["refusal"]
    assert list(rule([Candidates(prompt="p", completions=(given, given))])) == [None]


def test_a_text_in_a_loop_repeats_itself() -> None:
    loop, prose = "the cat sat on the mat and " * 20, " ".join(f"word{number}" for number in range(200))
    assert list(repetition()(answers(loop, prose, "short", ""))) == ["repeats itself", None, None, None]
    assert list(repetition(ngram=4)(answers("我们一起去公园玩" * 10))) == ["repeats itself"]
    with pytest.raises(ConfigError, match="expected a share"):
        repetition(1.0)


def test_an_opening_is_judged_by_its_first_character() -> None:
    texts = ("Yes", "- item", "“quoted”", "  ", "Ärger", "写", "🙂 hi", "7 days")
    punctuation = "opens with punctuation"
    assert list(opening()(answers(*texts))) == [None, punctuation, punctuation, "empty", None, None, None, None]
    beyond = "opens outside ASCII"
    assert list(opening(ascii_only=True)(answers(*texts)))[4:] == [beyond, beyond, beyond, None]
    assert list(opening(of="prompt")([Instruction(prompt="* star")])) == [punctuation]


def test_words_of_every_script() -> None:
    assert words("Hello, WORLD! don't") == ["hello", "world", "don", "t"]
    assert words("用Python写ﬁ") == ["用", "python", "写", "fi"]
    assert words("שלום עולם 🙂") == ["שלום", "עולם"]
