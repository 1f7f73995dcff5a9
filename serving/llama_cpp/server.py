"""llama.cpp's server in this process, by the bindings of the package `xllamacpp`."""

from __future__ import annotations

import json
import secrets
import signal
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import ModelError

_BATCH_TOKENS = 512
_QUIET = -1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class LlamaCppSettings:
    """Settings of the server.

    Attributes:
        path: GGUF file.
        architecture: Its architecture.
        max_running: Number of sequences that share forward passes.
        cache_tokens: Number of tokens in the cache that they share.
        fp32_cache: Store keys and values in fp32 instead of fp16.
    """

    path: Path
    architecture: str
    max_running: int
    cache_tokens: int
    fp32_cache: bool = False


class LlamaCppServer:
    """Model that llama.cpp has loaded.

    Args:
        settings: Settings.

    Raises:
        ModelError: llama.cpp cannot load the file.
    """

    def __init__(self, settings: LlamaCppSettings):
        import xllamacpp

        self._key = secrets.token_urlsafe(32)
        params = server_params(settings)
        # The bindings also listen on a port of this machine, for this process alone.
        params.api_keys = [self._key]
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError:
            raise ModelError(
                f"llama.cpp cannot load {settings.path} (architecture {settings.architecture}, "
                f"xllamacpp {xllamacpp.__version__}): the file is damaged, it needs more memory "
                f"than is free, or this version does not know the architecture. A newer xllamacpp "
                f"may; the safetensors are served with --engine transformers"
            ) from None
        _restore_signals()

    def complete(self, body: bytes, receive: Any) -> None:
        """Answer a request of OpenAI's completions; returns when the answer has ended.

        Args:
            body: JSON of the request.
            receive: Called with the JSON of each event; returns True to end the answer.
        """
        self._server.handle_completions(body, receive)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, with the special tokens that begin a prompt."""
        body = {"content": text, "add_special": True, "parse_special": True}
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            tokens: list[int] = json.load(response)["tokens"]
        return tokens

    def close(self) -> None:
        """Free the model."""
        self._server = None


def server_params(settings: LlamaCppSettings) -> Any:
    """Return the parameters of llama.cpp's server."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(settings.path)
    params.n_parallel = settings.max_running
    params.n_ctx = settings.cache_tokens
    params.kv_unified = True  # a long sequence may use what short ones leave
    params.n_batch = _BATCH_TOKENS
    # A sequence that is too long ends, instead of forgetting its beginning.
    params.ctx_shift = False
    if settings.fp32_cache:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = 0
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = _QUIET
    return params


def _restore_signals() -> None:
    """Give SIGINT and SIGTERM back to Python: llama.cpp's server takes them when it starts."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.getsignal(number))
