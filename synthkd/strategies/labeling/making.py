"""What labeling gives: the only place that makes demonstrations and candidates of a record.

Invariant: what the teacher was shown and the student is not (`privileged_context`) stays with what came of it.
"""

from __future__ import annotations

from typing import Any

from synthkd.record import Demonstration, Prompted

CONTEXT = "privileged_context"
"""TRL's column. Kinds of record without this field have it in `meta`."""


def demonstration(record: Prompted, completion: str, reasoning: str | None, **more: Any) -> Demonstration:
    """A demonstration of a record's prompt; a privileged context in the record's `meta` becomes the field."""
    meta = record.carried()
    shown = meta.pop(CONTEXT, None)
    return Demonstration(
        parents=(record.id,),
        prompt=record.prompt,
        completion=completion,
        reasoning=reasoning or None,
        privileged_context=shown if isinstance(shown, str) else None,
        meta=meta,
        **more,
    )
