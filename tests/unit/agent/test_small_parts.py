"""Small pure parts, by tables: the kernel's tables, inherited sockets, words for scripts' ends, what people see."""

import msgspec
import pytest

from farmstead_agent.application.cgroups import find_mount
from farmstead_agent.application.launcher import described
from farmstead_agent.cli import events_table, status_table
from farmstead_agent.connections import counted
from farmstead_agent.member.decide import backoff
from farmstead_agent.member.status import LONGEST, clipped
from farmstead_agent.probe.sockets import inherited_descriptor

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0100007F:1F90 0100007F:D432 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0
   3: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0
   4: 0100007F:0050 0100007F:D499 01 00000000:00000000 00:00000000 00000000     0        0 5 1 0
""".splitlines()


@pytest.mark.parametrize(("ports", "count"), [([8080], 1), ([80], 1), ([8080, 80], 2), ([443], 0)])
def test_only_established_connections_to_our_ports_count(ports: list[int], count: int) -> None:
    assert counted(TCP, ports) == count


@pytest.mark.parametrize(
    ("mountinfo", "mount"),
    [
        ("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"),
        ("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup"),
        ("30 23 0:26 / /mnt/with\\040space rw - cgroup2 cgroup2 rw\n", "/mnt/with space"),
        ("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", None),
        ("", None),
    ],
)
def test_the_mount_of_cgroup2_is_found(mountinfo: str, mount: str | None) -> None:
    found = find_mount(mountinfo)
    assert (str(found) if found else None) == mount


@pytest.mark.parametrize(
    ("environment", "descriptor"),
    [
        ({}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 3),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:probe"}, 4),
    ],
)
def test_inherited_sockets(environment: dict[str, str], descriptor: int | None) -> None:
    given = dict(environment, HOME="/")
    assert inherited_descriptor(given, 7) == descriptor
    assert given == {"HOME": "/"}


@pytest.mark.parametrize(
    ("status", "ended_by", "message"),
    [
        (0, "", ""),
        (3, "", "it ended with exit status 3"),
        (-9, "", "it was ended by SIGKILL"),
        (-15, "timeout", "it exceeded its limit and was ended after 12 s"),
        (-15, "abort", "it was broken off after 12.0 s"),
        (0, "timeout", "it exceeded its limit and was ended after 12 s"),
    ],
)
def test_a_scripts_end_in_words(status: int, ended_by: str, message: str) -> None:
    result = described(status, ended_by=ended_by, seconds=12.0)
    assert (result.ok, result.message) == (not message, message)


def test_backoff_grows_to_a_minute() -> None:
    assert [backoff(count) for count in (0, 1, 2, 3, 7, 50)] == [0.0, 1.0, 2.0, 4.0, 60.0, 60.0]


def test_texts_fit_the_api() -> None:
    assert clipped("short") == "short"
    assert len(clipped("x" * 5000)) == LONGEST
    assert msgspec.json.encode(clipped("ä" * 5000))


def test_the_tables_for_people() -> None:
    member = {
        "namespace": "shop",
        "cluster": "web",
        "unconfirmed": "",
        "step": "",
        "status": {"state": "Up", "readiness": "Ready", "reason": "Serving", "since": "t", "message": "fine"},
    }
    shown = status_table({"node": "vm1", "apiServer": "connected", "members": [member]})
    assert shown.splitlines()[0] == "machine vm1, API server: connected"
    assert shown.splitlines()[2] == "shop/web   Up      Ready       Serving   t       fine"
    event = {
        "time": "t",
        "member": "shop/web",
        "before": "Up",
        "after": "Drain",
        "seconds": 2.5,
        "reason": "Held",
        "cause": "somebody",
    }
    assert "Up     Drain   2.5 s   Held     somebody" in events_table([event])
