"""3,000 silent domains beside a live one, by `benches/hosts`, whose network is its own."""

import re
import subprocess

from cases import Row
from peers import REPOSITORY


def silent(options):
    command = [REPOSITORY / "benches/hosts", "silent-one", "--only", "relay", "--relay", options.relay, "--dir", options.dir]
    told = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout
    rates = re.search(r"live +([\d.]+)/s alone, +([\d.]+)/s of +([\d.]+)/s offered", told)
    if rates is None:
        raise SystemExit(f"benches/hosts said something else: {told}")
    alone, beside, offered = map(float, rates.groups())
    # What the client itself did not hand in, it cannot have got.
    share = beside / min(alone, offered)
    yield Row("3,000 silent domains beside a live one", f"{share:.0%} of its rate alone", "≥ 95 %")
