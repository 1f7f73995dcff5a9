"""Adapters of a model that Transformers computes: at the start, and while it serves."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig

from serving.adapter_checks import check_config, check_shapes
from serving.engine.adapters import AdapterSwitch
from serving.engine.engine import Engine
from serving.errors import RequestError
from serving.model import PromptFormat
from training.config.model import Model
from training.errors import ModelError
from training.evaluation.multi_adapter import check_kinds, read_adapters
from training.models.tokenizer import load_tokenizer
from training.run_folder import RunFolder

_LOAD_SECONDS = 300.0


class TransformersAdapters:
    """Adapters of one model.

    The engine has its own name for each adapter: the name in requests can be given to another
    adapter while answers of the first are still in progress.

    Args:
        base: Folder or Hub id of the model.
        max_rank: Highest rank that is served; None for any.
    """

    def __init__(self, base: str, max_rank: int | None = None):
        self._base, self._max_rank = base, max_rank
        self._sources: dict[str, str] = {}
        self._names = (f"adapter{number}" for number in itertools.count())
        self._lock = threading.Lock()
        self._switch: AdapterSwitch
        self._formats: dict[str | None, PromptFormat]
        self._engine: Engine | None = None

    def read(self, adapters: Mapping[str, str]) -> dict[str, PeftConfig]:
        """Return the configuration of each adapter, after checking it.

        Args:
            adapters: Folder of each adapter by its name.

        Raises:
            ModelError: One cannot be served.
        """
        configs = read_adapters(self._base, adapters)
        for name, config in configs.items():
            check_config(name, adapters[name], config, self._max_rank)
        return configs

    def start(
        self, switch: AdapterSwitch, adapters: Mapping[str, str], configs: Mapping[str, PeftConfig]
    ) -> dict[str | None, PromptFormat]:
        """Add the first adapters to a model, and return the form of prompts of each.

        Args:
            switch: The model.
            adapters: Folder of each adapter by its name.
            configs: Their configurations, from `read`.

        Raises:
            ModelError: One does not fit the model.
        """
        self._switch, self._formats = switch, {}
        for name, folder in adapters.items():
            check_shapes(name, folder, configs[name], switch.model)
        for name, folder in adapters.items():
            form = self._format(folder)
            assert form.adapter is not None
            switch.add({form.adapter: folder}, {form.adapter: configs[name]})
            self._formats[name], self._sources[name] = form, folder
        return self._formats

    def attach(self, engine: Engine) -> None:
        """Set the engine that adds and removes adapters from now on."""
        self._engine = engine

    @property
    def sources(self) -> Mapping[str, str]:
        """Folder of each adapter by its name."""
        return dict(self._sources)

    def load(self, name: str, source: str) -> None:
        """Load an adapter between two steps, and return when requests can name it.

        Args:
            name: Name of the adapter in requests.
            source: Its folder, or a run.

        Raises:
            RequestError: It cannot be loaded.
        """
        with self._lock:
            self._check_name(name)
            folder = adapter_folder(source)
            if not Path(folder).is_dir():
                raise RequestError(f"adapter {name}: the folder {source} does not exist", 404)
            try:
                self._load(name, folder)
            except RequestError:
                raise
            except ModelError as error:
                raise RequestError(str(error)) from None
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                raise RequestError(
                    f"adapter {name}: {folder} cannot be loaded: {problem}"
                ) from None

    def _load(self, name: str, folder: str) -> None:
        assert self._engine is not None
        (config,) = self.read({name: folder}).values()
        present = {other: self._switch.configs[str(form.adapter)] for other, form in self._named()}
        check_kinds({**present, name: config})
        check_shapes(name, folder, config, self._switch.model)
        form = self._format(folder)
        assert form.adapter is not None
        added = ({form.adapter: folder}, {form.adapter: config})
        done = self._engine.add_adapter(
            form.adapter, form.tokenizer, form.end_ids, lambda: self._switch.add(*added)
        )
        done.result(_LOAD_SECONDS)
        self._formats[name], self._sources[name] = form, folder

    def _named(self) -> list[tuple[str, PromptFormat]]:
        return [(name, form) for name, form in self._formats.items() if name is not None]

    def _check_name(self, name: str) -> None:
        if name in self._sources:
            raise RequestError(
                f"the adapter {name} is loaded, from {self._sources[name]}. Unload it first: "
                f"DELETE /adapters/{name}",
                param="name",
            )

    def _format(self, folder: str) -> PromptFormat:
        """Return the form of prompts of an adapter, as in its training."""
        end = self._switch.model.generation_config.eos_token_id
        tokenizer = load_tokenizer(Model(source=folder))
        return PromptFormat.from_tokenizer(tokenizer, end, next(self._names))

    def unload(self, name: str) -> None:
        """Let no further request name an adapter; its weights are freed after its answers.

        Args:
            name: Name of the adapter in requests.

        Raises:
            RequestError: There is no such adapter.
        """
        with self._lock:
            if name not in self._sources:
                loaded = ", ".join(self._sources) or "none"
                raise RequestError(f"the adapter {name} is not loaded. Loaded: {loaded}", 404)
            assert self._engine is not None
            del self._sources[name]
            adapter: Any = self._formats.pop(name).adapter
            self._engine.remove_adapter(adapter, lambda: self._switch.remove(adapter))


def adapter_folder(source: str) -> str:
    """Return the folder of an adapter that a user names: a run, or the folder itself."""
    run = RunFolder(Path(source))
    return source if run.state is None else str(run.model)
