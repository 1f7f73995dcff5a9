"""A quantized GGUF file is the model within the rounding of its type, and says what it lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, LlamaFileType, dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from temper.cli import main
from tests.parity.test_gguf import TEXTS, logits, make
from tests.run_commands import changed, train_here
from training.errors import GuardError, JobError
from training.export import gguf_file
from training.export.formats import gguf
from training.export.gguf_file import write_dequantized
from training.export.gguf_types import QUANTIZED, within_rounding


def types_in(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


CASES = [("llama", outtype) for outtype in QUANTIZED] + [
    (case, "Q8_0") for case in ("llama, positions of 3.1", "qwen2", "mistral")
]


@pytest.mark.parametrize(("case", "outtype"), CASES)
def test_transformers_dequantizes_the_same_model(case: str, outtype: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", case)
    said = gguf(folder, tmp_path / "out/model.gguf", outtype=outtype.lower())
    assert "within their rounding" in said and "mean KL" in said
    mine = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    there = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out",
        gguf_file="model.gguf",
        config=None if case == "mistral" else mine.config,
        dtype=torch.float32,
    )
    # Transformers reads the model that was measured: not the original, but close to it.
    write_dequantized(tmp_path / "out/model.gguf", folder, tmp_path / "plain", outtype)
    measured = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]
    exact, rounded = logits(mine, ids), logits(there, ids)
    torch.testing.assert_close(rounded, logits(measured, ids), atol=1e-4, rtol=1e-4)
    error = float((rounded - exact).norm() / exact.norm())
    assert 1e-3 < error < (0.1 if outtype == "Q8_0" else 0.7), error

    types = types_in(tmp_path / "out/model.gguf")
    tied = mine.config.tie_word_embeddings
    head = "token_embd.weight" if tied else "output.weight"
    assert types.pop(head) == "Q8_0"
    assert types.pop("output_norm.weight") == types["blk.0.attn_norm.weight"] == "F32"
    assert {types[f"blk.1.{name}.weight"] for name in ("attn_q", "ffn_down")} == {outtype}
    field = GGUFReader(tmp_path / "out/model.gguf").get_field("general.file_type")
    assert field is not None
    assert field.contents() == LlamaFileType[f"MOSTLY_{outtype}"]


def test_every_type_keeps_to_its_bound_and_the_bound_is_tight() -> None:
    """Rounding is accepted for any values; an error of a step is not."""
    generator = np.random.default_rng(0)
    scales = 10.0 ** generator.uniform(-4, 2, size=(64, 1))
    values = (scales * generator.normal(size=(64, 256)) + generator.normal(size=(64, 1))).astype(
        np.float32
    )
    values[0] = 0.0
    beyond = {"Q8": 0.02, "Q5": 0.15, "Q4": 0.3, "F1": 0.01}
    for kind in (*(kind for kind, _ in QUANTIZED.values()), GGMLQuantizationType.F16):
        stored = dequantize(quantize(values, kind), kind)
        assert within_rounding(kind, values, stored), kind
        moved = stored.copy()
        row, column = divmod(int(np.abs(values).argmax()), values.shape[1])
        moved[row, column] *= 1 + beyond[kind.name[:2]]
        assert not within_rounding(kind, values, moved), kind


def test_rows_that_are_no_multiple_of_a_block_become_fp16(tiny_model: Path, tmp_path: Path) -> None:
    """The tiny model's MLP is 88 wide."""
    gguf(tiny_model, tmp_path / "model.gguf", outtype="Q4_0")
    types = types_in(tmp_path / "model.gguf")
    assert (types["blk.0.ffn_down.weight"], types["blk.0.ffn_up.weight"]) == ("F16", "Q4_0")


def test_a_wrong_number_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, whole = make(tmp_path / "model", "llama"), gguf_file._stored_values

    def wrong(tensor: Any, *more: Any) -> Any:
        found = whole(tensor, *more)
        return np.roll(found, 1, axis=0) if tensor.name == "blk.1.attn_q.weight" else found

    monkeypatch.setattr(gguf_file, "_stored_values", wrong)
    with pytest.raises(GuardError, match=r"layers.1.self_attn.q_proj.weight does not read back"):
        gguf(folder, tmp_path / "out/model.gguf", outtype="Q8_0")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["whole", "adapter"])
def test_the_command_records_what_quantization_costs(
    document: dict[str, Any], adapter: dict[str, Any] | None, tmp_path: Path
) -> None:
    job = changed(document, data={"validation": {"split": "20%"}}, adapter=adapter)
    run = train_here(job, tmp_path / "run")
    for outtype in ("Q8_0", "Q4_0"):
        assert main(["export", str(run.path), "--format", "gguf", "--outtype", outtype]) == 0
    folder = run.path / "export"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["export.json", "model-Q4_0.gguf", "model-Q8_0.gguf"]
    eight, four = (
        json.loads((folder / "export.json").read_text())[f"model-{t}.gguf"]
        for t in ("Q8_0", "Q4_0")
    )
    before, after = (eight["held_out_loss"][when] for when in ("before", "after"))
    trained = json.loads((run.path / "evaluation.json").read_text())["after"]["validation"]["loss"]
    assert before == pytest.approx(trained, abs=1e-4), "the rows are not those of the run"
    assert 0 < abs(after - before) < 0.01
    assert 0 < eight["kl"] < four["kl"]
    assert (
        four["bytes"]["after"]
        < eight["bytes"]["after"]
        == (folder / "model-Q8_0.gguf").stat().st_size
    )


def test_a_type_that_cannot_be_written_is_refused_with_a_fix(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        JobError, match=r"OUTTYPE: no type that is written .*Q4_K_M.*llama-quantize"
    ):
        gguf(tiny_model, tmp_path / "model.gguf", outtype="Q4_K_M")
