"""What strategies begin with: records drawn from pools of names, and spans cut from documents. No teacher is asked."""

from synthkd.seeds.pools import Seed, pool
from synthkd.seeds.spans import chunks, snippets

__all__ = ["Seed", "chunks", "pool", "snippets"]
