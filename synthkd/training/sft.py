"""Supervised fine-tuning: the only place that trains a student on completions.

Invariant: the loss is on the completion alone, the token that ends the assistant's turn included.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkd.training.adapters import masked
from synthkd.training.fitting import Settings, arguments, finish, modest, quiet_libraries
from synthkd.training.formats import DEMONSTRATIONS, Data, Rows, fitting, load, weights
from synthkd.training.output import Output
from synthkd.training.students import Student, StudentLike, check_student, lora_config, open_student
from synthkd.training.trainers import WeightedCollator, sft_trainer, weighted_sft_trainer

if TYPE_CHECKING:
    from peft import LoraConfig


def sft(
    dataset: Data,
    student: StudentLike,
    out: str | os.PathLike[str],
    *,
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
    """Train a student to say a dataset's completions, and write it with its tokenizer to a folder.

    A column `weight` counts: each token's loss is multiplied by its row's weight over the mean weight. The spans of a
    column `masked` carry no loss.

    Args:
        dataset: `prompt` and `completion`: a folder of `run.save`, a Parquet file, a dataset, or records.
        student: A folder, an id on the Hub, or `(model, tokenizer)`, which is then trained in place.
        out: The folder to write; one that training made before is replaced.
        epochs: Passes over the rows; `max_steps`, if given, ends training earlier or later.
        learning_rate: Highest rate, between warm-up and cosine; by default 2e-5, LoRA 2e-4. Tiny models want more.
        batch_size: Rows in memory at a time; `accumulate` batches make one step.
        max_length: Tokens of prompt and completion; longer rows are left out and counted, never cut.
        lora: Rank of low-rank adapters, or peft's configuration; they are merged into what is written.
        chat_template: Jinja text in place of the tokenizer's own. A tokenizer without one gets `PLAIN_TEMPLATE`.
        device: `cpu` or `cuda`; by default the GPU if there is one.
        dtype: Of the weights in training; by default float32, under bfloat16 autocast on a GPU.
        trl: Fields of `trl.SFTConfig` that come before all of these, such as `gradient_checkpointing`.

    Returns:
        The folder: weights, tokenizer, `training.json` (settings, the loss of every step), `loss.png`.

    Raises:
        ConfigError: An argument is wrong, or the student cannot be loaded or would never learn to stop.
        DataError: The dataset lacks a column or has no row short enough.
        MissingExtra: trl or torch is not installed.

    Reference: Kim and Rush 2016, Sequence-Level Knowledge Distillation, arXiv:1606.07947.
    """
    rate = learning_rate if learning_rate is not None else 2e-4 if lora else 2e-5
    settings = Settings(epochs, max_steps, rate, batch_size, accumulate, max_length, seed, device)
    check_student(student)
    rows = load(dataset, DEMONSTRATIONS)
    adapters = lora_config(lora)
    with Output(out) as output, quiet_libraries():
        learner = open_student(student, chat_template, device, dtype)
        settings = replace(settings, max_length=min(max_length, learner.context))
        rows = fitting(rows, learner.tokenizer, settings.max_length, DEMONSTRATIONS)
        with modest(learner, device):
            trainer = _trainer(learner, rows, settings, output, adapters, trl or {})
            return finish(trainer, "sft", learner, rows, settings, output, quiet, {"lora": lora, "trl": trl})


def _trainer(
    learner: Student, rows: Rows, settings: Settings, output: Output, adapters: Any, more: Mapping[str, Any]
) -> Any:
    from trl import SFTConfig

    weighed = weights(rows)
    data = rows.data.select_columns(list(DEMONSTRATIONS.columns))
    # Everything but prompt and completion is dropped by the trainer, unless told otherwise.
    own: dict[str, Any] = {"completion_only_loss": True, "remove_unused_columns": weighed is None}
    kind, collator = sft_trainer(), None
    if "masked" in rows.data.column_names:
        data = masked(rows.data, learner.tokenizer)
    if weighed is not None:
        data = data.add_column("weight", weighed)
        kind, collator = weighted_sft_trainer(), WeightedCollator(learner.tokenizer.pad_token_id)
    return kind(
        model=learner.model,
        args=arguments(SFTConfig, settings, output.scratch, more, **own),
        data_collator=collator,
        train_dataset=data,
        processing_class=learner.tokenizer,
        peft_config=adapters,
    )
