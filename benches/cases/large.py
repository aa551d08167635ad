"""Large mail: how much of what the disk can write comes through, and what it takes of memory."""

import os
import time

from cases import Row
from peers import Nothing, Relay, measure, memory_peak

OCTETS, SESSIONS, MESSAGES = 20_000_000, 20, 60
PIECE = 1 << 20


def large(options):
    disk = write_rate(options.dir, OCTETS * 20)
    less = type(options)(**vars(options))
    less.octets, less.sessions, less.messages = OCTETS, SESSIONS, MESSAGES
    direct = measure(less, Nothing).taken * OCTETS / 1e6
    peaks = []
    result = measure(less, Relay, lambda system: peaks.append(memory_peak(system.process)))
    rate = result.taken * OCTETS / 1e6
    yield Row(
        f"large mail: {OCTETS // 1_000_000} MB, {SESSIONS} sessions",
        f"taken in with {rate:.0f} MB/s: {rate / disk:.0%} of the disk's {disk:.0f}, {rate / direct:.0%} of direct; "
        f"at most {peaks[0]:.0f} MB of memory",
        "≥ 80 %, memory flat",
    )


def write_rate(folder, octets):
    """Megabytes a second that one file takes, synced at its end."""
    path = os.path.join(folder, f"write-{os.getpid()}")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        piece, begin = os.urandom(PIECE), time.monotonic()
        for _ in range(octets // PIECE):
            os.write(file, piece)
        os.fsync(file)
        return octets / 1e6 / (time.monotonic() - begin)
    finally:
        os.close(file)
        os.unlink(path)
