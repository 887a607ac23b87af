"""In a virtual machine: does what the host orders, for as long as there is power.

Orders come as JSON lines over the port `control`, answers go back over it, each with its order's number. `{"run": argv,
"stdin": text}` is answered with status and output when that has ended; `{"start": argv, "port": P}` with its pid, its
output going to port P; `{"end": pid, "signal": N}` with its status when it has ended.
It is a program, not a module: nobody imports it, and it uses the standard library alone.
"""

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any


def port(name: str) -> str:
    """The device of a port that the host gave this name."""
    for folder in Path("/sys/class/virtio-ports").iterdir():
        if (folder / "name").read_text().strip() == name:
            return f"/dev/{folder.name}"
    raise FileNotFoundError(f"the host has given no port named {name}")


class Orders:
    """What the host has ordered, each order in a thread of its own."""

    def __init__(self) -> None:
        # A port can be opened once.
        self._control = os.open(port("control"), os.O_RDWR)
        self._one_at_a_time = threading.Lock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def take(self) -> None:
        """Take orders until the power goes."""
        self._answer({"order": 0, "kernel": os.uname().release})
        with open(self._control, "rb", closefd=False) as orders:
            for line in orders:
                threading.Thread(target=self._do, args=[json.loads(line)]).start()

    def _do(self, order: dict[str, Any]) -> None:
        try:
            answer = self._done(order)
        except Exception as error:  # noqa: BLE001 - the host is told, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"}
        self._answer({"order": order["order"], **answer})

    def _done(self, order: dict[str, Any]) -> dict[str, Any]:
        if "run" in order:
            stdin = order["stdin"].encode()
            ran = subprocess.run(
                order["run"], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
            return {"status": ran.returncode, "output": ran.stdout.decode(errors="replace")}
        if "start" in order:
            with Path(port(order["port"])).open("wb") as output:
                child = subprocess.Popen(order["start"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            self._children[child.pid] = child
            return {"pid": child.pid}
        child = self._children[order["end"]]
        child.send_signal(order["signal"])
        return {"status": child.wait()}

    def _answer(self, answer: dict[str, Any]) -> None:
        rest = json.dumps(answer).encode() + b"\n"
        with self._one_at_a_time:
            while rest:
                rest = rest[os.write(self._control, rest) :]


if __name__ == "__main__":
    Orders().take()
