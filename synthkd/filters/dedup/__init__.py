"""Deduplication: filters that keep the first of records that say the same, or a spread-out few of them."""

from synthkd.filters.dedup.alike import clusters, exact
from synthkd.filters.dedup.minhash import minhash
from synthkd.filters.dedup.vectors import embedding, k_center

__all__ = ["clusters", "embedding", "exact", "k_center", "minhash"]
