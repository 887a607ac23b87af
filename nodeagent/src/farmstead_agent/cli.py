"""`farmstead`: what a person on the machine sees of it, through the agent's control socket."""

import argparse
import json
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DEFAULT_SOCKET = "/run/farmstead/agent.sock"


def ask(path: str, request: Mapping[str, Any]) -> Any:
    """Send one command to the agent. Raises OSError without an agent, RuntimeError with its complaint."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as lines:
            answer = json.loads(lines.readline() or '{"error": "the agent went away"}')
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["result"]


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows with columns that line up; the last one is not padded."""
    lines = [list(map(str, row)) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "   ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def status_table(status: Mapping[str, Any]) -> str:
    """The members, one a line, under a line for the machine."""
    rows: list[Sequence[str]] = [("MEMBER", "STATE", "READINESS", "REASON", "SINCE", "MESSAGE")]
    for member in status["members"]:
        shown = member["status"]
        message = shown.get("message", "")
        if member["unconfirmed"]:
            message += f" [{member['unconfirmed']}]"
        rows.append(
            (
                f"{member['namespace']}/{member['cluster']}",
                shown.get("state", "Unknown"),
                shown.get("readiness", "NotReady"),
                shown.get("reason", ""),
                shown.get("since", ""),
                message,
            )
        )
    return f"machine {status['node']}, API server: {status['apiServer']}\n{table(rows)}"


def events_table(events: Iterable[Mapping[str, Any]]) -> str:
    """Transitions, one a line."""
    rows: list[Sequence[str]] = [("TIME", "MEMBER", "FROM", "TO", "AFTER", "REASON", "CAUSE")]
    rows += [
        (
            event["time"],
            event["member"],
            event["before"],
            event["after"],
            f"{event['seconds']} s",
            event["reason"],
            event["cause"],
        )
        for event in events
    ]
    return table(rows)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="farmstead", description="What Farmstead does on this machine.")
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help="the agent's control socket (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="the members and how they are")
    events = commands.add_parser("events", help="the last transitions and their causes")
    events.add_argument("member", nargs="?", help="<namespace>/<cluster>")
    for command in (status, events):
        command.add_argument("-o", "--output", choices=("table", "json"), default="table")
    commands.add_parser("shutdown-machine", help="drain and stop everything: the machine goes down")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it succeeded."""
    options = arguments(given)
    request = {"command": options.command, "member": getattr(options, "member", None)}
    try:
        result = ask(options.socket, request)
    except OSError as error:
        sys.stderr.write(f"farmstead: no agent answers on {options.socket}: {error.strerror}; is it running?\n")
        return 1
    except RuntimeError as error:
        sys.stderr.write(f"farmstead: {error}\n")
        return 1
    if getattr(options, "output", "json") == "json":
        text = json.dumps(result, indent=2)
    else:
        text = status_table(result) if options.command == "status" else events_table(result)
    sys.stdout.write(text + "\n")
    return 0
