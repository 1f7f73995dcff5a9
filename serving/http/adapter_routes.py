"""Loading and unloading of adapters at run time, by SageMaker's requests to containers.

https://github.com/aws/model-hosting-container-standards: vLLM has the same routes.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from serving.errors import RequestError
from serving.model import AdapterManager, ServedModel
from serving.protocol.fields import parse_body


class LoadAdapterRequest(BaseModel):
    """Body of a request to load an adapter.

    Attributes:
        name: Name by which requests mean it.
        src: Its folder.
        preload: Accepted without effect: it is loaded at once.
        pin: Accepted without effect: it stays in memory until it is unloaded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    src: str = Field(min_length=1)
    preload: bool = True
    pin: bool = False


class AdapterRoutes:
    """Routes that list, load and unload adapters.

    Args:
        served: The model.
    """

    def __init__(self, served: ServedModel):
        self._served = served

    async def list(self, _: Request) -> Response:
        """List the adapters."""
        manager = self._served.adapter_manager
        sources = manager.sources if manager else {}
        return JSONResponse(
            {"adapters": [{"name": name, "src": source} for name, source in sources.items()]}
        )

    async def load(self, _: Request, document: Any) -> Response:
        """Load an adapter; answers continue meanwhile.

        Raises:
            RequestError: It cannot be loaded.
        """
        body, manager = parse_body(LoadAdapterRequest, document), self._manager()
        if body.name == self._served.name:
            raise RequestError(f"the name {body.name} is that of the model", param="name")
        await run_in_threadpool(manager.load, body.name, body.src)
        return PlainTextResponse(f"Adapter {body.name} registered")

    async def unload(self, request: Request) -> Response:
        """Unload an adapter."""
        name = request.path_params["name"]
        await run_in_threadpool(self._manager().unload, name)
        return PlainTextResponse(f"Adapter {name} unregistered")

    def _manager(self) -> AdapterManager:
        manager = self._served.adapter_manager
        if manager is None:
            raise RequestError(
                f"this engine loads no adapters ({self._served.description}): serve the "
                f"safetensors of the base with --engine transformers or vllm"
            )
        return manager
