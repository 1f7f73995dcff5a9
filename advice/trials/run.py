"""Trials: train each approach for the same number of steps, and score all on the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from advice.advise import Advice
from advice.base_probe import template_for
from advice.candidate_jobs import candidate_document, candidate_job
from advice.facts import TITLES, TRAINED, Approach
from advice.row_scorer import LabelledTokens, RowScore, RowScorer
from advice.trials.comparison import TrialResult, compare_with_base, compare_with_best
from advice.trials.subset import TrialRows, write_subset
from advice.trials.training import RATE_FACTORS, TrialTraining, train, trial_trainings
from planning.build import plan_here
from planning.ranges import Range, duration_range
from training.data.schema.rows import Row
from training.errors import JobError, Problem
from training.run_folder import write_whole

RESULTS = "results.json"
_NO_LIMIT = 1 << 30


def run_trials(
    advice: Advice, folder: Path, steps: int, say: Callable[[str], None]
) -> list[TrialResult]:
    """Return the results of all approaches that can be tried on this machine.

    Finished trainings in the folder are kept, so that the same command resumes.

    Args:
        advice: The advice.
        folder: Folder of the trials.
        steps: Optimizer steps of each training.
        say: Prints a line.

    Raises:
        JobError: The rows cannot be compared, or the model does not run here.
        Interrupted: A training was stopped.
        RunError: A training failed.
    """
    question = advice.question
    if advice.probe.skipped:
        message = f"the model does not run here: {advice.probe.skipped}"
        raise JobError(question.source, [Problem("--trials", message)])
    folder.mkdir(parents=True, exist_ok=True)
    rows = write_subset(question.profile, folder, question.source)
    trainings = _trainings(advice, rows, folder, steps)
    hours = [plan_here(candidate_job(t.document, question.source)).hours for t in trainings]
    total = Range(sum(h.low for h in hours), sum(h.high for h in hours))
    say(
        f"{len(trainings)} trainings of {steps} steps, {len(RATE_FACTORS)} learning rates for each "
        f"approach: {duration_range(total)} on this machine, in {folder}"
    )
    seconds = {}
    for training in trainings:
        say(f"training {TITLES[training.approach]} with learning rate {training.learning_rate:g}")
        seconds[training.folder] = train(training, question.source)
    results = _score(advice, rows, trainings, seconds)
    write_whole(folder / RESULTS, json.dumps([asdict(r) for r in results], indent=1) + "\n")
    return results


def _trainings(advice: Advice, rows: TrialRows, folder: Path, steps: int) -> list[TrialTraining]:
    question = advice.question
    possible = ("lora", "qlora", "full") if question.profile.form == "text" else TRAINED
    template = template_for(question.model, question.profile)
    per_row = advice.facts.data_tokens / max(1, question.profile.rows)
    return [
        training
        for approach in possible
        for training in trial_trainings(
            approach,
            candidate_document(question, approach, per_row, template),
            rows.train,
            folder,
            steps,
        )
    ]


def _score(
    advice: Advice,
    rows: TrialRows,
    trainings: Sequence[TrialTraining],
    seconds: dict[Path, float],
) -> list[TrialResult]:
    """Return the results, the base first."""
    question = advice.question
    text = question.profile.form == "text"
    length = min(question.shape.context, int(trainings[0].document["data"]["max_length"]))
    template = template_for(question.model, question.profile)
    base = RowScorer.load(question.model, length, template, want="text" if text else "dialogue")
    choosing, comparing = base.encode(rows.choosing), base.encode(rows.comparing)
    before = base.score(comparing, _NO_LIMIT)
    scored = [(compare_with_base("the base model", before, before), before)]
    if not text:
        scored.append(_few_shot(base, rows.examples, comparing, question.shape.context))
    for approach in dict.fromkeys(training.approach for training in trainings):
        own = [training for training in trainings if training.approach == approach]
        tried = [(t, *_scores(base, question.model.source, t, (choosing, comparing))) for t in own]
        best, _, after = min(tried, key=lambda item: _loss(item[1]))
        result = replace(
            compare_with_base(TITLES[approach], after, before),
            learning_rate=best.learning_rate,
            seconds=sum(seconds[t.folder] for t in own),
        )
        scored.append((result, after))
    return compare_with_best(scored)


def _few_shot(
    base: RowScorer, examples: Sequence[Row], rows: Sequence[LabelledTokens], context: int
) -> tuple[TrialResult, list[RowScore]]:
    """Return the result of the base with examples in the prompt, and its scores.

    Args:
        base: Scorer of the base.
        examples: Rows that may be examples.
        rows: Rows that compare.
        context: Context of the model, which may exceed the length of training.
    """
    name = TITLES["few_shot"]
    wide = base.with_length(context)
    shots = wide.examples(wide.encode(examples), rows)
    prompted = wide.score(rows, _NO_LIMIT, shots)
    if not shots or len(prompted) < len(rows):
        note = f"no example fits the context of {context:,} tokens"
        return TrialResult(name, note=note), []
    name = f"{name}, {len(shots)} examples"
    return compare_with_base(name, prompted, base.score(rows, _NO_LIMIT)), prompted


def _scores(
    base: RowScorer, source: str, training: TrialTraining, rows: tuple[Any, Any]
) -> tuple[list[RowScore], list[RowScore]]:
    """Return the scores of a trained model of the rows that choose and of those that compare."""
    model = load_trained(source, training.folder / "model", training.approach)
    scorer = RowScorer(model, base.tokenizer, base.rows)
    return scorer.score(rows[0], _NO_LIMIT), scorer.score(rows[1], _NO_LIMIT)


def load_trained(source: str, folder: Path, approach: Approach) -> Any:
    """Return a trained model: the folder's, or its adapter on the base.

    Args:
        source: The base.
        folder: Folder of the trained model.
        approach: How it was trained.
    """
    from evaluation.models.load import default_device, model_folder
    from training.models.inference import load_for_inference

    if approach == "full":
        return load_for_inference(str(folder), str(folder), default_device())[0]
    from peft import PeftModel

    model, _ = load_for_inference(source, model_folder(source), default_device())
    return PeftModel.from_pretrained(model, str(folder)).eval()


def _loss(scores: Sequence[RowScore]) -> float:
    return sum(score.nats for score in scores) / max(1, sum(score.tokens for score in scores))
