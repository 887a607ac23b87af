"""`EmulatorAdmin`: steer an emulator in another process, with the words that a test in its process uses.

Synchronous and over plain HTTP from the standard library, so that demos, tests and people in a shell can use
it alike.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from testbed.azure.errors import Json
from testbed.azure.faults import Fault
from testbed.azure.http import Availability
from testbed.azure.requestlog import Entry

_PATIENCE = 30.0
# There is no event to wait for across processes: how often states are looked at.
_LOOK = 0.1


class EmulatorAdmin:
    """One running emulator, by the URL of its admin API. Has what `testbed.azure.sdk` needs to reach it.

    Raises RuntimeError with the emulator's words where it refuses, OSError where it is not there.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        info = self._post("info")
        self.endpoint: str = info["endpoint"]
        self.authority: str = info["authority"]
        self.ca_file: str = info["ca_file"]
        self.subscription_id: str = info["subscription_id"]
        self.tenant_id: str = info["tenant_id"]
        self.client_id: str = info["client_id"]
        self.client_secret: str = info["client_secret"]
        self.federated_token_file: str = info["federated_token_file"]

    @classmethod
    def from_state_file(cls, path: str | Path, *, seconds: float = _PATIENCE) -> EmulatorAdmin:
        """The emulator that writes this state file; waits until it has started.

        Raises TimeoutError.
        """
        deadline = time.monotonic() + seconds
        while not Path(path).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the emulator has not written {path} in {seconds:g} s")
            time.sleep(_LOOK)
        return cls(json.loads(Path(path).read_text(encoding="utf-8"))["admin"])

    def add_group(self, name: str, location: str | None = None) -> None:
        """Create a resource group."""
        self._post("group", {"name": name, "location": location})

    def fail(self, *faults: Fault) -> None:
        """Queue scripted faults."""
        self._post("faults", {"add": [fault.to_json() for fault in faults]})

    def clear_faults(self) -> None:
        self._post("faults", {"clear": True})

    def faults_waiting(self) -> list[Fault]:
        """Faults that have not yet hit as often as they will."""
        return [Fault.from_json(one) for one in self._post("faults")["waiting"]]

    def faults_taken(self) -> list[Fault]:
        """One entry for each request that a fault has hit."""
        return [Fault.from_json(one) for one in self._post("faults")["taken"]]

    def set_availability(self, availability: Availability) -> None:
        """Take the whole of Azure down, or bring it back."""
        self._post("availability", {"availability": availability})

    def set_delay(self, seconds: float) -> None:
        """How long operations that start from now on take."""
        self._post("delay", {"seconds": seconds})

    def set_throttle_scale(self, scale: float) -> None:
        """Multiply the token buckets' limits, and fill them."""
        self._post("throttle", {"scale": scale})

    def expire_tokens(self) -> None:
        """Every token given so far is one of yesterday."""
        self._post("expire-tokens")

    def set_token_lifetime(self, seconds: float) -> None:
        self._post("token-lifetime", {"seconds": seconds})

    def edit_as_other_client(self, resource: str, patch: Json) -> None:
        """Merge a JSON patch into a resource as another client would: new etag, no request in the log."""
        self._post("foreign-write", {"id": resource, "patch": patch})

    def set_backend_state(self, address: str, state: str, reason: str) -> None:
        """Script a backend's health, where no data plane runs."""
        self._post("backend-state", {"address": address, "state": state, "reason": reason})

    def log(self, *, method: str = "", path: str = "", clear: bool = False) -> list[Entry]:
        """Requests so far, of one method or with a part of the path; `clear` starts a new log."""
        answer = self._post("log", {"method": method, "path": path, "clear": clear})
        return [Entry.from_json(one) for one in answer["entries"]]

    def counters(self) -> dict[str, int]:
        """`PUT 201` -> how many."""
        counters: dict[str, int] = self._post("counters")["counters"]
        return counters

    def snapshot(self) -> Json:
        """The model without etags, GUIDs and times."""
        return self._post("snapshot")

    def backends(self) -> list[Json]:
        """The data plane's rules with their backends, flows and whether they listen."""
        rules: list[Json] = self._post("backends")["rules"]
        return rules

    def wait_backends(self, reached: Callable[[list[Json]], bool], *, seconds: float = _PATIENCE) -> list[Json]:
        """Wait until the backends are as wanted; what they are then.

        Raises TimeoutError with what they are instead.
        """
        deadline = time.monotonic() + seconds
        while not reached(rules := self.backends()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"backends not as wanted after {seconds:g} s: {json.dumps(rules)}")
            time.sleep(_LOOK)
        return rules

    def stop(self) -> None:
        """End the emulator's process, orderly."""
        self._post("stop")

    def _post(self, name: str, body: Json | None = None) -> Json:
        request = urllib.request.Request(  # noqa: S310 - the URL is the emulator's, plain HTTP by design
            f"{self.url}/emulator/{name}",
            data=json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_PATIENCE) as response:
                answer: Json = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            raise RuntimeError(f"the emulator refused {name}: {text}") from None
