"""Exact and near duplicates: signatures and clusters by datatrove, verified by Jaccard."""
