"""How long a client waits between the dot and the 250, held against what one sync of that disk takes."""

import os
import time

from cases import Row
from peers import Relay, waits_after_the_dot

SESSIONS, EACH, SYNCS = 128, 40, 500
# Seconds from one message of a session to its next: 128 sessions hand in 256 a second. Without that it is the client
# that is measured, and a queue of 128 before two cores.
PAUSE = 0.5


def acceptance(options):
    sync = one_sync(options.dir)
    waits = waits_after_the_dot(options, Relay, SESSIONS, EACH, PAUSE)
    p99 = waits[len(waits) * 99 // 100]
    yield Row(
        f"acceptance p99, {SESSIONS} sessions, {SESSIONS / PAUSE:.0f} messages a second",
        f"{p99:.1f} ms, {p99 / sync[1]:.1f} × fdatasync p99 ({sync[1]:.2f} ms), {p99 / sync[0]:.0f} × its median",
        "≤ 5 × one fdatasync",
    )


def one_sync(folder):
    """Median and p99 of an append of 12 KiB and its fdatasync, in milliseconds."""
    path = os.path.join(folder, f"sync-{os.getpid()}")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        took, octets = [], os.urandom(12 * 1024)
        for _ in range(SYNCS):
            begin = time.monotonic()
            os.write(file, octets)
            os.fdatasync(file)
            took.append((time.monotonic() - begin) * 1000)
    finally:
        os.close(file)
        os.unlink(path)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]
