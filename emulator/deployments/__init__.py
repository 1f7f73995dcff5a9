"""Rehearsal of deployments: a model's life from its registration to its removal, on each target."""
