"""A PostgreSQL of its own for a run of pgbench, its data in the directory that is measured."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bench.mirrorfs.mirror import run

USER = "postgres"
SCALE = 5
# So that no checkpoint of its own falls into one directory's turn and not into another's.
SETTINGS = "-c listen_addresses= -c checkpoint_timeout=1h -c max_wal_size=8GB -c autovacuum=off"


@cache
def programs() -> Path:
    """Debian keeps PostgreSQL's server programs out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise RuntimeError("pgbench needs PostgreSQL: install the Debian package postgresql-15")
    return found[-1].parent


def pgbench(data: Path, seconds: int) -> float:
    """Transactions a second of four clients, of a new database."""

    def as_user(*command: str | Path) -> str:
        return run("runuser", "-u", USER, "--", *command)

    data.mkdir()
    shutil.chown(data, USER, USER)
    try:
        # Outside of what is measured: a socket and a log are no data.
        with tempfile.TemporaryDirectory(prefix="bench-pg-") as name:
            outside = Path(name)
            shutil.chown(outside, USER, USER)
            as_user(programs() / "initdb", "--no-sync", "--auth=trust", "-D", data)
            control: list[str | Path] = [programs() / "pg_ctl", "-w", "-D", data]
            as_user(*control, "-l", outside / "log", "-o", f"{SETTINGS} -k {outside}", "start")
            try:
                as_user(programs() / "pgbench", "--quiet", "-i", "-s", str(SCALE), "-h", outside, "postgres")
                as_user(programs() / "psql", "-q", "-h", outside, "-c", "CHECKPOINT", "postgres")
                timed: list[str | Path] = ["-c", "4", "-j", "2", "-T", str(seconds), "-h", outside, "postgres"]
                report = as_user(programs() / "pgbench", *timed)
            finally:
                subprocess.run(["runuser", "-u", USER, "--", *control, "-m", "immediate", "stop"], check=True)
    finally:
        shutil.rmtree(data)
    line = next(line for line in report.splitlines() if line.startswith("tps = "))
    return float(line.split()[2])
