"""The control plane: switches, faults, the ledger and the images over HTTP, for tests in another process.

Not signed: the emulator listens on the loopback device only. Used by the site, on the connection threads.

====================  =====================================================================================
``/control/switches``  GET; POST a map of switches to turn
``/control/faults``    GET what waits and what struck; POST the fields of a fault; DELETE all that wait
``/control/ledger``    GET the calls and the bytes retrieved; DELETE to begin anew
``/control/images``    GET every image with its details
====================  =====================================================================================
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from imagefs.emulator.account import Account
from imagefs.emulator.answers import Answer, body_answer, json_answer
from imagefs.emulator.faults import Fault, FaultPlan
from imagefs.emulator.ledger import Ledger
from imagefs.emulator.plain import NOT_FOUND
from imagefs.emulator.switches import Switches


class ControlPlane:
    """Shows and changes what the tests in this process reach directly."""

    def __init__(self, account: Account, switches: Switches, faults: FaultPlan, ledger: Ledger) -> None:
        self._account = account
        self._switches = switches
        self._faults = faults
        self._ledger = ledger

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to one request; 400 with a sentence where *body* makes no sense."""
        try:
            match method, path:
                case "POST", "/control/switches":
                    self._switches.turn(json.loads(body))
                case "POST", "/control/faults":
                    self._faults.add(Fault(**json.loads(body)))
                case "DELETE", "/control/faults":
                    self._faults.clear()
                case "DELETE", "/control/ledger":
                    self._ledger.clear()
                case "GET", _:
                    pass
                case _:
                    return body_answer(405, "text/plain", b"Not possible here.\n")
        except (ValueError, TypeError, AttributeError) as error:
            return body_answer(400, "text/plain", f"{error}\n".encode())
        shown = self._shown(path)
        return NOT_FOUND if shown is None else json_answer(shown)

    def _shown(self, path: str) -> dict[str, Any] | None:
        match path:
            case "/control/switches":
                return self._switches.as_dict()
            case "/control/faults":
                return {
                    "waiting": [asdict(fault) for fault in self._faults.waiting],
                    "struck": dict(self._faults.struck),
                }
            case "/control/ledger":
                return {
                    "calls": [asdict(call) for call in self._ledger.calls],
                    "bytes_retrieved": self._ledger.bytes_retrieved(),
                }
            case "/control/images":
                images = self._account.images()
                return {
                    "images": [
                        {**image.listed(), "public": image.public, "details": image.details()}
                        for image in images
                    ]
                }
        return None
