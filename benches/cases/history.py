"""A long history: whether new mail, or a question about old mail, takes longer for it, and whether pruning it does."""

import pathlib
import sqlite3
import statistics
import time

from cases import COSTS, Row
from cases.filling import fill
from cases.queue import relay
from peers import IP, Relay, free_port, listens, start, stop, wait_until

SEED, PROBE, ASKED = 2_000, 10_000, 5
DAY_MS = 86_400_000


class Keeping(Relay):
    """Keeps what is finished, however much it is."""

    def spool(self, _options, _folder):
        return 'keep_history = "365d"\nmax_history_bytes = 1_000_000_000_000\n'


def history(options):
    sink_port = free_port()
    sink = start(["smtp-sink", "-4", "-u", "nobody", "-R", "/", f"{IP}:{sink_port}", 256], pathlib.Path("/dev/null"))
    wait_until("smtp-sink listening", lambda: listens(sink_port), sink)
    try:
        with relay(options, sink_port, Keeping) as running:
            fill(running.port, SEED, 1000)
            short, asked = through(running), why(running)
            stop(running.process)
            database = running.config.parent / "spool/state.sqlite"
            count = multiply(database, options.history)
            COSTS["disk_octets_finished"] = database.stat().st_size / count
            running.launch()
            long, asked_long = through(running), why(running)
            work = f"history of {count:,} finished messages"
            yield Row(f"{work}: acceptance", f"{long / short:.0%} of the rate without", "unaffected")
            yield Row(f"{work}: `relay why`", f"{asked_long / asked:.2f} × the time without", "unaffected")
            stop(running.process)
            text = running.config.read_text().replace('keep_history = "365d"', 'keep_history = "1h"')
            running.config.write_text(text)
            running.launch()
            yield Row(f"{work}: while it is pruned", f"{through(running) / short:.0%} of the rate", "never stops")
    finally:
        stop(sink)


def through(running):
    """Messages a second that are taken while others go out."""
    return fill(running.port, PROBE, 1000)


def why(running):
    took = []
    for number in range(ASKED):
        begin = time.monotonic()
        running.command("why", f"u{number}@d{number}.many.test")
        took.append(time.monotonic() - begin)
    return statistics.median(took)


def multiply(database, wanted):
    """Doubles what is finished until it is enough; the ids go backwards from the first."""
    connection = sqlite3.connect(database)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(messages)") if row[1] != "id"]
    while True:
        count, first, last = connection.execute("SELECT count(*), min(id), max(id) FROM messages").fetchone()
        if count >= wanted:
            break
        shift = last - first + 1
        others = ", ".join(columns)
        older = others.replace("finished_at", f"finished_at - {DAY_MS}")
        connection.execute(f"INSERT INTO messages (id, {others}) SELECT id - {shift}, {older} FROM messages")
        for table, rest in [("recipients", "recipient, address, state, told"), ("history", "number, at, event")]:
            connection.execute(f"INSERT INTO {table} (message, {rest}) SELECT message - {shift}, {rest} FROM {table}")
        # What is asked for is found once, among what others would ask for.
        others = f"SELECT message - {shift}, day, random() FROM lookups"
        connection.execute(f"INSERT INTO lookups (message, day, hash) {others}")
        connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return count
