"""What a process has cost until now: processor time, and time in which it could have run and got no processor.

On a machine with other work the second says how much of a duration is the machine's, not the program's. From /proc.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, over all threads that still run."""

    computed: float
    waited: float
    """Ready to run, but no processor was free."""

    def __sub__(self, before: "Cost") -> "Cost":
        return Cost(self.computed - before.computed, self.waited - before.waited)

    def __str__(self) -> str:
        return f"{self.computed:.1f} s computed, {self.waited:.1f} s waited for a processor"


def cost(pid: int) -> Cost:
    """What the process has cost until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    computed = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    delays = (task.read_text().split()[1] for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return Cost(computed, sum(map(int, delays)) / 1e9)


def memory(pid: int) -> tuple[float, float]:
    """Resident memory in MiB: now, and at most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("Vm")}
    return sizes["VmRSS"], sizes["VmHWM"]
