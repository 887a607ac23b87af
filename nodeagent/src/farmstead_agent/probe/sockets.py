"""The probe's listening socket: the service manager's where it holds one (socket activation), else our own.

A socket that the service manager holds survives the agent: while the agent restarts, probes wait in the backlog
and are answered late, instead of being refused and taking the machine out of the load balancer.
"""

import os
import socket
from collections.abc import MutableMapping

from farmstead_agent.errors import ConflictError
from farmstead_agent.probe.responder import BACKLOG

FIRST_DESCRIPTOR = 3
NAME = "probe"


def inherited_descriptor(environment: MutableMapping[str, str], pid: int) -> int | None:
    """The descriptor passed for the probe (sd_listen_fds), None without one; takes the variables out.

    Of several descriptors the one named `probe` (LISTEN_FDNAMES) is taken, else the first.
    """
    values = {key: environment.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if values["LISTEN_PID"] != str(pid) or not values["LISTEN_FDS"].isdigit():
        return None
    count = int(values["LISTEN_FDS"])
    if count == 0:
        return None
    names = values["LISTEN_FDNAMES"].split(":")[:count]
    return FIRST_DESCRIPTOR + (names.index(NAME) if NAME in names else 0)


def listening(address: str, port: int) -> socket.socket:
    """A listening socket of our own. Raises ConflictError where the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConflictError(f"can't listen on {address}:{port}: {error.strerror}; is another agent running?") from error
    listener.setblocking(False)
    return listener


def probe_socket(address: str, port: int) -> socket.socket:
    """The probe's socket."""
    descriptor = inherited_descriptor(os.environ, os.getpid())
    if descriptor is None:
        return listening(address, port)
    os.set_inheritable(descriptor, False)
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    return listener
