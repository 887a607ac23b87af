"""Where `farmstead-mirrorfs` is: wherever its wheel was installed to, by whichever installer, or on PATH.

Its wheel holds one binary and no Python, so there is nothing to import: the installer's own schemes say where it is.
What it is not: it neither starts the program nor asks it for its version.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from farmstead_agent.errors import PermanentError

NAME = "farmstead-mirrorfs"


def find_mirrorfs() -> Path:
    """The program.

    Raises PermanentError (MirrorfsNotInstalled) with every place that was looked at.
    """
    looked_at = list(dict.fromkeys(_places()))
    for place in looked_at:
        if os.access(place, os.X_OK) and place.is_file():
            return place
    if on_path := shutil.which(NAME):
        return Path(on_path)
    places = "".join(f"\n  {place}" for place in looked_at)
    raise PermanentError(
        f"{NAME} is not installed. Install it beside the agent: pip install {NAME}. Looked at:{places}\n  PATH",
        reason="MirrorfsNotInstalled",
    )


def _places() -> Iterator[Path]:
    """Best first: this environment, the one that it was made from, the user's, and `pip install --target`."""
    yield Path(sysconfig.get_path("scripts")) / NAME
    yield Path(sysconfig.get_path("scripts", vars={"base": sys.base_prefix})) / NAME
    yield Path(sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user"))) / NAME
    yield Path(__file__).parents[2] / "bin" / NAME
