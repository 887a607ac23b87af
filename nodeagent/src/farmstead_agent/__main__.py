"""`farmstead-agent --config FILE`: read the machine's file and be its agent."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from farmstead_agent.agent import run
from farmstead_agent.errors import AgentError
from farmstead_agent.settings import load


def main(given: Sequence[str] | None = None) -> int:
    """Run until a signal; 0 then, 1 with a message where the agent can't run."""
    parser = argparse.ArgumentParser(prog="farmstead-agent", description="The Farmstead agent of this machine.")
    parser.add_argument("--config", type=Path, required=True, help="the machine's TOML file (docs/agent.md)")
    options = parser.parse_args(given)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run(load(options.config)))
    except AgentError as error:
        sys.stderr.write(f"farmstead-agent: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
