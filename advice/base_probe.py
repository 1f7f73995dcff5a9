"""Measurements of the untrained model on a sample of the rows; the model is really run."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advice.dataset_profile import DatasetProfile
from advice.text_measures import compressed_bits_per_byte, distinct_sentences
from planning.hub_cache import in_cache
from planning.machine import this_machine
from planning.model_shape import ModelShape
from training.config.model import Model
from training.data.schema.rows import DialogueRow

if TYPE_CHECKING:
    from advice.row_scorer import RowScore, RowScorer

_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_MEMORY_SHARE = 0.6
_REACHED = 0.3
"""Share of the peak that a forward pass on a CPU reaches."""
_FEWEST_TOKENS = 500
_MOST_TOKENS = 12_000
_SMALL = 100_000_000
"""Parameters below which one thread is as fast as several, and much faster on a busy machine."""
_EXAMPLES = 5
_FEWEST_ROWS = 8
"""Rows below which a few-shot gain is noise."""


@dataclass(frozen=True)
class BaseMeasurements:
    """Measurements of the untrained model on the rows; a value is None if it was not measured.

    Attributes:
        loss: Loss on the rows as training renders them, in nats per token.
        answer_loss: The same, of rows with answers; None of texts.
        bits_per_byte: Bits per byte on the text of the rows.
        compressed: Bits per byte of a general-purpose compressor on the same texts.
        few_shot_loss: Loss on the same answers after examples in the prompt.
        examples: Examples in the prompt.
        example_tokens: Tokens that they add to a prompt, on average.
        rows: Rows that were measured.
        tokens: Tokens that were computed.
        skipped: Why nothing was measured; empty if it was.
    """

    loss: float | None = None
    answer_loss: float | None = None
    bits_per_byte: float | None = None
    compressed: float | None = None
    few_shot_loss: float | None = None
    examples: int = 0
    example_tokens: float = 0.0
    rows: int = 0
    tokens: int = 0
    skipped: str = ""

    @property
    def domain_distance(self) -> float | None:
        """Bits per byte relative to the compressor's."""
        if self.bits_per_byte is None or not self.compressed:
            return None
        return self.bits_per_byte / self.compressed

    @property
    def few_shot_gain(self) -> float | None:
        """Share by which examples lower the loss of the answers."""
        if self.few_shot_loss is None or not self.answer_loss:
            return None
        return 1 - self.few_shot_loss / self.answer_loss


def why_not_measurable(model: Model, shape: ModelShape, seconds: float) -> str:
    """Return why a model cannot be run here within a time; empty if it can.

    Args:
        model: The model.
        shape: Its shape.
        seconds: Time that the measurement may take.
    """
    if not _has_weights(model):
        return f"{model.source} has no weights on this machine"
    needed_gib = shape.parameters * 4 / 2**30
    has_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if needed_gib > _MEMORY_SHARE * has_gib:
        return f"its weights need {needed_gib:.0f} GiB here, and this machine has {has_gib:.0f}"
    tokens = tokens_in(shape, seconds)
    if tokens < _FEWEST_TOKENS:
        needed_s = seconds * _FEWEST_TOKENS / max(tokens, 1)
        return f"it would take {needed_s:.0f} s here; allow that with --measure-seconds"
    return ""


def tokens_in(shape: ModelShape, seconds: float) -> int:
    """Return how many tokens this machine computes in a time, forward only."""
    device = this_machine(None).device
    flops = (device.fp32_tflops if device.kind == "cpu" else device.bf16_tflops) * 1e12
    return min(_MOST_TOKENS, int(seconds * _REACHED * flops / (2.0 * shape.active)))


def measure_base(
    model: Model, shape: ModelShape, profile: DatasetProfile, seconds: float
) -> BaseMeasurements:
    """Return the measurements of a model on a sample of rows.

    Args:
        model: The model.
        shape: Its shape.
        profile: Profile of the rows, with the sample.
        seconds: Time that computing may take.

    Raises:
        ModelError: The model cannot be read.
    """
    if skipped := why_not_measurable(model, shape, seconds):
        return BaseMeasurements(skipped=skipped)
    import torch

    from advice.row_scorer import RowScorer
    from training.quiet import quiet

    quiet()
    if shape.parameters < _SMALL:
        torch.set_num_threads(1)
    scorer = RowScorer.load(model, shape.context, template_for(model, profile))
    return probe_rows(scorer, profile, tokens_in(shape, seconds))


def template_for(model: Model, profile: DatasetProfile) -> str | None:
    """Return the chat template to render rows with: ChatML for conversations without any."""
    conversations = any(isinstance(row, DialogueRow) for row in profile.sample)
    if model.chat_template or not conversations or has_chat_template(model):
        return model.chat_template
    return "chatml"


def has_chat_template(model: Model) -> bool:
    """Return whether the tokenizer of a model has a chat template of its own."""
    name = model.tokenizer or model.source
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        path = Path(name) / file
        found = path if path.is_file() else in_cache(name, model.revision, file)
        if found is not None and "chat_template" in (found.name + found.read_text("utf-8")):
            return True
    return False


def probe_rows(scorer: RowScorer, profile: DatasetProfile, budget: int) -> BaseMeasurements:
    """Return the measurements of a loaded model.

    Of rows with answers, a third of the tokens each goes to their text, to the answers, and to the
    answers after examples.

    Args:
        scorer: The model.
        profile: Profile of the rows, with the sample.
        budget: Tokens to compute.
    """
    answers = profile.form == "answers"
    distinct = distinct_sentences(profile.texts)
    texts, size = scorer.score_texts(distinct, budget // 3 if answers else budget)
    nats = sum(score.nats for score in texts)
    values: dict[str, Any] = {
        "loss": _mean(texts),
        "bits_per_byte": nats / math.log(2) / size if size else None,
        "compressed": compressed_bits_per_byte(distinct),
        "rows": len(texts),
        "tokens": sum(score.tokens for score in texts),
    }
    return BaseMeasurements(
        **{**values, **(_answers(scorer, profile, budget // 3) if answers else {})}
    )


def _answers(scorer: RowScorer, profile: DatasetProfile, budget: int) -> dict[str, Any]:
    """Return the losses of answers, without and with examples in the prompt."""
    rows = scorer.encode(profile.sample)
    asked = rows[_EXAMPLES:]
    plain = scorer.score(asked, budget)
    values: dict[str, Any] = {
        "answer_loss": _mean(plain),
        "rows": len(plain),
        "tokens": sum(score.tokens for score in plain),
    }
    examples = scorer.examples(rows[:_EXAMPLES], asked)
    prompted = scorer.score(asked[: len(plain)], budget * (len(examples) + 1), examples)
    if not examples or len(prompted) < _FEWEST_ROWS:
        return values
    return {
        **values,
        "answer_loss": _mean(plain[: len(prompted)]),
        "few_shot_loss": _mean(prompted),
        "examples": len(examples),
        "example_tokens": float(sum(map(len, examples))),
        "rows": len(prompted),
    }


def _mean(scores: Sequence[RowScore]) -> float | None:
    """Return the loss per token."""
    tokens = sum(score.tokens for score in scores)
    return sum(score.nats for score in scores) / tokens if tokens else None


def _has_weights(model: Model) -> bool:
    folder = Path(model.source)
    if folder.is_dir():
        return any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "pytorch_model*.bin"))
    return any(in_cache(model.source, model.revision, name) for name in _WEIGHT_FILES)
