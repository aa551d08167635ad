"""The spool alone beside one file for each message, in one run of `cargo bench --bench spool`."""

import re
import subprocess

from cases import Row
from peers import REPOSITORY


def spool(options):
    command = ["cargo", "bench", "--locked", "--bench", "spool", "--", str(options.dir)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    found = re.search(r"life beside one file a message: +([\d.]+) times", told)
    written = re.search(r"octets written for each octet taken: +([\d.]+)", told)
    if found is None or written is None:
        raise SystemExit(f"the benchmark said something else: {told}")
    yield Row("the spool alone", f"{found[1]} × one file a message, each octet written {written[1]} times", "≥ 8 ×, ≤ 1.3")
