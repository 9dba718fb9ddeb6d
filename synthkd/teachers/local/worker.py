"""The thread that runs a local model: the only place where calls from an event loop meet the decoder.

Invariant: a job handed over is answered exactly once: with its result, with its own error, or with the error that ended
the thread.
"""

from __future__ import annotations

import random
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from hashlib import blake2b
from queue import Empty, SimpleQueue
from typing import Any

from synthkd.errors import SynthKDError, TeacherError, TeacherUnavailable
from synthkd.message import Message, as_identity
from synthkd.request import Completion, Request, Sampling, Usage
from synthkd.teachers.local.choosing import Row
from synthkd.teachers.local.decoding import Decoder
from synthkd.teachers.local.loading import Loaded, Source, load
from synthkd.teachers.local.translate import plan, prompt_text

_BURST = 0.002
"""Seconds that an idle worker waits for the other calls of a burst."""
_PATIENCE = 8
"""Steps after which waiting rows are let in, however few they are; reading a prompt holds up everyone else."""


@dataclass(slots=True, eq=False)
class Draws:
    """A call for `n` completions of one request."""

    request: Request[Any]
    sampling: Sampling
    n: int
    future: Future[Any] = field(default_factory=Future)
    rows: list[Row] = field(default_factory=list)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt."""
        return self.request.messages


@dataclass(slots=True, eq=False)
class Scores:
    """A call for the log-probabilities of a completion."""

    messages: tuple[Message, ...]
    completion: str
    future: Future[Any] = field(default_factory=Future)


Job = Draws | Scores


class Worker:
    """A thread with a model, from its start until it is closed or dies.

    Args:
        source: What it loads, first of all.
        batch_size: Rows decoded at the same time at most.
    """

    def __init__(self, source: Source, batch_size: int) -> None:
        self.over = False
        """Whether it takes no jobs any more."""
        self._source = source
        self._most = batch_size
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._open: set[Job] = set()
        self._chance = random.Random()
        self._thread = threading.Thread(target=self._live, name=f"synthkd {source.path}", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Hand over a job; its future is answered from the thread."""
        with self._lock:
            if self.over:
                raise TeacherUnavailable(f"the model {self._source.path} was closed or has crashed")
            self._open.add(job)
        self._inbox.put(job)

    def close(self) -> None:
        """End the thread and free the model; blocks until both are done."""
        self._inbox.put(None)
        self._thread.join()

    def _live(self) -> None:
        error: Exception = TeacherUnavailable(f"the model {self._source.path} was closed while a call was under way")
        try:
            self._work()
        except SynthKDError as known:
            error = known
        except BaseException as crash:  # whatever it is, those who wait must hear it
            error = TeacherUnavailable(
                f"the model {self._source.path} has crashed: {type(crash).__name__}: {crash}. If memory ran out, give "
                f"LocalTeacher a smaller batch_size (now {self._most}) or a smaller max_tokens."
            )
            error.__cause__ = crash
            traceback.clear_frames(crash.__traceback__)  # they hold the model
        with self._lock:
            self.over = True
            left, self._open = self._open, set()
        for job in left:
            _answer(job, error)
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _work(self) -> None:
        loaded = load(self._source)
        import torch

        before = torch.get_num_threads()
        try:
            with torch.inference_mode():
                self._serve(loaded, lambda busy: torch.set_num_threads((loaded.threads if busy else None) or before))
        finally:
            torch.set_num_threads(before)

    def _serve(self, loaded: Loaded, set_threads: Callable[[bool], None]) -> None:
        decoder = Decoder(loaded.model, loaded.tokenizer, loaded.stops, loaded.context)
        waiting: deque[Row] = deque()
        steps = 0
        while True:
            if not decoder.rows and not waiting:
                set_threads(False)  # training may run in this process while nobody asks
            if not self._collect(loaded, decoder, waiting):
                return
            set_threads(True)
            decoder.drop(_unwanted)
            steps += 1
            if waiting and self._should_admit(decoder, waiting, steps):
                steps = 0
                self._deliver(decoder.admit(self._next(decoder, waiting, loaded.cells)), loaded.name)
            if decoder.rows:
                self._deliver(decoder.step(), loaded.name)

    def _collect(self, loaded: Loaded, decoder: Decoder, waiting: deque[Row]) -> bool:
        """Take in what has arrived, waiting for it if there is nothing else to do; False when it is time to end."""
        jobs: list[Job | None] = []
        if not decoder.rows and not waiting:
            jobs.append(self._inbox.get())
            time.sleep(_BURST)
        while True:
            try:
                jobs.append(self._inbox.get_nowait())
            except Empty:
                break
        wanted = [job for job in jobs if job is not None and not job.future.cancelled()]
        if wanted:
            self._take_in(wanted, loaded, decoder, waiting)
        return None not in jobs

    def _take_in(self, jobs: list[Job], loaded: Loaded, decoder: Decoder, waiting: deque[Row]) -> None:
        """Turn jobs into rows; those that the model cannot take fail on their own, scores are given at once."""
        plans = {}
        ready, texts = [], []
        for job in jobs:
            try:
                options: dict[str, Any] = {}
                if isinstance(job, Draws):
                    plans[job] = plan(loaded, job.sampling)
                    options = dict(job.sampling.extra.get("chat_template_kwargs") or {})
                    if job.request.tools:
                        options["tools"] = list(job.request.tools)
                texts.append(prompt_text(loaded, job.messages, options))
                ready.append(job)
            except SynthKDError as error:
                self._finish(job, error)
        prompts = loaded.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        scored: list[tuple[Scores, list[int], list[int]]] = []
        for job, prompt in zip(ready, prompts, strict=True):
            extra: list[int] = []
            if isinstance(job, Scores):
                extra = loaded.tokenizer(job.completion, add_special_tokens=False)["input_ids"]
            if not prompt or len(prompt) + max(len(extra), 1) > loaded.context:
                self._finish(job, _too_long(loaded, len(prompt), len(extra)))
            elif isinstance(job, Scores):
                scored.append((job, prompt, extra))
            else:
                job.rows = [Row(prompt, plans[job], self._generator(job, draw), job) for draw in range(job.n)]
                waiting.extend(job.rows)
        values = decoder.score([(prompt, extra) for _, prompt, extra in scored]) if scored else []
        for (asked, _, _), found in zip(scored, values, strict=True):
            self._finish(asked, found)

    def _generator(self, job: Draws, draw: int) -> Callable[[], float]:
        """Where a row's chance comes from: with a seed, from it, the messages and the draw's number alone."""
        seed = job.sampling.seed
        if seed is None:
            return self._chance.random
        return random.Random(blake2b(as_identity((seed, draw, job.messages)), digest_size=8).digest()).random

    def _should_admit(self, decoder: Decoder, waiting: deque[Row], steps: int) -> bool:
        """Whether new rows are worth an interruption: many, or long waited for, or few at work."""
        free = self._most - len(decoder.rows)
        if not decoder.open or free <= 0:
            return False
        many = min(free, len(waiting)) >= max(1, self._most // 8)
        return many or steps >= _PATIENCE or 2 * len(decoder.rows) < self._most

    def _next(self, decoder: Decoder, waiting: deque[Row], cells: int) -> list[Row]:
        """As many waiting rows as there are places for and memory: all rows together take the longest one's."""
        chosen: list[Row] = []
        longest = max((_most_places(row) for row in decoder.rows), default=0)
        while waiting and len(decoder.rows) + len(chosen) < self._most:
            row = waiting[0]
            if not _unwanted(row):
                longest = max(longest, _most_places(row))
                rows = len(decoder.rows) + len(chosen)
                if rows and (rows + 1) * longest > cells:
                    break
                chosen.append(row)
            waiting.popleft()
        return chosen

    def _deliver(self, done: list[Row], name: str) -> None:
        """Answer the jobs whose last row has ended."""
        for row in done:
            job: Draws = row.owner
            if all(each.finish for each in job.rows):
                self._finish(job, [_completion(each, k, name) for k, each in enumerate(job.rows)])

    def _finish(self, job: Job, result: Any) -> None:
        with self._lock:
            self._open.discard(job)
        _answer(job, result)


def _answer(job: Job, result: Any) -> None:
    try:
        if isinstance(result, BaseException):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
    except InvalidStateError:
        pass  # cancelled by whoever waited for it


def _unwanted(row: Row) -> bool:
    return bool(row.owner.future.cancelled())


def _most_places(row: Row) -> int:
    return len(row.prompt) + row.plan.max_tokens


def _too_long(loaded: Loaded, prompt: int, extra: int) -> TeacherError:
    scored = f" and {extra} to score" if extra else ""
    return TeacherError(
        f"a prompt of {prompt} tokens{scored}: expected at least one, and with the reply at most the {loaded.context} "
        f"that {loaded.name} can take. Shorten the prompt, or use a model with a longer context."
    )


def _completion(row: Row, draw: int, name: str) -> Completion:
    # The prompt is counted with the first draw, as providers bill it once.
    usage = Usage(prompt_tokens=0 if draw else len(row.prompt), completion_tokens=len(row.tokens))
    return Completion(row.text, finish_reason=row.finish, logprobs=tuple(row.logprobs), usage=usage, model=name)
