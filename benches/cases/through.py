"""Mail from end to end, in clear text: sessions that go on, and a connection for each message on both sides."""

import statistics

from cases import COSTS, Row
from peers import Nothing, Postfix, Relay, measure, others


class RelayAfresh(Relay):
    """A connection for each message at the receiving side, too."""

    def destination(self, sink_port):
        return super().destination(sink_port) + "max_messages_per_connection = 1\n"


class PostfixAfresh(Postfix):
    """The same."""

    settings = "smtp_connection_cache_on_demand = no\n"


def clear(options):
    """Sessions that go on."""
    options.reconnect = False
    direct = measure(options, Nothing)
    ours, theirs = beside(options, Relay, Postfix)
    low, high = spread(ours, theirs)
    yield Row(
        "end to end, clear, 4 KiB, 40 sessions, reused",
        f"{ratio(ours, theirs):.1f} × Postfix ({low:.1f}–{high:.1f}), {median(ours) / direct.whole:.0%} of direct",
        "≥ 8 × Postfix, ≥ 60 % of direct",
    )
    cpu = [statistics.median(r.cpu for r in rounds) for rounds in (ours, theirs)]
    COSTS["cpu_ms_message"] = cpu[0]
    yield Row("processor time a message, the same", f"{cpu[0]:.2f} ms, 1/{cpu[1] / cpu[0]:.1f} of Postfix", "≤ 1/10")
    for system in others():
        result = measure(fewer(options), system)
        yield Row(
            f"the same beside {system.name}",
            f"{median(ours) / result.whole:.1f} × {system.name}, processor time 1/{result.cpu / cpu[0]:.1f}",
            "",
        )


def afresh(options):
    """A connection for each message."""
    options.reconnect = True
    ours, theirs = beside(options, RelayAfresh, PostfixAfresh)
    options.reconnect = False
    COSTS["cpu_ms_message_and_connections"] = statistics.median(result.cpu for result in ours)
    low, high = spread(ours, theirs)
    yield Row(
        "the same, a connection a message on both sides",
        f"{ratio(ours, theirs):.1f} × Postfix ({low:.1f}–{high:.1f})",
        "≥ 6 × Postfix",
    )


def beside(options, one, other):
    """Rounds of both, in turn."""
    pairs = [(measure(options, one), measure(options, other)) for _ in range(options.rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def fewer(options):
    """For what is slow and not compared round by round."""
    less = type(options)(**vars(options))
    less.messages = max(500, options.messages // 4)
    return less


def median(rounds):
    return statistics.median(result.whole for result in rounds)


def ratio(ours, theirs):
    return median(ours) / median(theirs)


def spread(ours, theirs):
    ratios = [one.whole / other.whole for one, other in zip(ours, theirs)]
    return min(ratios), max(ratios)
