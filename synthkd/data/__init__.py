"""The edge to files and Hugging Face datasets: the only place where rows come in and go out.

Importing it loads no heavy library; `datasets` and `pyarrow` are imported by the calls that need them.
"""

from synthkd.data.columns import Provenance, row
from synthkd.data.reading import Records, read
from synthkd.data.saving import to_dataset, write

__all__ = ["Provenance", "Records", "read", "row", "to_dataset", "write"]
