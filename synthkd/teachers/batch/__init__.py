"""Provider batch APIs: requests gathered into files, submitted, polled, and joined again by id, at half the price."""

from __future__ import annotations

from synthkd.teachers.batch.options import Batch, Progress
from synthkd.teachers.batch.sender import PRICE_FACTOR, Batches

__all__ = ["PRICE_FACTOR", "Batch", "Batches", "Progress"]
