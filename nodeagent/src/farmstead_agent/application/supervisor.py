"""A small process beside every script: it outlives the agent, enforces the limit and writes down how the script ended.

Started as `python -I -S supervisor.py COMMAND.json`. It moves into its own cgroup, leaves the agent's session and
process tree, starts the script in the script's cgroup, waits, and writes the result beside COMMAND.json. Standard
library only and few imports, since it starts before every script. It decides nothing.
"""

import json
import os
import signal
import sys
import time

GRACE_SECONDS = 5.0


def enter(group: str) -> None:
    """Move this process into a cgroup."""
    descriptor = os.open(os.path.join(group, "cgroup.procs"), os.O_WRONLY)  # noqa: PTH118 - pathlib costs 5 ms
    os.write(descriptor, b"0")
    os.close(descriptor)


def execute(command: dict) -> None:  # type: ignore[type-arg]
    """Become the script; does not return."""
    try:
        os.setsid()
        enter(command["group"])
        output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(command["directory"])
        os.execve(command["arguments"][0], command["arguments"], command["environment"])  # noqa: S606
    except OSError as error:
        os.write(2, f"can't run {command['arguments'][0]}: {error}\n".encode())
    os._exit(127)


def supervise(command: dict, child: int) -> dict:  # type: ignore[type-arg]
    """Wait for the script, and end it at its limit or at SIGTERM; the result as written to disk."""
    began = time.monotonic()
    deadline = began + command["timeout"]
    ended_by = ""
    hard = False
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        now = time.monotonic()
        if now >= deadline:
            if ended_by and not hard:
                hard = True
                finish(command, child, signal.SIGKILL)
            elif not ended_by:
                ended_by = "timeout"
                finish(command, child, signal.SIGTERM)
            deadline = now + GRACE_SECONDS
            continue
        received = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, deadline - now)
        if received is not None and received.si_signo == signal.SIGTERM and not ended_by:
            ended_by = "abort"
            deadline = time.monotonic() + GRACE_SECONDS
            finish(command, child, signal.SIGTERM)
    return {"status": os.waitstatus_to_exitcode(status), "ended_by": ended_by, "seconds": time.monotonic() - began}


def finish(command: dict, child: int, number: int) -> None:  # type: ignore[type-arg]
    """Signal the script's process group; by force also all else in a cgroup that is the script's alone."""
    try:  # noqa: SIM105 - contextlib would be one more import
        os.killpg(child, number)
    except ProcessLookupError:
        pass
    if number == signal.SIGKILL:
        sweep(command)


def sweep(command: dict) -> None:  # type: ignore[type-arg]
    """Kill what a script has left behind, unless what it leaves is the application."""
    if not command["stays"]:
        with open(os.path.join(command["group"], "cgroup.kill"), "w") as file:  # noqa: PTH118, PTH123
            file.write("1")


def main() -> None:
    """Detach from whoever started this, run the script, write its result."""
    path = sys.argv[1]
    with open(path) as file:  # noqa: PTH123
        command = json.load(file)
    # Before anybody can find this process in its group and tell it to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    enter(command["supervisor_group"])
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        os.close(os.open(command["begun"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        os._exit(0)  # another one, begun by an agent that died, runs the script
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.chdir("/")
    child = os.fork()
    if child == 0:
        execute(command)
    result = supervise(command, child)
    sweep(command)
    temporary = command["result"] + ".new"
    with open(temporary, "w") as file:  # noqa: PTH123
        json.dump(result, file)
    os.rename(temporary, command["result"])  # noqa: PTH104


if __name__ == "__main__":
    main()
