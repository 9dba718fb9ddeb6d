"""Tools that a model plays from their documentation: the only place that asks for a tool's result.

Invariant: its result is a completion like any other, in the journal under its own request; there is no second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, Field

from synthkd.errors import ConfigError
from synthkd.prompt import Prompt
from synthkd.request import Policy, Sampling
from synthkd.tools.course import Course
from synthkd.tools.tool import Outcome, Tool, Used, canonical


class Played(BaseModel):
    """The typed reply of a model that plays a tool."""

    explanation: str = Field(description="What the tool does with these arguments, by its documentation; one sentence.")
    failed: bool = Field(description="Whether the tool refuses the call, because of what the arguments say.")
    result: str = Field(description="What the tool gives back, and nothing else: JSON text, or an error's message.")


def _simulate() -> Prompt[Played]:
    return Prompt("acting/simulate", Played)


@dataclass(frozen=True)
class _PlayedTool(Tool):
    role: str = "teacher"
    prompt: Prompt[Played] = field(default_factory=_simulate)
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()

    async def use(self, arguments: Mapping[str, Any], course: Course, earlier: Sequence[Used] = ()) -> Outcome:
        if wrong := self.refusal(arguments):
            return wrong
        request = self.prompt.render(
            sampling=self.sampling,
            policy=self.policy,
            name=self.name,
            description=self.description,
            parameters=orjson.dumps(self.parameters).decode(),
            arguments=canonical(arguments),
            earlier=[{"tool": one.tool, "arguments": one.arguments, "result": one.outcome.text} for one in earlier],
        )
        reply = await course.ask(request, self.role)
        return Outcome(f"Error: {reply.result}" if reply.failed else reply.result, reply.failed)


def simulated(
    spec: Tool | Mapping[str, Any],
    role: str = "teacher",
    *,
    prompt: Prompt[Played] | None = None,
    sampling: Sampling = Sampling(temperature=0.0),
    policy: Policy = Policy(),
) -> Tool:
    """A tool whose results a model makes up from its documentation and from the calls before.

    Arguments are checked against the schema first; what does not satisfy it never reaches the model.

    Args:
        spec: a tool (of `openapi`, `function` or `mcp`) that shall not be called, or its description in OpenAI's form.
        role: who plays it.
        prompt: variables `name`, `description`, `parameters`, `arguments` (JSON texts) and `earlier`, a list of
            `tool`, `arguments`, `result`.

    Raises:
        ConfigError: the description is none.

    Reference: Tang et al. 2023, ToolAlpaca, arXiv:2306.05301.
    """
    if isinstance(spec, Tool):
        known = (spec.name, spec.description, spec.parameters)
    else:
        form = spec.get("function", spec)
        if not (isinstance(form, Mapping) and isinstance(form.get("name"), str)):
            raise ConfigError(
                f"{str(spec)[:120]!r} describes no tool; expected a Tool, or "
                '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'
            )
        parameters = form.get("parameters") or {"type": "object", "properties": {}}
        if not isinstance(parameters, Mapping):
            raise ConfigError(f"the parameters of tool {form['name']!r} are no JSON schema of an object")
        known = (form["name"], str(form.get("description") or ""), parameters)
    return _PlayedTool(*known, role=role, sampling=sampling, policy=policy, prompt=prompt or _simulate())
