"""Parts that several training methods share: losses, metrics, reference models, rollouts."""
