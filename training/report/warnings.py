"""Warnings about a run: reward hacking, length bias, unlikely chosen answers, small samples."""

from __future__ import annotations

import math
from collections.abc import Iterator

from training.config.types import parse_share
from training.report.formatting import count, number, percent
from training.report.overfitting import overfitting
from training.report.run_data import RunData, at

_ROSE = 0.1
"""Relative change of a mean from which on a warning is given."""
_FEW = 20
"""Number of answers below which their mean is mostly noise."""
_LAST_STEPS = 5
"""Logged steps at the end of a run that show a collapsed router."""


def collect_warnings(run_data: RunData) -> list[str]:
    """Return the warnings about a run as sentences; an empty list if there are none."""
    return [
        *overfitting_warnings(run_data),
        *_constant_reward(run_data),
        *_reward_hacking(run_data),
        *_length_bias(run_data),
        *_chosen_less_likely(run_data),
        *_small_sample(run_data),
        *_collapsed_router(run_data),
    ]


def overfitting_warnings(run_data: RunData) -> Iterator[str]:
    """Warn if the held-out loss of a language model rose again.

    Losses of other methods may rise while the model improves: DPO's does when both answers of a
    pair become less likely.
    """
    if at(run_data.job, "method", "kind") not in ("pretrain", "sft", "distill"):
        return
    steps, losses = run_data.series("eval_loss")
    before = at(run_data.before, "validation", "loss")
    after = at(run_data.after, "validation", "loss")
    kept = run_data.after.get("kept")
    if before is not None:
        steps, losses = [0.0, *steps], [before, *losses]
    if after is not None and kept is None and run_data.steps:
        last = float(run_data.steps[-1]["step"])
        if not steps or steps[-1] < last:
            steps, losses = [*steps, last], [*losses, after]
    found = overfitting(
        [int(step) for step in steps], losses, kept_step=kept["step"] if kept else None
    )
    if found:
        yield found


def _constant_reward(run_data: RunData) -> Iterator[str]:
    """Warn if all answers got the same reward, in a run too short for the guard to stop it."""
    _, rewards = run_data.series("reward")
    _, spreads = run_data.series("reward_std")
    if rewards and len(spreads) == len(rewards) and not any(spreads) and len(set(rewards)) == 1:
        yield (
            f"Every answer of every step got the same reward, {number(rewards[0], 2)}, so "
            f"the policy learned nothing. Use easier prompts, a reward that separates answers, or "
            f"a higher rollout.temperature."
        )


def _reward_hacking(run_data: RunData) -> Iterator[str]:
    """Warn of measures that got worse while the reward rose (arXiv:2210.10760)."""
    reward = _ends(run_data, "reward")
    if reward is None or reward[1] - reward[0] <= _ROSE * max(abs(reward[0]), 0.1):
        return
    rose = f"While the reward rose from {number(reward[0], 2)} to {number(reward[1], 2)}"
    length = _ends(run_data, "answer_tokens")
    if length and length[0] and not 2 / 3 < length[1] / length[0] < 1.5:
        grew = "grew" if length[1] > length[0] else "shrank"
        yield (
            f"{rose}, answers {grew} from {number(length[0], 0)} to {number(length[1], 0)} tokens: "
            f"check whether the reward depends on length. Add a length reward or raise the KL "
            f"coefficient."
        )
    repeats = _ends(run_data, "repetition")
    if repeats and repeats[1] - repeats[0] > 0.1:
        yield (
            f"{rose}, repeated 4-grams in answers rose from {percent(repeats[0])} to "
            f"{percent(repeats[1])}, a sign of reward hacking. Add {{kind: repetition}} to "
            f"method.reward."
        )
    ended = _ends(run_data, "ended")
    if ended and ended[0] - ended[1] > 0.2:
        yield (
            f"{rose}, fewer answers ended with EOS ({percent(ended[0])} to {percent(ended[1])}): "
            f"the model is losing the ability to stop."
        )
    entropy = _ends(run_data, "entropy")
    if entropy and entropy[0] > 0 and entropy[1] < 0.3 * entropy[0]:
        yield (
            f"{rose}, the entropy per token fell from {number(entropy[0], 2)} to "
            f"{number(entropy[1], 2)} nats: answers are losing their diversity (mode collapse)."
        )
    judged = _ends(run_data, "reward_judge")
    if judged and judged[1] < judged[0] - 0.02:
        yield (
            f"{rose}, the judge's score fell from {number(judged[0], 2)} to "
            f"{number(judged[1], 2)}, a sign that the policy exploits the other rewards."
        )
    for name in _monitored_rewards(run_data):
        monitored = _ends(run_data, f"reward_{name}")
        if monitored and monitored[0] - monitored[1] > _ROSE * max(abs(monitored[0]), 0.1):
            yield (
                f"{rose}, {name}, which is monitored only (weight: 0), fell from "
                f"{number(monitored[0], 2)} to {number(monitored[1], 2)}: the reward does not "
                f"measure the intended behaviour."
            )
    held_before, held_after = (
        at(side, "validation", "reward") for side in (run_data.before, run_data.after)
    )
    if held_before is not None and held_after is not None and held_after < held_before:
        yield f"{rose}, the reward on held-out prompts fell: the policy does not generalize."


def _monitored_rewards(run_data: RunData) -> list[str]:
    """Return the names of rewards with weight 0, which are logged only; the judge is excluded."""
    rewards = at(run_data.job, "method", "reward")
    sections = [r for r in rewards if isinstance(r, dict)] if isinstance(rewards, list) else []
    kinds = [str(section.get("kind")) for section in sections]
    names = []
    for place, (kind, section) in enumerate(zip(kinds, sections, strict=True)):
        name = f"{kind}_{kinds[: place + 1].count(kind)}" if kinds.count(kind) > 1 else kind
        if section.get("weight") == 0 and name != "judge":
            names.append(name)
    return names


def _length_bias(run_data: RunData) -> Iterator[str]:
    """Warn if a reward model prefers long or short answers more than annotators did."""
    scored = at(run_data.after, "validation", "longer_scored_higher")
    chosen = at(run_data.after, "validation", "longer_was_chosen")
    if scored is not None and chosen is not None and scored - chosen > 0.1:
        yield (
            f"The reward model scores the longer answer higher in {percent(scored)} of pairs; "
            f"annotators preferred it in {percent(chosen)}. A policy trained on this reward will "
            f"write longer answers."
        )
    correlation = at(run_data.after, "validation", "length_correlation")
    if correlation is not None and correlation < -0.4:
        yield (
            f"The reward model scores shorter answers higher (correlation "
            f"{number(correlation, 2)}). A policy trained on it will write shorter answers."
        )


def _chosen_less_likely(run_data: RunData) -> Iterator[str]:
    """Warn if preference tuning made chosen answers less likely, as DPO may (arXiv:2402.13228)."""
    before = at(run_data.before, "validation", "logp_chosen")
    after = at(run_data.after, "validation", "logp_chosen")
    if before is not None and after is not None and before - after > 0.05 * abs(before):
        yield (
            f"Chosen answers became less likely as well (log-probability {number(before, 1)} to "
            f"{number(after, 1)}); rejected ones only fell further. Raise beta, take fewer steps, "
            f"or use orpo, whose loss includes the likelihood of chosen answers."
        )


def _small_sample(run_data: RunData) -> Iterator[str]:
    """Warn if too few good or bad answers are held out to compare them."""
    for name, other in (("bad", "good"), ("good", "bad")):
        rows = at(run_data.after, "validation", f"{name}_rows")
        if rows is not None and rows < _FEW:
            yield (
                f"Only {count(rows)} {name} answers are held out, too few to compare them with "
                f"{other} ones. Hold out more rows."
            )


def _collapsed_router(run_data: RunData) -> Iterator[str]:
    """Warn if a router sent nearly all tokens to the same experts at the end of the run."""
    _, shares = run_data.series("expert_busiest_share")
    bound = parse_share(at(run_data.job, "guards", "expert_collapse", "max_share") or 1.0)
    last = shares[-_LAST_STEPS:]
    if len(last) == _LAST_STEPS and min(last) > bound:
        yield (
            f"A router sent {percent(last[-1])} of its layer's tokens to the same few experts: the "
            f"others were not trained (collapse). Raise train.router_aux_loss_coef, lower "
            f"train.learning_rate, or freeze the router."
        )


def _ends(run_data: RunData, name: str) -> tuple[float, float] | None:
    """Return the mean of a metric over the first and the last tenth of a run."""
    _, values = run_data.series(name)
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 4:
        return None
    share = max(1, len(finite) // 10)
    return sum(finite[:share]) / share, sum(finite[-share:]) / share
