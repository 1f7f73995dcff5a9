"""What a run comes to, in the words and tables of its report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from training.report.story import Story
from training.report.wording import (
    MISSING,
    change,
    count,
    duration,
    large,
    moment,
    number,
    percent,
)

_STATES = {
    "finished": "Finished",
    "running": "Not finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "waiting": "Not begun",
}
_LEARNED = {
    "pretrain": "Pre-training",
    "sft": "Supervised fine-tuning",
    "dpo": "Preference tuning (DPO)",
    "kto": "Preference tuning (KTO)",
    "orpo": "Preference tuning (ORPO)",
    "reward": "Reward model",
    "distill": "Distillation",
}


@dataclass(frozen=True)
class Comparison:
    """One measure, before training and after.

    Attributes:
        name: What was measured.
        before: In words.
        after: In words.
        change: In percent.
        verdict: better, worse, or same; empty when one side is missing.
    """

    name: str
    before: str
    after: str
    change: str
    verdict: str


def state_word(story: Story) -> str:
    """Return how far the run came, in a word or two."""
    return _STATES.get(story.state, story.state)


def headline(story: Story) -> str:
    """Return the result in one sentence, as far as there is one."""
    if story.stages:
        done = sum(stage.state == "finished" for stage in story.stages)
        return f"{done} of {len(story.stages)} stages finished"
    before, after = _loss(story.before, "validation"), _loss(story.after, "validation")
    if before is not None and after is not None:
        return _moved("Held-out loss", before, after)
    _, losses = story.series("eval_loss")
    if before is not None and losses:
        return f"{_moved('Held-out loss', before, losses[-1])} so far"
    _, losses = story.series("loss")
    if not losses:
        return "No step was logged"
    if len(losses) == 1:
        return f"Training loss {number(losses[0])} at the only logged step"
    share = max(1, len(losses) // 10)
    ends = [_mean(losses[:share]), _mean(losses[-share:])]
    return f"{_moved('Training loss', *ends)}; nothing was held out"


def summary(story: Story) -> list[str]:
    """Return the facts that go under the headline: what, on what, how much, how long, where."""
    if story.stages:
        seconds = sum(stage.seconds for stage in story.stages)
        tokens = sum(stage.sum("tokens") for stage in story.stages)
        facts = [" → ".join(stage.name for stage in story.stages)]
        facts += [f"{count(tokens)} tokens", duration(seconds)] if tokens else []
        return facts + _device(story.stages[0])
    facts = [f"{what_was_trained(story)} on {_sources(story)}"]
    if story.steps:
        last, planned = story.steps[-1]["step"], story.manifest.get("steps")
        steps = f"{count(last)} of {count(planned)}" if planned and planned != last else count(last)
        facts += [
            f"{steps} step{'' if steps == '1' else 's'}",
            f"{count(story.sum('tokens'))} tokens",
        ]
        facts.append(duration(story.seconds))
    return facts + _device(story)


def what_was_trained(story: Story) -> str:
    """Return method, adapter and model in a phrase."""
    kind = str(_at(story.job, "method", "kind") or "training")
    words = _LEARNED.get(kind, kind.upper())
    model = str(_at(story.manifest, "model", "source") or _at(story.job, "model", "source") or "")
    if adapter := _at(story.job, "adapter", "kind"):
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
    return {"lora": "LoRA", "qlora": "QLoRA"}.get(kind, kind.replace("_", " "))


def comparisons(story: Story) -> list[Comparison]:
    """Return held-out rows and general text, before training and after."""
    found = []
    for key, name in (("validation", "Held-out rows"), ("forgetting", "General text")):
        for measure in ("loss", "perplexity"):
            before = _at(story.before, key, measure)
            after = _at(story.after, key, measure)
            if before is None and after is None:
                continue
            digits = 4 if measure == "loss" else 2
            found.append(
                Comparison(
                    f"{name}: {measure}",
                    number(before, digits),
                    number(after, digits),
                    change(before, after),
                    _verdict(before, after),
                )
            )
    return found


def forgetting(story: Story) -> str:
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


def sample_pairs(story: Story) -> list[dict[str, str | None]]:
    """Return each prompt with its answers before and after."""
    found: dict[str, dict[str, str | None]] = {}
    for when, side in (("before", story.before), ("after", story.after)):
        samples = side.get("samples")
        for sample in samples if isinstance(samples, list) else ():
            prompt = str(sample.get("prompt", ""))
            pair = found.setdefault(prompt, {"prompt": prompt, "before": None, "after": None})
            pair[when] = str(sample.get("answer", ""))
    return list(found.values())


def data_facts(story: Story) -> list[tuple[str, str]]:
    """Return the numbers of the rows as they are trained on."""
    data = story.data
    tokens, learned = data.get("tokens"), data.get("supervised")
    rows = [
        ("Rows to train on", count(data.get("rows_train"))),
        ("Rows held out", count(data.get("rows_validation"))),
        ("Tokens to train on", count(tokens)),
        ("Of those learned", percent(learned / tokens) if learned and tokens else MISSING),
        ("Longest row allowed", f"{count(data.get('max_length'))} tokens"),
        (
            "Median, longest document",
            f"{count(data.get('median'))}, {count(data.get('longest'))} tokens",
        ),
        ("Documents cut short", percent(data.get("truncated_share"), 1)),
        (
            "Rows are full" if data.get("packed") else "Not padding",
            percent(data.get("efficiency"), 1),
        ),
        ("Chat template", str(data.get("template") or "")),
        ("Streamed", "yes; the numbers are of the first window" if data.get("streamed") else ""),
    ]
    return [(name, value) for name, value in rows if value and not value.startswith(MISSING)]


def time_and_memory(story: Story) -> list[tuple[str, str]]:
    """Return what the run took."""
    _, speeds = story.series("tokens_per_second")
    _, memory = story.series("memory_gib")
    started, ended = str(story.manifest.get("started", "")), story.ended
    rows = [
        ("Time at work, loading and evaluations included", duration(story.seconds)),
        ("Tokens per second, median step", count(_median(speeds))),
        ("Peak memory of a process", f"{number(max(memory), 2)} GiB" if memory else MISSING),
        ("Tokens seen", count(story.sum("tokens"))),
        ("Of those learned", count(story.sum("supervised_tokens"))),
        ("Began", moment(started)),
        ("Ended", moment(ended) if story.state != "running" else ""),
    ]
    for stamp in story.manifest.get("resumed") or ():
        rows.append(("Went on after a stop", moment(str(stamp))))
    return [(name, value) for name, value in rows if value and value != MISSING]


def plan_rows(story: Story) -> list[tuple[str, str, str, str]]:
    """Return what was predicted against what was measured."""
    predicted = _mapping(story.plan.get("predicted")) or story.plan
    measured = dict(_mapping(story.plan.get("measured")))
    _, memory = story.series("memory_gib")
    if memory:
        measured.setdefault("memory_gib", max(memory))
    if story.steps:
        measured.setdefault("seconds", story.seconds)
    rows = []
    for key, value in predicted.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            name = key.removesuffix("_gib").removesuffix("_usd").replace("_", " ")
            found = measured.get(key)
            rows.append((name, _unit(key, value), _unit(key, found), change(value, found)))
    return rows


def what_ran(story: Story) -> list[tuple[str, str]]:
    """Return versions, hardware, seed and hashes."""
    facts = story.manifest
    hardware, model = _mapping(facts.get("hardware")), _mapping(facts.get("model"))
    data = _mapping(facts.get("data"))
    parameters = (
        f"{large(model.get('parameters'))}, {large(model.get('trainable'))} of them trained"
    )
    batch = (
        f"{_at(story.job, 'train', 'global_batch_size')} = {facts.get('micro_batch_size')} a device"
        f" × {hardware.get('processes')} × {facts.get('accumulation')} accumulated"
    )
    cores = f"{hardware.get('device_name')}, {hardware.get('cores')} cores"
    rows = [
        ("Model", str(model.get("source", ""))),
        ("Parameters", parameters if "parameters" in model else ""),
        ("Rows per step", batch if "accumulation" in facts else ""),
        ("Device", f"{_device(story)[0]} ({cores})" if hardware else ""),
        ("Seed", str(facts.get("seed", ""))),
        ("Temper", str(facts.get("temper", ""))),
        ("Commit", str(facts.get("commit") or "")),
        ("Python", str(facts.get("python", ""))),
        (
            "Packages",
            ", ".join(f"{n} {v}" for n, v in _mapping(facts.get("packages")).items() if v),
        ),
        ("Training rows, hash", str(data.get("train") or "")),
        ("Held-out rows, hash", str(data.get("validation") or "")),
        ("Tokenizer, hash", str(facts.get("tokenizer") or "")),
    ]
    return [(name, value) for name, value in rows if value]


def _device(story: Story) -> list[str]:
    hardware = _mapping(story.manifest.get("hardware"))
    if not hardware:
        return []
    device = str(hardware.get("device", ""))
    name = "CPU" if device == "cpu" else str(hardware.get("device_name") or device.upper())
    processes = hardware.get("processes", 1)
    return [name if processes == 1 else f"{processes} processes on {name}"]


def _sources(story: Story) -> str:
    names = [PurePath(str(s["source"])).name for s in story.data.get("sources", ()) if _trains(s)]
    if not names:
        sources = _at(story.job, "data", "train") or ()
        names = [PurePath(str(_mapping(s).get("source", ""))).name for s in sources]
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more sources"
    return " and ".join(name for name in names if name) or "its data"


def _trains(source: Any) -> bool:
    return _mapping(source).get("role") == "train" and "source" in source


def _unit(key: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return MISSING
    if key == "seconds":
        return duration(value)
    if key.endswith("_gib"):
        return f"{number(value, 2)} GiB"
    return f"{number(value, 2)} USD" if key.endswith("_usd") else number(value, 2)


def _moved(name: str, before: float, after: float) -> str:
    if not (math.isfinite(before) and math.isfinite(after)):
        return f"{name} went from {number(before)} to {number(after)}"
    verb = {"better": "fell", "worse": "rose"}.get(_verdict(before, after), "stayed: it went")
    return f"{name} {verb} from {number(before, 2)} to {number(after, 2)} ({change(before, after)})"


def _verdict(before: Any, after: Any) -> str:
    values = [v for v in (before, after) if isinstance(v, int | float) and math.isfinite(v)]
    if len(values) < 2:
        return ""
    if abs(after - before) <= 0.001 * abs(before):
        return "same"
    return "better" if after < before else "worse"


def _loss(side: dict[str, Any], key: str) -> float | None:
    value = _at(side, key, "loss")
    return float(value) if isinstance(value, int | float) else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _median(values: list[float]) -> float:
    finite = sorted(value for value in values if math.isfinite(value))
    return finite[len(finite) // 2] if finite else math.nan


def _at(document: Any, *path: str) -> Any:
    for key in path:
        document = _mapping(document).get(key)
    return document


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
