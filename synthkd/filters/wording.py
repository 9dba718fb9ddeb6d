"""Wording: the only place that drops texts for the words in them.

Invariant: every pattern here takes time in proportion to the text, whatever the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError
from synthkd.filters.parts import Of, TextRule, checked_of
from synthkd.filters.words import any_of, words

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter

_OPENING = 300
"""Characters in which a refusal says that it is one."""
_UNABLE = (
    r"(?:can ?not|can't|could not|couldn't|(?:won't|will not)(?: be able to)?"
    r"|(?:am|'m) (?:not able|unable|not allowed|not permitted) to)"
)
_HELP = (
    r"(?:help|assist|comply|provide|answer|fulfil|fulfill|do that|do this|continue|create|generate|write|produce"
    r"|discuss|engage|share|offer|give|respond|support|participate|complete|process|perform|access|browse"
    r"|open|view|see|hear)"
)
_REFUSALS = (
    rf"\b(?:sorry|apologi[sz]e|apologies|unfortunately|regret|afraid)\b[^.!?\n]{{0,60}}?\bi {_UNABLE}\b",
    rf"\bi(?:'m| am) (?:very |so |truly )?(?:sorry|afraid)[,.]? (?:but )?(?:i {_UNABLE}|that's not something i)",
    rf"(?:^|[.!?\n] ?)i (?:really |simply |just )?{_UNABLE} (?:\w+ ){{0,2}}?{_HELP}\b",
    r"\bas an? (?:ai|artificial intelligence|(?:large )?(?:language|text)[- ](?:based )?(?:ai )?model)\b",
    r"\bi(?:'m| am) (?:just |only |merely )?an? (?:ai|(?:large )?language model)\b[^.!?\n]{0,60}?"
    r"\b(?:can ?not|can't|don't|do not|not able|unable)",
    r"\bi (?:must|have to|need to|will have to) (?:respectfully |politely )?(?:decline|refuse)\b",
    r"\b(?:against|violates?|goes against) my (?:programming|guidelines|polic(?:y|ies)|principles)\b",
    r"(?:抱歉|对不起|很遗憾|不好意思|對不起)[^。!?\n]{0,20}?(?:无法|不能|没办法|不便|不可以|無法|沒辦法)",
    r"(?:作为|身为|作為)(?:一个|一名|一个|一個)?(?:人工智能|ai|大?(?:型)?语言模型|語言模型)",
    r"(?:^|[。!?\n])我(?:无法|不能|無法)(?:提供|协助|帮助|回答|满足|完成|为您|为你|協助|幫助|滿足)",
)
_REFUSAL = re.compile("|".join(_REFUSALS))
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


def keywords(
    *,
    forbid: Sequence[str | re.Pattern[str]] = (),
    need: Sequence[str | re.Pattern[str]] = (),
    of: Of = "completion",
) -> Filter[Any]:
    """Drop a text with a "forbidden keyword", or with a "missing keyword".

    Args:
        forbid: None of these may stand in the text.
        need: Each of these must. A string is looked for as whole words, whatever its letter case (in scripts without
            spaces anywhere); a compiled pattern is searched as it is.
        of: Which text is judged; see `Of`.

    Raises:
        ConfigError: Neither is given, or a keyword is empty.
    """
    if isinstance(forbid, str) or isinstance(need, str):
        raise ConfigError("keywords(): forbid and need are lists of keywords; expected such as forbid=['image'].")
    if not forbid and not need:
        raise ConfigError("keywords() needs keywords: forbid=[...], need=[...] or both.")
    for keyword in (*forbid, *need):
        if isinstance(keyword, str) and not keyword.strip():
            raise ConfigError(f"keywords(): {keyword!r} is empty; expected a word, some words or a compiled pattern.")
    checked_of(of, "keywords")
    return _Keywords(of, tuple(forbid), tuple(need), _patterns(forbid), tuple(p for k in need for p in _patterns([k])))


def no_refusal(*, phrases: Iterable[str] = (), of: Of = "completion") -> Filter[Any]:
    """Drop a text that declines: a "refusal". It is looked for in the first 300 characters, in English and Chinese.

    Args:
        phrases: More phrases that count as a refusal, as whole words.
        of: Which text is judged, without a `<think>` block before it; see `Of`.
    """
    checked_of(of, "no_refusal")
    extra = tuple(phrases)
    if isinstance(phrases, str) or not all(phrase.strip() for phrase in extra):
        raise ConfigError(f"no_refusal(phrases={phrases!r}): expected a list of phrases, none of them empty.")
    return _NoRefusal(of, extra, any_of(extra) if extra else None)


def repetition(at_most: float = 0.2, *, ngram: int = 10, of: Of = "completion") -> Filter[Any]:
    """Drop a text that "repeats itself": too large a share of its n-grams of words stood in it before.

    Args:
        at_most: The largest share, 0 to 1, that is kept.
        ngram: Words in an n-gram; a shorter text stays.
        of: Which text is judged; see `Of`.

    Reference: Rae et al. 2021, Gopher (appendix A), arXiv:2112.11446.
    """
    if not 0 <= at_most < 1 or ngram < 1:
        raise ConfigError(
            f"repetition(at_most={at_most!r}, ngram={ngram!r}): expected a share of at least 0 and below 1, and ngram "
            "of at least 1."
        )
    checked_of(of, "repetition")
    return _Repetition(of, at_most, ngram)


def opening(*, ascii_only: bool = False, of: Of = "completion") -> Filter[Any]:
    """Drop a text that is "empty", or "opens with punctuation".

    Args:
        ascii_only: Also drop one that "opens outside ASCII", as Self-Instruct does.
        of: Which text is judged; see `Of`.
    """
    checked_of(of, "opening")
    return _Opening(of, ascii_only)


def _patterns(keywords: Sequence[str | re.Pattern[str]]) -> tuple[re.Pattern[str], ...]:
    plain = [keyword for keyword in keywords if isinstance(keyword, str)]
    own = tuple(keyword for keyword in keywords if isinstance(keyword, re.Pattern))
    return (any_of(plain), *own) if plain else own


@dataclass(frozen=True)
class _Keywords(TextRule):
    forbid: tuple[str | re.Pattern[str], ...]
    need: tuple[str | re.Pattern[str], ...]
    none_of: tuple[re.Pattern[str], ...]
    all_of: tuple[re.Pattern[str], ...]

    def __repr__(self) -> str:
        return f"_Keywords(of={self.of!r}, forbid={self.forbid!r}, need={self.need!r})"

    def _reason(self, text: str) -> str | None:
        text = unicodedata.normalize("NFC", text)
        if any(pattern.search(text) for pattern in self.none_of):
            return "forbidden keyword"
        return None if all(pattern.search(text) for pattern in self.all_of) else "missing keyword"


@dataclass(frozen=True)
class _NoRefusal(TextRule):
    phrases: tuple[str, ...]
    own: re.Pattern[str] | None

    def _reason(self, text: str) -> str | None:
        if thought := _THOUGHT.match(text):
            text = text[thought.end() :]
        start = text.lstrip()[:_OPENING].replace("’", "'").replace("！", "!").replace("？", "?").lower()
        lines = "\n".join(" ".join(line.split()) for line in start.splitlines())
        if _REFUSAL.search(lines) or (self.own and self.own.search(lines)):
            return "refusal"
        return None


@dataclass(frozen=True)
class _Repetition(TextRule):
    at_most: float
    ngram: int

    def _reason(self, text: str) -> str | None:
        cut = words(text)
        count = len(cut) - self.ngram + 1
        if count < 2:
            return None
        different = len({tuple(cut[begin : begin + self.ngram]) for begin in range(count)})
        return "repeats itself" if 1 - different / count > self.at_most else None


@dataclass(frozen=True)
class _Opening(TextRule):
    ascii_only: bool

    def _reason(self, text: str) -> str | None:
        first = text.lstrip()[:1]
        if not first:
            return "empty"
        if unicodedata.category(first)[0] == "P" or (first.isascii() and not first.isalnum()):
            return "opens with punctuation"
        return "opens outside ASCII" if self.ascii_only and not first.isascii() else None
