"""Training of the recognizer's network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from preparation.recognizer.kinds import KINDS
from preparation.recognizer.tokens import ROWS, feature_rows, token_spans
from preparation.recognizer.training.corpus import AnnotatedText


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes of the network."""

    width: int = 96
    dilations: tuple[int, ...] = (1, 1, 2, 4)
    word: int = 64
    affix: int = 32


class TorchTokenNetwork(nn.Module):
    """Network of `preparation.recognizer.network`, to be trained."""

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.shape = shape
        self.word = nn.Embedding(ROWS[0], shape.word)
        self.prefix = nn.Embedding(ROWS[2], shape.affix)
        self.suffix = nn.Embedding(ROWS[3], shape.affix)
        self.form = nn.Embedding(ROWS[4], shape.affix)
        self.input = nn.Linear(shape.word + 3 * shape.affix, shape.width)
        self.space = nn.Parameter(torch.zeros(shape.width))
        self.layers = nn.ModuleList(
            nn.Conv1d(shape.width, shape.width, 3, padding=d, dilation=d) for d in shape.dilations
        )
        self.output = nn.Linear(shape.width, 1 + 2 * len(KINDS))
        for table in (self.word, self.prefix, self.suffix, self.form):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, rows: Tensor, spaced: Tensor, empty: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the scores of the labels.

        Args:
            rows: Rows of the embedding tables, (tokens, 5).
            spaced: Whether white space stands before a token, (tokens,).
            empty: Whether a row is a gap between texts, (tokens,).
            dropout: Share of values that are set to zero.

        Returns:
            Scores, (tokens, labels).
        """
        word = self.word(rows[:, 0]) + self.word(rows[:, 1])
        if dropout:  # a word is hidden whole, so that its letters and its neighbours must do
            word = word * (torch.rand(len(word), 1) >= 0.12)
        tables = (self.prefix(rows[:, 2]), self.suffix(rows[:, 3]), self.form(rows[:, 4]))
        features = functional.dropout(torch.cat((word, *tables), 1), dropout, dropout > 0)
        full = (~empty).float()[:, None]
        width = (self.shape.width,)
        values = self.input(features) + self.space * spaced.float()[:, None]
        values = functional.layer_norm(values, width) * full
        for layer in self.layers:
            change = functional.relu(layer(values.T[None])[0].T)
            change = functional.dropout(change, dropout, dropout > 0)
            values = functional.layer_norm(values + change, width) * full
        scores: Tensor = self.output(values)
        return scores

    def arrays(self) -> dict[str, Any]:
        """Return the weights by the names that `TokenNetwork` reads, in half precision."""
        weights: dict[str, Tensor] = {
            "word": self.word.weight,
            "prefix": self.prefix.weight,
            "suffix": self.suffix.weight,
            "shape": self.form.weight,
            "input": self.input.weight.T,
            "input_bias": self.input.bias,
            "space": self.space,
            "output": self.output.weight.T,
            "output_bias": self.output.bias,
        }
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv1d) and layer.bias is not None
            weights[f"layer{index}"] = layer.weight.permute(2, 1, 0)
            weights[f"layer{index}_bias"] = layer.bias
        return {
            name: np.ascontiguousarray(value.detach().numpy().astype(np.float16))
            for name, value in weights.items()
        }


def encode(examples: Sequence[AnnotatedText], gap: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows, spaces, gaps and labels of several texts in one stream."""
    rows: list[tuple[int, ...]] = []
    spaced: list[bool] = []
    empty: list[bool] = []
    labels: list[int] = []
    for example in examples:
        spans = token_spans(example.text)
        rows += [_rows(example.text[start:end]) for start, end in spans]
        spaced += [start > 0 and example.text[start - 1] == " " for start, _ in spans]
        labels += _labels(example, spans)
        empty += [False] * len(spans) + [True] * gap
        rows += [(0,) * len(ROWS)] * gap
        spaced += [False] * gap
        labels += [-100] * gap
    return torch.tensor(rows), torch.tensor(spaced), torch.tensor(empty), torch.tensor(labels)


_ROWS_OF: dict[str, tuple[int, ...]] = {}


def _rows(word: str) -> tuple[int, ...]:
    if word not in _ROWS_OF:
        _ROWS_OF[word] = feature_rows(word)
    return _ROWS_OF[word]


def _labels(example: AnnotatedText, tokens: Sequence[tuple[int, int]]) -> list[int]:
    labels = [0] * len(tokens)
    for span in example.spans:
        inside = [i for i, (start, end) in enumerate(tokens) if start < span.end > span.start < end]
        for number, index in enumerate(inside):
            labels[index] = 1 + 2 * KINDS.index(span.kind) + (number > 0)
    return labels


def fit(
    network: TorchTokenNetwork,
    examples: Iterator[AnnotatedText],
    steps: int,
    report: Callable[[int, float, float], None],
    batch: int = 96,
) -> None:
    """Train the network on generated texts.

    Args:
        network: Network.
        examples: Texts, without end.
        steps: Steps of the optimizer.
        report: Function that is told the step, the mean loss and the CPU seconds.
        batch: Texts in a step.
    """
    sparse = [p for n, p in network.named_parameters() if n.split(".")[0] in ("word",)]
    dense = [p for n, p in network.named_parameters() if n.split(".")[0] not in ("word",)]
    optimizer = torch.optim.AdamW(
        [{"params": sparse, "weight_decay": 0.0}, {"params": dense, "weight_decay": 0.01}], lr=3e-3
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.1)
    gap = max(network.shape.dilations)
    began, total = time.process_time(), 0.0
    network.train()
    for step in range(1, steps + 1):
        rows, spaced, empty, labels = encode([next(examples) for _ in range(batch)], gap)
        scores = network(rows, spaced, empty, dropout=0.2)
        loss = functional.cross_entropy(scores, labels, ignore_index=-100, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            report(step, total / 100, time.process_time() - began)
            total = 0.0
    network.eval()


def make_deterministic(seed: int) -> None:
    """Fix the seeds and the number of threads: equal runs give equal weights."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    random.seed(seed)
