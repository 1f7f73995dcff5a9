"""Continuous batching: what shares a batch changes nothing; architectures; slots."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from serving.engine.adapters import AdapterSwitch
from serving.engine.engine import Engine, EngineLimits
from serving.engine.executor import BatchedExecutor, SequencePart, SequentialExecutor
from serving.engine.probe import batch_problem
from serving.engine.requests import AnswerPart, AnswerSettings, GenerationRequest
from serving.engine.sampling import SamplingSettings, choose_tokens, log_probs_of
from serving.transformers_model import load_transformers_model
from tests.factories import make_tiny_model
from training.models.generate import sample, uniforms
from training.models.inference import load_for_inference

CPU = torch.device("cpu")
LENGTHS = (1, 3, 17, 4, 40, 9, 2, 25)


def prompts(vocabulary: int) -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(3, vocabulary, length).tolist() for length in LENGTHS]


def run_engine(engine: Engine, asked: list[tuple[list[int], AnswerSettings]]) -> list[list[int]]:
    """Return the tokens of each answer, all requests submitted at once."""
    parts: list[queue.Queue[AnswerPart]] = [queue.Queue() for _ in asked]
    for (prompt, settings), received in zip(asked, parts, strict=True):
        engine.submit(GenerationRequest(prompt, settings, received.put))
    answers = []
    for received in parts:
        tokens: list[int] = []
        while True:
            part = received.get(timeout=60)
            tokens += [one.token for one in part.log_probs]
            if part.finish_reason:
                assert not part.error, part.error
                break
        answers.append(tokens)
    return answers


def expected_tokens(model: Any, prompt: list[int], settings: AnswerSettings) -> list[int]:
    """Return the answer of Transformers' own generation to one prompt."""
    seed, *place = settings.sampling.seed or (0, 0)
    draws = uniforms([seed], place, settings.max_tokens)
    temperature = settings.sampling.temperature
    (answer,) = sample(model, [prompt], draws, temperature=temperature, end_ids=[2], pad_id=0)
    return answer.ids


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("llama", {}),
        ("bloom", {"n_layer": 2, "n_head": 4}),
        *(
            pytest.param(kind, shape, marks=pytest.mark.slow)
            for kind, shape in (
                ("mistral", {"sliding_window": 8}),
                ("gemma3_text", {"sliding_window": 8, "sliding_window_pattern": 2}),
                ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention"] * 2}),
                ("qwen2", {}),
                ("qwen3", {}),
                ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2}),
                ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
                ("gpt_neox", {}),
                ("phi3", {}),
                ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
                ("gpt_oss", {"sliding_window": 8, "num_local_experts": 4}),
            )
        ),
    ],
)
def test_answers_equal_those_to_each_prompt_alone(
    kind: str, shape: dict[str, Any], tmp_path: Path
) -> None:
    folder = str(make_tiny_model(tmp_path / "model", kind, **shape))
    model, _ = load_for_inference(folder, folder, CPU)
    served = load_transformers_model(kind, folder, {})
    form = served.formats[None]
    limits = EngineLimits(max_running=3, prompt_chunk=7)
    engine = Engine(served.executor, {None: form.tokenizer}, {None: frozenset({2})}, limits)
    engine.start()
    asked = []
    for place, prompt in enumerate(prompts(served.vocabulary)):
        sampling = SamplingSettings(0.8 * (place % 2), seed=(3, place))
        asked.append((prompt, AnswerSettings(5 + 3 * place, sampling, log_probs=0)))
    try:
        found = run_engine(engine, asked)
    finally:
        engine.stop()
    assert found == [expected_tokens(model, *one) for one in asked]
    assert served.batched == (kind != "bloom")


def test_an_executor_that_computes_something_else_is_noticed(chat_folder: str) -> None:
    model, _ = load_for_inference(chat_folder, chat_folder, CPU)

    class ForgetfulExecutor(SequentialExecutor):
        def forward(self, parts: Sequence[SequencePart]) -> torch.Tensor:
            self._caches.clear()
            return super().forward(parts)

    switch = AdapterSwitch(model)
    assert batch_problem(model, BatchedExecutor(switch)) is None
    assert batch_problem(model, SequentialExecutor(switch)) is None
    problem = batch_problem(model, ForgetfulExecutor(switch))
    assert problem is not None
    assert "its logits in a batch differ by" in problem


def test_top_p_and_top_k_leave_the_tokens_that_they_should() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -3.0]])
    probabilities = logits[0].softmax(-1)
    ordered = probabilities.cumsum(-1)  # the logits are in order

    def drawn(settings: SamplingSettings) -> np.ndarray[Any, Any]:
        rows, stream = logits.expand(4000, -1), np.random.default_rng(1)
        tokens = choose_tokens(rows, [settings] * 4000, [stream] * 4000)
        return np.bincount(tokens, minlength=6) / 4000

    share = float(ordered[2] - 0.01)  # reached by the third token
    for settings, left in (
        (SamplingSettings(), 6),
        (SamplingSettings(top_k=2), 2),
        (SamplingSettings(top_p=share), 3),
        (SamplingSettings(top_p=1e-9), 1),
        (SamplingSettings(top_p=share, top_k=1), 1),
    ):
        expected = torch.zeros(6)
        expected[:left] = probabilities[:left] / probabilities[:left].sum()
        assert np.abs(drawn(settings) - expected.numpy()).max() < 0.03
    assert choose_tokens(logits, [SamplingSettings(0.0, 0.1)], [np.random.default_rng()]) == [0]


def test_log_probabilities_name_the_most_likely_tokens() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 10)
    found = log_probs_of(logits, [4, 5, 6], 3)
    expected = torch.log(torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True))
    for row, one in enumerate(found):
        assert one.log_prob == pytest.approx(float(expected[row, 4 + row]), abs=1e-6)
        ranked = sorted(range(10), key=lambda token: -float(expected[row, token]))
        assert [token for token, _ in one.top] == ranked[:3]


def test_cancelled_and_stopped_requests_end(chat_folder: str) -> None:
    served = load_transformers_model("x", chat_folder, {})
    form = served.formats[None]
    limits = EngineLimits(max_running=1)
    engine = Engine(served.executor, {None: form.tokenizer}, {None: frozenset()}, limits)
    engine.start()
    received: queue.Queue[AnswerPart] = queue.Queue()
    requests = [
        GenerationRequest([5], AnswerSettings(200), received.put),
        GenerationRequest([6], AnswerSettings(200), lambda part: ends.append(part)),
        GenerationRequest([7], AnswerSettings(200), lambda part: ends.append(part)),
    ]
    ends: list[AnswerPart] = []
    for request in requests:
        engine.submit(request)
    received.get(timeout=20)
    engine.cancel(requests[1])
    engine.cancel(requests[0])
    reason = None
    while reason is None:
        reason = received.get(timeout=20).finish_reason
    engine.stop()
    assert reason == "cancelled"
    assert ends[0].finish_reason == "cancelled"
    assert (ends[-1].finish_reason, ends[-1].error) == ("error", "the server is stopping")
    assert engine.load.running == 1


def test_a_batch_is_no_larger_than_its_cache_may_be(chat_folder: str) -> None:
    served = load_transformers_model("x", chat_folder, {})
    form = served.formats[None]
    sizes: list[int] = []

    class CountingExecutor(BatchedExecutor):
        def forward(self, parts: Sequence[SequencePart]) -> torch.Tensor:
            sizes.append(len(parts))
            return super().forward(parts)

    model, _ = load_for_inference(chat_folder, chat_folder, CPU)
    executor = CountingExecutor(AdapterSwitch(model))
    # Three sequences of 5 + 15 tokens; the fourth request needs 100 and is answered alone.
    limits = EngineLimits(max_running=8, cache_tokens=60)
    engine = Engine(executor, {None: form.tokenizer}, {None: frozenset()}, limits)
    settings = [AnswerSettings(15, log_probs=0)] * 7 + [AnswerSettings(95, log_probs=0)]
    received: queue.Queue[AnswerPart] = queue.Queue()
    for one in settings:
        engine.submit(GenerationRequest([5, 6, 7, 8, 9], one, received.put))
    engine.start()
    ended = 0
    while ended < len(settings):
        ended += received.get(timeout=60).finish_reason == "length"
    engine.stop()
    assert max(sizes) == 3
    assert sizes[-80:] == [1] * 80
