"""Decoding many rows at a time: the only place that runs a local model to write text, and that scores text.

Rows join and leave while others go on, so a batch stays full whatever lengths the replies have. Invariant: a row's
draws depend on its own prompt, plan and generator and not on the rows beside it, save for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from synthkd.teachers.local.choosing import Row, draw, penalise
from synthkd.teachers.local.kvcache import RowCache

if TYPE_CHECKING:
    from torch import Tensor

_PREFILL = 16384
"""Tokens, padding included, that one forward pass over prompts may hold."""
_SCORES = 1 << 26
"""Logits that one forward pass of scoring may hold."""


class Decoder:
    """A model with the rows that it is working on; used by one thread, in torch's inference mode.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        stops: Tokens that end a reply.
        context: Places that the model can tell apart; a row ends with `length` when they are used up.
    """

    def __init__(self, model: Any, tokenizer: Any, stops: frozenset[int], context: int) -> None:
        import torch

        self._torch = torch
        self._model = model
        self._tokenizer = tokenizer
        self._stops = stops
        self._context = context
        self._accepted = signature(model.forward).parameters
        self._empty()

    def _empty(self) -> None:
        self.rows: list[Row] = []
        self._length = 0
        self._cache = RowCache(self._model.config)
        self._starts = self._torch.zeros(0, dtype=self._torch.long, device=self._model.device)
        self._last = self._starts.clone()

    @property
    def open(self) -> bool:
        """Whether rows may join now."""
        return self._cache.rolling or not self.rows

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Read the prompts of new rows and draw their first tokens; gives those that have ended already."""
        done: list[Row] = []
        waiting = sorted(rows, key=lambda row: len(row.prompt))
        while waiting:
            size = 1
            if self._cache.rolling:  # rows of much different length would be mostly padding
                longest = 2 * len(waiting[0].prompt) + 32
                while size < len(waiting) and (size + 1) * len(waiting[size].prompt) <= _PREFILL:
                    if len(waiting[size].prompt) > longest:
                        break
                    size += 1
            else:
                size = len(waiting)
            done += self._read(waiting[:size])
            waiting = waiting[size:]
        return done

    def step(self) -> list[Row]:
        """Draw one token for every row; gives those that have ended."""
        self._length += 1
        logits = self._forward(self._last[:, None], self._starts, self._cache, self._length)
        return self._choose(logits[:, -1], range(len(self.rows)))

    def drop(self, gone: Callable[[Row], bool]) -> None:
        """Give up rows that nobody waits for any more."""
        self._keep([not gone(row) for row in self.rows])

    def _read(self, rows: list[Row]) -> list[Row]:
        """One forward pass over prompts, padded on the left, whose rows then join the others.

        Draws of one call share their prompt, which is read once.
        """
        torch, device = self._torch, self._model.device
        prompts = list({id(row.prompt): row.prompt for row in rows}.values())
        place = {id(prompt): k for k, prompt in enumerate(prompts)}
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
        starts = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
        cache = RowCache(self._model.config)
        logits = self._forward(ids, starts, cache, longest)
        chosen = torch.tensor([place[id(row.prompt)] for row in rows], device=device)
        self._cache.take(cache, chosen)
        ids, starts, logits = ids[chosen], starts[chosen], logits[chosen]
        first, old = len(self.rows), self._length
        self._length = max(old, longest) if first else longest
        self.rows += rows
        self._starts = torch.cat(
            [self._starts + (self._length - old if first else 0), starts + (self._length - longest)]
        )
        self._last = torch.cat([self._last, ids[:, -1]])
        return self._choose(logits[:, -1], range(first, len(self.rows)))

    def _forward(self, ids: Tensor, starts: Tensor, cache: RowCache | None, total: int, logits: int = 1) -> Tensor:
        """Logits at the last places, `[rows, logits, vocabulary]`.

        Args:
            ids: The new tokens, `[rows, new]`, which are the last of `total` places.
            starts: Each row's padding, `[rows]`.
        """
        places = self._torch.arange(total, device=ids.device)
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": (places >= starts[:, None]).long(),
            "position_ids": (places[total - ids.shape[1] :] - starts[:, None]).clamp(min=0),
            "logits_to_keep": logits,
            "use_cache": cache is not None,
            "past_key_values": cache.inner if cache is not None else None,
        }
        given = {name: value for name, value in inputs.items() if name in self._accepted}
        found: Tensor = self._model(**given).logits
        return found[:, -logits:]

    def _choose(self, logits: Tensor, places: range) -> list[Row]:
        """Draw a token for the rows at these places, note it, and take out the rows that end with it."""
        rows = [self.rows[place] for place in places]
        logits = logits.float()
        raw = logits
        for k, row in enumerate(rows):
            if row.plan.penalised:
                logits = logits.clone() if logits is raw else logits
                penalise(logits[k], row)
        drawn = draw(logits, rows)
        self._last[places.start :] = drawn
        for k, (row, token) in enumerate(zip(rows, drawn.tolist(), strict=True)):
            row.tokens.append(token)
            if row.plan.alternatives is not None:
                row.logprobs.append(self._reported(raw[k], token, row.plan.alternatives))
            self._end(row, token)
        done = [row for row in rows if row.finish]
        if done:
            self._keep([row.finish is None for row in self.rows])
        return done

    def _end(self, row: Row, token: int) -> None:
        """Note whether the row is finished by its newest token, and if so its text."""
        plan, tokens = row.plan, row.tokens
        if token in self._stops:
            row.finish, row.text = "stop", self._tokenizer.decode(tokens[:-1], skip_special_tokens=True)
            return
        if plan.stop:
            reach = 4 * max(map(len, plan.stop)) + 4  # a character is at most four tokens of bytes
            tail = self._tokenizer.decode(tokens[-reach:], skip_special_tokens=True)
            if any(stop in tail for stop in plan.stop):
                text = self._tokenizer.decode(tokens, skip_special_tokens=True)
                found = [text.find(stop) for stop in plan.stop if stop in text]
                if found:
                    row.finish, row.text = "stop", text[: min(found)]
                    return
        if len(tokens) >= plan.max_tokens or len(row.prompt) + len(tokens) >= self._context:
            row.finish, row.text = "length", self._tokenizer.decode(tokens, skip_special_tokens=True)

    def _reported(self, logits: Tensor, token: int, alternatives: int) -> dict[str, Any]:
        """A token's log-probability under the model as it is, before temperature, with the likeliest others."""
        scores = logits.log_softmax(-1)
        best = scores.topk(min(alternatives, scores.shape[-1])) if alternatives else None
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True) if best is not None else ()
        return {
            "token": self._tokenizer.decode([token]),
            "logprob": float(scores[token]),
            "top_logprobs": [{"token": self._tokenizer.decode([t]), "logprob": value} for t, value in pairs],
        }

    def _keep(self, wanted: list[bool]) -> None:
        """Leave only these rows: those at the end move into the places that become free."""
        if all(wanted):
            return
        count = sum(wanted)
        if not count:
            self._empty()
            return
        movers = iter([place for place in range(count, len(wanted)) if wanted[place]])
        order = [place if wanted[place] else next(movers) for place in range(count)]
        self.rows = [self.rows[place] for place in order]
        chosen = self._torch.tensor(order, device=self._last.device)
        self._last, self._starts = self._last[chosen], self._starts[chosen]
        unused = int(self._starts.min())
        dropped = self._cache.keep(order, unused if unused > max(32, self._length // 8) else 0)
        self._length -= dropped
        self._starts = self._starts - dropped

    def score(self, texts: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        """Log-probabilities (natural) of the tokens of each continuation, given its prompt."""
        order = sorted(range(len(texts)), key=lambda k: sum(map(len, texts[k])))
        found: list[list[float]] = [[] for _ in texts]
        while order:
            size, width = 1, self._model.config.get_text_config().vocab_size
            while size < len(order) and (size + 1) * sum(map(len, texts[order[size]])) * width <= _SCORES:
                size += 1
            for k, scores in zip(order[:size], self._scored([texts[k] for k in order[:size]]), strict=True):
                found[k] = scores
            order = order[size:]
        return found

    def _scored(self, texts: list[tuple[list[int], list[int]]]) -> list[list[float]]:
        torch, device = self._torch, self._model.device
        longest, kept = max(len(p) + len(c) for p, c in texts), max(len(c) for _, c in texts)
        padded = [[0] * (longest - len(p) - len(c)) + p + c for p, c in texts]
        ids = torch.tensor(padded, device=device)
        starts = torch.tensor([longest - len(p) - len(c) for p, c in texts], device=device)
        logits = self._forward(ids, starts, None, longest, kept + 1)[:, :-1].float()
        scores = logits.log_softmax(-1).gather(-1, ids[:, -kept:, None])[..., 0]
        return [row[kept - len(c) :].tolist() for row, (_, c) in zip(scores, texts, strict=True)]
