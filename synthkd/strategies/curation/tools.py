"""Instructions for tools: the only place where a tool's specification becomes requests that need it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import ConfigError, RecordError
from synthkd.prompt import Prompt
from synthkd.record import Instruction, Record
from synthkd.request import Policy, Sampling
from synthkd.strategies.listing import at_least_one, folded, fresh

_WORD = re.compile(r"[a-z]+")
"""A tool's name that is a plain word may stand in any request."""
_FORM = 'a function such as {"name": "weather", "description": "...", "parameters": {"type": "object", ...}}'


class ToolRequest(BaseModel):
    """A request, and the call that meets it."""

    instruction: str = Field(description="What the user says.")
    tool: str = Field(description="The name of the tool that is called.")
    arguments: str = Field(description="The arguments of the call, as a JSON object.")


class ToolRequests(BaseModel):
    """The typed reply of `FromTools`."""

    items: list[ToolRequest] = Field(min_length=1, description="The requests.")


@dataclass(frozen=True)
class FromTools:
    """Instructions that need a tool, from any record that offers `tools` or one `tool`, as `pool(tool=[...])` gives.

    A tool is a JSON schema in OpenAI's form, or the function within it. `meta` has `tools` (in OpenAI's form) and the
    `call` that meets the instruction (name and arguments), which is no part of what a student sees. Dropped is what
    names its tool, calls one that is not there, or has arguments that the tool does not take or lacks one it requires.

    Args:
        n: instructions for each record.

    Reference: Patil et al. 2023, Gorilla, arXiv:2305.15334; Yang et al. 2023, GPT4Tools, arXiv:2305.18752.
    """

    n: int = 10
    prompt: Prompt[ToolRequests] = field(default_factory=lambda: Prompt("curation/from_tools", ToolRequests))
    sampling: Sampling = Sampling(temperature=0.7)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Record) -> None:
        """Refuse a template that wants what neither the record nor this strategy has, and a record without tools.

        Raises:
            ConfigError: it offers no tools, or something that is none.
        """
        try:
            _tools(record)
        except RecordError as error:
            raise ConfigError(f"FromTools(): {error}") from None
        self.prompt.check(record, "tools", "n")

    async def __call__(self, record: Record, ask: Ask) -> Sequence[Instruction]:
        tools = _tools(record)
        texts = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, tools=texts, n=self.n)
        known = {tool["function"]["name"]: tool["function"] for tool in tools}
        met: list[tuple[str, tuple[str, dict[str, Any]]]] = []
        for item in (await ask(request, self.role)).items:
            call = _call(item, known)
            if isinstance(call, str):
                ask.dropped[call] += 1
            else:
                met.append((item.instruction, (item.instruction.strip(), call)))
        found = fresh(met, ask, n=self.n, reason="no tool request")
        carried = {name: value for name, value in record.carried().items() if name not in ("tool", "tools")}
        return [
            Instruction(parents=(record.id,), prompt=text, meta={**carried, "tools": tools, "call": call})
            for text, call in found
        ]


def _tools(record: Record) -> list[dict[str, Any]]:
    """The record's tools in OpenAI's form.

    Raises:
        RecordError: it offers none, or something else under that name.
    """
    known = record.variables()
    given = known.get("tools") or ([known["tool"]] if known.get("tool") else [])
    if not isinstance(given, list | tuple) or not given:
        raise RecordError(f"the record offers no `tools` and no `tool`; expected {_FORM}", reason="no tools")
    found = []
    for tool in given:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RecordError(f"{str(tool)[:80]!r} is no tool; expected {_FORM}", reason="unreadable tool")
        found.append({"type": "function", "function": dict(function)})
    return found


def _call(item: ToolRequest, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | str:
    """The call of a request, or what is wrong with it."""
    if not item.instruction.strip():
        return "blank entry"
    if item.tool not in known:
        return "unknown tool"
    if not _WORD.fullmatch(item.tool) and folded(item.tool) in folded(item.instruction):
        return "names its tool"
    try:
        arguments = json.loads(item.arguments)
    except ValueError:
        return "unreadable arguments"
    parameters = known[item.tool].get("parameters")
    if not isinstance(parameters, Mapping):
        parameters = {}
    taken, required = parameters.get("properties"), parameters.get("required") or ()
    if not isinstance(arguments, dict) or any(name not in arguments for name in required):
        return "wrong arguments"
    if (
        isinstance(taken, Mapping)
        and parameters.get("additionalProperties") is not True
        and arguments.keys() - taken.keys()
    ):
        return "wrong arguments"
    return {"name": item.tool, "arguments": arguments}
