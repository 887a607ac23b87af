"""`farmstead-operator --config FILE`: one replica."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from farmstead_kube import KubeError
from farmstead_operator.app import run
from farmstead_operator.settings import SettingsError, read_settings

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def main() -> None:
    """Run until SIGTERM; status 0 then, 1 after a failure, 2 for settings that can't be used."""
    parser = argparse.ArgumentParser(prog="farmstead-operator", description="Farmstead's operator, one replica.")
    parser.add_argument("--config", type=Path, help="YAML file with settings (docs/operator.md)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    arguments = parser.parse_args()
    logging.basicConfig(level=arguments.log_level, format=FORMAT, stream=sys.stderr)
    for noisy in ("kopf", "azure", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("kopf.objects").addFilter(_is_news)
    try:
        settings = read_settings(arguments.config)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error
    try:
        asyncio.run(run(settings))
    except (KubeError, ExceptionGroup) as error:
        logging.getLogger(__name__).critical("the operator ends: %s", error, exc_info=error)
        raise SystemExit(1) from error


def _is_news(record: logging.LogRecord) -> bool:
    """A deletion that has to wait is an error to kopf each time it asks; the cluster's condition says what for."""
    return "failed temporarily" not in record.getMessage()


if __name__ == "__main__":
    main()
