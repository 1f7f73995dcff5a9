"""Versions in MLflow's registry that Temper pushed, and the aliases of their models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from registry.remote.mlflow_tags import VERSION

_PAGE = 200


def versions_by_model(client: Any, name: str | None) -> dict[str, dict[int, Any]]:
    """Return the versions that were pushed, by model and MLflow's number.

    Args:
        client: MLflow client.
        name: Name of a model; None for all.
    """
    models: dict[str, dict[int, Any]] = {}
    for version in _search(client, None if name is None else f"name = '{name}'"):
        if VERSION in version.tags:
            models.setdefault(version.name, {})[int(version.version)] = version
    return models


def aliases_of(client: Any, name: str) -> dict[str, int]:
    """Return MLflow's number of the version that each alias of a model points to."""
    model = client.get_registered_model(name)
    return {alias: int(number) for alias, number in model.aliases.items()}


def _search(client: Any, expression: str | None) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_model_versions(expression, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
