"""Examine code that nobody has read: it runs in one process, what tests it in another.

`python -I -S exam.py jail.py` reads two parts from stdin, each behind its length in 8 hexadecimal
digits: the code to examine with its limits, and then what it is never to see: the tests, and the
nonce that the result counts with. Both processes are locked in (`jail`).

Tests reach the code through calls, and get plain values back: numbers, text, and lists, tuples,
sets and dictionaries of them, whatever class the code gave them. Everything else stays where it is
and is worked through a `Remote`. So an answer that is equal to everything, that changes what `abs`
or `math.isclose` is, that looks for the tests in memory or leaves early gains nothing.

It imports nothing of ours but the file beside it: it starts in some hundredths of a second.
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

_MOST_BYTES = 2**26
_ASKED = (
    *("__iter__", "__next__", "__len__", "__getitem__", "__setitem__", "__delitem__"),
    *("__str__", "__repr__", "__bool__", "__float__", "__int__", "__index__", "__call__"),
)
"""What may be asked of a value that stays where it is. Nothing here tells it what is expected."""


class PeerClosedError(Exception):
    """The other process has ended, or says what cannot be read."""


class RemoteCall:
    """A value of the other process."""

    def __init__(self, peer: RpcPeer, number: int):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return self._peer.ask("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask("set", self._number, name, value)

    def __eq__(self, other: object) -> bool:
        """Two values of the code are compared by the code; what is expected it never sees."""
        return isinstance(other, RemoteCall) and bool(self._peer.ask("same", self._number, other))

    def __hash__(self) -> int:
        return int(self._number)


def _asked(name: str) -> Any:
    def ask(self: RemoteCall, *args: Any, **kwargs: Any) -> Any:
        return self._peer.ask("do", self._number, name, args, kwargs)

    return ask


for _name in _ASKED:
    setattr(RemoteCall, _name, _asked(_name))


_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__pos__),
    (float, float.__pos__),
    (str, str.__str__),
)
_MANY: tuple[type[Any], ...] = (list, tuple, set, frozenset)
_WRITTEN: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (complex, "complex", lambda value: [value.real, value.imag]),
    (bytes, "bytes", lambda value: value.decode("latin-1")),
    (bytearray, "bytes", lambda value: value.decode("latin-1")),
    (range, "range", lambda value: [value.start, value.stop, value.step]),
    (ModuleType, "module", lambda value: value.__name__),
    (RemoteCall, "yours", hash),
)
"""How values are written, by what they are."""


class RpcPeer:
    """One end of the line between the two processes.

    Args:
        reads: Where the other end's words come from.
        writes: Where ours go.
        trusts: Whether the other end may look into what it was given, or only call it.
    """

    def __init__(self, reads: int, writes: int, *, trusts: bool):
        self._reads, self._writes, self._trusts = reads, writes, trusts
        self._kept: list[Any] = []

    def ask(self, *said: Any) -> Any:
        """Return what the other end answers; it may ask something itself first."""
        args = said[3] if said[0] == "do" else ()
        self.send(["ask", self._in(list(said))])
        while True:
            kind, value = self.receive()
            if kind == "ask":
                self.serve(value)
            elif kind == "answer":
                answer, changed = self.out(value)
                for mine, theirs in zip(args, changed, strict=False):
                    _take_over(mine, theirs)
                return answer
            else:
                raise _error(str(value[0]))(str(value[1]))

    def serve(self, said: Any) -> None:
        """Answer a question of the other end."""
        try:
            what, number, *rest = self.out(said)
            answer = self._answered(what, self._kept[number], rest)
            changed = rest[1] if what == "do" else ()
            self.send(["answer", self._in((answer, changed))])
        except PeerClosedError:
            raise
        except BaseException as error:
            self.send(["error", [type(error).__name__, str(error)[:1000]]])

    def _answered(self, what: str, value: Any, rest: list[Any]) -> Any:
        if what == "do" and (self._trusts or rest[0] == "__call__"):
            name, args, kwargs = rest
            if name == "__call__":
                return value(*args, **kwargs)
            if name == "__bool__":
                return bool(value)
            special = getattr(type(value), name, None)
            if special is None:
                raise TypeError(f"a {type(value).__name__} has no {name}")
            return special(value, *args, **kwargs)
        if not self._trusts:
            raise AttributeError("only what can be called is handed over")
        if what == "get":
            return getattr(value, rest[0])
        if what == "set":
            setattr(value, rest[0], rest[1])
            return None
        return value == rest[0]

    # --- values ----------------------------------------------------------------------------------

    def _in(self, value: Any) -> Any:
        """Return a value as JSON. A subclass is what it is derived from."""
        if value is None or isinstance(value, bool):
            return value
        for kind, plain in _PLAIN:
            if isinstance(value, kind):
                return plain(value)
        for kind in _MANY:
            if isinstance(value, kind):
                return {kind.__name__: [self._in(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[self._in(k), self._in(v)] for k, v in value.items()]}
        for kind, named, written in _WRITTEN:
            if isinstance(value, kind):
                return {named: written(value)}
        if isinstance(value, type) and value in vars(builtins).values():
            return {"builtin": value.__name__}
        self._kept.append(value)
        return {"mine": len(self._kept) - 1}

    def out(self, said: Any) -> Any:
        """Return the value that JSON of `_in` stands for."""
        if not isinstance(said, dict):
            return said
        ((kind, value),) = said.items()
        if kind in ("list", "tuple", "set", "frozenset"):
            return getattr(builtins, kind)(self.out(item) for item in value)
        if kind == "dict":
            return {self.out(k): self.out(v) for k, v in value}
        if kind in ("complex", "range"):
            return getattr(builtins, kind)(*value)
        if kind == "bytes":
            return value.encode("latin-1")
        if kind == "module":
            return __import__(value) if value in sys.stdlib_module_names else None
        if kind == "builtin":
            return getattr(builtins, value)
        return self._kept[value] if kind == "yours" else RemoteCall(self, int(value))

    # --- the line --------------------------------------------------------------------------------

    def send(self, said: Any) -> None:
        """Write a message."""
        text = json.dumps(said).encode()
        text = f"{len(text):08x}".encode() + text
        try:
            while text:
                text = text[os.write(self._writes, text) :]
        except OSError as error:
            raise PeerClosedError(str(error)) from None

    def receive(self) -> Any:
        """Return the next message."""
        try:
            return json.loads(part(self._reads))
        except (ValueError, OSError, RecursionError) as error:
            raise PeerClosedError(str(error)) from None


def part(file: int) -> bytes:
    """Read what stands behind its length, and nothing more.

    Raises:
        ValueError: There is less, or too much.
    """
    size = int(_exactly(file, 8), 16)
    if size > _MOST_BYTES:
        raise ValueError("too much is said at once")
    return _exactly(file, size)


def _exactly(file: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        more = os.read(file, size - len(found))
        if not more:
            raise ValueError("the line is cut")
        found += more
    return bytes(found)


def _error(name: str) -> type[Exception]:
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError


def _take_over(mine: Any, theirs: Any) -> None:
    """Change what was handed over as the other end has changed its copy."""
    if type(mine) is not type(theirs) or mine == theirs:
        return
    if isinstance(mine, list):
        mine[:] = theirs
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(theirs)


# --- the two processes ---------------------------------------------------------------------------


def run_code(peer: RpcPeer, code: str, setup: str) -> None:
    """Run the code, say what it is called by, and answer what is asked of it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    given = set(names)
    with contextlib.suppress(Exception):  # it may need what the code defines: see `_named`
        exec(compile(setup, "setup", "exec"), names)
    classes = {name: value for name, value in names.items() if isinstance(value, type)}
    exec(compile(code, "answer", "exec"), names)
    found = {name: value for name, value in names.items() if name not in given | {"__builtins__"}}
    peer.send([peer._in(found), peer._in(classes)])
    while True:
        kind, said = peer.receive()
        if kind != "ask":
            return
        peer.serve(said)


def run_tests(peer: RpcPeer, setup: str, tests: list[str]) -> int:
    """Return how many tests pass; 0 where the code did not come to its end."""
    passed = 0
    try:
        names = _named(peer, setup, tests)
    except BaseException:
        return 0
    for test in tests:
        try:
            exec(compile(test, "test", "exec"), names)
        except BaseException:
            continue
        passed += 1
    return passed


def _named(peer: RpcPeer, setup: str, tests: list[str]) -> dict[str, Any]:
    """Return what tests may name: the code's values, except where it must not choose them."""
    found, classes = (peer.out(said) for said in peer.receive())
    own = {name: value for name, value in found.items() if not hasattr(builtins, name)}
    names: dict[str, Any] = {"__name__": "__main__"}
    try:  # in the same dictionary: what setup defines looks names up there
        exec(compile(setup, "setup", "exec"), names)
        names |= {name: value for name, value in own.items() if name not in names}
    except Exception:  # such as a tree of the nodes that the code defines
        names.update(own)
        exec(compile(setup, "setup", "exec"), names)
    names.update(classes)
    for text in (setup, *tests):
        for name in _modules(text):
            names[name] = __import__(name)
    return names


def _modules(text: str) -> Iterator[str]:
    """Yield what is written as a module of the standard library: `math` of `math.isclose`."""
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(text)):
            named = node.value if isinstance(node, ast.Attribute) else None
            if isinstance(named, ast.Name) and named.id in sys.stdlib_module_names:
                yield named.id


def main() -> None:
    """Do the job on stdin."""
    lock_in = runpy.run_path(sys.argv[1])["lock_in"]
    sys.set_int_max_str_digits(0)
    job = json.loads(part(0))
    limits = job["cpu_s"], job["memory_bytes"]
    asked, answered = os.pipe(), os.pipe()
    result, start = os.dup(1), os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    parent = os.getpid()
    examined = os.fork()
    for number in (0, 1, 2) if not examined else (1, 2):
        os.dup2(nothing, number)
    sys.stdin = io.StringIO()
    if not examined:
        for file in (result, asked[1], answered[0], start[1]):
            os.close(file)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent or os.read(start[0], 1) != b"!":
            os._exit(0)
        lock_in(*limits)
        with contextlib.suppress(BaseException):
            peer = RpcPeer(asked[0], answered[1], trusts=True)
            run_code(peer, job["code"], job["setup"])
        os._exit(0)
    for file in (asked[0], answered[1], start[0]):
        os.close(file)
    hidden = json.loads(part(0))
    lock_in(*limits, readable=False)
    os.write(start[1], b"!")
    peer = RpcPeer(answered[0], asked[1], trusts=False)
    passed = run_tests(peer, job["setup"], hidden["tests"])
    os.write(result, json.dumps({"nonce": hidden["nonce"], "passed": passed}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
