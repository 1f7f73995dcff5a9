"""Fixtures that several files of this folder share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parity.composition_cases import Shop, open_shop


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shop]:
    """Return a base with an adapter of a kind for each of two tasks, made when first asked for."""
    made: dict[str, Shop] = {}

    def shop_of(kind: str) -> Shop:
        if kind not in made:
            made[kind] = open_shop(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return shop_of
