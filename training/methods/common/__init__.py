"""Parts that two or more training methods share.

Losses (`divergence`, `per_row_loss`, `reference_free`), reference models (`reference_model`,
`regularized`), online RL (`online_rl`, `rollout_log`, `context_check`), distillation
(`distillation_head`, `soft_target_cache`, `temperature_scaling`, `on_policy`), generated datasets
(`generated_rows`, `row_journal`), and metrics (`auc`, `pair_metrics`). A part of a single method
belongs to its file; a part that does not depend on the method belongs to `training/trainer` or
`training/models`.
"""
