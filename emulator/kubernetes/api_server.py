"""Emulated Kubernetes API server: discovery, access reviews and one kind of custom resource.

It answers what kubectl asks for `get`, `apply --server-side`, `delete`, `api-resources` and
`auth can-i`; everything else is not found. https://kubernetes.io/docs/reference/using-api/
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

from emulator.kubernetes.access_review import reviewed_verb
from emulator.kubernetes.objects import CustomObjects, Item

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_NAMESPACES = {"name": "namespaces", "namespaced": False, "kind": "Namespace", "verbs": ["get"]}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class CustomResource:
    """Kind of a custom resource.

    Attributes:
        group: API group.
        version: Version of the API.
        kind: Kind of an object.
        plural: Name in paths.
    """

    group: str
    version: str
    kind: str
    plural: str

    @property
    def path(self) -> str:
        """Path of the version of the group."""
        return f"/apis/{self.group}/{self.version}"


class KubernetesApiServer:
    """API server of one custom resource on a port of this machine, without authentication.

    Args:
        resource: The kind of the resource.
        objects: Its objects.

    Attributes:
        requests: Method and path of each request.
        denied: Verbs that the caller may not use.
    """

    def __init__(self, resource: CustomResource, objects: CustomObjects):
        self.resource, self.objects = resource, objects
        self.requests: list[tuple[str, str]] = []
        self.denied: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # --- responses --------------------------------------------------------------------------

    def respond(self, method: str, target: str, body: bytes) -> tuple[int, Item]:
        """Return status code and body of the response to a request.

        Args:
            method: HTTP method.
            target: Path with its query.
            body: Body of the request.
        """
        url = urlsplit(target)
        self.requests.append((method, url.path))
        if method == "GET" and (found := self._discovery().get(url.path)):
            return 200, found
        if method == "POST" and url.path == _REVIEWS:
            return 201, self._review(reviewed_verb(body))
        pattern = rf"{self.resource.path}(?:/namespaces/([^/]+))?/{self.resource.plural}(?:/(.+))?"
        match = re.fullmatch(pattern, url.path)
        if match is None:
            return _failure(404, "NotFound", "the server could not find the requested resource")
        namespace, name = match[1] or "", match[2] or ""
        if not name:
            return 200, self._list(namespace, parse_qs(url.query))
        return self._one(method, namespace, name, body)

    def _one(self, method: str, namespace: str, name: str, body: bytes) -> tuple[int, Item]:
        if method == "PATCH":
            try:
                return 200, self.objects.apply(namespace, name, yaml.safe_load(body))
            except ValueError as error:
                kind = f"{self.resource.kind}.{self.resource.group}"
                return _failure(422, "Invalid", f'{kind} "{name}" is invalid: {error}')
        read = self.objects.get if method == "GET" else self.objects.request_deletion
        item = read(namespace, name)
        if item is None:
            what = f"{self.resource.plural}.{self.resource.group}"
            return _failure(404, "NotFound", f'{what} "{name}" not found')
        return 200, item

    def _list(self, namespace: str, query: dict[str, list[str]]) -> Item:
        selectors = ",".join(query.get("labelSelector", [])).split(",")
        labels = dict(selector.split("=", 1) for selector in selectors if selector)
        resource = self.resource
        return {
            "apiVersion": f"{resource.group}/{resource.version}",
            "kind": f"{resource.kind}List",
            "metadata": {"resourceVersion": "1"},
            "items": self.objects.list(namespace, labels),
        }

    def _review(self, verb: str) -> Item:
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {},
            "status": {"allowed": verb not in self.denied},
        }

    def _discovery(self) -> dict[str, Item]:
        resource = self.resource
        version = {
            "groupVersion": f"{resource.group}/{resource.version}",
            "version": resource.version,
        }
        group = {"name": resource.group, "versions": [version], "preferredVersion": version}
        named = {"name": resource.plural, "singularName": resource.kind.lower()}
        served = {**named, "namespaced": True, "kind": resource.kind, "verbs": _VERBS}
        openapi = f"/openapi/v3{resource.path}"
        return {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": _resources("v1", [_NAMESPACES]),
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]},
            resource.path: _resources(version["groupVersion"], [served]),
            "/openapi/v3": {"paths": {resource.path[1:]: {"serverRelativeURL": openapi}}},
            openapi: self._openapi(),
        }

    def _openapi(self) -> Item:
        """Return a description in which the server validates fields, so that kubectl does not."""
        resource = self.resource
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        patch = {
            "x-kubernetes-group-version-kind": kind,
            "parameters": [{"name": "fieldValidation", "in": "query"}],
            "responses": {},
        }
        path = f"{resource.path}/namespaces/{{namespace}}/{resource.plural}/{{name}}"
        info = {"title": "Kubernetes", "version": "unversioned"}
        return {"openapi": "3.0.0", "info": info, "paths": {path: {"patch": patch}}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                code, answer = server.respond(self.command, self.path, self.rfile.read(length))
                body = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 (names that http.server calls)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler


def _resources(version: str, resources: list[Item]) -> Item:
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def _failure(code: int, reason: str, message: str) -> tuple[int, Item]:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, {**status, "message": message, "reason": reason, "code": code}
