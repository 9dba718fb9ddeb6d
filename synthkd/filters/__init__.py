"""Filters: verdicts on records that pay no teacher."""

from synthkd.filters import dedup
from synthkd.filters.contamination import decontaminate
from synthkd.filters.forms import formatted, numbers
from synthkd.filters.language import language
from synthkd.filters.parts import By, Of
from synthkd.filters.pool import Near, Pool, novelty
from synthkd.filters.programs import programs
from synthkd.filters.quotas import balance, first, quota
from synthkd.filters.rouge import rouge_l
from synthkd.filters.rules import Filter, each, every, length, verify
from synthkd.filters.scores import agreement, margin, score
from synthkd.filters.wording import keywords, no_refusal, opening, repetition
from synthkd.filters.words import rouge_tokens, stemmed, words

__all__ = [
    "By",
    "Filter",
    "Near",
    "Of",
    "Pool",
    "agreement",
    "balance",
    "decontaminate",
    "dedup",
    "each",
    "every",
    "first",
    "formatted",
    "keywords",
    "language",
    "length",
    "margin",
    "no_refusal",
    "novelty",
    "numbers",
    "opening",
    "programs",
    "quota",
    "repetition",
    "rouge_l",
    "rouge_tokens",
    "score",
    "stemmed",
    "verify",
    "words",
]
