"""A program that writes with fsync: numbered records in DIRECTORY/journal, and each that was acknowledged in LEDGER.

    python journal.py DIRECTORY LEDGER WHERE

Begins behind the last record it finds, as a database does; ends after the record in hand at SIGTERM, and with an error
as soon as the file system gives one. Standard library alone: it starts anew after every takeover, and that is measured.
"""

import json
import os
import signal
import sys
import time

RECORD_BYTES = 128
PAUSE_SECONDS = 0.001


def record(number: int) -> bytes:
    """Record `number`, always of the same length."""
    return f"record {number} ".encode().ljust(RECORD_BYTES - 1, b".") + b"\n"


def main() -> None:
    """Write until SIGTERM."""
    directory, ledger, where = sys.argv[1:]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    file = os.open(f"{directory}/journal", os.O_RDWR | os.O_CREAT, 0o644)
    account = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    number = os.fstat(file).st_size // RECORD_BYTES
    while not stopping:
        os.pwrite(file, record(number), number * RECORD_BYTES)
        os.fsync(file)
        # It was acknowledged: from here on it must be there for ever.
        line = {"record": number, "at": time.time(), "where": where}
        os.write(account, f"{json.dumps(line)}\n".encode())
        number += 1
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
