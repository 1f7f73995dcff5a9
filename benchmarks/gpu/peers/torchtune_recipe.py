"""torchtune's recipes for a single device: weights in bf16, which it has in place of autocast.

`python -m benchmarks.gpu.peers.torchtune_recipe SETTINGS STEPS`

Settings that are not named here are those of its file for Llama 3.1 8B.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torchtune
from omegaconf import OmegaConf
from tokenizers import Tokenizer

from benchmarks.gpu.peers.settings import PeerSettings, read_arguments
from benchmarks.gpu.peers.steps import StepFile

_RECIPES = Path(torchtune.__file__).parents[1] / "recipes"
_HERE = "benchmarks.gpu.peers.torchtune_recipe"


class RowTokenizer:
    """Tokenizer that torchtune's data set of texts asks for.

    Args:
        folder: Folder of the model.
        max_seq_len: Tokens of a row, and one more, which the data set cuts off.
    """

    def __init__(self, folder: str, max_seq_len: int):
        self._tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.max_seq_len = max_seq_len
        self.pad_id = json.loads((Path(folder) / "config.json").read_text())["pad_token_id"]

    def encode(self, text: str, **_: Any) -> list[int]:
        """Return the ids of a text."""
        return list(self._tokenizer.encode(text).ids)


class StepLogger:
    """Metric logger that writes the file of steps.

    Args:
        path: The file.
    """

    def __init__(self, path: str):
        self._steps = StepFile(Path(path))

    def log_config(self, config: Any) -> None:
        """Write nothing."""

    def log_dict(self, payload: dict[str, Any], step: int) -> None:
        """Write a step."""
        self._steps.end(float(payload["loss"]))

    def close(self) -> None:
        """Close nothing: each line has been written."""


def model_section(settings: PeerSettings) -> dict[str, Any]:
    """Return the builder of the model and its arguments, from the model's `config.json`."""
    config = json.loads((Path(settings.model) / "config.json").read_text())
    tied = config["tie_word_embeddings"]
    family = "llama3_2" if tied else "llama3_1"
    lora = {
        "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
        "apply_lora_to_mlp": True,
        "lora_rank": settings.r,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
    }
    return {
        "_component_": f"torchtune.models.{family}.{'lora_' if settings.lora else ''}{family}",
        "vocab_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "num_kv_heads": config["num_key_value_heads"],
        "embed_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "max_seq_len": config["max_position_embeddings"],
        "norm_eps": config["rms_norm_eps"],
        "rope_base": config["rope_parameters"]["rope_theta"],
        "scale_factor": 1,  # plain rotary embeddings
        **(lora if settings.lora else {}),
    }


def recipe_config(settings: PeerSettings, path: str) -> Any:
    """Return the recipe's settings: those of its file, with what the comparison sets."""
    kind = "lora" if settings.lora else "full"
    base = OmegaConf.load(_RECIPES / f"configs/llama3_1/8B_{kind}_single_device.yaml")
    rows = len(Path(settings.rows).read_text(encoding="utf-8").splitlines())
    per_epoch = min(rows // settings.batch, settings.steps)
    files = sorted(file.name for file in Path(settings.model).glob("*.safetensors"))
    changes = {
        "output_dir": settings.folder,
        "tokenizer": {"folder": settings.model, "max_seq_len": settings.length + 1},
        "checkpointer": {"checkpoint_dir": settings.model, "checkpoint_files": files},
        "optimizer_in_bwd": False,
        "batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "clip_grad_norm": 1.0,
        "epochs": -(-settings.steps // per_epoch),
        "max_steps_per_epoch": per_epoch,
        "device": "cuda" if settings.on_gpu else "cpu",
        "dtype": "bf16",
        "seed": 0,
    }
    config = OmegaConf.merge(base, changes)
    config.model = model_section(settings)
    config.tokenizer = {"_component_": f"{_HERE}.RowTokenizer", **changes["tokenizer"]}
    config.metric_logger = {"_component_": f"{_HERE}.StepLogger", "path": path}
    if settings.lora:
        config.lr_scheduler.num_warmup_steps = 0  # of 100: this few steps would learn nothing
    config.dataset = {
        "_component_": "torchtune.datasets.text_completion_dataset",
        "source": "json",
        "data_files": settings.rows,
    }
    config.optimizer = {
        "_component_": "torch.optim.AdamW",
        "fused": True,
        "lr": settings.learning_rate,
    }
    return config


def main() -> None:
    """Train by the recipe, without its checkpoint at the end of an epoch."""
    settings, steps = read_arguments()
    kind, name = ("lora", "LoRA") if settings.lora else ("full", "Full")
    path = _RECIPES / f"{kind}_finetune_single_device.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = recipe_config(settings, str(steps.path))
    recipe = getattr(module, f"{name}FinetuneRecipeSingleDevice")(cfg=config)
    recipe.save_checkpoint = lambda epoch: None
    recipe.setup(cfg=config)
    data = recipe._dataloader.dataset
    steps.lengths(len(data[number]["tokens"]) for number in range(len(data)))
    recipe.train()


if __name__ == "__main__":
    main()
