"""The ten shapes, each fed to the data preparation of the trainer that it is for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from tiny_models import TEMPLATE, make_model, make_tokenizer

from synthkd.data import row, to_dataset, write
from synthkd.errors import DataError
from synthkd.message import Image, Message
from synthkd.record import (
    Conversation,
    Demonstration,
    Distribution,
    Document,
    Instruction,
    Labelled,
    Masked,
    Preference,
    Ranking,
    Rated,
    Record,
    Steps,
)
from synthkd.training import adapters, collators, formats
from synthkd.training.fitting import quiet_libraries

pytestmark = pytest.mark.train

TOOLS = (
    "{%- if tools -%}<|system|>{%- for tool in tools -%}{{- tool | tojson -}}{%- endfor -%}<|end|>{%- endif -%}"
    "{%- for message in messages -%}<|{{- message['role'] -}}|>{{- message['content'] -}}"
    "{%- if 'tool_calls' in message -%}{%- for call in message['tool_calls'] -%}"
    "{{- call['function']['name'] -}}{{- call['function']['arguments'] | tojson -}}"
    "{%- endfor -%}{%- endif -%}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import trl.trainer.base_trainer

    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", lambda *_, **__: None)
    with quiet_libraries():
        yield


def loaded(records: list[Any], wanted: formats.Format, folder: Path) -> datasets.Dataset:
    """What a user has after `run.save` and `formats.load`."""
    return formats.load(write([row(record) for record in records], folder / "saved", "# saved"), wanted).data


def options(folder: Path, **more: Any) -> dict[str, Any]:
    own = {"output_dir": str(folder), "report_to": "none", "use_cpu": True, "bf16": False}
    return {**own, "max_length": None, "activation_checkpointing": False, **more}


def sft(data: datasets.Dataset, folder: Path, tokenizer: Any = None, **more: Any) -> Any:
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        make_model(),
        SFTConfig(**options(folder, **more)),
        train_dataset=data,
        processing_class=tokenizer or make_tokenizer(),
    )


def loss_of(trainer: Any) -> float:
    """The trainer's own loss on its first batch."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return float(trainer.compute_loss(trainer.model, batch).detach())


def test_1_documents_are_language_modelling(tmp_path: Path) -> None:
    records = [Document(text="Tom has 3 apples.", title="t"), Document(text="Paris.")]
    trainer = sft(loaded(records, formats.DOCUMENTS, tmp_path), tmp_path)
    tokenizer = make_tokenizer()
    assert [tokenizer.decode(r["input_ids"]) for r in trainer.train_dataset] == [
        "Tom has 3 apples.<|end|>",
        "Paris.<|end|>",
    ]
    assert loss_of(trainer) > 0


def test_2_demonstrations_are_prompt_completion(told: list[Demonstration], tmp_path: Path) -> None:
    trainer = sft(loaded(told, formats.DEMONSTRATIONS, tmp_path).select_columns(["prompt", "completion"]), tmp_path)
    learned = [label for label in trainer.train_dataset[0]["labels"] if label != -100]
    assert make_tokenizer().decode(learned) == "It is 1.<|end|>"
    assert loss_of(trainer) > 0


def test_3_conversations_are_messages_with_tools(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    talk = (
        Message("user", "1?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "2", tool_call_id="1"),
        Message("assistant", "It is 2."),
    )
    records = [Conversation(messages=talk, tools=(tool,)), Conversation(messages=(*talk[:1], talk[3]))]
    tokenizer = make_tokenizer(TOOLS)
    trainer = sft(loaded(records, formats.CONVERSATIONS, tmp_path).remove_columns(["weight"]), tmp_path, tokenizer)
    first, second = [tokenizer.decode(r["input_ids"]) for r in trainer.train_dataset]
    assert first.startswith('<|system|>{"type": "function", "function": {"name": "add", "parameters": {}}}<|end|>')
    assert first.endswith('<|assistant|>add{"a": 1}<|end|><|tool|>2<|end|><|assistant|>It is 2.<|end|>')
    assert second == "<|user|>1?<|end|><|assistant|>It is 2.<|end|>"
    assert loss_of(trainer) > 0


def vision(tokenizer: Any) -> tuple[Any, Any]:
    """A LLaVA of a few thousand weights and its processor, made on the spot."""
    import torch
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer.add_tokens(["<image>"], special_tokens=True)
    template = (
        "{%- for message in messages -%}<|{{- message['role'] -}}|>{%- for part in message['content'] -%}"
        "{{- '<image>' if part['type'] == 'image' else part['text'] -}}{%- endfor -%}<|end|>{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    torch.manual_seed(0)
    seen = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    config = LlavaConfig(
        vision_config=seen,
        text_config=make_model().config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = LlavaForConditionalGeneration(config)
    model.resize_token_embeddings(len(tokenizer))
    return model, processor


def test_3_pictures_reach_a_vision_model(tmp_path: Path) -> None:
    from PIL import Image as Pillow
    from trl import SFTConfig, SFTTrainer

    picture = tmp_path / "red.png"
    Pillow.new("RGB", (20, 20), "red").save(picture)
    records = [
        Conversation(messages=(Message("user", ("What is ", Image(str(picture)), "?")), Message("assistant", "Red."))),
        Conversation(messages=(Message("user", "Hello"), Message("assistant", "Hello."))),
    ]
    data = loaded(records, formats.CONVERSATIONS, tmp_path)
    picture.unlink()  # the dataset has its bytes
    model, processor = vision(make_tokenizer())
    trainer = SFTTrainer(
        model,
        SFTConfig(**options(tmp_path)),
        train_dataset=data.remove_columns(["tools", "weight"]),
        processing_class=processor,
    )
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    texts = processor.tokenizer.batch_decode(batch["input_ids"])
    assert texts[0].replace("<|pad|>", "") == (
        "<|user|>What is <image><image><image><image>?<|end|><|assistant|>Red.<|end|>"
    )
    assert texts[1].replace("<|pad|>", "") == "<|user|>Hello<|end|><|assistant|>Hello.<|end|>"
    assert batch["pixel_values"].shape == (1, 3, 16, 16)
    assert loss_of(trainer) > 0


def test_pictures_are_refused_where_a_student_reads_text_alone(tmp_path: Path) -> None:
    seen = Demonstration(prompt=(Message("user", (Image("https://a.org/b.png"), "?")),), completion="c")
    with pytest.raises(DataError, match="has pictures, and sft here trains students that read text alone"):
        loaded([seen], formats.DEMONSTRATIONS, tmp_path)


def test_4_preferences_with_scores(pairs: list[Preference], tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    trainer = DPOTrainer(
        make_model(),
        args=DPOConfig(**options(tmp_path, precompute_ref_log_probs=True)),
        train_dataset=loaded(pairs, formats.PREFERENCES, tmp_path),
        processing_class=make_tokenizer(),
    )
    decoded = {k: make_tokenizer().decode(trainer.train_dataset[0][k]) for k in ("prompt_ids", "chosen_ids")}
    assert decoded == {"prompt_ids": "<|user|>0 and 1?<|end|><|assistant|>", "chosen_ids": "It is 1.<|end|>"}
    assert math.isclose(loss_of(trainer), math.log(2), rel_tol=1e-3)  # the student is its own reference
    scored = [p.model_copy(update={"score_chosen": 5.0, "score_rejected": 1.5}) for p in pairs]
    data = adapters.margins(loaded(scored, formats.SCORED_PREFERENCES, tmp_path))
    config = LlamaConfig(**{**make_model().config.to_dict(), "num_labels": 1})
    rewarder = RewardTrainer(
        LlamaForSequenceClassification(config),
        args=RewardConfig(**options(tmp_path)),
        train_dataset=data,
        processing_class=make_tokenizer(),
    )
    assert next(iter(rewarder.get_train_dataloader()))["margin"].tolist() == [3.5] * 8
    assert loss_of(rewarder) > 0
    with pytest.raises(DataError, match="row 0 has the scores None and None"):
        adapters.margins(loaded(pairs, formats.SCORED_PREFERENCES, tmp_path))


def test_5_rated_completions_are_unpaired_preferences(tmp_path: Path) -> None:
    from trl import KTOConfig, KTOTrainer

    records = [Rated(prompt=f"{i}?", completion=f"It is {i}.", label=i % 2 == 0) for i in range(4)]
    trainer = KTOTrainer(
        make_model(),
        args=KTOConfig(**options(tmp_path, per_device_train_batch_size=4, precompute_ref_log_probs=True)),
        train_dataset=loaded(records, formats.RATED, tmp_path),
        processing_class=make_tokenizer(),
    )
    rows = trainer.train_dataset
    assert [r["label"] for r in rows] == [True, False, True, False]
    assert make_tokenizer().decode(rows[1]["completion_ids"]) == "It is 1.<|end|>"
    assert loss_of(trainer) > 0


def test_6_prompts_with_gold_answers_reach_a_reward_function(tmp_path: Path) -> None:
    from trl import GRPOConfig, GRPOTrainer

    seen: list[tuple[Any, Any]] = []

    def reward(prompts: list[Any], completions: list[Any], gold: list[str], **_: Any) -> list[float]:
        seen.extend((p[-1]["content"], g) for p, g in zip(prompts, gold, strict=True))
        return [float(len(c[0]["content"])) for c in completions]

    records = [Instruction(prompt=f"{i} and 1?", meta={"gold": str(i + 1)}) for i in range(2)]
    data = adapters.from_meta(loaded(records, formats.PROMPTS, tmp_path), "gold")
    assert data.column_names == ["prompt", "gold"]
    trainer = GRPOTrainer(
        make_model(),
        reward,
        args=GRPOConfig(
            **{k: v for k, v in options(tmp_path).items() if k != "max_length"},
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=4,
        ),
        train_dataset=data,
        processing_class=make_tokenizer(),
    )
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert set(seen) <= {("0 and 1?", "1"), ("1 and 1?", "2")}
    assert len(seen) == 2
    with pytest.raises(DataError, match="row 0 has no 'answer' in its meta, only gold"):
        adapters.from_meta(to_dataset(records), "answer")


def test_6_privileged_context_is_a_column_beside_the_prompt(student: Path, tmp_path: Path) -> None:
    record = Demonstration(prompt="p", completion="c", privileged_context="Think of 7.")
    data = loaded([record], formats.PROMPTS, tmp_path)
    assert data[0]["privileged_context"] == "Think of 7."
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    trainer = SDFTTrainer(
        str(student),
        args=SDFTConfig(**{k: v for k, v in options(tmp_path).items() if k != "max_length"}),
        train_dataset=data.remove_columns(["meta"]),
        processing_class=make_tokenizer(),
    )
    assert set(trainer.train_dataset.column_names) == {"prompt", "privileged_context"}


def test_7_steps_have_their_verdict_at_their_last_token(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForTokenClassification

    records = [Steps(prompt="3 + 4?", completions=("Add 4.", "It is 8."), labels=(True, False))]
    tokenizer = make_tokenizer()
    batch = collators.StepVerdicts(tokenizer)(list(loaded(records, formats.STEPS, tmp_path)))
    told = (batch["labels"][0] != -100).nonzero().flatten().tolist()
    assert [int(batch["labels"][0][k]) for k in told] == [1, 0]
    text = "<|user|>3 + 4?<|end|><|assistant|>Add 4.\n"
    assert tokenizer.decode(batch["input_ids"][0][: told[0] + 1]) == text
    assert tokenizer.decode(batch["input_ids"][0]) == text + "It is 8.\n"
    config = LlamaConfig(**{**make_model().config.to_dict(), "num_labels": 2})
    assert torch.isfinite(LlamaForTokenClassification(config)(**batch).loss)


def test_8_ranked_lists_lie_one_completion_under_the_other(tmp_path: Path) -> None:
    import torch

    records = [
        Ranking(prompt="2?", completions=("It is 2.", "No."), scores=(1.0, 0.0)),
        Ranking(prompt="3?", completions=("It is 3.", "Paris.", "He"), scores=(3.0, 2.0, 2.0)),
    ]
    tokenizer = make_tokenizer()
    batch = collators.RankedLists(tokenizer)(list(loaded(records, formats.RANKINGS, tmp_path)))
    assert (batch["lists"].tolist(), batch["scores"].tolist()) == ([0, 0, 1, 1, 1], [1.0, 0.0, 3.0, 2.0, 2.0])
    said = [tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]]
    assert said == ["It is 2.<|end|>", "No.<|end|>", "It is 3.<|end|>", "Paris.<|end|>", "He<|end|>"]
    logits = make_model()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    targets = batch["labels"][:, 1:]
    each = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
    likelihood = each.sum(1) / (targets != -100).sum(1)
    first = torch.relu(likelihood[1] - likelihood[0])  # RRHF on the first list
    assert torch.isfinite(first)


def test_9_labelled_texts_train_a_classifier(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification, Trainer, TrainingArguments

    records = [
        Labelled(text="Paris.", label="place", soft_label={"place": 0.75, "sum": 0.25}),
        Labelled(text="3 + 4", label="sum", weight=2.0),
    ]
    data = adapters.classified(loaded(records, formats.LABELLED, tmp_path).remove_columns(["text_pair"]))
    assert data.features["label"] == datasets.ClassLabel(names=["place", "sum"])
    assert (data["label"][:], data["soft_label"][:]) == ([0, 1], [[0.75, 0.25], [0.0, 1.0]])
    batch = collators.Classes(make_tokenizer())(list(data))
    model = LlamaForSequenceClassification(LlamaConfig(**{**make_model().config.to_dict(), "num_labels": 2}))
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    soft = torch.nn.functional.cross_entropy(logits, batch["soft_labels"], reduction="none")
    assert torch.isfinite((soft * batch["weight"]).mean())
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, remove_unused_columns=False),
        train_dataset=data.select_columns(["text", "label"]),
        data_collator=collators.Classes(make_tokenizer()),
    )
    assert loss_of(trainer) > 0
    with pytest.raises(DataError, match="the classes sum are not among the names place"):
        adapters.classified(to_dataset(records), names=["place"])


def test_10_the_teachers_likeliest_tokens_are_told_in_the_students_vocabulary(tmp_path: Path) -> None:
    import torch

    tokenizer = make_tokenizer()
    completion = "He has 7 apples."
    tokens = [tokenizer.decode([t]) for t in tokenizer(completion)["input_ids"]]
    top = tuple((token, "unheard-of") for token in tokens)
    record = Distribution(
        prompt="How many?",
        completion=completion,
        tokens=(*tokens, "<|end|>"),
        top_tokens=(*top, ("<|end|>", "<|end|>")),
        top_logprobs=((math.log(0.5), math.log(0.4)),) * len(tokens) + ((math.log(0.5), math.log(0.25)),),
    )
    data = loaded([record], formats.DISTRIBUTIONS, tmp_path)
    batch = collators.TopTokens(tokenizer)(list(data))
    told, ids = batch["told"][0], batch["input_ids"][0]
    assert int(told.sum()) == len(tokens) + 1
    assert batch["top_ids"][0][told][:, 0].tolist() == ids[told].tolist()
    assert torch.exp(batch["rest_logprobs"][0][told]).tolist() == pytest.approx([0.5] * len(tokens) + [0.25])
    logprobs = make_model()(input_ids=batch["input_ids"]).logits[0, :-1].log_softmax(-1)
    teacher, student = batch["top_logprobs"][0, 1:], logprobs.gather(-1, batch["top_ids"][0, 1:])
    terms = torch.where(teacher.isfinite(), teacher.exp() * (teacher - student), 0.0).sum(-1)
    assert torch.isfinite(terms[told[1:]]).all()


def test_a_teacher_with_other_tokens_is_told_where_both_begin_a_token() -> None:
    tokenizer = make_tokenizer()
    record = Distribution(
        prompt="?",
        completion="He xx",
        tokens=("He", " x", "x", "?!", "more"),
        top_tokens=(("He",), (" x",), ("x",), ("?!",), ("more",)),
        top_logprobs=((-0.5,),) * 5,
    )
    batch = collators.TopTokens(tokenizer)([row(record)])
    starts = [tokenizer.decode([t]) for t in batch["input_ids"][0][batch["told"][0]]]
    assert starts == ["He", " ", "x", "<|end|>"]  # the student writes " x" as two tokens
    assert batch["top_logprobs"][0][batch["told"][0]][1].tolist() == [-math.inf]
    assert float(batch["rest_logprobs"][0][batch["told"][0]][1]) == 0.0


class TestMasked:
    def test_without_spans_tokens_and_labels_are_trls_own(self, told: list[Demonstration], tmp_path: Path) -> None:
        records = [Masked(prompt=r.prompt, completion=r.completion, masked=()) for r in told]
        data = loaded(records, formats.DEMONSTRATIONS, tmp_path)
        own = sft(data.select_columns(["prompt", "completion"]), tmp_path).train_dataset
        for mine, theirs in zip(adapters.masked(data, make_tokenizer()), own, strict=True):
            assert (mine["input_ids"], mine["labels"]) == (theirs["input_ids"], theirs["labels"])

    def test_a_span_carries_no_loss_and_the_rest_does(self, tmp_path: Path) -> None:
        said = "Look: Tom has 3. So it is 3."
        record = Masked(prompt="How many?", completion=said, masked=((6, 16),))
        trainer = sft(adapters.masked(loaded([record], formats.DEMONSTRATIONS, tmp_path), make_tokenizer()), tmp_path)
        [found] = trainer.train_dataset
        learned = make_tokenizer().decode([label for label in found["labels"] if label != -100])
        assert learned.startswith("Look:")
        assert learned.endswith("So it is 3.<|end|>")
        assert "Tom" not in learned
        assert loss_of(trainer) > 0

    def test_sft_masks_by_itself(self, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from trained import trainer_of

        records = [Masked(prompt="a", completion="see Tom. Yes.", masked=((4, 8),), weight=w) for w in (1.0, 0.5)]
        rows = trainer_of(monkeypatch, "sft", records, student, tmp_path / "out").train_dataset
        learned = [make_tokenizer().decode([label for label in r["labels"] if label != -100]) for r in rows]
        assert [(text[:3], text[-11:], "Tom" in text) for text in learned] == [("see", "Yes.<|end|>", False)] * 2
        assert [r["weight"] for r in rows] == pytest.approx([4 / 3, 2 / 3])

    def test_a_template_that_changes_the_completion_is_an_error(self) -> None:
        tokenizer = make_tokenizer(TEMPLATE.replace("message['content']", "message['content'] | upper"))
        record: Record = Masked(prompt="a", completion="b", masked=())
        with pytest.raises(DataError, match="the chat template changes the completion 'b'"):
            adapters.masked(to_dataset([record]), tokenizer)

    def test_tags_become_tokens_of_the_student(self) -> None:
        model, tokenizer = make_model(), make_tokenizer()
        assert adapters.with_tags(model, tokenizer, ["<think>", "</think>", ""]) == 2
        assert len(tokenizer("<think>")["input_ids"]) == 1
        assert model.get_input_embeddings().num_embeddings == len(tokenizer) == 322
        assert adapters.with_tags(model, tokenizer, ["<think>"]) == 0
