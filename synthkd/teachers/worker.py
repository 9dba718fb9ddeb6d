"""The thread that runs a local model: the only place where calls from an event loop meet the decoder.

Invariant: a job handed over is answered exactly once: with its result, with its own error, or with the error that ended
the thread.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from queue import Empty, SimpleQueue
from typing import Any

import orjson

from synthkd.errors import ConfigError, MissingExtra, SynthKDError, TeacherError, TeacherUnavailable
from synthkd.request import Completion, Message, Request, Sampling, Usage
from synthkd.teachers.decoding import Decoder, Plan, Row

_BURST = 0.002
"""Seconds that an idle worker waits for the other calls of a burst."""
_PATIENCE = 8
"""Steps after which waiting rows are let in, however few they are; reading a prompt holds up everyone else."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is to be loaded."""

    source: str
    """Folder, or id on the Hub."""
    revision: str | None
    device: str | None
    dtype: str | None
    chat_template: str | None


@dataclass(slots=True, eq=False)
class Draws:
    """A call for `n` completions of one request."""

    request: Request[Any]
    sampling: Sampling
    n: int
    future: Future[list[Completion]] = field(default_factory=Future)
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Scores:
    """A call for the log-probabilities of a completion."""

    messages: tuple[Message, ...]
    completion: str
    future: Future[list[float]] = field(default_factory=Future)


class Worker:
    """A thread with a model, from its first job until it is closed or dies."""

    def __init__(self, model: Model, batch_size: int) -> None:
        self.over = False
        """Whether it takes no jobs any more."""
        self._what = model
        self._most = batch_size
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Draws | Scores | None] = SimpleQueue()
        self._open: set[Draws | Scores] = set()
        self._waiting: deque[Row] = deque()
        self._chance = random.Random()
        self._thread = threading.Thread(target=self._live, name=f"synthkd {model.source}", daemon=True)
        self._thread.start()

    def put(self, job: Draws | Scores) -> None:
        """Hand over a job; its future is answered from the thread."""
        with self._lock:
            if self.over:
                raise TeacherUnavailable(f"the model {self._what.source} was closed or has crashed")
            self._open.add(job)
        self._inbox.put(job)

    def close(self) -> None:
        """End the thread and free the model; blocks until both are done."""
        self._inbox.put(None)
        self._thread.join()

    def _live(self) -> None:
        error: Exception = TeacherUnavailable(f"the model {self._what.source} was closed while a call was under way")
        try:
            self._work()
        except SynthKDError as known:
            error = known
        except BaseException as crash:  # whatever it is, those who wait must hear it
            error = TeacherUnavailable(
                f"the model {self._what.source} has crashed: {type(crash).__name__}: {crash}. If memory ran out, give "
                f"LocalTeacher a smaller batch_size (now {self._most}) or a smaller max_tokens."
            )
            error.__cause__ = crash
        with self._lock:
            self.over = True
            left, self._open = self._open, set()
        for job in left:
            _answer(job, error)

    def _work(self) -> None:
        self._load()
        import torch

        since = 0
        with torch.inference_mode():
            while True:
                if not self._collect():
                    break
                self._decoder.drop(lambda row: bool(row.owner.future.cancelled()))
                since += 1
                if self._should_admit(since):
                    since = 0
                    self._deliver(self._decoder.admit(self._next()))
                if self._decoder.rows:
                    self._deliver(self._decoder.step())
        self._decoder.clear()
        del self._decoder, self._tokenizer
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _load(self) -> None:
        what = self._what
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise MissingExtra("transformers and torch", "train") from error
        device = what.device or ("cuda" if torch.cuda.is_available() else "cpu")
        # Half precision is slow on most CPUs, and small models are often stored in it.
        dtype = what.dtype or ("float32" if device == "cpu" else "auto")
        options = {"revision": what.revision, "local_files_only": os.path.isdir(what.source)}
        try:
            with quiet_loading():
                self._tokenizer = AutoTokenizer.from_pretrained(what.source, **options)
                model = AutoModelForCausalLM.from_pretrained(what.source, dtype=dtype, **options).to(device).eval()
        except Exception as error:  # transformers raises what the file system, the Hub or the checkpoint gave it
            raise TeacherUnavailable(f"the model {what.source} could not be loaded: {error}") from error
        if what.chat_template is not None:
            self._tokenizer.chat_template = what.chat_template
        if self._tokenizer.chat_template is None:
            raise ConfigError(
                f"the tokenizer of {what.source} has no chat template. Choose an instruction-tuned model, or pass "
                "chat_template= (Jinja text or a .jinja file) to LocalTeacher."
            )
        self._settings = model.generation_config
        stops = self._settings.eos_token_id
        named = stops if isinstance(stops, list) else [stops]
        text = model.config.get_text_config()
        self._context = int(getattr(text, "max_position_embeddings", None) or 1 << 30)
        ends = frozenset(token for token in (*named, self._tokenizer.eos_token_id) if token is not None)
        self._decoder = Decoder(model, self._tokenizer, ends, self._context)
        self._cells = _memory(device) // _cell(text, model.dtype.itemsize)

    def _collect(self) -> bool:
        """Take in what has arrived, waiting for it if there is nothing else to do; False when it is time to end."""
        jobs: list[Draws | Scores | None] = []
        if not self._decoder.rows and not self._waiting:
            jobs.append(self._inbox.get())
            time.sleep(_BURST)
        while True:
            try:
                jobs.append(self._inbox.get_nowait())
            except Empty:
                break
        real = [job for job in jobs if job is not None and not job.future.cancelled()]
        if real:
            self._take_in(real)
        return None not in jobs

    def _take_in(self, jobs: list[Draws | Scores]) -> None:
        """Put jobs into the model's words; those whose messages it cannot take fail on their own."""
        ready, texts = [], []
        for job in jobs:
            try:
                texts.append(self._rendered(job))
                ready.append(job)
            except (TeacherError, ConfigError) as error:
                self._finish(job, error)
        ids = self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        scores = []
        for job, prompt in zip(ready, ids, strict=True):
            extra: list[int] = []
            if isinstance(job, Scores):
                extra = self._tokenizer(job.completion, add_special_tokens=False)["input_ids"]
            if not prompt or len(prompt) + len(extra) >= self._context + isinstance(job, Scores):
                self._finish(
                    job,
                    TeacherError(
                        f"a prompt of {len(prompt)} tokens{f' with {len(extra)} to score' if extra else ''} does not fit "
                        f"{self._what.source}, which takes {self._context}"
                    ),
                )
            elif isinstance(job, Scores):
                scores.append((job, prompt, extra))
            else:
                plan = self._plan(job.sampling)
                job.rows = [Row(prompt, plan, self._generator(job, draw), job) for draw in range(job.n)]
                self._waiting.extend(job.rows)
        found = self._decoder.score([(prompt, extra) for _, prompt, extra in scores]) if scores else []
        for (job, _, _), values in zip(scores, found, strict=True):
            self._finish(job, values)

    def _rendered(self, job: Draws | Scores) -> str:
        from jinja2 import TemplateError

        options: dict[str, Any] = {}
        if isinstance(job, Draws):
            self._plan(job.sampling)  # refuses what it cannot do
            options = dict(job.sampling.extra.get("chat_template_kwargs") or {})
            turns = job.request.messages
        else:
            turns = job.messages
        goes_on = turns[-1].role == "assistant"
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [{"role": turn.role, "content": turn.content} for turn in turns],
                    tokenize=False,
                    add_generation_prompt=not goes_on,
                    continue_final_message=goes_on,
                    **options,
                )
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise TeacherError(f"the chat template of {self._what.source} refuses the messages: {error}") from error

    def _plan(self, sampling: Sampling) -> Plan:
        """What a request asks for, filled from the model's own generation settings."""
        own, extra = self._settings, sampling.extra
        unknown = set(extra) - {"top_k", "repetition_penalty", "chat_template_kwargs"}
        if unknown:
            raise ConfigError(
                f"LocalTeacher cannot do {', '.join(sorted(unknown))}; of the sampling's extra it knows top_k, "
                "repetition_penalty and chat_template_kwargs"
            )
        heat = sampling.temperature
        if heat is None:
            heat = (1.0 if own.temperature is None else own.temperature) if own.do_sample else 0.0
        return Plan(
            temperature=heat,
            max_tokens=sampling.max_tokens or 512,
            top_p=sampling.top_p if sampling.top_p is not None else own.top_p or 1.0,
            top_k=extra.get("top_k", own.top_k) or 0,
            repetition_penalty=extra.get("repetition_penalty", own.repetition_penalty) or 1.0,
            presence_penalty=sampling.presence_penalty or 0.0,
            frequency_penalty=sampling.frequency_penalty or 0.0,
            stop=sampling.stop,
            alternatives=sampling.logprobs,
        )

    def _generator(self, job: Draws, draw: int) -> Any:
        """Where a row's chance comes from: with a seed, from it, the messages and the draw's number alone."""
        seed = job.sampling.seed
        if seed is None:
            return self._chance.random
        text = orjson.dumps((seed, draw, job.request.messages))
        return random.Random(blake2b(text, digest_size=8).digest()).random
