"""A long queue whose next hop is down: what it takes of memory, and whether anybody notices."""

import contextlib
import pathlib
import tempfile
import time

from cases import COSTS, Row
from cases.filling import fill
from peers import Relay, cpu_seconds, free_port, memory, stop

DOMAINS, IDLE_S, PROBE = 100_000, 10, 10_000


@contextlib.contextmanager
def relay(options, sink_port, kind=Relay):
    """A relay on a folder of its own."""
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="queue-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        running = kind(options, folder, sink_port)
        try:
            yield running
        finally:
            running.stop()


def queue(options):
    count = options.queue
    with relay(options, free_port()) as running:
        nothing = memory(running.process)
        empty = fill(running.port, PROBE, DOMAINS)
        fill(running.port, count - 2 * PROBE, DOMAINS)
        full = fill(running.port, PROBE, DOMAINS)
        work = f"{count:,} queued for {min(count, DOMAINS):,} domains"
        yield Row(f"{work}: acceptance", f"{full / empty:.0%} of empty", "≥ 90 %")
        settled(running)
        before = cpu_seconds(running.process)
        time.sleep(IDLE_S)
        idle = (cpu_seconds(running.process) - before) / IDLE_S
        COSTS["memory_mb"] = nothing
        COSTS["memory_octets_waiting"] = (memory(running.process) - nothing) * 1e6 / count
        COSTS["disk_octets_waiting"] = octets_below(running.config.parent / "spool") / count
        yield Row(f"{work}: memory, idle", f"{memory(running.process):.0f} MB, {idle:.1%} of a core", "≤ 300 MB, ≤ 2 %")
        begin = time.monotonic()
        running.command("queue", "summary")
        yield Row(f"{work}: `relay queue summary`", f"{time.monotonic() - begin:.2f} s", "≤ 1 s")
        stop(running.process)
        begin = time.monotonic()
        running.launch()
        ready = time.monotonic() - begin
        yield Row(f"{work}: from start to ready", f"{ready:.2f} s, {memory(running.process):.0f} MB then", "≤ 5 s")


def octets_below(folder):
    """What a folder takes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def settled(running):
    """Until the first attempts are over and the relay has nothing to do."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        before = cpu_seconds(running.process)
        time.sleep(2)
        if cpu_seconds(running.process) - before < 0.1:
            return
