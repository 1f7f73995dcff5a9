"""Run untrusted code in one sandboxed process and its tests in another.

`python -I -S runner.py seccomp.py` reads two frames from stdin, each behind its length in 8
hexadecimal digits. The first holds the code and its limits. The second holds what the code must
never see: the tests, and a nonce that makes the result valid. Both processes enter the sandbox.

    trainer ── frame 1 ──> code process   runs the code, then serves requests on its values
            ── frame 2 ──> test process   runs the tests, and calls the code through pipes
            <── result ───

Tests call the code and receive plain values: numbers, text, and lists, tuples, sets and
dictionaries of them, reduced to the built-in type whatever subclass the code returned. Any other
object stays in the code process and is used through a `RemoteObject`. Code therefore gains nothing
by returning an object that equals everything, by replacing `abs` or `math.isclose`, by searching
memory for the tests, or by exiting early.

The file imports nothing of this package except the file next to it, so that it starts within some
hundredths of a second.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import io
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_MAX_FRAME_BYTES = 2**26
_PR_SET_PDEATHSIG = 1
_FORWARDED = (
    *("__iter__", "__next__", "__len__", "__getitem__", "__setitem__", "__delitem__"),
    *("__str__", "__repr__", "__bool__", "__float__", "__int__", "__index__", "__call__"),
)
"""Special methods that a `RemoteObject` forwards. Comparisons are not among them: forwarding
`__eq__` would send the expected value to the code."""


class PeerClosedError(Exception):
    """Error for a peer process that has ended or sent an unreadable message."""


class RemoteObject:
    """Proxy of an object that lives in the other process.

    Args:
        peer: Connection to that process.
        number: Number of the object there.
    """

    def __init__(self, peer: RpcPeer, number: int):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return self._peer.request("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.request("set", self._number, name, value)

    def __eq__(self, other: object) -> bool:
        """Compare two objects of the code in its process; any other object is unequal."""
        return isinstance(other, RemoteObject) and bool(
            self._peer.request("equal", self._number, other)
        )

    def __hash__(self) -> int:
        return int(self._number)


def _forwarding_method(name: str) -> Any:
    def method(self: RemoteObject, *args: Any, **kwargs: Any) -> Any:
        return self._peer.request("call", self._number, name, args, kwargs)

    return method


for _name in _FORWARDED:
    setattr(RemoteObject, _name, _forwarding_method(_name))


# The unbound methods of the built-in types return exact instances, so that a subclass with an
# overridden `__eq__` or `__str__` is reduced to its plain value.
_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__pos__),
    (float, float.__pos__),
    (str, str.__str__),
)
_COLLECTIONS: tuple[type[Any], ...] = (list, tuple, set, frozenset)
_TAGGED: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (complex, "complex", lambda value: [value.real, value.imag]),
    (bytes, "bytes", lambda value: value.decode("latin-1")),
    (bytearray, "bytes", lambda value: value.decode("latin-1")),
    (range, "range", lambda value: [value.start, value.stop, value.step]),
    (ModuleType, "module", lambda value: value.__name__),
    (RemoteObject, "receivers", hash),
)
"""Types that JSON lacks: their tag, and how their content is encoded."""


class RpcPeer:
    """One end of the connection between the two processes.

    Messages are JSON: `["request", …]`, `["response", …]` or `["error", …]`. While one side waits
    for a response, the other may send requests of its own, such as a call to a function that it was
    given.

    Args:
        read_fd: Pipe from the other process.
        write_fd: Pipe to the other process.
        full_access: True lets the other process read and set attributes and use special methods of
            the objects that it was given; False lets it only call them.
    """

    def __init__(self, read_fd: int, write_fd: int, *, full_access: bool):
        self._read_fd, self._write_fd, self._full_access = read_fd, write_fd, full_access
        self._exported: list[Any] = []

    def request(self, *operation: Any) -> Any:
        """Send an operation and return its result, serving requests until it arrives."""
        args = operation[3] if operation[0] == "call" else ()
        self.send(["request", self.encode(list(operation))])
        while True:
            kind, payload = self.receive()
            if kind == "request":
                self.serve(payload)
            elif kind == "response":
                result, mutated_args = self.decode(payload)
                for mine, theirs in zip(args, mutated_args, strict=False):
                    _copy_mutation(mine, theirs)
                return result
            else:
                raise _exception_type(str(payload[0]))(str(payload[1]))

    def serve(self, payload: Any) -> None:
        """Perform an operation that the other process requested, and send its result.

        Raises:
            PeerClosedError: The other process has ended.
        """
        try:
            operation, number, *operands = self.decode(payload)
            result = self._perform(operation, self._exported[number], operands)
            # Arguments travel by value: send them back, as the call may have changed them.
            args = operands[1] if operation == "call" else ()
            self.send(["response", self.encode((result, args))])
        except PeerClosedError:
            raise
        except BaseException as error:
            self.send(["error", [type(error).__name__, str(error)[:1000]]])

    def _perform(self, operation: str, value: Any, operands: list[Any]) -> Any:
        if operation == "call" and (self._full_access or operands[0] == "__call__"):
            name, args, kwargs = operands
            if name == "__call__":
                return value(*args, **kwargs)
            if name == "__bool__":
                return bool(value)
            special = getattr(type(value), name, None)
            if special is None:
                raise TypeError(f"a {type(value).__name__} has no {name}")
            return special(value, *args, **kwargs)
        if not self._full_access:
            # The attributes of a test's function lead to its globals, and so to the tests.
            raise AttributeError("objects of the tests can only be called")
        if operation == "get":
            return getattr(value, operands[0])
        if operation == "set":
            setattr(value, operands[0], operands[1])
            return None
        return value == operands[0]

    # --- values ----------------------------------------------------------------------------------

    def encode(self, value: Any) -> Any:
        """Return a value as JSON; an instance of a subclass is encoded as its base type."""
        if value is None or isinstance(value, bool):
            return value
        for kind, plain in _PLAIN:
            if isinstance(value, kind):
                return plain(value)
        for kind in _COLLECTIONS:
            if isinstance(value, kind):
                return {kind.__name__: [self.encode(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        for kind, tag, content in _TAGGED:
            if isinstance(value, kind):
                return {tag: content(value)}
        if isinstance(value, type) and value in vars(builtins).values():
            return {"builtin": value.__name__}
        self._exported.append(value)
        return {"senders": len(self._exported) - 1}

    def decode(self, encoded: Any) -> Any:
        """Return the value that `encode` of the other process has encoded."""
        if not isinstance(encoded, dict):
            return encoded
        ((tag, content),) = encoded.items()
        if tag in ("list", "tuple", "set", "frozenset"):
            return getattr(builtins, tag)(self.decode(item) for item in content)
        if tag == "dict":
            return {self.decode(k): self.decode(v) for k, v in content}
        if tag in ("complex", "range"):
            return getattr(builtins, tag)(*content)
        if tag == "bytes":
            return content.encode("latin-1")
        if tag == "module":
            return __import__(content) if content in sys.stdlib_module_names else None
        if tag == "builtin":
            return getattr(builtins, content)
        return self._exported[content] if tag == "receivers" else RemoteObject(self, int(content))

    # --- frames ----------------------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Write a message as one frame.

        Raises:
            PeerClosedError: The other process has ended.
        """
        text = json.dumps(message).encode()
        frame = f"{len(text):08x}".encode() + text
        try:
            while frame:
                frame = frame[os.write(self._write_fd, frame) :]
        except OSError as error:
            raise PeerClosedError(str(error)) from None

    def receive(self) -> Any:
        """Return the next message.

        Raises:
            PeerClosedError: The other process has ended, or sent something else than a message.
        """
        try:
            return json.loads(read_frame(self._read_fd))
        except (ValueError, OSError, RecursionError) as error:
            raise PeerClosedError(str(error)) from None


def read_frame(file: int) -> bytes:
    """Read one frame and not a byte more, so that a forked process can read the next.

    Raises:
        ValueError: The frame is incomplete or too large.
    """
    size = int(_read_exactly(file, 8), 16)
    if size > _MAX_FRAME_BYTES:
        raise ValueError("the frame is too large")
    return _read_exactly(file, size)


def _read_exactly(file: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = os.read(file, size - len(data))
        if not more:
            raise ValueError("the pipe was closed within a frame")
        data += more
    return bytes(data)


def _exception_type(name: str) -> type[Exception]:
    """Return the built-in exception of this name, so that tests can catch it by type."""
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError


def _copy_mutation(mine: Any, theirs: Any) -> None:
    """Apply to an argument the changes that the call has made to its copy."""
    if type(mine) is not type(theirs) or mine == theirs:
        return
    if isinstance(mine, list):
        mine[:] = theirs
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(theirs)


# --- the two processes ---------------------------------------------------------------------------


def run_code(peer: RpcPeer, code: str, setup: str) -> None:
    """Run the code, send the names that it defines, and serve requests on them.

    Args:
        peer: Connection to the test process.
        code: Program under test.
        setup: Program that runs before it.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    predefined = set(namespace)
    with contextlib.suppress(Exception):  # it may need what the code defines: `_test_namespace`
        exec(compile(setup, "setup", "exec"), namespace)
    classes = {name: value for name, value in namespace.items() if isinstance(value, type)}
    exec(compile(code, "answer", "exec"), namespace)
    ignored = predefined | {"__builtins__"}
    defined = {name: value for name, value in namespace.items() if name not in ignored}
    peer.send([peer.encode(defined), peer.encode(classes)])
    while True:
        kind, payload = peer.receive()
        if kind != "request":
            return
        peer.serve(payload)


def run_tests(peer: RpcPeer, setup: str, tests: list[str]) -> int:
    """Return how many tests pass; 0 if the code did not run to its end.

    Args:
        peer: Connection to the code process.
        setup: Program that runs before the tests.
        tests: Programs, each of which passes if it raises nothing.
    """
    passed = 0
    try:
        namespace = _test_namespace(peer, setup, tests)
    except BaseException:
        return 0
    for test in tests:
        try:
            exec(compile(test, "test", "exec"), namespace)
        except BaseException:
            continue
        passed += 1
    return passed


def _test_namespace(peer: RpcPeer, setup: str, tests: list[str]) -> dict[str, Any]:
    """Return the names that tests may use: those of the code, except what it must not replace."""
    defined, classes = (peer.decode(encoded) for encoded in peer.receive())
    # The code must not replace built-in functions that the tests call.
    own = {name: value for name, value in defined.items() if not hasattr(builtins, name)}
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:  # in one dictionary, where the functions of setup look up their globals
        exec(compile(setup, "setup", "exec"), namespace)
        namespace |= {name: value for name, value in own.items() if name not in namespace}
    except Exception:  # setup needs the code, such as for a tree of nodes that the code defines
        namespace.update(own)
        exec(compile(setup, "setup", "exec"), namespace)
    # Classes of setup must be those that the code used, or instances of the two would differ.
    namespace.update(classes)
    for text in (setup, *tests):
        for name in _referenced_modules(text):
            namespace[name] = __import__(name)
    return namespace


def _referenced_modules(text: str) -> Iterator[str]:
    """Yield the standard library modules that a program refers to, as `math` in `math.isclose`."""
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(text)):
            owner = node.value if isinstance(node, ast.Attribute) else None
            if isinstance(owner, ast.Name) and owner.id in sys.stdlib_module_names:
                yield owner.id


def main() -> None:
    """Run the job on stdin.

    The order of the steps keeps the hidden frame from the code: the child that runs the code is
    forked before that frame is read, loses stdin, and waits until the test process (the parent) has
    read the frame and has made its memory unreadable.
    """
    enter_sandbox = runpy.run_path(sys.argv[1])["enter_sandbox"]
    sys.set_int_max_str_digits(0)
    job = json.loads(read_frame(0))
    limits = job["cpu_s"], job["memory_bytes"]
    requests, responses = os.pipe(), os.pipe()
    result, start = os.dup(1), os.pipe()
    devnull = os.open(os.devnull, os.O_RDWR)
    parent = os.getpid()
    code_process = os.fork()
    for number in (0, 1, 2) if not code_process else (1, 2):
        os.dup2(devnull, number)
    sys.stdin = io.StringIO()
    if not code_process:
        for file in (result, requests[1], responses[0], start[1]):
            os.close(file)
        # Die with the parent. It may have ended before the call, hence the check of its id.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent or os.read(start[0], 1) != b"!":
            os._exit(0)
        enter_sandbox(*limits)
        with contextlib.suppress(BaseException):
            peer = RpcPeer(requests[0], responses[1], full_access=True)
            run_code(peer, job["code"], job["setup"])
        os._exit(0)
    for file in (requests[0], responses[1], start[0]):
        os.close(file)
    hidden = json.loads(read_frame(0))
    enter_sandbox(*limits, readable=False)
    os.write(start[1], b"!")
    peer = RpcPeer(responses[0], requests[1], full_access=False)
    passed = run_tests(peer, job["setup"], hidden["tests"])
    os.write(result, json.dumps({"nonce": hidden["nonce"], "passed": passed}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
