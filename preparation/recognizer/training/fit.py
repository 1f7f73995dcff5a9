"""Training of the recognizer's network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from preparation.recognizer.kinds import KINDS
from preparation.recognizer.tokens import ROWS, feature_rows, token_spans
from preparation.recognizer.training.corpus import AnnotatedText
from preparation.recognizer.word_lists import COMBINATIONS, WordLists

_HIDDEN_WORDS = 0.12
_HIDDEN_LISTS = 0.2  # names that no list holds must be found, too


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes of the network."""

    width: int = 128
    dilations: tuple[int, ...] = (1, 1, 2, 4, 8)
    word: int = 48
    affix: int = 32


class DilatedLayer(nn.Module):
    """Convolution over a token and one neighbour on each side, some tokens away.

    One product of matrices takes half the time of `nn.Conv1d` on a processor.
    """

    def __init__(self, width: int, distance: int):
        super().__init__()
        self.distance = distance
        bound = (3 * width) ** -0.5
        self.weight = nn.Parameter(torch.empty(3, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Return the sums of the products, (tokens, width)."""
        count, distance = len(values), self.distance
        padded = functional.pad(values, (0, 0, distance, distance))
        seen = torch.cat((padded[:count], values, padded[2 * distance :]), 1)
        return seen @ self.weight.flatten(0, 1) + self.bias


class TorchTokenNetwork(nn.Module):
    """Network of `preparation.recognizer.network`, to be trained."""

    def __init__(self, shape: NetworkShape, lists: WordLists):
        super().__init__()
        self.shape = shape
        self.word_lists = lists
        self.word = nn.Embedding(ROWS[0], shape.word)
        self.prefix = nn.Embedding(ROWS[2], shape.affix)
        self.suffix = nn.Embedding(ROWS[3], shape.affix)
        self.form = nn.Embedding(ROWS[4], shape.affix)
        self.lists = nn.Embedding(COMBINATIONS, shape.affix)
        self.input = nn.Linear(shape.word + 4 * shape.affix, shape.width)
        self.space = nn.Parameter(torch.zeros(shape.width))
        self.layers = nn.ModuleList(DilatedLayer(shape.width, d) for d in shape.dilations)
        self.output = nn.Linear(shape.width, 1 + 2 * len(KINDS))
        for table in (self.word, self.prefix, self.suffix, self.form, self.lists):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, rows: Tensor, spaced: Tensor, empty: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the scores of the labels.

        Args:
            rows: Rows of the embedding tables, (tokens, 6).
            spaced: Whether white space stands before a token, (tokens,).
            empty: Whether a row is a gap between texts, (tokens,).
            dropout: Share of values that are set to zero.

        Returns:
            Scores, (tokens, labels).
        """
        word = self.word(rows[:, 0]) + self.word(rows[:, 1])
        if dropout:  # a word is hidden whole, so that its letters and its neighbours must do
            word = word * (torch.rand(len(word), 1) >= _HIDDEN_WORDS)
            listed = torch.rand(len(word)) >= _HIDDEN_LISTS
            rows = torch.cat((rows[:, :5], (rows[:, 5] * listed)[:, None]), 1)
        tables = (self.prefix, self.suffix, self.form, self.lists)
        affixes = [table(rows[:, 2 + index]) for index, table in enumerate(tables)]
        features = functional.dropout(torch.cat((word, *affixes), 1), dropout, dropout > 0)
        full = (~empty).float()[:, None]
        width = (self.shape.width,)
        values = self.input(features) + self.space * spaced.float()[:, None]
        values = functional.layer_norm(values, width) * full
        for layer in self.layers:
            change = functional.relu(layer(values))
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
            "lists": self.lists.weight,
            "input": self.input.weight.T,
            "input_bias": self.input.bias,
            "space": self.space,
            "output": self.output.weight.T,
            "output_bias": self.output.bias,
        }
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, DilatedLayer)
            weights[f"layer{index}"] = layer.weight
            weights[f"layer{index}_bias"] = layer.bias
        lists = {"list_hashes": self.word_lists.hashes, "list_bits": self.word_lists.bits}
        return lists | {
            name: np.ascontiguousarray(value.detach().numpy().astype(np.float16))
            for name, value in weights.items()
        }


def encode(
    examples: Sequence[AnnotatedText], gap: int, lists: WordLists
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows, spaces, gaps and labels of several texts in one stream.

    Args:
        examples: Texts.
        gap: Empty tokens after each text.
        lists: Lists of words.
    """
    rows: list[tuple[int, ...]] = []
    spaced: list[bool] = []
    empty: list[bool] = []
    labels: list[int] = []
    for example in examples:
        spans = token_spans(example.text)
        rows += [_rows(example.text[start:end], lists) for start, end in spans]
        spaced += [start > 0 and example.text[start - 1] == " " for start, _ in spans]
        labels += _labels(example, spans)
        empty += [False] * len(spans) + [True] * gap
        rows += [(0,) * (len(ROWS) + 1)] * gap
        spaced += [False] * gap
        labels += [-100] * gap
    return torch.tensor(rows), torch.tensor(spaced), torch.tensor(empty), torch.tensor(labels)


@lru_cache(maxsize=1_000_000)
def _rows(word: str, lists: WordLists) -> tuple[int, ...]:
    return (*feature_rows(word), lists.combination(word))


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
        rows, spaced, empty, labels = encode(
            [next(examples) for _ in range(batch)], gap, network.word_lists
        )
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
