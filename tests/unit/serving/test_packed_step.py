"""Packed steps: parts of prompts and next tokens in one forward pass, and who falls back."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM

from serving.engine.adapters import AdapterSwitch
from serving.engine.engine import Engine, EngineLimits
from serving.engine.executor import BatchedExecutor, Executor, SequencePart, SequentialExecutor
from serving.engine.packed_executor import PackedExecutor
from serving.engine.requests import AnswerPart, AnswerSettings, GenerationRequest
from serving.engine.sampling import SamplingSettings
from serving.transformers_model import load_transformers_model
from tests.factories import make_tiny_model
from training.models.inference import load_for_inference

CPU = torch.device("cpu")
TOLERANCE = 2e-5
"""Largest difference of a logit, whose standard deviation is about 1, in fp32."""
TARGETS = ("q_proj", "down_proj", "lm_head", "embed_tokens")


def random_steps(lengths: Sequence[int], budget: int, seed: int) -> list[list[SequencePart]]:
    """Return steps that read sequences of random tokens, which begin at different times.

    Half of a sequence is its prompt, read in parts; the rest is read token by token.
    """
    random = np.random.default_rng(seed)
    rows = [random.integers(3, 300, length).tolist() for length in lengths]
    read = [0] * len(rows)
    steps = []
    while any(done < len(row) for done, row in zip(read, rows, strict=True)):
        left, step = budget, []
        for slot, row in enumerate(rows):
            begin, prompt = read[slot], len(row) // 2
            size = min(left, prompt - begin, int(random.integers(1, budget + 1)))
            if begin >= prompt:
                size = int(begin < len(row) and random.random() < 0.8)
            if size > 0:
                keep = int(random.integers(0, size + 1))
                step.append(SequencePart(slot, row[begin : begin + size], begin, keep=keep))
                read[slot] += size
                left -= size * (begin < prompt)
        if step:
            steps.append(step)
    return steps


def check_steps(
    executor: Executor, steps: Sequence[Sequence[SequencePart]], plain: dict[str | None, Any]
) -> None:
    """Compare the logits of all steps with those of plain forward passes.

    Args:
        executor: The executor.
        steps: The steps.
        plain: Model with each adapter merged, by its name.
    """
    texts: dict[int, list[int]] = {}
    for step in steps:
        found = iter(executor.forward(step))
        for part in step:
            text = texts.setdefault(part.slot, [])
            text.extend(part.ids)
            with torch.no_grad():
                expected = plain[part.adapter](torch.tensor([text])).logits[0]
            for row in expected[len(text) - part.keep :]:
                assert float((next(found) - row).abs().max()) < TOLERANCE
        assert next(found, None) is None


@pytest.mark.parametrize(
    ("kind", "shape", "executor"),
    [
        ("llama", {}, PackedExecutor),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, PackedExecutor),
        ("mistral", {"sliding_window": 4096}, BatchedExecutor),
        ("bloom", {"n_layer": 2, "n_head": 4}, SequentialExecutor),
        ("qwen2", {}, PackedExecutor),
        ("qwen3", {}, PackedExecutor),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2}, PackedExecutor),
        ("phi3", {}, PackedExecutor),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, PackedExecutor),
        ("gpt_neox", {}, PackedExecutor),
        ("olmo2", {}, PackedExecutor),
        ("granite", {}, PackedExecutor),
        ("cohere", {}, PackedExecutor),
        ("mistral", {"sliding_window": None}, PackedExecutor),
        ("gemma2", {}, BatchedExecutor),
        ("gpt_oss", {"num_local_experts": 4}, BatchedExecutor),
        ("llama4_text", {"num_local_experts": 2, "attention_chunk_size": 64}, SequentialExecutor),
    ],
)
def test_every_step_equals_plain_forward_passes(
    kind: str, shape: dict[str, Any], executor: type[Any], tmp_path: Path
) -> None:
    folder = str(make_tiny_model(tmp_path / "model", kind, **shape))
    model, _ = load_for_inference(folder, folder, CPU)
    served = load_transformers_model(kind, folder, {})
    assert type(served.executor) is executor
    for seed in range(3):
        check_steps(served.executor, random_steps((12, 31, 2, 60, 7), 9, seed), {None: model})


def test_tokens_of_several_adapters_share_a_pack(chat_folder: str, tmp_path: Path) -> None:
    """Also adapters of the embeddings and of the layer that computes the logits."""
    folders: dict[str, str] = {}
    plain: dict[str | None, Any] = {None: load_for_inference(chat_folder, chat_folder, CPU)[0]}
    for seed, name in enumerate(("a", "b", "c")):
        model = AutoModelForCausalLM.from_pretrained(chat_folder, dtype=torch.float32)
        torch.manual_seed(seed)
        tuned = get_peft_model(model, LoraConfig(r=4, target_modules=list(TARGETS[seed:])))
        for parameter_name, parameter in tuned.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.3)
        folders[name] = str(tmp_path / name)
        tuned.save_pretrained(folders[name])
        plain[name] = tuned.eval()
    switch = AdapterSwitch(load_for_inference(chat_folder, chat_folder, CPU)[0])
    configs = {name: PeftConfig.from_pretrained(folder) for name, folder in folders.items()}
    switch.add(folders, configs)
    counted = _CountedPasses(switch)
    names = (None, "b", "a", "c", None, "b", "a")
    steps = [
        [SequencePart(p.slot, p.ids, p.start, names[p.slot], p.keep) for p in step]
        for step in random_steps((12, 31, 2, 60, 7, 9, 24), 20, 0)
    ]
    check_steps(counted, steps, plain)
    assert counted.passes == len(steps)


class _CountedPasses(PackedExecutor):
    passes = 0

    def _forward(self, parts: Sequence[SequencePart]) -> torch.Tensor:
        self.passes += 1
        return super()._forward(parts)


def test_the_attention_of_the_model_is_as_before_after_a_step(chat_folder: str) -> None:
    model, _ = load_for_inference(chat_folder, chat_folder, CPU)
    before = model.config._attn_implementation
    executor = PackedExecutor(AdapterSwitch(model))
    executor.forward([SequencePart(0, [5, 6, 7], 0)])
    with pytest.raises(IndexError):
        executor.forward([SequencePart(0, [10**6], 3)])
    assert model.config._attn_implementation == before
    with torch.no_grad():
        assert model(torch.tensor([[5, 6, 7]])).logits.isfinite().all()


def test_answers_continue_while_others_are_cancelled(chat_folder: str) -> None:
    """A cancelled answer leaves its slot to the last one; prompts are longer than a step reads."""
    served = load_transformers_model("x", chat_folder, {})
    assert isinstance(served.executor, PackedExecutor)
    form = served.formats[None]
    random = np.random.default_rng(0)
    prompts = [random.integers(3, 300, length).tolist() for length in (70, 5, 33, 12, 50, 1)]

    def answers(cancelled: set[int]) -> dict[int, list[int]]:
        limits = EngineLimits(max_running=4, prompt_chunk=8)
        engine = Engine(served.executor, {None: form.tokenizer}, {None: frozenset()}, limits)
        received: list[queue.Queue[AnswerPart]] = [queue.Queue() for _ in prompts]
        settings = [
            AnswerSettings(30, SamplingSettings(0.9 * (i % 2), seed=(1, i)), log_probs=0)
            for i in range(len(prompts))
        ]
        requests = [
            GenerationRequest(*one)
            for one in zip(prompts, settings, [box.put for box in received], strict=True)
        ]
        for request in requests:
            engine.submit(request)
        engine.start()
        for place in cancelled:
            received[place].get(timeout=60)  # its answer has begun
            engine.cancel(requests[place])
        found: dict[int, list[int]] = {}
        for place in set(range(len(prompts))) - cancelled:
            tokens: list[int] = []
            reason = None
            while reason is None:
                part = received[place].get(timeout=60)
                tokens += [one.token for one in part.log_probs]
                reason = part.finish_reason
            assert (reason, len(tokens)) == ("length", 30)
            found[place] = tokens
        engine.stop()
        return found

    everyone = answers(set())
    remaining = answers({1, 2})
    assert remaining == {place: everyone[place] for place in (0, 3, 4, 5)}
