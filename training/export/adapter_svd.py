"""Rank reduction of a trained LoRA adapter by the singular value decomposition of its updates.

The best approximation of a matrix by one of rank k, in the Frobenius norm, has its k largest
singular values and vectors (Eckart and Young 1936, https://doi.org/10.1007/BF02288367); the squared
error is the sum of the squares of the others. The update B A is never formed: with the QR
decompositions B = P R and Aᵀ = Q S, its singular values are those of the small matrix R Sᵀ.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftType
from peft.utils.other import get_pattern_key

from training.errors import GuardError, JobError, ModelError, Problem
from training.models.safetensors_io import TensorInfo, WeightFiles, write_tensors

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Reduction:
    """Reduction that was asked for: one of the two is set.

    Attributes:
        rank: Largest rank that a layer keeps.
        energy: Share of the sum of squared singular values that each layer keeps at least.
    """

    rank: int | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            JobError: Neither or both are set, or one is out of range.
        """
        problems = []
        if (self.rank is None) == (self.energy is None):
            fix = "Give RANK=8, or ENERGY=0.95"
            problems.append(Problem("FORMAT", "adapter-svd needs a rank or an energy", fix=fix))
        if self.rank is not None and self.rank < 1:
            problems.append(Problem("RANK", "must be at least 1", str(self.rank)))
        if self.energy is not None and not 0 < self.energy <= 1:
            problems.append(Problem("ENERGY", "must be above 0 and at most 1", str(self.energy)))
        if problems:
            raise JobError("export", problems)

    def kept(self, singular: torch.Tensor) -> int:
        """Return how many of a layer's singular values are kept, at least one."""
        if self.rank is not None:
            return min(self.rank, len(singular))
        assert self.energy is not None
        total = singular.square().sum()
        if total == 0:
            return 1
        share = singular.square().cumsum(0) / total
        # Rounding must not add a rank where the sum of all is what was asked for.
        below = int((share < self.energy * (1 - 1e-12)).sum())
        return min(below + 1, len(singular))


@dataclass(frozen=True)
class LayerReduction:
    """Reduced factors of one layer.

    Attributes:
        down: A of the reduced layer, `[k, inputs]`.
        up: B of the reduced layer with the adapter's scale, `[outputs, k]`.
        relative_error: Frobenius norm of the error, relative to that of the update.
    """

    down: torch.Tensor
    up: torch.Tensor
    relative_error: float


def reduce_layer(down: torch.Tensor, up: torch.Tensor, reduction: Reduction) -> LayerReduction:
    """Return the best approximation of the update `up @ down`, computed in fp64.

    Args:
        down: A, `[r, inputs]`.
        up: B times the adapter's scale, `[outputs, r]`.
        reduction: The rank or energy to keep.
    """
    left, r_left = torch.linalg.qr(up.double())
    right, r_right = torch.linalg.qr(down.double().T)
    u, singular, vh = torch.linalg.svd(r_left @ r_right.T)
    k = reduction.kept(singular)
    root = singular[:k].sqrt()
    total = float(singular.square().sum())
    lost = float(singular[k:].square().sum())
    return LayerReduction(
        down=(root[:, None] * (vh[:k] @ right.T)).float(),
        up=((left @ u[:, :k]) * root).float(),
        relative_error=(lost / total) ** 0.5 if total else 0.0,
    )


def write_reduced(model: Path, target: Path, reduction: Reduction) -> dict[str, LayerReduction]:
    """Write a LoRA adapter's folder with smaller ranks, and return each layer's reduction.

    One layer is in memory at a time until it is reduced. Other tensors of the adapter (biases,
    modules trained in full) are kept. PEFT loads the result: `rank_pattern` holds the ranks.

    Args:
        model: Folder of the adapter.
        target: Folder to create.
        reduction: The rank or energy to keep.

    Raises:
        ModelError: The adapter is no LoRA adapter of linear layers, or has DoRA.
    """
    config = PeftConfig.from_pretrained(str(model))
    files = WeightFiles(model)
    _check(config, files, model)
    assert isinstance(config, LoraConfig)
    layers: dict[str, LayerReduction] = {}
    for name in files.tensors:
        if name.endswith(_DOWN):
            path = name.removesuffix(_DOWN)
            down, up = files.read(name).float(), files.read(f"{path}{_UP}").float()
            up = up * _scale(config, path.removeprefix(_PREFIX), len(down))
            layers[path] = reduce_layer(down, up, reduction)
    shutil.copytree(model, target, ignore=shutil.ignore_patterns("*.safetensors"))
    kinds = {}
    for name, kind in files.tensors.items():
        path, _, _ = name.rpartition(".lora_")
        if path in layers:
            part = layers[path].down if name.endswith(_DOWN) else layers[path].up
            kind = TensorInfo(kind.dtype, tuple(part.shape))
        kinds[name] = kind

    def tensor(name: str) -> torch.Tensor:
        path, _, _ = name.rpartition(".lora_")
        if path not in layers:
            return files.read(name)
        part = layers[path].down if name.endswith(_DOWN) else layers[path].up
        return part.to(kinds[name].dtype)

    write_tensors(target / WEIGHTS, kinds, tensor)
    ranks = {path.removeprefix(_PREFIX): len(part.down) for path, part in layers.items()}
    _write_config(target, ranks)
    _check_written(model, target, layers)
    return layers


def _check_written(model: Path, target: Path, layers: dict[str, LayerReduction]) -> None:
    """Compare the written updates with those of the original, one layer at a time.

    Raises:
        GuardError: An error differs from that of the best approximation.
    """
    for path, part in layers.items():
        original, written = (_update(folder, path) for folder in (model, target))
        error = float((written - original).norm() / original.norm().clamp(min=1e-30))
        if not abs(error - part.relative_error) <= 1e-2 * part.relative_error + 1e-2:
            raise GuardError(
                f"the reduced update of {path} differs by {error:.3g} from the original, and the "
                f"best one of its rank by {part.relative_error:.3g}. The export was discarded"
            )


def _update(folder: Path, path: str) -> torch.Tensor:
    """Return the update of a layer's weight by the adapter in a folder."""
    config, files = PeftConfig.from_pretrained(str(folder)), WeightFiles(folder)
    assert isinstance(config, LoraConfig)
    down, up = (files.read(f"{path}{side}").float() for side in (_DOWN, _UP))
    return up @ down * _scale(config, path.removeprefix(_PREFIX), len(down))


def _check(config: PeftConfig, files: WeightFiles, model: Path) -> None:
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    why = ""
    if not isinstance(config, LoraConfig) or config.peft_type != PeftType.LORA:
        why = f"it is of kind {kind.lower()}"
    elif config.lora_bias:
        why = "it has trained biases of B (lora_bias), which the scale applies to"
    elif config.use_dora:
        why = "it has DoRA, whose magnitudes depend on the update that is approximated"
    elif any("lora_embedding" in name for name in files.tensors):
        why = "it changes embeddings, whose factors have another layout"
    elif not any(name.endswith(_DOWN) for name in files.tensors):
        why = "it has no low-rank updates"
    if why:
        raise ModelError(
            f"the rank of the adapter in {model} cannot be reduced: {why}. adapter-svd is for LoRA "
            f"adapters of linear layers; use FORMAT=adapter"
        )


def _scale(config: LoraConfig, layer: str, r: int) -> float:
    key = get_pattern_key(list(config.alpha_pattern or {}), layer)
    alpha = float((config.alpha_pattern or {}).get(key, config.lora_alpha))
    return alpha / (r**0.5 if config.use_rslora else r)


def _write_config(target: Path, ranks: dict[str, int]) -> None:
    """Write the ranks; B holds the scale, so alpha equals the rank everywhere."""
    path = target / "adapter_config.json"
    largest = max(ranks.values())
    document = json.loads(path.read_text())
    document |= {
        "r": largest,
        "lora_alpha": largest,
        "use_rslora": False,
        "rank_pattern": {layer: rank for layer, rank in ranks.items() if rank != largest},
        "alpha_pattern": {layer: rank for layer, rank in ranks.items() if rank != largest},
        # The factors are no longer those that an initialization starts from.
        "init_lora_weights": True,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
