"""Words: the only place where filters cut a text into words, or smooth it before texts are compared.

Invariant: every script gives words. Scripts that write no spaces (Chinese, Japanese, Thai, ...) give one a character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts that write no spaces between words, as a regular expression's character ranges."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_SPACED_LETTER = re.compile(rf"[^\W{UNSPACED}]")
_LATIN = re.compile(r"[a-z0-9]+")

Tokens = Callable[[str], list[str]]
"""What cuts a text into tokens."""


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; compatible forms of a character (full width, ligatures) are one."""
    return _WORD.findall(text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold())


def smoothed(text: str) -> str:
    """The text without differences of letter case, white space and compatible characters."""
    return " ".join((text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()).split())


def rouge_tokens(text: str) -> list[str]:
    """Tokens as the `rouge_score` package cuts them: lower-case runs of a to z and 0 to 9; other letters are lost."""
    return _LATIN.findall(text.lower())


def stemmed(stem: Callable[[str], str]) -> Tokens:
    """`rouge_tokens` with the longer words stemmed, as `rouge_score` does with `use_stemmer=True`.

    Args:
        stem: Such as `nltk.stem.porter.PorterStemmer().stem`, which is what `rouge_score` uses.
    """

    def tokens(text: str) -> list[str]:
        cut = (stem(token) if len(token) > 3 else token for token in rouge_tokens(text))
        return [token for token in cut if _LATIN.fullmatch(token)]

    return tokens


def any_of(keywords: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of some keywords as whole words, whatever their case and the space between them."""
    return re.compile("|".join(_whole(keyword) for keyword in keywords), re.IGNORECASE)


def _whole(keyword: str) -> str:
    parts = unicodedata.normalize("NFC", keyword).split()
    bound = rf"[^\W{UNSPACED}]"
    before = rf"(?<!{bound})" if _SPACED_LETTER.match(parts[0][0]) else ""
    after = rf"(?!{bound})" if _SPACED_LETTER.match(parts[-1][-1]) else ""
    return before + r"\s{1,8}".join(re.escape(part) for part in parts) + after
