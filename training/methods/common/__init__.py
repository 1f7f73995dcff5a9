"""Parts that two or more training methods share.

- losses: `causal_lm`, `divergence`, `per_row_loss`, `reference_free`, `regularized`
- reference models: `reference_model`, `precomputed_reference`
- distillation: `distillation_head`, `logit_teacher`, `on_policy`, `soft_target_cache`,
  `temperature_scaling`, `text_teacher`
- online RL: `context_check`, `online_rl`, `online_rl_builder`, `rollout_log`
- generated datasets: `generated_rows`, `json_lines`, `row_journal`
- metrics: `auc`, `pair_metrics`

A part of a single method belongs to its file or package, unless that file would grow too long. A
part that does not depend on the method belongs to `training/trainer` or `training/models`.
"""
