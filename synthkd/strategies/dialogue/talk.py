"""Conversations of several speakers: the only place that says whose turn it is, when it ends, and what is learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Conversation, Prompted, Record
from synthkd.strategies.dialogue.speaker import OFFERED, Said, Speaker, Transcript, alternating, from_side, speak


def _user() -> Speaker:
    return Speaker("user", Prompt("dialogue/user", str))


def _assistant() -> Speaker:
    return Speaker("assistant", Prompt("dialogue/assistant", str))


@dataclass(frozen=True)
class Dialogue:
    """Speakers take turns until a rule, a marker or the number of rounds ends it; the target's turns are learnt.

    In the conversation the target's turns are the assistant's and all others' the user's (turns of several others in
    a row become one, with their names before them). It begins with a user turn and ends with the last turn of the
    target; what comes before and after is left out. A system turn of the record's prompt stays, and the target sees it.

    Args:
        speakers: in the order in which they speak in each round.
        rounds: most rounds, the one that `opens` begins included.
        stop: ends it early: a text that a speaker writes (and which is taken out), or a function of the turns so far.
        target: the name of the speaker whose turns the student learns.
        opens: who is taken to have said the record's prompt, as the first turn; None: the prompt is no turn, only
            what the templates may use, and records of any kind will do.
        closing: one who speaks once after the end. Then only its turn is learnt, as the answer to the record's
            prompt, and `meta["transcript"]` keeps the dialogue.
        least: turns of the target without which the record is rejected (`too short`).

    Reference: Ding et al. 2023, UltraChat, arXiv:2305.14233; Xu et al. 2023, Baize, arXiv:2304.01196; Li et al. 2024,
        DEBATunE, arXiv:2402.10614; Liu et al. 2023, SANDBOX, arXiv:2305.16960.
    """

    speakers: tuple[Speaker, ...] = field(default_factory=lambda: (_user(), _assistant()))
    rounds: int = 3
    stop: str | Callable[[Transcript], bool] | None = "[END]"
    target: str = "assistant"
    opens: str | None = "user"
    closing: Speaker | None = None
    least: int = 1

    def __post_init__(self) -> None:
        names = [speaker.name for speaker in self.speakers]
        if len(set(names)) < 2:
            raise ConfigError(f"Dialogue(speakers={names}): expected at least two, with names of their own")
        if self.closing is None and self.target not in names:
            raise ConfigError(f"Dialogue(target={self.target!r}): there is no such speaker; there are {names}")
        if self.opens is not None and self.opens not in names:
            raise ConfigError(f"Dialogue(opens={self.opens!r}): there is no such speaker; there are {names}")
        if self.opens is not None and self.opens == self.target and self.closing is None:
            raise ConfigError(f"Dialogue: {self.opens!r} opens and is the target; the record's prompt is the student's")
        if self.rounds < 1 or self.least < 1 or self.stop == "":
            raise ConfigError(
                f"Dialogue(rounds={self.rounds}, least={self.least}, stop={self.stop!r}): at least 1 each"
            )

    def check(self, record: Record) -> None:
        """Refuse templates that want what neither the record nor this strategy has."""
        for speaker in (*self.speakers, *([self.closing] if self.closing else [])):
            speaker.prompt.check(record, *OFFERED)
            if speaker.memory is not None:
                speaker.memory.check(record, "name", "memory", "transcript")
        if (self.opens is not None or self.closing is not None) and not isinstance(record, Prompted):
            raise ConfigError(
                f"a {type(record).__name__} has no prompt to open with or to answer: use Dialogue(opens=None) without "
                "`closing`, and let the templates use the record's fields"
            )

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Conversation]:
        said = self._opening(record)
        notes: dict[str, str] = {}
        own = {speaker.name: sum(one.speaker == speaker.name for one in said) for speaker in self.speakers}
        for number, speaker in self._order():
            own[speaker.name] += 1
            system = self._system(record) if speaker.name == self.target else ()
            one = await speak(speaker, record, said, notes, (own[speaker.name], number), system, ask)
            text, marked = self._unmarked(one.text)
            if text:
                said.append(Said(one.speaker, text, one.end, one.fields))
            if marked or one.end or (callable(self.stop) and self.stop(tuple(said))):
                break
        if self.closing is not None:
            return [await self._closed(self.closing, record, said, notes, ask)]
        return [self._conversation(record, said)]

    def _order(self) -> list[tuple[int, Speaker]]:
        """Round and speaker of each turn; the first round goes on behind the one who has opened."""
        every = [(number, speaker) for number in range(1, self.rounds + 1) for speaker in self.speakers]
        if self.opens is None:
            return every
        return every[next(i for i, (_, speaker) in enumerate(every) if speaker.name == self.opens) + 1 :]

    def _opening(self, record: Record) -> list[Said]:
        """The record's prompt as turns."""
        if self.opens is None or not isinstance(record, Prompted):
            return []
        turns = [message for message in record.messages if message.role in ("user", "assistant")]
        return [
            Said(self.opens if turn.role == "user" else self.target, turn.text, content=turn.content) for turn in turns
        ]

    def _system(self, record: Record) -> tuple[Message, ...]:
        if not isinstance(record, Prompted):
            return ()
        return tuple(message for message in record.messages if message.role == "system")

    def _unmarked(self, text: str) -> tuple[str, bool]:
        if not isinstance(self.stop, str) or self.stop not in text:
            return text.strip(), False
        return text.partition(self.stop)[0].strip(), True

    def _conversation(self, record: Record, said: list[Said]) -> Conversation:
        places = [place for place, one in enumerate(said) if one.speaker == self.target]
        spoken = len(places) - sum(one.speaker == self.target for one in self._opening(record))
        if spoken < self.least:
            raise RecordError(
                f"{self.target!r} has spoken {spoken} times, wanted {self.least}; {len(said)} turns in all",
                reason="too short",
            )
        kept = said[: places[-1] + 1]
        while kept and kept[0].speaker == self.target:
            kept.pop(0)
        if not kept:
            raise RecordError(f"nobody spoke before {self.target!r}, so there is nothing to answer", reason="too short")
        several = len({one.speaker for one in kept} - {self.target}) > 1
        turns = alternating(from_side(self.target, kept, several))
        meta = _meta(record)
        if any(one.fields for one in said):
            meta["turns"] = cast(JsonValue, [{"speaker": one.speaker, **one.fields} for one in said])
        return Conversation(parents=(record.id,), messages=(*self._system(record), *turns), meta=meta)

    async def _closed(
        self, closing: Speaker, record: Record, said: list[Said], notes: dict[str, str], ask: Ask
    ) -> Conversation:
        assert isinstance(record, Prompted)
        turn = 1 + sum(one.speaker == closing.name for one in said)
        last = await speak(closing, record, said, notes, (turn, self.rounds + 1), self._system(record), ask)
        transcript = [{"speaker": one.speaker, "text": one.text, **one.fields} for one in said]
        meta = _meta(record) | {**last.fields, "transcript": cast(JsonValue, transcript)}
        messages = (*record.messages, Message("assistant", last.text))
        return Conversation(parents=(record.id,), messages=messages, meta=meta)


def _meta(record: Record) -> dict[str, JsonValue]:
    return record.carried() if isinstance(record, Prompted) else dict(record.meta)
