"""Filters: verdicts on records that pay no teacher."""

from synthkd.filters.parts import By, Of
from synthkd.filters.rules import Filter, each, every, length, verify

__all__ = [
    "By",
    "Filter",
    "Of",
    "each",
    "every",
    "length",
    "verify",
]
