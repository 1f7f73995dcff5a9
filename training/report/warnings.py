"""What to be wary of in a run whose own measure went well: reward hacking, length, forgetting."""

from __future__ import annotations

import math
from collections.abc import Iterator

from training.report.formatting import count, number, percent
from training.report.run_data import RunData, at

_ROSE = 0.1
"""Part of its first value (or of 1) by which a mean must have moved to be worth a word."""
_FEW = 20
"""Answers of a kind below which their mean is mostly chance."""


def collect_warnings(run_data: RunData) -> list[str]:
    """Return warnings about a finished run, in sentences; none where nothing looks wrong."""
    return [
        *_tells_nothing_apart(run_data),
        *_hacking(run_data),
        *_likes_length(run_data),
        *_both_less_likely(run_data),
        *_few_of_a_kind(run_data),
    ]


def _tells_nothing_apart(run_data: RunData) -> Iterator[str]:
    """Yield whether all answers of all steps got the same reward, in a run too short to stop."""
    _, rewards = run_data.series("reward")
    _, spreads = run_data.series("reward_std")
    if rewards and len(spreads) == len(rewards) and not any(spreads) and len(set(rewards)) == 1:
        yield (
            f"Every answer of every step got the same reward, {number(rewards[0], 2)}: nothing was "
            f"learned from it. Easier prompts, a reward that tells answers apart, or a higher "
            f"rollout.temperature would help."
        )


def _hacking(run_data: RunData) -> Iterator[str]:
    """Yield what went wrong while the reward went up."""
    reward = _ends(run_data, "reward")
    if reward is None or reward[1] - reward[0] <= _ROSE * max(abs(reward[0]), 0.1):
        return
    rose = f"While the reward rose from {number(reward[0], 2)} to {number(reward[1], 2)}"
    length = _ends(run_data, "answer_tokens")
    if length and length[0] and not 2 / 3 < length[1] / length[0] < 1.5:
        grew = "grew" if length[1] > length[0] else "shrank"
        yield (
            f"{rose}, answers {grew} from {number(length[0], 0)} to {number(length[1], 0)} tokens: "
            f"see whether length is what is rewarded. A length reward or a higher KL price helps."
        )
    repeats = _ends(run_data, "repetition")
    if repeats and repeats[1] - repeats[0] > 0.1:
        yield (
            f"{rose}, answers came to repeat themselves ({percent(repeats[0])} to "
            f"{percent(repeats[1])} of their words): the reward is being gamed. Add "
            f"{{kind: repetition}} to it."
        )
    ended = _ends(run_data, "ended")
    if ended and ended[0] - ended[1] > 0.2:
        yield (
            f"{rose}, fewer answers came to an end ({percent(ended[0])} to {percent(ended[1])}): "
            f"the model is forgetting how to stop."
        )
    entropy = _ends(run_data, "entropy")
    if entropy and entropy[0] > 0 and entropy[1] < 0.3 * entropy[0]:
        yield (
            f"{rose}, the entropy of its words fell from {number(entropy[0], 2)} to "
            f"{number(entropy[1], 2)} nats: it says the same to everything."
        )
    judged = _ends(run_data, "reward_judge")
    if judged and judged[1] < judged[0] - 0.02:
        yield (
            f"{rose}, the judge's opinion fell from {number(judged[0], 2)} to "
            f"{number(judged[1], 2)}: the other rewards are being gamed."
        )
    for name in _watching(run_data):
        seen = _ends(run_data, f"reward_{name}")
        if seen and seen[0] - seen[1] > _ROSE * max(abs(seen[0]), 0.1):
            yield (
                f"{rose}, {name}, which only watches (weight: 0), fell from {number(seen[0], 2)} "
                f"to {number(seen[1], 2)}: what is rewarded is not what is wanted."
            )
    held_before, held_after = (
        at(side, "validation", "reward") for side in (run_data.before, run_data.after)
    )
    if held_before is not None and held_after is not None and held_after < held_before:
        yield f"{rose}, the reward on held-out prompts fell: what was learned does not carry over."


def _watching(run_data: RunData) -> list[str]:
    """Return the rewards that are logged and not learned from, a judge apart."""
    rewards = at(run_data.job, "method", "reward")
    sections = [r for r in rewards if isinstance(r, dict)] if isinstance(rewards, list) else []
    kinds = [str(section.get("kind")) for section in sections]
    found = []
    for place, (kind, section) in enumerate(zip(kinds, sections, strict=True)):
        name = f"{kind}_{kinds[: place + 1].count(kind)}" if kinds.count(kind) > 1 else kind
        if section.get("weight") == 0 and name != "judge":
            found.append(name)
    return found


def _likes_length(run_data: RunData) -> Iterator[str]:
    """Yield whether a reward model prefers long or short answers more than people did."""
    scored = at(run_data.after, "validation", "longer_scored_higher")
    chosen = at(run_data.after, "validation", "longer_was_chosen")
    if scored is not None and chosen is not None and scored - chosen > 0.1:
        yield (
            f"It scores the longer answer higher in {percent(scored)} of pairs; people preferred "
            f"it in {percent(chosen)}. A policy trained against it will learn to ramble."
        )
    correlation = at(run_data.after, "validation", "length_correlation")
    if correlation is not None and correlation < -0.4:
        yield (
            f"The shorter an answer, the higher its score (correlation {number(correlation, 2)}). "
            f"A policy trained against it will learn to say little."
        )


def _both_less_likely(run_data: RunData) -> Iterator[str]:
    """Yield whether preference tuning made chosen answers less likely, as DPO may."""
    before = at(run_data.before, "validation", "logp_chosen")
    after = at(run_data.after, "validation", "logp_chosen")
    if before is not None and after is not None and before - after > 0.05 * abs(before):
        yield (
            f"Chosen answers became less likely as well (log-probability {number(before, 1)} to "
            f"{number(after, 1)}): rejected ones only fell further. A higher beta, fewer steps, or "
            f"orpo, which keeps their likelihood in the loss, holds them up."
        )


def _few_of_a_kind(run_data: RunData) -> Iterator[str]:
    """Yield whether so few good or bad answers are held out that to compare them says little."""
    for name, other in (("bad", "good"), ("good", "bad")):
        rows = at(run_data.after, "validation", f"{name}_rows")
        if rows is not None and rows < _FEW:
            yield (
                f"{count(rows)} {name} answers are held out: how far they are from {other} ones "
                f"says little. Hold out more rows."
            )


def _ends(run_data: RunData, name: str) -> tuple[float, float] | None:
    """Return the mean of a metric over the first and the last tenth of a run."""
    _, values = run_data.series(name)
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 4:
        return None
    share = max(1, len(finite) // 10)
    return sum(finite[:share]) / share, sum(finite[-share:]) / share
