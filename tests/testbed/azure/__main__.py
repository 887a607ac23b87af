"""`python -m testbed.azure`: the emulator alone, until it is told to stop (admin API, SIGTERM, Ctrl-C)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

from testbed.azure.admin import Admin
from testbed.azure.dataplane import PlaneSettings
from testbed.azure.emulator import AzureEmulator, Settings
from testbed.azure.errors import Json


def main() -> None:
    """Parse the arguments and run."""
    asyncio.run(run(_arguments().parse_args()))


async def run(options: argparse.Namespace) -> None:
    """Serve until told to stop; says how to reach it, and writes the same to the state file."""
    host, port = _address(options.listen)
    plane = PlaneSettings(speed=options.speed, probe_source=options.probe_source, interface=options.interface)
    settings = Settings(
        host=host,
        port=port,
        location=options.location,
        frontends=options.frontends,
        delay=options.delay,
        token_lifetime=options.token_lifetime,
        # Beside the state file: who made that folder removes it, even if this process is killed.
        folder=options.state_file.resolve().parent if options.state_file else None,
        data_plane=None if options.control_only else plane,
    )
    async with AzureEmulator(settings) as azure:
        for group in options.group:
            azure.add_group(group)
        admin = Admin(azure)
        admin_host, admin_port = _address(options.admin)
        admin_port = await admin.start(admin_host, admin_port)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, admin.stopping.set)
        state = {"pid": os.getpid(), "admin": f"http://{admin_host}:{admin_port}"} | azure.reach()
        try:
            _publish(options.state_file, state)
            print(_how_to(state), flush=True)
            await admin.stopping.wait()
        finally:
            if options.state_file:
                options.state_file.unlink(missing_ok=True)
            await admin.close()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed.azure",
        description="An emulator of Azure Resource Manager with load balancers that carry traffic.",
    )
    parser.add_argument("--listen", default="127.0.0.1:8443", metavar="ADDRESS:PORT", help="ARM and tokens")
    parser.add_argument("--admin", default="127.0.0.1:0", metavar="ADDRESS:PORT", help="the emulator's own API")
    parser.add_argument("--frontends", default="127.80.0.0/24", help="range of public IP addresses")
    parser.add_argument("--state-file", type=Path, help="where to write how to reach it (JSON)")
    parser.add_argument("--group", action="append", default=[], help="a resource group that is there already")
    parser.add_argument("--location", default="eastus")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each operation takes")
    parser.add_argument("--token-lifetime", type=float, default=3600.0, help="seconds")
    parser.add_argument(
        "--control-only", action="store_true", help="carry no traffic and probe nobody: backends are up"
    )
    parser.add_argument("--interface", help="where frontend addresses are added; loopback needs none")
    parser.add_argument("--probe-source", help="address that probes come from")
    parser.add_argument("--speed", type=float, default=1.0, help="divides probe and idle times")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _publish(path: Path | None, state: Json) -> None:
    """Write the state file in one step: who sees it sees all of it."""
    if path is not None:
        fresh = path.with_name(path.name + ".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)


def _how_to(state: Json) -> str:
    return f"""Azure emulator: {state["endpoint"]} (steer it at {state["admin"]}/emulator/...)
  export AZURE_TENANT_ID={state["tenant_id"]}
  export AZURE_CLIENT_ID={state["client_id"]}
  export AZURE_CLIENT_SECRET={state["client_secret"]}
  export AZURE_SUBSCRIPTION_ID={state["subscription_id"]}
  export AZURE_AUTHORITY_HOST={state["authority"]}
  export AZURE_FEDERATED_TOKEN_FILE={state["federated_token_file"]}
SDK: base_url={state["endpoint"]!r}, connection_verify={state["ca_file"]!r} (client and credential),
     credential_scopes=['https://management.azure.com/.default']"""


if __name__ == "__main__":
    main()
