"""Adapters of a model: adding, removing, and the selection of one for each sequence."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from training.evaluation.multi_adapter import BASE_NAME, with_adapters

Names = Sequence[str | None]


class AdapterSwitch:
    """Switch between the adapters of a model.

    Args:
        model: The model.

    Attributes:
        model: The model; a `PeftModel` while it has adapters.
        configs: Configuration of each adapter, by its name.
    """

    def __init__(self, model: Any):
        self.model = model
        self.configs: dict[str, PeftConfig] = {}
        self._mixed = False

    def add(self, folders: Mapping[str, str], configs: Mapping[str, PeftConfig]) -> None:
        """Add adapters. After an error, the model is as it was before.

        Args:
            folders: Folder of each adapter by its name.
            configs: Their configurations.
        """
        if not folders:
            return
        together = {**self.configs, **configs}
        try:
            model, mixed = with_adapters(self.model, folders, together)
        except BaseException:
            self._delete(folders)
            raise
        self.model = model.eval().requires_grad_(False)
        self.configs, self._mixed = together, mixed

    def remove(self, name: str) -> None:
        """Remove an adapter, and free its weights."""
        del self.configs[name]
        self._delete([name])

    def _delete(self, names: Collection[str]) -> None:
        """Remove adapters, of which some may not have been loaded completely."""
        if not isinstance(self.model, PeftModel):
            _restore_layers(self.model)
        elif not self.configs:  # a PeftModel cannot be without an adapter
            self.model = self.model.unload()
        else:
            for name in names:
                if name in self.model.peft_config:
                    self.model.delete_adapter(name)

    def groups(self, adapters: Names) -> list[list[int]]:
        """Return the numbers of the sequences that can share a forward pass."""
        if self._mixed or not self.configs:
            return [list(range(len(adapters)))]
        return [
            [index for index, other in enumerate(adapters) if other == name]
            for name in dict.fromkeys(adapters)
        ]

    @contextmanager
    def active(self, adapters: Names) -> Iterator[None]:
        """Activate one adapter per sequence.

        Args:
            adapters: Adapter of each sequence of the forward pass; None for none.
        """
        if not self.configs:
            yield
            return
        names = [name or BASE_NAME for name in adapters]
        if self._mixed:
            # These hooks are what `forward(adapter_names=…)` of a PeftModel sets up.
            with self.model._enable_peft_forward_hooks(adapter_names=names):
                yield
            return
        (name,) = set(names)
        if name != BASE_NAME:
            self.model.set_adapter(name)
        with self.model.disable_adapter() if name == BASE_NAME else nullcontext():
            yield


def _restore_layers(model: Any) -> None:
    """Undo what PEFT did to a model before it failed to load its first adapter."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, BaseTunerLayer):
                setattr(parent, name, layer.get_base_layer())
            elif isinstance(layer, AuxiliaryTrainingWrapper):
                setattr(parent, name, layer.original_module)
    if hasattr(model, "peft_config"):
        del model.peft_config
