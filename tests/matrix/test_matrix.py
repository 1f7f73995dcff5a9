"""Every combination of adapter, precision, sharding and base works or is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.test_unions import ADAPTERS, kind_of
from tests.factories import docstring_pairs, write_jsonl
from tests.matrix.cells import FAMILIES, KINDS, all_cells, cells_of, covering
from tests.matrix.compatibility_page import PAGE, RESULTS, cuda_walked, read, render
from tests.matrix.matrix_runner import Results, walk


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("rows") / "pairs.jsonl", docstring_pairs(64))


def faults(results: Results) -> dict[str, str]:
    return {name: one["said"] for name, one in results.items() if one["outcome"] == "failed"}


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_passes_or_is_refused(
    family: str, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    """Some minutes each, in `make compatibility`; the page is written from what is left here."""
    results = walk(cells_of(family), tiny_model, rows, tmp_path)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{family}.json").write_text(json.dumps(results, indent=1))
    assert not faults(results)
    assert results.keys() == {cell.name for cell in cells_of(family)}


@pytest.mark.slow
@pytest.mark.long
def test_every_two_settings_meet_in_a_cell_that_holds(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    """Few cells, among which every two settings of different columns meet; the page agrees."""
    on_page = page()
    results = walk(covering(), tiny_model, rows, tmp_path)
    assert not faults(results)
    assert {name: one["outcome"] for name, one in results.items()} == {
        cell.name: on_page[cell.name]["outcome"] for cell in covering()
    }


def page() -> Results:
    return read(page_text())


def page_text() -> str:
    if not PAGE.exists():
        pytest.skip("docs/compatibility.md is not there yet: make compatibility")
    return PAGE.read_text(encoding="utf-8")


def test_the_page_has_every_cell_and_none_that_fails() -> None:
    found = page()
    walked = {family for family in FAMILIES if {c.name for c in cells_of(family)} <= found.keys()}
    assert walked == set(FAMILIES), "walk those that are missing: make compatibility FAMILY=…"
    assert found.keys() == {cell.name for cell in all_cells()}
    assert {one["outcome"] for one in found.values()} == {"passed", "refused"}
    assert all(one["said"] for one in found.values() if one["outcome"] == "refused")


def test_the_page_is_written_from_what_it_says() -> None:
    text = page_text()
    assert render(read(text), cuda_walked(text)) == text


def test_every_kind_has_cells() -> None:
    kinds = {section["kind"] for section in KINDS.values()}
    # QLoRA is LoRA's cells with a 4-bit base.
    assert kinds | {"qlora"} == {kind_of(section) for section in ADAPTERS}


def test_a_complete_walk_on_the_simulated_device_is_dated() -> None:
    text = page_text()
    dated = render(read(text), "2026-01-31")
    assert cuda_walked(dated) == "2026-01-31"
    assert render(read(dated), cuda_walked(dated)) == dated
    assert cuda_walked(render(read(dated), "")) == ""
