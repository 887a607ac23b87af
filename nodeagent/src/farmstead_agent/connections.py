"""How many clients are connected to a port of this machine, from the kernel's own table.

Only established connections count: one that the server has closed costs no request. Connections that the kernel
has completed and the application has not accepted yet are established too.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
ESTABLISHED = "01"


def counted(lines: Iterable[str], ports: Collection[int]) -> int:
    """Established connections whose local port is one of `ports`, in lines of /proc/net/tcp."""
    wanted = {f"{port:04X}" for port in ports}
    count = 0
    for line in lines:
        fields = line.split(None, 4)
        if len(fields) > 3 and fields[3] == ESTABLISHED and fields[1].rpartition(":")[2] in wanted:
            count += 1
    return count


def established(ports: Collection[int]) -> int | None:
    """Connections that clients have to these ports now; None where the table can't be read."""
    if not ports:
        return 0
    count = 0
    for table in TABLES:
        try:
            with table.open() as lines:
                count += counted(lines, ports)
        except FileNotFoundError:
            continue  # a machine without IPv6
        except OSError:
            return None
    return count
