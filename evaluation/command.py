"""Implementation of `temper evaluate`: a suite on a model, paired with another model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.config.suite import Suite, load_suite
from evaluation.gates import check_gates
from evaluation.models.sources import ModelSource, find_source, stable_folder
from evaluation.report.page import REPORT
from evaluation.results import EvaluationResult, MetricResult, PairedResult
from training.console import say
from training.judges.cost_ledger import read_spent
from training.quiet import quiet
from training.run_folder import RunFolder


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `temper evaluate`.

    Attributes:
        model: Run, folder of a model or an adapter, Hub id, or endpoint.
        suite: Suite file, or the name of a suite that comes with the package.
        against: Model to compare with on the same items.
        out: Folder of the results; by default that of the run, or one in `evaluations/`.
        batch_size: Sequences per forward pass.
        max_cost: Limit in US dollars for judges and endpoints.
    """

    model: str
    suite: Path
    against: str | None = None
    out: Path | None = None
    batch_size: int = 16
    max_cost: float | None = None


def run_evaluation(options: EvaluateOptions) -> int:
    """Evaluate a model on a suite, print a table, and write the results.

    Returns:
        Exit code.

    Raises:
        TemperError: The suite, its items or a model cannot be used, or a gate is not passed.
    """
    quiet()
    suite = load_suite(options.suite, against=options.against is not None)
    names = {"MODEL": options.model, "--against": options.against}
    sources = [find_source(name, key, suite) for key, name in names.items() if name is not None]
    out = options.out or default_folder(suite.suite, *sources)
    result = evaluate_suite(
        suite, sources, out, batch_size=options.batch_size, max_cost=options.max_cost
    )
    for line in result_lines(suite, result):
        say(line)
    if result.spent:
        say(spent_line(result.spent))
    say(f"done in {result.seconds:.0f} s: {out / REPORT}")
    check_gates(result.gates)
    return 0


def evaluate_suite(
    suite: Suite,
    sources: Sequence[ModelSource],
    out: Path,
    *,
    batch_size: int,
    max_cost: float | None,
) -> EvaluationResult:
    """Evaluate a model on a suite and write the results and the report.

    Args:
        suite: The suite.
        sources: The model and, if there is one, the model to compare with on the same items.
        out: Folder of the results.
        batch_size: Sequences per forward pass.
        max_cost: Limit in US dollars for calls.

    Raises:
        TemperError: The items or a model cannot be used.
    """
    start = time.monotonic()
    # Imported here: mistakes in the suite are reported before torch is loaded.
    import torch

    from evaluation.contamination import find_contaminated
    from evaluation.items import read_all_items
    from evaluation.models.load import prepare_models
    from evaluation.report.page import write_report
    from evaluation.runner import (
        ModelScores,
        evaluate_model,
        mark_contaminated,
        summarise_suite,
        write_results,
    )
    from evaluation.scores.base import ScoreContext

    items = read_all_items(suite.tasks)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device("cpu") if accelerator is None else accelerator
    cache = RunFolder(out).cache
    contexts = [ScoreContext(device, out, cache, max_cost, source.model_name) for source in sources]
    # All endpoints are examined before the first model is evaluated.
    loads = prepare_models(sources, contexts[0], batch_size, suite, items)
    # The training data of a model behind an endpoint are not known.
    flags = None if sources[0].endpoint else find_contaminated(sources[0].name, items)
    scored: list[ModelScores] = []
    # The other model first: some scores compare the model's answers with its answers.
    for source, context, load in reversed(list(zip(sources, contexts, loads, strict=True))):
        say(f"evaluating {source.name} on {suite.suite}: {sum(map(len, items.values()))} items")
        scored.append(evaluate_model(suite, items, load, context, say, *scored))
    scores, other = scored[-1], scored[0] if len(scored) > 1 else None
    if flags is not None:
        scores = mark_contaminated(scores, flags)
    seconds = time.monotonic() - start
    result = summarise_suite(suite, items, scores, other, seconds, flags)
    result = dataclasses.replace(result, spent=read_spent(out))
    write_results(out, result, scores, other)
    write_report(out)
    return result


def default_folder(suite: str, model: ModelSource, against: ModelSource | None = None) -> Path:
    """Return the folder of the results of a model on a suite, in its run if it is a run.

    Args:
        suite: Name of the suite.
        model: The evaluated model.
        against: The model that it is compared with.
    """
    run = Path(model.name)
    for folder in (run, run.parent) if model.endpoint is None else ():
        if RunFolder(folder).state is not None:
            return folder / "evaluation" / suite
    if model.endpoint or (against is not None and against.endpoint):
        return stable_folder(suite, model, against)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Path("evaluations") / suite / f"{run.name}-{stamp}"


def result_lines(suite: Suite, result: EvaluationResult) -> list[str]:
    """Return the results as lines of a table.

    Args:
        suite: The suite.
        result: Its results.
    """
    lines = []
    for task in suite.tasks:
        outcome = result.tasks[task.name]
        skipped = sum(outcome.skipped.values())
        note = f", {skipped} not scored" if skipped else ""
        lines.append(f"{task.name} ({outcome.items} items{note})")
        lines += [
            f"  {metric_line(name, value, outcome.comparison.get(name))}"
            for name, value in outcome.metrics.items()
        ]
        lines += [f"  not scored: {count} {why}" for why, count in outcome.skipped.items()]
        if outcome.contaminated:
            clean = ", ".join(
                f"{name} {value.clean:.4g}"
                for name, value in outcome.metrics.items()
                if value.clean is not None
            )
            lines.append(f"  in the training data: {outcome.contaminated} items; without: {clean}")
    for gate in result.gates:
        lines.append(f"gate {'passed' if gate.passed else 'NOT PASSED'}: {gate.gate}")
    return lines


def spent_line(spent: Mapping[str, float]) -> str:
    """Return what the calls of an evaluation have cost, as text."""
    cost = f"{spent['usd']:.4f} USD by the prices given" if spent["usd"] else "no price is given"
    return (
        f"spent: {spent['calls']:.0f} calls, {spent['input_tokens']:.0f} tokens in, "
        f"{spent['output_tokens']:.0f} out; {cost}"
    )


def metric_line(name: str, value: MetricResult, pair: PairedResult | None) -> str:
    """Return a metric as text, with its interval and its difference to the other model.

    Args:
        name: Name of the metric.
        value: Its value.
        pair: Its paired difference; None if there is no other model.
    """
    text = f"{name:<22} {value.value:.4g} (95 % {value.low:.4g} to {value.high:.4g})"
    if pair is None:
        return text
    verdict = "different" if pair.p_holm < 0.05 else "no difference shown"
    return (
        f"{text}; difference {pair.difference:+.4g} ({pair.low:+.4g} to {pair.high:+.4g}), "
        f"p {pair.p_holm:.2g}: {verdict}"
    )
