"""Copies of invocations that a shadow variant answers, and that no caller sees.

https://docs.aws.amazon.com/sagemaker/latest/dg/shadow-tests.html
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from emulator.hosting.context import HostingContext
from emulator.hosting.data_capture import DataCapture
from emulator.hosting.endpoint import EmulatedEndpoint
from emulator.hosting.fleet import Fleet
from emulator.hosting.invocation_metrics import InvocationMetrics
from emulator.hosting.traffic_share import RequestCounter, is_in_share

_TIMEOUT_S = 60.0


class ShadowTraffic:
    """Traffic of shadow variants.

    Args:
        context: Clock, account and containers.
        metrics: Metrics of invocations.
        capture: Captured calls.
    """

    def __init__(self, context: HostingContext, metrics: InvocationMetrics, capture: DataCapture):
        self._context, self._metrics, self._capture = context, metrics, capture
        self._requests = RequestCounter()
        self._threads: list[threading.Thread] = []

    def copy(
        self,
        endpoint: EmulatedEndpoint,
        request: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        captured: bool,
    ) -> None:
        """Send a copy of a request to the shadow variant if it is of its share; do not wait for it.

        The weight of the shadow variant in proportion to the production variant's is the share of
        the requests that are copied.

        Args:
            endpoint: The endpoint.
            request: InvokeEndpoint request.
            headers: Headers that the container receives.
            captured: Whether the answer is captured, as that of the production variant is.
        """
        with self._context.lock:
            for shadow in endpoint.config.shadows:
                fleet = endpoint.fleets[shadow["VariantName"]]
                if self._is_copied(endpoint, shadow) and fleet.server and fleet.server.is_ready:
                    thread = threading.Thread(
                        target=self._send,
                        args=(endpoint, fleet, request, headers),
                        kwargs={"captured": captured},
                        daemon=True,
                    )
                    self._threads.append(thread)
                    thread.start()

    def join(self, timeout_s: float = 60.0) -> None:
        """Wait until every copy has its answer."""
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads.clear()

    def clear(self) -> None:
        """Forget the requests."""
        self._requests.clear()

    def _is_copied(self, endpoint: EmulatedEndpoint, shadow: Mapping[str, Any]) -> bool:
        (production,) = endpoint.weights.values()
        weight = Fraction(str(shadow.get("InitialVariantWeight", 1)))
        share = min(Fraction(1), weight / Fraction(str(production))) if production else Fraction(0)
        return is_in_share(share, self._requests.next(endpoint.name))

    def _send(
        self,
        endpoint: EmulatedEndpoint,
        fleet: Fleet,
        request: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        captured: bool,
    ) -> None:
        assert fleet.server is not None
        with self._metrics.measured(endpoint.name, fleet.name) as outcome:
            answer = fleet.server.request(
                "POST", "/invocations", request["Body"], headers, timeout_s=_TIMEOUT_S
            )
            outcome.status = answer.status
        if captured and endpoint.capture and answer.status == 200:
            self._capture.put((endpoint.name, fleet.name), endpoint.capture, request, answer)
