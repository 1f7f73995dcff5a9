"""llama.cpp's own HTTP server, by the bindings that embed it: `llama_cpp_server.py FILE PORT`.

It has the parameters of `temper serve`, so that both compute the same.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import xllamacpp

from serving.command import ServeOptions
from serving.llama_cpp.model import load_llama_cpp_model
from serving.llama_cpp.server import server_params


def main(path: Path, port: int) -> None:
    """Serve a GGUF file until the process is told to stop."""
    served = load_llama_cpp_model("model", str(path), path, {})
    params = server_params(served.server_settings(ServeOptions("").max_running))
    params.hostnames, params.port = ["127.0.0.1"], port
    server = xllamacpp.Server(params)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    print(server.listening_address, flush=True)
    stopped.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
