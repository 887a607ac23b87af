"""In a virtual machine: stands in for the agent, and tells the host every status of the daemon, a line each.

`agent.py CONTROL_SOCKET`, until the daemon ends. It is a program, not a module: nobody imports it, and it uses the
standard library alone.
"""

import json
import os
import socket
import sys
import time
from typing import Any


def connect() -> socket.socket:
    """A connection to the daemon, once it listens."""
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(sys.argv[1])
        except (FileNotFoundError, ConnectionRefusedError):
            # The socket of the life before may still lie there.
            connection.close()
            time.sleep(0.05)
        else:
            return connection


def request(connection: socket.socket, **fields: Any) -> None:
    """Ask for something."""
    connection.sendall(json.dumps({"version": 1, **fields}).encode() + b"\n")


if __name__ == "__main__":
    agent = connect()
    request(agent, do="agent")
    watch = connect()
    request(watch, do="watch")
    with watch.makefile("rb") as lines:
        for line in lines:
            os.write(1, line)
