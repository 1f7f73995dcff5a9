"""ASGI application of the review page."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from feedback.review.assignment import Assignment
from feedback.review.label_file import REASONS, Judgement, LabelFile
from feedback.review.pairs import ReviewPair, other
from feedback.review.session import COOKIE, Sessions
from training.page_environment import page_environment

_NAME = re.compile(r"[\w .@-]{1,64}")
_MAX_FORM_BYTES = 16_384
_MAX_COMMENT = 2000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class ReviewState:
    """Pairs and labels of a review.

    Attributes:
        pairs: Pairs by id.
        assignment: Order in which people see them.
        labels: The labels.
        sessions: Sessions of people.
    """

    pairs: dict[str, ReviewPair]
    assignment: Assignment
    labels: LabelFile
    sessions: Sessions


def build_app(state: ReviewState, hosts: list[str]) -> Starlette:
    """Return the application.

    Args:
        state: Pairs and labels.
        hosts: Names under which the server is reached; requests for another one are refused, which
            keeps pages of other sites from reading this one by a name of their own.
    """
    pages = _Pages(state)
    routes = [
        Route("/", pages.show),
        Route("/enter", pages.enter, methods=["POST"]),
        Route("/label", pages.label, methods=["POST"]),
        Route("/back", pages.take_back, methods=["POST"]),
        Route("/review.css", pages.style),
        Route("/review.js", pages.script),
    ]
    hosts_only = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts_only])


class _Pages:
    def __init__(self, state: ReviewState):
        self._state = state
        self._page = page_environment(_HERE).get_template("review.html.jinja")

    async def show(self, request: Request) -> Response:
        name = self._name(request)
        if name is None:
            return self._render()
        return await run_in_threadpool(self._show_pair, name)

    async def enter(self, request: Request) -> Response:
        form = await _form(request)
        name = form.get("name", "").strip()
        sessions = self._state.sessions
        if not _NAME.fullmatch(name):
            return self._render(
                error="Enter a name of letters, digits, spaces and . @ - _", code=400
            )
        if not sessions.accepts(form.get("key", "")):
            return self._render(error="The key is wrong", code=403)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, sessions.cookie(name), httponly=True, samesite="strict")
        return response

    async def label(self, request: Request) -> Response:
        form = await _form(request)
        name = self._form_name(request, form)
        pair = self._state.pairs.get(form.get("pair", ""))
        side = form.get("choice", "")
        if name is None:
            return self._render(error="The session has ended: enter your name again", code=403)
        if pair is None or side not in ("left", "right", "tie", "skip"):
            return HTMLResponse("The form is not complete", 400, _HEADERS)
        left = pair.shown_first(name)
        choice = {"left": left, "right": other(left), "tie": "tie", "skip": ""}[side]
        reasons = tuple(reason for reason in REASONS if form.get(f"reason {reason}"))
        comment = form.get("comment", "").strip()[:_MAX_COMMENT]
        judgement = Judgement(pair, name, choice, left, reasons, comment, _seconds(form))
        await run_in_threadpool(self._state.labels.add, judgement)
        self._state.assignment.release(pair.id)
        return RedirectResponse("/", 303)

    async def take_back(self, request: Request) -> Response:
        name = self._form_name(request, await _form(request))
        if name is None:
            return self._render(error="The session has ended: enter your name again", code=403)
        await run_in_threadpool(self._state.labels.take_back, name)
        return RedirectResponse("/", 303)

    async def style(self, request: Request) -> Response:
        text = (_HERE / "review.css").read_text(encoding="utf-8")
        return Response(text, media_type="text/css", headers=_HEADERS)

    async def script(self, request: Request) -> Response:
        text = (_HERE / "review.js").read_text(encoding="utf-8")
        return Response(text, media_type="text/javascript", headers=_HEADERS)

    def _show_pair(self, name: str) -> Response:
        choices = self._state.labels.choices()
        pair = self._state.assignment.next(name, choices)
        done = sum(name in people for people in choices.values())
        left = self._state.assignment.left(name, choices)
        if pair is None:
            return self._render(name=name, done=done, left=left)
        first = pair.shown_first(name)
        sides = [pair.answer(first), pair.answer(other(first))]
        return self._render(name=name, done=done, left=left, pair=pair, sides=sides)

    def _render(self, *, code: int = 200, **values: Any) -> Response:
        filled = {
            "name": None,
            "error": "",
            "pair": None,
            "sides": [],
            "done": 0,
            "left": 0,
            "reasons": REASONS,
            "needs_key": self._state.sessions.needs_key,
            "token": "",
            "now": f"{time.time():.1f}",
            **values,
        }
        if filled["name"]:
            filled["token"] = self._state.sessions.form_token(filled["name"])
        return HTMLResponse(self._page.render(filled), code, _HEADERS)

    def _name(self, request: Request) -> str | None:
        return self._state.sessions.name(request.cookies.get(COOKIE, ""))

    def _form_name(self, request: Request, form: dict[str, str]) -> str | None:
        """Return the name of the person who sent a form; None if this server did not write it."""
        name = self._name(request)
        valid = name and self._state.sessions.is_form_token(name, form.get("token", ""))
        return name if valid else None


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; those of a body that is too long are empty."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {key: values[-1] for key, values in fields.items()}


def _seconds(form: dict[str, str]) -> float:
    try:
        return max(0.0, time.time() - float(form.get("shown", "")))
    except ValueError:
        return 0.0
