"""Results of an evaluation, as `results.json` holds them.

The registry, the report and gates read this file; its shape is a contract with them. Items are in
`items/<task>.jsonl` next to it, one `ItemResult` per line and in the order of the task's file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
"""Version of the shape of `results.json`."""
RESULTS = "results.json"


@dataclass(frozen=True)
class EvaluatedModelInfo:
    """Identity of an evaluated model.

    Attributes:
        source: Folder, Hub id or address, as the user wrote it.
        digest: Digest of the weights and the tokenizer; None of a remote model.
        kind: `transformers`, `adapter`, `gguf`, `openai` or `bedrock`.
        settings: What can change a score: backend and its version, dtype, batch size, device,
            seed, digest of the chat template.
    """

    source: str
    digest: str | None
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The source, with the name of the model if a file of an endpoint names it."""
        name = self.settings.get("model")
        return self.source if name is None or name in self.source else f"{name} ({self.source})"


@dataclass(frozen=True)
class ItemResult:
    """Result of a model on one item.

    Attributes:
        id: Value of the task's `id` column, or the number of the row.
        group: Value of the task's `group` column.
        prompt: Prompt as the model received it.
        prompt_tokens: Number of its tokens; None if the model does not say.
        target: Reference of the item, as text.
        answers: Answers, several for pass@k; of a multiple choice, the chosen text.
        scores: Value of each metric that has a value per item.
        detail: What explains the scores, such as the log-likelihood of each choice, or a judge's
            reason.
        skipped: Why the item was not scored, such as "prompt longer than the context"; None if it
            was.
        contaminated: True if the item was found in the training data.
    """

    id: str
    prompt: str
    target: str
    answers: tuple[str, ...] = ()
    group: str | None = None
    prompt_tokens: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    skipped: str | None = None
    contaminated: bool = False


@dataclass(frozen=True)
class MetricResult:
    """Value of a metric with its 95 % interval.

    Attributes:
        value: Value over the scored items.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        items: Number of items that were scored.
        higher_is_better: False for losses and error rates.
        by_group: Value of each group of items.
        clean: Value over the items that are not contaminated; None if none is contaminated.
    """

    value: float
    low: float
    high: float
    items: int
    higher_is_better: bool = True
    by_group: dict[str, float] = field(default_factory=dict)
    clean: float | None = None


@dataclass(frozen=True)
class PairedResult:
    """Difference of a metric between two models on the same items.

    Attributes:
        difference: Value of the model minus that of the other.
        low: Lower bound of the 95 % interval of the difference.
        high: Upper bound of the interval.
        p: Two-sided p-value.
        p_holm: The p-value, adjusted by Holm over all comparisons of the suite.
        test: `mcnemar` or `randomization`, a paired randomization test.
        wins: Items on which the model is better; 0, as losses and ties, if items have no value
            of their own.
        losses: Items on which the other is better.
        ties: Items on which both are equal.
        items_needed: Number of items with which a difference of this size would be detected with
            80 % power at 5 %; None if the difference is 0.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    test: str
    wins: int
    losses: int
    ties: int
    items_needed: int | None


@dataclass(frozen=True)
class TaskResult:
    """Result of a task.

    Attributes:
        digest: Digest of the task's settings, its template and its items.
        items: Number of items of the task.
        skipped: Number of items that could not be scored, by reason.
        contaminated: Number of items found in the training data; None if it was not examined.
        metrics: Result of each metric of the model.
        against: Result of each metric of the model that it is compared with.
        comparison: Paired difference of each metric.
        against_skipped: Number of items that the other model could not score, by reason.
        facts: Findings of the scores about all items, such as a judge's flip rate.
    """

    digest: str
    items: int
    skipped: dict[str, int] = field(default_factory=dict)
    contaminated: int | None = None
    metrics: dict[str, MetricResult] = field(default_factory=dict)
    against: dict[str, MetricResult] = field(default_factory=dict)
    comparison: dict[str, PairedResult] = field(default_factory=dict)
    against_skipped: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """Outcome of a gate.

    Attributes:
        gate: The gate, as text: `mmlu.accuracy at least 0.4`.
        passed: True if the gate is passed.
        reason: The values that decided it.
    """

    gate: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class EvaluationResult:
    """Result of a suite.

    Attributes:
        suite: Name of the suite.
        suite_digest: Digest of the suite file, its templates and its items.
        model: The evaluated model.
        against: The model that it is compared with; None if there is none.
        tasks: Result of each task, by name.
        gates: Outcome of each gate.
        seconds: Duration in seconds.
        spent: Calls, tokens and US dollars of endpoints and judges together, those of earlier
            runs into the same folder included; empty if nothing was called.
        created: Time of the evaluation in UTC, ISO 8601.
    """

    suite: str
    suite_digest: str
    model: EvaluatedModelInfo
    against: EvaluatedModelInfo | None
    tasks: dict[str, TaskResult]
    gates: tuple[GateResult, ...] = ()
    seconds: float = 0.0
    created: str = ""
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True if every gate is passed."""
        return all(gate.passed for gate in self.gates)

    def to_json(self) -> str:
        """Return the text of `results.json`."""
        document = {"format": FORMAT, "passed": self.passed, **asdict(self)}
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_results(folder: Path) -> EvaluationResult:
    """Return the results in a folder.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a file of results, or one of another format.
    """
    document = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise ValueError(f"{folder / RESULTS} is not a file of results of format {FORMAT}")
    document.pop("passed", None)
    against = document.pop("against")
    return EvaluationResult(
        model=EvaluatedModelInfo(**document.pop("model")),
        against=None if against is None else EvaluatedModelInfo(**against),
        tasks={name: _task(task) for name, task in document.pop("tasks").items()},
        gates=tuple(GateResult(**gate) for gate in document.pop("gates")),
        **document,
    )


def _task(document: dict[str, Any]) -> TaskResult:
    return TaskResult(
        **{
            **document,
            "metrics": {k: MetricResult(**v) for k, v in document["metrics"].items()},
            "against": {k: MetricResult(**v) for k, v in document["against"].items()},
            "comparison": {k: PairedResult(**v) for k, v in document["comparison"].items()},
        }
    )
