"""What a run comes to, in the words and tables of its report."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from training.config.methods import title_of
from training.report import rl_summary
from training.report.comparison import Comparison
from training.report.formatting import change, count, duration, number, percent
from training.report.metric_labels import metric_label, own_metric_label, verdict
from training.report.run_data import RunData, at, mapping

_STATES = {
    "finished": "Finished",
    "running": "Not finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "waiting": "Not begun",
}
_COUNTS = {"tokens", "rows", "good_rows", "bad_rows"}
"""What a measure was taken over."""
_LOOKS = 6
"""Answers shown of those on the way to one sample."""


def state_word(story: RunData) -> str:
    """Return how far the run came, in a word or two."""
    return _STATES.get(story.state, story.state)


def headline(story: RunData) -> str:
    """Return the result in one sentence, as far as there is one."""
    if story.stages:
        done = sum(stage.state == "finished" for stage in story.stages)
        return f"{done} of {len(story.stages)} stages finished"
    if story.state in ("failed", "stopped"):
        return f"{state_word(story)} {_how_far(story)}"
    return _result(story)


def _how_far(story: RunData) -> str:
    if not story.steps:
        return "before its first step"
    return f"after {_steps(story)}"


def _steps(story: RunData) -> str:
    last, planned = story.steps[-1]["step"], story.manifest.get("steps")
    steps = f"{count(last)} of {count(planned)}" if planned and planned != last else count(last)
    return f"{steps} step{'' if steps == '1' else 's'}"


def _result(story: RunData) -> str:
    if story.written:
        rows, prompts = story.written.get("rows"), story.written.get("prompts")
        return f"{count(prompts)} prompts gave {count(rows)} rows to learn from"
    if rl_summary.is_rewarded(story):
        return rl_summary.headline(story)
    if own := own_metric_label(story):
        name, words, first, last = own
        return _moved(words, first, last, name)
    before = _loss(story.before, "validation")
    _, losses = story.series("eval_loss")
    if before is not None and losses:
        return f"{_moved('Held-out loss', before, losses[-1])} so far"
    _, losses = story.series("loss")
    if not losses:
        return "No step was logged"
    if len(losses) == 1:
        return f"Training loss {number(losses[0])} at the only logged step"
    share = max(1, len(losses) // 10)
    first, last = _mean(losses[:share]), _mean(losses[-share:])
    held_out = "" if story.data.get("rows_validation") else "; nothing was held out"
    return _moved("Training loss", first, last) + held_out


def summary(story: RunData) -> list[str]:
    """Return the facts that go under the headline: what, on what, how much, how long, where."""
    if story.stages:
        seconds = sum(stage.seconds for stage in story.stages)
        tokens = sum(stage.sum("tokens") for stage in story.stages)
        facts = [" → ".join(stage.name for stage in story.stages)]
        facts += [f"{count(tokens)} tokens", duration(seconds)] if tokens else []
        return facts + device(story.stages[0])
    facts = [f"{what_was_trained(story)} on {_sources(story)}"]
    if story.steps:
        facts += [_steps(story), f"{count(story.sum('tokens'))} tokens"]
        facts.append(duration(story.seconds))
    perplexity = [at(side, "validation", "perplexity") for side in (story.before, story.after)]
    if None not in perplexity:
        facts.insert(1, f"perplexity {number(perplexity[0], 1)} → {number(perplexity[1], 1)}")
    if story.state in ("failed", "stopped") and story.steps:
        facts.insert(0, _result(story))
    return facts + device(story)


def what_was_trained(story: RunData) -> str:
    """Return method, adapter and model in a phrase."""
    kind = str(at(story.job, "method", "kind") or "training")
    words = title_of(kind)
    model = str(at(story.manifest, "model", "source") or at(story.job, "model", "source") or "")
    if adapter := at(story.job, "adapter", "kind"):
        words += f" with {_adapter(str(adapter))}"
    name = "a model from scratch" if model == "scratch" else PurePath(model).name
    return f"{words} of {_stage_model(model, name)}" if name else words


def _stage_model(source: str, name: str) -> str:
    """Name the model of an earlier stage by that stage, not by its folder."""
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


def comparisons(story: RunData) -> list[Comparison]:
    """Return held-out rows and general text, before training and after."""
    found = []
    parts = {
        "validation": "Held-out rows",
        "forgetting": "General text",
        "generation": "Sample answers",
    }
    for key, name in parts.items():
        sides = mapping(story.before.get(key)), mapping(story.after.get(key))
        if any("reward" in side for side in sides):
            found += rl_summary.comparisons(*sides)
            continue
        for measured in dict.fromkeys([*sides[0], *sides[1]]):
            if measured in _COUNTS:
                continue
            before, after = (side.get(measured) for side in sides)
            about = metric_label(measured)
            found.append(
                Comparison(
                    f"{name}: {about.words}",
                    number(before, about.digits),
                    number(after, about.digits),
                    change(before, after),
                    verdict(measured, before, after),
                )
            )
    return found


def forgetting(story: RunData) -> str:
    """Return in a sentence whether general ability was lost; empty when not measured."""
    before, after = _loss(story.before, "forgetting"), _loss(story.after, "forgetting")
    if before is None or after is None:
        return ""
    share = (after - before) / before if before else math.nan
    if not math.isfinite(share):
        return "The loss on general text is not a finite number."
    if share > 0.02:
        return (
            f"The model forgot: its loss on general text rose by {percent(share, 1)}. "
            "data.replay mixes general text in; a lower learning rate or an adapter also helps."
        )
    return "Nothing was forgotten: the loss on general text did not rise."


def sample_pairs(story: RunData) -> list[dict[str, str | None]]:
    """Return each prompt with its answers before and after."""
    found: dict[str, dict[str, str | None]] = {}
    for when, side in (("before", story.before), ("after", story.after)):
        samples = side.get("samples")
        for sample in samples if isinstance(samples, list) else ():
            prompt = str(sample.get("prompt", ""))
            pair = found.setdefault(prompt, {"prompt": prompt, "before": None, "after": None})
            pair[when] = str(sample.get("answer", ""))
    return list(found.values())


def on_the_way(story: RunData, prompt: Any) -> list[tuple[int, str]]:
    """Return the answers to a sample at a few evaluations on the way, with their steps."""
    found = [(row["step"], str(row.get("answer", ""))) for row in story.looks]
    found = [
        pair for pair, row in zip(found, story.looks, strict=True) if row.get("prompt") == prompt
    ]
    stride = max(1, -(-len(found) // _LOOKS))
    return found[::-1][::stride][::-1]


def device(story: RunData) -> list[str]:
    """Return what it ran on in a word or two; nothing where that is not known."""
    hardware = mapping(story.manifest.get("hardware"))
    if not hardware:
        return []
    device = str(hardware.get("device", ""))
    name = "CPU" if device == "cpu" else str(hardware.get("device_name") or device.upper())
    processes = hardware.get("processes", 1)
    return [name if processes == 1 else f"{processes} processes on {name}"]


def _sources(story: RunData) -> str:
    names = [PurePath(str(s["source"])).name for s in story.data.get("sources", ()) if _trains(s)]
    if not names:
        sources = at(story.job, "data", "train") or ()
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
        verb = "stayed: it went"
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
