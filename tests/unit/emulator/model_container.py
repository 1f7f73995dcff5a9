"""Container that answers as a model server does, from the files that it finds in its folder.

`python model_container.py FOLDER serve`: `FOLDER/model/answer.txt` is the answer, `crash.txt` ends
the process, `error.txt` answers 500, and `reply.json` is the whole answer. An adapter's answer is
that of its `answer.txt`, in which an object is the whole answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path(sys.argv[1]) / "model"
ADAPTERS: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/adapters":
            asked = json.loads(body)
            folder = Path(asked["src"].replace("/opt/ml", sys.argv[1]))
            if (folder / "crash.txt").exists():
                self._answer(400, b"the rank of the adapter is 64, at most 16 is allowed")
                return
            ADAPTERS[asked["name"]] = (folder / "answer.txt").read_text()
            self._answer(200, b"{}")
            return
        if (MODEL / "error.txt").exists():
            self._answer(500, b"the model is broken")
            return
        if b"sleep" in body:
            time.sleep(json.loads(body)["sleep"])
        adapter = self.headers.get("X-Amzn-SageMaker-Adapter-Identifier")
        if adapter and ADAPTERS[adapter].startswith("{"):
            self._answer(200, ADAPTERS[adapter].encode())
            return
        if (MODEL / "reply.json").exists():
            self._answer(200, (MODEL / "reply.json").read_bytes())
            return
        text = ADAPTERS[adapter] if adapter else (MODEL / "answer.txt").read_text()
        self._answer(200, (text + body.decode()).encode())

    def do_DELETE(self) -> None:
        del ADAPTERS[self.path.rpartition("/")[2]]
        self._answer(200, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    if (MODEL / "crash.txt").exists():
        sys.exit("the model cannot be loaded")
    print("serving", os.environ.get("GREETING", ""), flush=True)
    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
