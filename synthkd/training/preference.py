"""Preference training: the only place that trains a student to prefer one completion over another.

Invariant: chosen and rejected of a pair follow the same prompt, and the reference is the student as it came.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError
from synthkd.training.fitting import Settings, arguments, finish, modest, quiet_libraries
from synthkd.training.formats import PREFERENCES, Data, Rows, fitting, load
from synthkd.training.output import Output
from synthkd.training.students import Student, StudentLike, check_student, lora_config, open_student
from synthkd.training.trainers import dpo_trainer

if TYPE_CHECKING:
    from peft import LoraConfig


def dpo(
    dataset: Data,
    student: StudentLike,
    out: str | os.PathLike[str],
    *,
    beta: float = 0.1,
    epochs: float = 1.0,
    max_steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int = 8,
    accumulate: int = 1,
    max_length: int = 2048,
    lora: int | LoraConfig | None = None,
    seed: int = 0,
    chat_template: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    quiet: bool = False,
    trl: Mapping[str, Any] | None = None,
) -> Path:
    """Train a student to prefer a dataset's chosen completions to its rejected ones.

    The reference's log-probabilities are computed once, before training, so only one model is in memory.

    Args:
        dataset: `prompt`, `chosen` and `rejected`: as for `sft`, or `Preference` records.
        student: As for `sft`; best one that has learned by it already.
        out: The folder to write; one that training made before is replaced.
        beta: How strongly the student is held to the reference; greater is nearer to it.
        learning_rate: Highest rate, between warm-up and cosine; by default 1e-6, LoRA 1e-5. Tiny models want more.
        max_length: Tokens of prompt and completion; a pair of which one is longer is left out and counted.
        trl: Fields of `trl.DPOConfig` that come before all of these, such as `loss_type`.

    All other arguments are those of `sft`.

    Returns:
        The folder: weights, tokenizer, `training.json` with settings, and loss, rewards and margins of every step.

    Raises:
        ConfigError: An argument is wrong, or the student cannot be loaded or would never learn to stop.
        DataError: The dataset lacks a column or has no pair short enough.
        MissingExtra: trl or torch is not installed.

    Reference: Rafailov et al. 2023, Direct Preference Optimization, arXiv:2305.18290.
    """
    if not beta > 0:
        raise ConfigError(f"beta={beta}: expected more than 0, such as 0.1")
    rate = learning_rate if learning_rate is not None else 1e-5 if lora else 1e-6
    settings = Settings(epochs, max_steps, rate, batch_size, accumulate, max_length, seed, device)
    check_student(student)
    rows = load(dataset, PREFERENCES)
    adapters = lora_config(lora)
    with Output(out) as output, quiet_libraries():
        learner = open_student(student, chat_template, device, dtype)
        settings = replace(settings, max_length=min(max_length, learner.context))
        rows = fitting(rows, learner.tokenizer, settings.max_length, PREFERENCES)
        own = {"beta": beta, "lora": lora, "trl": trl}
        with modest(learner, device):
            trainer = _trainer(learner, rows, _arguments(settings, output, beta, trl or {}), adapters)
            return finish(trainer, "dpo", learner, rows, settings, output, quiet, own)


def _arguments(settings: Settings, output: Output, beta: float, more: Mapping[str, Any]) -> Any:
    from trl import DPOConfig

    return arguments(DPOConfig, settings, output.scratch, more, beta=beta, precompute_ref_log_probs=True)


def _trainer(learner: Student, rows: Rows, args: Any, adapters: Any) -> Any:
    return dpo_trainer()(
        model=learner.model,
        args=args,
        train_dataset=rows.data,
        processing_class=learner.tokenizer,
        peft_config=adapters,
    )
