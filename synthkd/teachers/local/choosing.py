"""The next token of each row: the only place that turns logits into draws.

Invariant: a row's draw depends on its own logits, plan and generator, whichever rows stand beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tokens of a row are chosen, and when it ends."""

    temperature: float
    """0 is greedy."""
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    """Number of likeliest tokens that are drawn from; 0 is all."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    alternatives: int | None = None
    """Likeliest tokens reported beside each one; None reports no log-probabilities."""

    @property
    def penalised(self) -> bool:
        """Whether what was said already changes what may come."""
        return self.repetition_penalty != 1.0 or bool(self.presence_penalty or self.frequency_penalty)


@dataclass(slots=True, eq=False)
class Row:
    """One draw: its prompt, and what has come of it."""

    prompt: list[int]
    plan: Plan
    random: Callable[[], float]
    """Uniform numbers from 0 to 1, one for each token."""
    owner: Any = None
    """Whatever the caller wants to find it by; nothing here looks at it."""
    tokens: list[int] = field(default_factory=list)
    """The new tokens, a final stop token included."""
    finish: str | None = None
    """`stop` or `length`, once it has ended."""
    text: str = ""
    """The reply without stop token and stop string, once it has ended."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)


def draw(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """One token for each row, `[rows]`, from logits `[rows, vocabulary]`, by its plan and its own generator."""
    import torch

    greedy = logits.argmax(-1)
    temperatures = [row.plan.temperature for row in rows]
    if not any(temperatures):
        return greedy
    numbers = [row.random() * 0.999999 if row.plan.temperature else 0.0 for row in rows]  # stays below 1 in float32
    heat = torch.tensor([t or 1.0 for t in temperatures], device=logits.device)
    chances = (logits / heat[:, None]).softmax(-1)
    index = None
    if any(row.plan.top_p < 1 or row.plan.top_k for row in rows):
        chances, index = likeliest(chances, rows)
    summed = chances.cumsum(-1)
    uniform = torch.tensor(numbers, device=logits.device)
    found = torch.searchsorted(summed, uniform[:, None] * summed[:, -1:], right=True)
    found = found.clamp(max=chances.shape[-1] - 1)
    drawn = (found if index is None else index.gather(-1, found))[:, 0]
    cold = torch.tensor([not t for t in temperatures], device=logits.device)
    return torch.where(cold, greedy, drawn)


def likeliest(chances: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Chances in falling order, 0 outside of `top_k` and `top_p`, and the tokens that they belong to."""
    import torch

    size = chances.shape[-1]
    top_k = torch.tensor([row.plan.top_k or size for row in rows], device=chances.device)[:, None]
    top_p = torch.tensor([row.plan.top_p for row in rows], device=chances.device)[:, None]
    counted = top_k < size
    for width in (min(256, size), size):  # the likeliest 256 nearly always suffice; sorting all is slow
        best, index = chances.topk(width, dim=-1)
        reached = (top_p < 1) & (best.sum(-1, keepdim=True) >= top_p)
        if width == size or bool(torch.where(counted, top_k <= width, reached).all()):
            break
    ranks = torch.arange(width, device=chances.device)
    left = best.masked_fill(ranks >= top_k, 0.0)
    # With both, the mass of `top_p` is that of what `top_k` has left, as in transformers.
    mass = torch.where(counted, left.sum(-1, keepdim=True), 1.0)
    before = left.cumsum(-1) - left
    return left.masked_fill((top_p < 1) & (before >= top_p * mass) & (ranks > 0), 0.0), index


def penalise(logits: Tensor, row: Row) -> None:
    """Make what was said already less likely, in place."""
    import torch

    plan, said = row.plan, Counter(row.tokens)
    if plan.repetition_penalty != 1.0:  # counts the prompt too, as in its paper (CTRL) and in transformers
        seen = torch.tensor(sorted({*row.prompt, *said}), device=logits.device)
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / plan.repetition_penalty, values * plan.repetition_penalty)
    if said and (plan.presence_penalty or plan.frequency_penalty):
        tokens = torch.tensor(list(said), device=logits.device)
        counts = torch.tensor(list(said.values()), device=logits.device, dtype=logits.dtype)
        logits[tokens] -= plan.presence_penalty + plan.frequency_penalty * counts
