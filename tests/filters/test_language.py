"""Language: a text goes only where another language is sure."""

from __future__ import annotations

import sys

import pytest

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters import language
from synthkd.filters import language as language_rule
from synthkd.record import Instruction

pytest.importorskip("py3langid", reason="needs py3langid: pip install 'synthkd[filters]'")

ENGLISH = "Describe a time when you had to make a difficult decision."
GERMAN = "Beschreibe eine Situation, in der du eine schwierige Entscheidung treffen musstest."
CHINESE = "请解释量子力学的基本概念。"
CANTONESE = "你哋今晚去邊度食飯呀？"


def verdicts(rule: object, *texts: str) -> list[str | None]:
    return list(rule([Instruction(prompt=text) for text in texts]))  # type: ignore[operator]


def test_other_languages_are_dropped() -> None:
    wrong = "wrong language"
    assert verdicts(language("en", of="prompt"), ENGLISH, GERMAN, CHINESE) == [None, wrong, wrong]
    assert verdicts(language("de", "zh", of="prompt"), ENGLISH, GERMAN, CHINESE) == [wrong, None, None]


def test_chinese_takes_its_spoken_forms_along() -> None:
    assert verdicts(language("zh", of="prompt"), CANTONESE, "你好世界") == [None, None]


def test_what_says_nothing_about_its_language_stays() -> None:
    assert verdicts(language("en", of="prompt"), "", "42 + 17 = ?", "🙂🙂", "x = f(y)") == [None] * 4


def test_a_language_that_is_not_known_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"'english'\): not a language known here; expected of .*en, "):
        language("english")
    with pytest.raises(ConfigError, match="at least one language"):
        language()
    with pytest.raises(ConfigError, match="a probability"):
        language("en", sure=2)


def test_without_the_library_the_message_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["synthkd.filters.language"]
    module._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtra, match=r"pip install 'synthkd\[filters\]'"):
        language_rule("en")
