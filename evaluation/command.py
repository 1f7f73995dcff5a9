"""Implementation of `temper evaluate`: a suite on a model, paired with another model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.config.suite import Suite, load_suite
from evaluation.gates import check_gates
from evaluation.report.page import REPORT
from evaluation.results import EvaluationResult, MetricResult, PairedResult
from training.config.input_paths import require_model
from training.console import say
from training.quiet import quiet
from training.run_folder import RunFolder


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `temper evaluate`.

    Attributes:
        model: Run, folder of a model or an adapter, or Hub id.
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
    require_model(options.model, "MODEL")
    if options.against is not None:
        require_model(options.against, "--against")
    out = options.out or default_folder(options.model, suite.suite)
    result = evaluate_suite(
        suite,
        options.model,
        options.against,
        out,
        batch_size=options.batch_size,
        max_cost=options.max_cost,
    )
    for line in result_lines(suite, result):
        say(line)
    say(f"done in {result.seconds:.0f} s: {out / REPORT}")
    check_gates(result.gates)
    return 0


def evaluate_suite(
    suite: Suite,
    model: str,
    against: str | None,
    out: Path,
    *,
    batch_size: int,
    max_cost: float | None,
) -> EvaluationResult:
    """Evaluate a model on a suite and write the results and the report.

    Args:
        suite: The suite.
        model: The model.
        against: Model to compare with on the same items.
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
    from evaluation.models.load import load_model
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
    accelerator = torch.accelerator.current_accelerator()
    device = torch.device("cpu") if accelerator is None else accelerator
    cache = RunFolder(out).cache
    flags = find_contaminated(model, items)
    scored: list[ModelScores] = []
    # The other model first: some scores compare the model's answers with its answers.
    for source in (against, model):
        if source is None:
            continue
        say(f"evaluating {source} on {suite.suite}: {sum(map(len, items.values()))} items")
        context = ScoreContext(device, out, cache, max_cost, source)
        load = partial(load_model, source, batch_size)
        scored.append(evaluate_model(suite, items, load, context, say, *scored))
    scores, other = scored[-1], scored[0] if len(scored) > 1 else None
    if flags is not None:
        scores = mark_contaminated(scores, flags)
    seconds = time.monotonic() - start
    result = summarise_suite(suite, items, scores, other, seconds, flags)
    write_results(out, result, scores, other)
    write_report(out)
    return result


def default_folder(model: str, suite: str) -> Path:
    """Return the folder of the results of a model on a suite, in its run if it is a run.

    Args:
        model: The model as the user wrote it.
        suite: Name of the suite.
    """
    run = Path(model)
    for folder in (run, run.parent):
        if RunFolder(folder).state is not None:
            return folder / "evaluation" / suite
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
