"""The situations that `benches/table` measures, one a file. Each gives rows as it gets them."""

import typing


class Row(typing.NamedTuple):
    """A line of the table: the work, what was measured, and what we aim at."""

    work: str
    measured: str
    aim: str


# What a unit of work costs, by name, as the cases find out; `benches/sizing` reckons with it.
COSTS = {}
