"""synthkd: black-box distillation of large language models, from seeds to a measured student.

The public names, loaded when they are first used, so that `import synthkd` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthkd.ask import Ask, Strategy
    from synthkd.message import Image, Message
    from synthkd.prices import Price
    from synthkd.prompt import Prompt
    from synthkd.record import (
        Candidates,
        Conversation,
        Demonstration,
        Distribution,
        Document,
        Instruction,
        Labelled,
        Preference,
        Ranking,
        Rated,
        Record,
        Steps,
    )
    from synthkd.request import Completion, Policy, Request, Sampling, Teacher
    from synthkd.run import Run
    from synthkd.stage import Stage

_HOMES = {
    "Ask": "ask",
    "Candidates": "record",
    "Completion": "request",
    "Conversation": "record",
    "Demonstration": "record",
    "Distribution": "record",
    "Document": "record",
    "Image": "message",
    "Instruction": "record",
    "Labelled": "record",
    "Message": "message",
    "Policy": "request",
    "Preference": "record",
    "Price": "prices",
    "Prompt": "prompt",
    "Ranking": "record",
    "Rated": "record",
    "Record": "record",
    "Request": "request",
    "Run": "run",
    "Sampling": "request",
    "Stage": "stage",
    "Steps": "record",
    "Strategy": "ask",
    "Teacher": "request",
}
_MODULES = (
    "data",
    "errors",
    "evaluation",
    "filters",
    "human",
    "retrieval",
    "scoring",
    "seeds",
    "strategies",
    "teachers",
    "testing",
    "tools",
    "training",
    "verify",
)

__all__ = [
    "Ask",
    "Candidates",
    "Completion",
    "Conversation",
    "Demonstration",
    "Distribution",
    "Document",
    "Image",
    "Instruction",
    "Labelled",
    "Message",
    "Policy",
    "Preference",
    "Price",
    "Prompt",
    "Ranking",
    "Rated",
    "Record",
    "Request",
    "Run",
    "Sampling",
    "Stage",
    "Steps",
    "Strategy",
    "Teacher",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"synthkd.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"synthkd.{name}")
    raise AttributeError(f"module 'synthkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
