"""Filters: verdicts on records that pay no teacher."""

from synthkd.filters.rules import Filter, each, length, verify

__all__ = ["Filter", "each", "length", "verify"]
