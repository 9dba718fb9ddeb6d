"""Instances: the only place where an instruction gets inputs and outputs of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from synthkd.ask import Ask
from synthkd.errors import RecordError
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction
from synthkd.request import Policy, Sampling
from synthkd.strategies.expansion.self_instruct import Examples, FromExamples
from synthkd.strategies.listing import at_least_one, drawn, folded


class Kind(BaseModel):
    """The typed reply of `IsClassification`."""

    classification: bool = Field(description="Whether every correct answer is one of a small, fixed set of labels.")
    labels: list[str] = Field(description="The labels; empty where it is no classification.")


class Instance(BaseModel):
    """An input and its output."""

    input: str = Field(description="The input; empty where the instruction needs none.")
    output: str = Field(description="The correct output.")


class Instanced(BaseModel):
    """The typed reply of input-first generation."""

    items: list[Instance] = Field(min_length=1, description="The instances.")


class LabelledInstance(BaseModel):
    """A label, and an input of which it is the correct answer."""

    label: str = Field(description="The correct answer.")
    input: str = Field(description="The input.")


class LabelledInstances(BaseModel):
    """The typed reply of output-first generation."""

    items: list[LabelledInstance] = Field(min_length=1, description="The instances.")


class Exchange(BaseModel):
    """An instruction with its input and output."""

    instruction: str = Field(description="What is to be done.")
    input: str = Field(description="What it is to be done with; empty where the instruction is complete.")
    output: str = Field(description="The correct output.")


class Exchanges(BaseModel):
    """The typed reply of `Demonstrate`."""

    items: list[Exchange] = Field(min_length=1, description="The exchanges.")


@dataclass(frozen=True)
class IsClassification:
    """The instruction with `classification` and `labels` in its `meta`: does it ask for one of a few labels?

    Reference: Wang et al. 2022, Self-Instruct, arXiv:2212.10560.
    """

    prompt: Prompt[Kind] = field(default_factory=lambda: Prompt("expansion/classify", Kind))
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "teacher"

    def check(self, record: Instruction) -> None:
        """Refuse a template that wants what the record does not have."""
        self.prompt.check(record)

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Instruction]:
        kind = await ask(self.prompt.fill(record, sampling=self.sampling, policy=self.policy), self.role)
        labels = list(dict.fromkeys(label.strip() for label in kind.labels if label.strip()))
        meta = {**record.meta, "classification": kind.classification, "labels": labels if kind.classification else []}
        return [record.model_copy(update={"parents": (record.id,), "meta": meta})]


@dataclass(frozen=True)
class Instances:
    """Inputs and outputs for an instruction: input first, or label first for what `IsClassification` found to be one.

    The student's prompt is the instruction with the input behind it; `meta` has the input alone. Instances without an
    output, with their input as output, with an output that ends in a colon, and repeated ones are dropped; inputs with
    two different outputs reject the instruction.

    Args:
        n: instances of an instruction, at most.
        prompt: asks for input and output. An instruction that was not classified is taken for an open one.
        labels_prompt: asks for label and input.

    Reference: Wang et al. 2022, Self-Instruct, arXiv:2212.10560.
    """

    n: int = 5
    prompt: Prompt[Instanced] = field(default_factory=lambda: Prompt("expansion/input_first", Instanced))
    labels_prompt: Prompt[LabelledInstances] = field(
        default_factory=lambda: Prompt("expansion/output_first", LabelledInstances)
    )
    sampling: Sampling = Sampling(temperature=0.0)
    policy: Policy = Policy()
    role: str = "teacher"

    def __post_init__(self) -> None:
        at_least_one(self, "n")

    def check(self, record: Instruction) -> None:
        """Refuse templates that want what neither the record nor this strategy has."""
        self.prompt.check(record, "n")
        self.labels_prompt.check(record, "n", "labels")

    async def __call__(self, record: Instruction, ask: Ask) -> Sequence[Demonstration]:
        sampling, policy = self.sampling, self.policy
        if record.meta.get("classification"):
            labels = record.meta.get("labels") or []
            request = self.labels_prompt.fill(record, n=self.n, labels=labels, sampling=sampling, policy=policy)
            pairs = [(one.input, one.label) for one in (await ask(request, self.role)).items]
        else:
            asked = self.prompt.fill(record, n=self.n, sampling=sampling, policy=policy)
            pairs = [(one.input, one.output) for one in (await ask(asked, self.role)).items]
        return [
            Demonstration(
                parents=(record.id,),
                prompt=_with_input(record.instruction, given),
                completion=output,
                meta={**record.carried(), "input": given},
            )
            for given, output in _usable(pairs, ask)[: self.n]
        ]


@dataclass(frozen=True)
class Demonstrate(FromExamples):
    """New instructions, each with its input and output at once, after the model of the examples; for `run.grow`.

    Args:
        n: exchanges asked for in one call.
        human_k: places for human examples; demonstrations are shown with their outputs.
        grown_k: places for examples that have grown; Alpaca has none.
        hints: topics, of which `hints_k` are drawn for each call.

    Reference: Taori et al. 2023, Stanford Alpaca, https://github.com/tatsu-lab/stanford_alpaca.
    """

    n: int = 20
    human_k: int = 3
    grown_k: int = 0
    prompt: Prompt[Exchanges] = field(default_factory=lambda: Prompt("expansion/demonstrate", Exchanges))
    sampling: Sampling = Sampling(temperature=1.0)

    async def __call__(self, record: Examples, ask: Ask) -> Sequence[Demonstration]:
        outputs = record.completions or ("",) * len(record.instructions)
        shown = [{"instruction": a, "output": b} for a, b in zip(record.instructions, outputs, strict=True)]
        more = {"examples": shown, "n": self.n, "hints": drawn(self.hints, self.hints_k, ask)}
        request = self.prompt.fill(record, sampling=self.sampling, policy=self.policy, **more)
        items = (await ask(request, self.role)).items
        prompts = [(_with_input(one.instruction.strip(), one.input.strip()), one) for one in items]
        known = {folded(text) for text in record.instructions}
        fresh = [(prompt, one) for prompt, one in prompts if folded(prompt) not in known]
        if len(fresh) < len(prompts):
            ask.dropped["repeated entry"] += len(prompts) - len(fresh)
        inputs = {prompt: one.input.strip() for prompt, one in fresh}
        return [
            Demonstration(
                parents=(record.id,), prompt=prompt, completion=output, meta={**record.meta, "input": inputs[prompt]}
            )
            for prompt, output in _usable([(prompt, one.output) for prompt, one in fresh], ask)[: self.n]
        ]


def _with_input(instruction: str, given: str) -> str:
    return f"{instruction}\n\n{given}" if given.strip() else instruction


def _usable(pairs: Iterable[tuple[str, str]], ask: Ask) -> list[tuple[str, str]]:
    """Inputs and outputs that may be learnt from.

    Raises:
        RecordError: none is left, or one input has two different outputs.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    outputs: defaultdict[str, set[str]] = defaultdict(set)
    for given, output in ((given.strip(), output.strip()) for given, output in pairs):
        marks = folded(given), folded(output)
        if not marks[1]:
            ask.dropped["no output"] += 1
        elif marks[0] == marks[1]:
            ask.dropped["output is the input"] += 1
        elif output.endswith(":"):
            ask.dropped["output is cut"] += 1
        elif marks in found:
            ask.dropped["repeated entry"] += 1
        else:
            found[marks] = given, output
            outputs[marks[0]].add(marks[1])
    if twice := next((given for given, said in outputs.items() if given and len(said) > 1), None):
        raise RecordError(f"the input {twice[:80]!r} has two different outputs", reason="contradicts itself")
    if not found:
        raise RecordError("no instance in the reply has an output of its own", reason="no instance")
    return list(found.values())
