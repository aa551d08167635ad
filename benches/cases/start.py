"""From the start of the process to the greeting."""

import pathlib
import socket
import statistics
import tempfile
import time

from cases import Row
from cases.filling import fill
from cases.queue import relay, settled
from peers import IP, Postfix, Relay, free_port, start, stop

TIMES, QUEUED = 5, 50_000


def starts(options):
    ours = [greeting(options, Relay, relay_command) for _ in range(TIMES)]
    theirs = [greeting(options, Postfix, postfix_command) for _ in range(TIMES)]
    yield Row("start to banner, empty", told(ours, theirs), "not slower than Postfix")
    with relay(options, free_port()) as running:
        fill(running.port, QUEUED, 1000)
        settled(running)
        stop(running.process)
        again, running.process = seconds_to_greeting(relay_command(running), running.log, running.port)
    yield Row(f"restart with {QUEUED:,} queued to banner", f"{again * 1000:.0f} ms", "not slower than Postfix")


def told(ours, theirs):
    one, other = statistics.median(ours), statistics.median(theirs)
    return f"{one * 1000:.0f} ms, Postfix {other * 1000:.0f} ms: {one / other:.1f} × as long"


def relay_command(running):
    return [running.program, "serve", "--config", running.config]


def postfix_command(running):
    return running.command


def greeting(options, system, command):
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="start-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        running = system(options, folder, free_port())
        stop(running.process)
        took, running.process = seconds_to_greeting(command(running), folder / "again.log", running.port)
        running.stop()
        return took


def seconds_to_greeting(command, log, port):
    begin = time.monotonic()
    process, give_up = start(command, log), begin + 60
    while True:
        try:
            with socket.create_connection((IP, port), 60) as connection:
                if connection.recv(3) == b"220":
                    return time.monotonic() - begin, process
        except OSError:
            if time.monotonic() > give_up:
                raise
            if process.poll() is not None:
                # Postfix does not start while processes of the one before still end.
                time.sleep(0.2)
                begin, process = time.monotonic(), start(command, log)
        time.sleep(0.002)
