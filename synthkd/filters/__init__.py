"""Filters: verdicts on records that pay no teacher."""

from synthkd.filters.forms import formatted, numbers
from synthkd.filters.language import language
from synthkd.filters.parts import By, Of
from synthkd.filters.rules import Filter, each, every, length, verify
from synthkd.filters.wording import keywords, no_refusal, opening, repetition
from synthkd.filters.words import rouge_tokens, stemmed, words

__all__ = [
    "By",
    "Filter",
    "Of",
    "each",
    "every",
    "formatted",
    "keywords",
    "language",
    "length",
    "no_refusal",
    "numbers",
    "opening",
    "repetition",
    "rouge_tokens",
    "stemmed",
    "verify",
    "words",
]
