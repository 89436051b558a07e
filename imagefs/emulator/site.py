"""From a request to its answer: routes, the order of checks, and where faults strike.

One object for all connections, used by their threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from threading import Lock

from imagefs.emulator.account import Account
from imagefs.emulator.actions import Actions
from imagefs.emulator.answers import Answer, body_answer, refusal_answer
from imagefs.emulator.control import ControlPlane
from imagefs.emulator.fault_effects import ALTERING, INSTEAD
from imagefs.emulator.faults import FaultPlan
from imagefs.emulator.http1 import Request
from imagefs.emulator.ledger import Ledger, OpenCall
from imagefs.emulator.plain import NOT_FOUND, PlainFiles
from imagefs.emulator.switches import Switches
from imagefs.emulator.wire import Refusal, SignatureCheck

API_PREFIX = "/api/image/"


class CallRate:
    """A token bucket that holds one second's worth of calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._tokens = 1.0
        self._filled_at_s = clock()

    def allows(self, calls_per_s: float) -> bool:
        """Whether one more call is within the rate."""
        with self._lock:
            now_s = self._clock()
            earned = (now_s - self._filled_at_s) * calls_per_s
            self._tokens = min(max(1.0, calls_per_s), self._tokens + earned)
            self._filled_at_s = now_s
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


class Site:
    """Answers requests for *account*."""

    def __init__(
        self,
        account: Account,
        switches: Switches,
        check: SignatureCheck,
        actions: Actions,
        faults: FaultPlan,
        ledger: Ledger,
        clock: Callable[[], float],
    ) -> None:
        self._account = account
        self._switches = switches
        self._check = check
        self._actions = actions
        self._faults = faults
        self._ledger = ledger
        self._clock = clock
        self._plain = PlainFiles(account)
        self._control = ControlPlane(account, switches, faults, ledger)
        self._call_rate = CallRate()

    def service_time_s(self) -> float:
        """The service's clock, in seconds since the epoch."""
        return self._clock() + self._switches.clock_offset_s

    def answer(self, request: Request) -> tuple[Answer, OpenCall | None]:
        """The answer to *request*, and its call in the ledger, unless it is for the control plane."""
        path = request.target.partition("?")[0]
        if path.startswith("/control/"):
            return self._control.answer(request.method, path, request.body), None
        if path.startswith(API_PREFIX):
            return self._signed(path, request)
        if path.startswith(("/plain/", "/content/")):
            return self._unsigned(path, request)
        return NOT_FOUND, None

    def _signed(self, path: str, request: Request) -> tuple[Answer, OpenCall]:
        action, slash, rest = path.removeprefix(API_PREFIX).partition("/")
        call = OpenCall(action, {}, self._clock(), request.headers.get("range"))
        self._ledger.begin(call)
        if not slash or rest:
            return self._noted(NOT_FOUND, call, "refused: no such address"), call
        if request.method != "POST":
            answer = body_answer(405, "text/plain", b"POST only.\n").with_header("Allow", "POST")
            return self._noted(answer, call, "refused: method"), call
        rate = self._switches.rate_limit_per_s
        if rate is not None and not self._call_rate.allows(rate):
            return self._noted(self._too_many(), call, "refused: rate limit"), call
        try:
            call.params = self._check.parameters(
                action,
                request.body,
                now_s=self.service_time_s(),
                window_s=self._switches.nonce_window_s,
                unique_nonce=self._switches.unique_nonce,
            )
            answer = self._struck(
                call, lambda: self._actions.carry_out(action, dict(call.params), call.range)
            )
        except Refusal as refusal:
            form = self._switches.refuse_form
            answer = refusal_answer(str(refusal), 200 if form == "json" else int(form))
            call.outcome = f"refused: {refusal}"
        return self._noted(answer, call), call

    def _unsigned(self, path: str, request: Request) -> tuple[Answer, OpenCall]:
        call = OpenCall("plain", {"path": path}, self._clock(), request.headers.get("range"))
        self._ledger.begin(call)
        if request.method not in ("GET", "HEAD"):
            answer = body_answer(405, "text/plain", b"GET and HEAD only.\n").with_header("Allow", "GET, HEAD")
            return self._noted(answer, call, "refused: method"), call
        answer = self._struck(call, lambda: self._plain.answer(path, call.range))
        return self._noted(answer, call), call

    def _struck(self, call: OpenCall, carry_out: Callable[[], Answer]) -> Answer:
        """The answer of *carry_out*, or what a fault makes of it."""
        fault = self._faults.take(call.action, call.params.get("image_id"))
        if fault is not None:
            call.outcome = f"fault: {fault.kind}"
            if fault.kind in INSTEAD:
                return INSTEAD[fault.kind](fault)
        answer = self._framed(carry_out(), call)
        return answer if fault is None else ALTERING[fault.kind](answer, fault, self._account)

    def _framed(self, answer: Answer, call: OpenCall) -> Answer:
        """*answer* with the framing that contents have now; JSON always has a length."""
        if call.action == "retrieve" and answer.status in (200, 206):
            return replace(answer, framing=self._switches.framing)
        return answer

    def _too_many(self) -> Answer:
        answer = body_answer(429, "text/plain", b"Too many requests.\n")
        retry_after = self._switches.retry_after
        return answer.with_header("Retry-After", retry_after) if retry_after is not None else answer

    def _noted(self, answer: Answer, call: OpenCall, outcome: str | None = None) -> Answer:
        call.http_status = answer.status
        if call.outcome == "in progress":
            call.outcome = outcome or "ok"
        return answer
