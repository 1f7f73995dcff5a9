"""Model registry: versions of trained models with their evidence, stages and lineage. No torch."""
