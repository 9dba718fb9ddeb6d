"""What strategies are given in tests: a record of each kind, made of a text and a number."""

from __future__ import annotations

from typing import Any

from synthkd.message import Message
from synthkd.record import (
    Candidates,
    Demonstration,
    Document,
    Instruction,
    Labelled,
    Preference,
    Ranking,
    Record,
)
from synthkd.strategies import Examples


def ordinary(number: int) -> str:
    return f"Text {number}: the quay is old, and the answer is 7."


def prompt_of(text: str, number: int) -> str | tuple[Message, ...]:
    """A text, or a conversation that ends with it."""
    if number % 2 == 0:
        return text
    earlier = Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Good day.")
    return (*earlier, Message("user", text))


META: dict[str, Any] = {"answer": "7", "kind": "open", "hint": "Count them.", "part": 0.5}


def instruction(text: str, number: int) -> Record:
    return Instruction(prompt=prompt_of(text, number), meta=META)


def demonstration(text: str, number: int) -> Record:
    shown = {"reasoning": f"so {text}", "meta": {**META, "feedback": "Too long."}}
    return Demonstration(prompt=prompt_of(text, number), completion=f"{text} It is 7.", **shown)


def candidates(text: str, number: int) -> Record:
    texts = (f"{text} The answer is 7.", text or " ", "The answer is 8.", "7", "The answer is 8.")
    return Candidates(prompt=prompt_of(text, number), completions=texts, meta=META)


def preference(text: str, number: int) -> Record:
    return Preference(prompt=prompt_of(text, number), chosen=text, rejected="x", meta=META)


def ranking(text: str, number: int) -> Record:
    texts = f"{text}!", text, "x"
    return Ranking(prompt=prompt_of(text, number), completions=texts, scores=(3.0, 2.0, 0.5), meta=META)


def document(text: str, number: int) -> Record:
    return Document(
        text=text, title=text[:20] if number % 2 else None, meta={"documents": [text], "instruction": "Why?"}
    )


def labelled(text: str, number: int) -> Record:
    return Labelled(text=text, label="good", text_pair=text if number % 2 else None, meta={"kind": "open"})


def topic(text: str, number: int) -> Record:
    parameters = {"type": "object", "properties": {"word": {"type": "string"}}}
    tool = {"name": "look_up", "description": text, "parameters": parameters}
    more = {"name": "pier", "label": "good", "subject": text, "instruction": text, "n": number}
    return Record(meta={"topic": text, "tool": tool, **more})


def examples(text: str, number: int) -> Record:
    return Examples(instructions=(text, "Name a pier."), completions=(text, "Brighton's.") if number % 2 else ())
