"""Who takes part in a dialogue: the only place that says what a speaker is shown, and asks for what it says.

Invariant: a speaker sees the conversation from its own side only: its own turns as the assistant's, the others' as the
user's, its own notes, and nothing that it is not to see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from pydantic import BaseModel, Field, JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, EmptyReply
from synthkd.message import Content, Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Record
from synthkd.request import Policy, Request, Sampling

OFFERED = ("name", "turn", "round", "memory", "heard", "transcript")
"""What a speaker's template may use beside what the record has."""


class Utterance(BaseModel):
    """A typed reply of a speaker. Fields that a subclass adds, such as a rating, are kept in `meta`."""

    text: str = Field(description="What is said.")
    end: bool = Field(description="Whether the conversation is over with this.")


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a conversation."""

    speaker: str
    text: str
    end: bool = False
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    """What a typed reply had beside text and end."""
    content: Content | None = None
    """Text and pictures, where a record's prompt has any."""


Transcript: TypeAlias = Sequence[Said]


@dataclass(frozen=True)
class Speaker:
    """One who takes part in a dialogue.

    Args:
        name: what the others and the transcript call it; a speaker may come twice in a dialogue with two prompts.
        prompt: its view: a `system` block for who it is, and a `user` block for what it is told before it speaks, which
            may render to nothing. Variables: what the record has, and `name`, `turn` (its own, from 1), `round` (from
            1), `memory` (its notes), `heard` (the last thing another one said that it sees), `transcript` (all that it
            sees: `speaker`, `text`). The reply is a text, or an `Utterance`.
        role: the teacher that plays it.
        sees: which turns it sees, of all so far, such as `lambda said: said[-4:]`; by default all.
        memory: what asks for its notes anew after each of its turns (variables `name`, `memory`, `transcript`); None:
            it keeps none.
        draws: replies that are drawn for each turn, of which `score` chooses.
        score: how good a reply is after what the speaker was shown, such as a reward model's score; greater is better.
    """

    name: str
    prompt: Prompt[Any]
    role: str = "teacher"
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    sees: Callable[[Transcript], Transcript] | None = None
    memory: Prompt[str] | None = None
    draws: int = 1
    score: Callable[[tuple[Message, ...], str], float] | None = None

    def __post_init__(self) -> None:
        if not self.name or self.draws < 1 or (self.draws > 1 and self.score is None):
            raise ConfigError(
                f"Speaker({self.name!r}, draws={self.draws}): expected a name, at least one draw, and a `score` "
                "to choose by where there are several"
            )
        if self.prompt.reply is not str and not issubclass(self.prompt.reply, Utterance):
            raise ConfigError(f"Speaker({self.name!r}): its prompt's reply must be str or an Utterance")

    def shown(self, record: Record, said: Transcript, memory: str, turn: int, round_: int) -> tuple[Message, ...]:
        """What it is asked with: system turn, the conversation from its side, and its cue."""
        visible = list(said if self.sees is None else self.sees(said))
        heard = next((one.text for one in reversed(visible) if one.speaker != self.name), "")
        request = self.prompt.fill(
            record,
            name=self.name,
            turn=turn,
            round=round_,
            memory=memory,
            heard=heard,
            transcript=_listed(visible),
        )
        cue = [message for message in request.messages if message.role != "system"]
        system = [message for message in request.messages if message.role == "system"]
        several = len({one.speaker for one in visible} - {self.name}) > 1
        return (*system, *alternating([*from_side(self.name, visible, several), *cue]))


async def speak(
    speaker: Speaker,
    record: Record,
    said: list[Said],
    notes: dict[str, str],
    place: tuple[int, int],
    system: tuple[Message, ...],
    ask: Ask,
) -> Said:
    """A speaker's turn, and its notes after it."""
    memory = notes.get(speaker.name, "")
    shown = _under(system, speaker.shown(record, tuple(said), memory, *place))
    request = Request(shown, speaker.prompt.reply, speaker.sampling, speaker.policy, speaker.prompt.label)
    value = await _drawn(speaker, request, ask)
    if isinstance(value, Utterance):
        more = value.model_dump(mode="json", exclude={"text", "end"})
        one = Said(speaker.name, value.text.strip(), value.end, more)
    else:
        one = Said(speaker.name, value)
    if not one.text and not one.end:
        raise EmptyReply(f"{speaker.name!r} said nothing")
    if speaker.memory is not None:
        turns = [*said, one]
        listed = _listed(turns if speaker.sees is None else speaker.sees(turns))
        asked = speaker.memory.fill(record, name=speaker.name, memory=memory, transcript=listed)
        notes[speaker.name] = await ask(asked, speaker.role)
    return one


async def _drawn(speaker: Speaker, request: Request[Any], ask: Ask) -> Any:
    """A reply, or the best of several; the choice is remembered, for a score may differ from time to time."""
    if speaker.draws == 1:
        return await ask(request, speaker.role)
    assert speaker.score is not None
    score = speaker.score
    replies = await ask.many(request, speaker.draws, speaker.role)
    texts = [reply.value.text if isinstance(reply.value, Utterance) else reply.value for reply in replies]

    async def choose() -> JsonValue:
        scores = [await asyncio.to_thread(score, request.messages, text) for text in texts]
        return max(range(len(texts)), key=scores.__getitem__)

    best = await ask.effect("choose", {"speaker": speaker.name, "texts": texts}, choose)
    return replies[cast(int, best)].value


def _listed(said: Transcript) -> list[dict[str, str]]:
    return [{"speaker": one.speaker, "text": one.text} for one in said]


def from_side(name: str, said: Transcript, several: bool) -> list[Message]:
    """The turns as one speaker sees them; the others have their names before what they say, if they are several."""
    turns = []
    for one in said:
        mine = one.speaker == name
        content: Content = one.text if one.content is None else one.content
        if several and not mine:
            content = f"{one.speaker}: {content}" if isinstance(content, str) else (f"{one.speaker}: ", *content)
        turns.append(Message("assistant" if mine else "user", content))
    return turns


def alternating(turns: Sequence[Message]) -> list[Message]:
    """Turns of one side in a row as one, for many chat templates refuse them."""
    found: list[Message] = []
    for turn in turns:
        if found and found[-1].role == turn.role:
            found[-1] = Message(turn.role, _joined(found[-1].content, turn.content))
        else:
            found.append(turn)
    return found


def _joined(first: Content, second: Content) -> Content:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    parts: list[tuple[str | Image, ...]] = [(one,) if isinstance(one, str) else one for one in (first, second)]
    return (*parts[0], "\n\n", *parts[1])


def _under(system: tuple[Message, ...], shown: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a speaker is shown, with the record's own system turn in front."""
    if not system:
        return shown
    first = [*system, *(message for message in shown if message.role == "system")]
    text = "\n\n".join(message.text for message in first)
    return (Message("system", text), *(message for message in shown if message.role != "system"))
