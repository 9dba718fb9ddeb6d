"""The only place that trains the tiny teacher, tokenizer and weights, from nothing.

``python -m synthkd.teachers.tiny.train --out DIR``. A plain loop: conversations are drawn without end and never
repeat by plan, rows of like length share a batch, the loss is on the last answer alone (and on
bare calculations as a whole), and the rate warms up, stays, and falls in the last part of the time given.
"""

import argparse
import json
import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synthkd.teachers.tiny.batches import Batch, Draw, batches, reviewing, teaching
from synthkd.teachers.tiny.corpus import converse
from synthkd.teachers.tiny.problems import problems
from synthkd.teachers.tiny.vocabulary import make_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["Plan", "main", "make_model", "save", "some_tokenizer", "train"]

STATE: Final = "state.pt"
"""What a training that was cut off begins again from."""

TOKENIZER_KEYS: Final = ("clean_up_tokenization_spaces", "eos_token", "model_max_length", "pad_token")
"""What is kept of the tokenizer's settings: those that every version of transformers understands."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard to train."""

    minutes: float
    """Time to train, without the making of the tokenizer."""
    seed: int = 0
    width: int = 192
    """Hidden size; a multiple of 64, which is the size of a head."""
    layers: int = 4
    tokens: int = 2048
    """Tokens of a batch at most, padding included; each process has a batch at every step."""
    processes: int = 2
    """How many processes share the work; best one for each core."""
    rate: float = 0.003
    """The highest learning rate of the embeddings and norms."""
    matrix_rate: float = 0.02
    """The highest learning rate of the hidden matrices, which Muon trains."""
    decay: float = 0.35
    """The last share of the time, in which the rates fall to nothing."""
    start: Path | None = None
    """A model of the same shape to go on from, instead of random weights."""
    bf16: bool = False
    """Compute in bfloat16 where it is safe; only faster on some processors."""


def make_model(plan: Plan, tokenizer: "PreTrainedTokenizerFast") -> "LlamaForCausalLM":
    """A Llama with random weights that fits the plan and the tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.width,
        intermediate_size=plan.width * 8 // 3,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.width // 64,
        num_key_value_heads=plan.width // 64,
        head_dim=64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def loss_of(model: "LlamaForCausalLM", batch: Batch) -> "torch.Tensor":
    """The mean loss of a batch's answers; the vocabulary is weighed only where something is to be learned."""
    import torch

    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    chosen = batch.labels != -100
    logits = model.lm_head(hidden[chosen])
    return torch.nn.functional.cross_entropy(logits.float(), batch.labels[chosen])


def share_of_rate(done: float, decay: float) -> float:
    """The rate's share at a share ``done`` of the time: warmup, plateau, and a fall to zero."""
    warm = min(1.0, done / 0.02 + 0.01)
    return warm * min(1.0, max(0.0, (1.0 - done) / decay))


def some_tokenizer(start: Path | None, seed: int) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model to start from, or one learned from conversations of the domain."""
    if start:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(start)
    rng = random.Random(f"{seed}/tokenizer")
    stock = problems(rng)
    talks = [converse(rng, stock) for _ in range(20_000)]
    return make_tokenizer(message["content"] for talk in talks for message in talk)


def train(plan: Plan, out: Path, tokenizer: "PreTrainedTokenizerFast", draw: Draw = teaching) -> None:
    """Train with one process for each core, and save to ``out`` every few minutes and at the end.

    Begins from nothing, or where a training into the same folder was cut off.
    """
    from torch.multiprocessing.spawn import spawn

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (plan, out, tokenizer, draw, f"file://{folder}/meeting")
        spawn(_work, arguments, nprocs=plan.processes)  # type: ignore[no-untyped-call]


def _work(rank: int, plan: Plan, out: Path, tokenizer: "PreTrainedTokenizerFast", draw: Draw, meeting: str) -> None:
    """One process of a training: it has its own batches, and takes the same steps as the others."""
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=plan.processes)
    model = make_model(plan, tokenizer).train()
    if plan.start:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(plan.start / "model.safetensors"), strict=False)
    optimizers = _optimizers(plan, model)
    clock = Clock(plan.minutes * 60)
    if (out / STATE).exists():
        clock.spent = _resume(out, model, optimizers)
    seed = f"{plan.seed}/{clock.spent}/{rank}"
    for step, batch in enumerate(batches(draw, tokenizer, plan.tokens, seed, clock.done)):
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
            loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        done = _agree(model, clock.done() if rank == 0 else 0.0, plan.processes)
        if done >= 1:
            break
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * share_of_rate(done, plan.decay)
            optimizer.step()
            optimizer.zero_grad()
        clock.saw(batch.ids.numel() * plan.processes, loss.item())
        if rank == 0 and step % 100 == 0:
            print(f"step {step:6}  {clock.line()}", flush=True)
        if rank == 0 and clock.is_time_to_save():
            save(model, tokenizer, out)
            kept = [optimizer.state_dict() for optimizer, _ in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": kept, "spent": clock.elapsed()}, out / STATE)
    if rank == 0:
        save(model, tokenizer, out)
        (out / STATE).unlink(missing_ok=True)
    torch.distributed.destroy_process_group()


def _agree(model: "LlamaForCausalLM", done: float, processes: int) -> float:
    """Make every gradient the mean over the processes, and give back how far the first of them says to be."""
    import torch

    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([*(gradient.view(-1) for gradient in gradients), torch.tensor([done * processes])])
    torch.distributed.all_reduce(flat)
    flat /= processes
    means = torch.split(flat[:-1], [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return float(flat[-1])


def _resume(out: Path, model: "LlamaForCausalLM", optimizers: "list[tuple[torch.optim.Optimizer, float]]") -> float:
    """Load what a training that was cut off has left, and give back the seconds it had spent."""
    import torch

    state = torch.load(out / STATE)
    model.load_state_dict(state["model"])
    for (optimizer, _), kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return float(state["spent"])


class Clock:
    """How far a training is in the time that it was given."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.spent, self.seen, self.average = seconds, 0.0, 0, 0.0
        self.start = self.saved = time.monotonic()

    def elapsed(self) -> float:
        return self.spent + time.monotonic() - self.start

    def done(self) -> float:
        return self.elapsed() / self.seconds

    def is_time_to_save(self) -> bool:
        if time.monotonic() - self.saved < 240:
            return False
        self.saved = time.monotonic()
        return True

    def saw(self, tokens: int, loss: float) -> None:
        self.average = 0.98 * self.average + 0.02 * loss if self.seen else loss
        self.seen += tokens

    def line(self) -> str:
        rate = self.seen / max(time.monotonic() - self.start, 1e-9)
        return f"{self.elapsed():6.0f} s  {rate:8,.0f} tokens/s  loss {self.average:.4f}"


def save(model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast", out: Path) -> None:
    """Write a copy in half precision with its tokenizer, ready for transformers and vLLM."""
    import copy

    import torch

    half = copy.deepcopy(model).to(torch.float16).eval()
    half.generation_config.eos_token_id = tokenizer.eos_token_id
    half.generation_config.pad_token_id = tokenizer.pad_token_id
    half.generation_config.bos_token_id = None
    half.generation_config.max_new_tokens = 160
    half.save_pretrained(out)
    tokenizer.save_pretrained(out)
    file = out / "tokenizer_config.json"
    kept = {key: value for key, value in json.loads(file.read_text()).items() if key in TOKENIZER_KEYS}
    file.write_text(json.dumps(kept | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")


def _optimizers(plan: Plan, model: "LlamaForCausalLM") -> "list[tuple[torch.optim.Optimizer, float]]":
    """Muon for the hidden matrices and AdamW for the rest, each with its highest rate."""
    import torch

    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    muon: Any = torch.optim.Muon(matrices, lr=plan.matrix_rate, momentum=0.95, weight_decay=0.01)
    adam = torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, plan.matrix_rate), (adam, plan.rate)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the tiny teacher from nothing.")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the model")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to train")
    parser.add_argument("--processes", type=int, default=2, help="how many share the work, best one for each core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=192, help="hidden size, a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--start", type=Path, help="a folder of this script's making to go on from, at half the rates")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16; measure whether it is faster here")
    options = parser.parse_args()
    names = ("minutes", "seed", "processes", "width", "layers", "start", "bf16")
    plan = Plan(**{name: getattr(options, name) for name in names})
    if options.start:
        plan = replace(plan, rate=plan.rate / 2, matrix_rate=plan.matrix_rate / 2, decay=0.9)
    train(plan, options.out, some_tokenizer(options.start, plan.seed), reviewing if options.start else teaching)


if __name__ == "__main__":
    main()
