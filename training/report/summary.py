"""Headline, summary and comparisons of a run for its report."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from training.config.methods import title_of
from training.report import rl_summary
from training.report.comparison import Comparison
from training.report.formatting import change, count, duration, number, percent
from training.report.metric_labels import headline_metric, metric_label, verdict
from training.report.run_data import RunData, at, mapping

_STATES = {
    "finished": "Finished",
    "running": "Not finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "waiting": "Not started",
}
_COUNTS = {"tokens", "rows", "good_rows", "bad_rows"}
"""Evaluation results that count what was evaluated, and are not compared."""
_LOOKS = 6
"""Answers shown of those to one sample prompt during training."""


def state_word(run_data: RunData) -> str:
    """Return a label for the state of a run."""
    return _STATES.get(run_data.state, run_data.state)


def headline(run_data: RunData) -> str:
    """Return the result of a run in one sentence."""
    if run_data.stages:
        done = sum(stage.state == "finished" for stage in run_data.stages)
        return f"{done} of {len(run_data.stages)} stages finished"
    if run_data.state in ("failed", "stopped"):
        return f"{state_word(run_data)} {_how_far(run_data)}"
    return _result(run_data)


def _how_far(run_data: RunData) -> str:
    if not run_data.steps:
        return "before its first step"
    return f"after {_steps(run_data)}"


def _steps(run_data: RunData) -> str:
    last, planned = run_data.steps[-1]["step"], run_data.manifest.get("steps")
    steps = f"{count(last)} of {count(planned)}" if planned and planned != last else count(last)
    return f"{steps} step{'' if steps == '1' else 's'}"


def _result(run_data: RunData) -> str:
    if run_data.generation_summary:
        rows, prompts = (
            run_data.generation_summary.get("rows"),
            run_data.generation_summary.get("prompts"),
        )
        return f"{count(rows)} training rows generated from {count(prompts)} prompts"
    if rl_summary.is_rewarded(run_data):
        return rl_summary.headline(run_data)
    if own := headline_metric(run_data):
        name, words, first, last = own
        return _moved(words, first, last, name)
    before = _loss(run_data.before, "validation")
    _, losses = run_data.series("eval_loss")
    if before is not None and losses:
        return f"{_moved('Held-out loss', before, losses[-1])} so far"
    _, losses = run_data.series("loss")
    if not losses:
        return "No step was logged"
    if len(losses) == 1:
        return f"Training loss {number(losses[0])} at the only logged step"
    share = max(1, len(losses) // 10)
    first, last = _mean(losses[:share]), _mean(losses[-share:])
    held_out = "" if run_data.data.get("rows_validation") else "; no rows were held out"
    return _moved("Training loss", first, last) + held_out


def summary(run_data: RunData) -> list[str]:
    """Return the facts below the headline: method, data, size, duration and device."""
    if run_data.stages:
        seconds = sum(stage.seconds for stage in run_data.stages)
        tokens = sum(stage.sum("tokens") for stage in run_data.stages)
        facts = [" → ".join(stage.name for stage in run_data.stages)]
        facts += [f"{count(tokens)} tokens", duration(seconds)] if tokens else []
        return facts + device(run_data.stages[0])
    facts = [f"{what_was_trained(run_data)} on {_sources(run_data)}"]
    if run_data.steps:
        facts += [_steps(run_data), f"{count(run_data.sum('tokens'))} tokens"]
        facts.append(duration(run_data.seconds))
    perplexity = [
        at(side, "validation", "perplexity") for side in (run_data.before, run_data.after)
    ]
    if None not in perplexity:
        facts.insert(1, f"perplexity {number(perplexity[0], 1)} → {number(perplexity[1], 1)}")
    if kept := run_data.after.get("kept"):
        facts.insert(
            1, f"saved weights: best of the evaluations, step {kept['step']} of {kept['last_step']}"
        )
    if saved := run_data.after.get("saved"):
        losses = [at(side, "validation", "loss") for side in (run_data.after, saved)]
        change = (
            ""
            if None in losses
            else f", held-out loss {number(losses[0], 4)} → {number(losses[1], 4)}"
        )
        facts.insert(1, f"weights saved in {saved['dtype']}{change}")
    if run_data.state in ("failed", "stopped") and run_data.steps:
        facts.insert(0, _result(run_data))
    return facts + device(run_data)


def what_was_trained(run_data: RunData) -> str:
    """Return the method, adapter and model as a phrase."""
    kind = str(at(run_data.job, "method", "kind") or "training")
    words = title_of(kind)
    model = str(
        at(run_data.manifest, "model", "source") or at(run_data.job, "model", "source") or ""
    )
    if adapter := at(run_data.job, "adapter", "kind"):
        words += f" with {_adapter(str(adapter))}"
    name = "a model from scratch" if model == "scratch" else PurePath(model).name
    return f"{words} of {_stage_model(model, name)}" if name else words


def _stage_model(source: str, name: str) -> str:
    """Return the name of a model; one from an earlier stage is named after that stage."""
    parts = PurePath(source).parts
    if name == "model" and len(parts) > 1:
        return f"the model of {parts[-2]}"
    return name


def _adapter(kind: str) -> str:
    names = {
        "lora": "LoRA",
        "qlora": "QLoRA",
        "adalora": "AdaLoRA",
        "p_tuning": "P-tuning",
        "bottleneck": "bottleneck adapters",
        "ia3": "IA3",
    }
    return names.get(kind, kind.replace("_", " "))


def comparisons(run_data: RunData) -> list[Comparison]:
    """Return the measures on held-out rows and on general text, before and after training."""
    rows = []
    parts = {
        "validation": "Held-out rows",
        "forgetting": "General text",
        "generation": "Sample answers",
    }
    for key, name in parts.items():
        sides = mapping(run_data.before.get(key)), mapping(run_data.after.get(key))
        if any("reward" in side for side in sides):
            rows += rl_summary.comparisons(*sides)
            continue
        for measured in dict.fromkeys([*sides[0], *sides[1]]):
            if measured in _COUNTS:
                continue
            before, after = (side.get(measured) for side in sides)
            about = metric_label(measured)
            rows.append(
                Comparison(
                    f"{name}: {about.words}",
                    number(before, about.digits),
                    number(after, about.digits),
                    change(before, after),
                    verdict(measured, before, after),
                )
            )
    return rows


def forgetting(run_data: RunData) -> str:
    """Return a sentence on catastrophic forgetting; an empty string if it was not measured."""
    before, after = _loss(run_data.before, "forgetting"), _loss(run_data.after, "forgetting")
    if before is None or after is None:
        return ""
    share = (after - before) / before if before else math.nan
    if not math.isfinite(share):
        return "The loss on general text is NaN or infinite."
    if share > 0.02:
        return (
            f"Catastrophic forgetting: the loss on general text rose by {percent(share, 1)}. "
            "Mix general text into the data with data.replay, lower the learning rate, or train an "
            "adapter."
        )
    return "No forgetting: the loss on general text did not rise."


def sample_pairs(run_data: RunData) -> list[dict[str, str | None]]:
    """Return each sample prompt with its answers before and after training."""
    pairs: dict[str, dict[str, str | None]] = {}
    for when, side in (("before", run_data.before), ("after", run_data.after)):
        samples = side.get("samples")
        for sample in samples if isinstance(samples, list) else ():
            prompt = str(sample.get("prompt", ""))
            pair = pairs.setdefault(prompt, {"prompt": prompt, "before": None, "after": None})
            pair[when] = str(sample.get("answer", ""))
    return list(pairs.values())


def answers_during_training(run_data: RunData, prompt: Any) -> list[tuple[int, str]]:
    """Return the step and the answer to a sample prompt at a few evaluations during training."""
    answers = [(row["step"], str(row.get("answer", ""))) for row in run_data.sample_history]
    answers = [
        pair
        for pair, row in zip(answers, run_data.sample_history, strict=True)
        if row.get("prompt") == prompt
    ]
    stride = max(1, -(-len(answers) // _LOOKS))
    return answers[::-1][::stride][::-1]


def device(run_data: RunData) -> list[str]:
    """Return the device that a run used, as a list of one label; empty if it is unknown."""
    hardware = mapping(run_data.manifest.get("hardware"))
    if not hardware:
        return []
    device = str(hardware.get("device", ""))
    name = "CPU" if device == "cpu" else str(hardware.get("device_name") or device.upper())
    processes = hardware.get("processes", 1)
    return [name if processes == 1 else f"{processes} processes on {name}"]


def _sources(run_data: RunData) -> str:
    names = [
        PurePath(str(s["source"])).name for s in run_data.data.get("sources", ()) if _trains(s)
    ]
    if not names:
        sources = at(run_data.job, "data", "train") or ()
        names = [PurePath(str(mapping(s).get("source", ""))).name for s in sources]
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more sources"
    return " and ".join(name for name in names if name) or "its data"


def _trains(source: Any) -> bool:
    return mapping(source).get("role") == "train" and "source" in source


def _moved(words: str, before: float, after: float, name: str = "loss") -> str:
    if not (math.isfinite(before) and math.isfinite(after)):
        return f"{words} went from {number(before)} to {number(after)}"
    if verdict(name, before, after) == "same":
        verb = "did not change: it went"
    else:
        verb = "fell" if after < before else "rose"
    if name == "accuracy":
        return f"{words} {verb} from {percent(before)} to {percent(after)}"
    digits = 3 if name == "margin" else 2
    ends = f"from {number(before, digits)} to {number(after, digits)}"
    return f"{words} {verb} {ends} ({change(before, after)})"


def _loss(side: dict[str, Any], key: str) -> float | None:
    value = at(side, key, "loss")
    return float(value) if isinstance(value, int | float) else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
