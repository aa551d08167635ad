"""A chart of what a message costs: against the number of sessions, and against the length of the queue."""

import html

from cases.filling import fill
from cases.queue import relay, settled
from peers import Postfix, Relay, cpu_seconds, free_port, measure

SESSIONS = [1, 2, 5, 10, 20, 40, 80, 160]
QUEUES = [0, 10_000, 30_000, 100_000]
PROBE, DOMAINS = 5_000, 1_000
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, GAP = 360, 220, 56, 44, 40, 40
INKS = {"relay": "#0b6e99", "postfix": "#c2571a"}


def draw(options, path):
    """Measures, prints the numbers, and writes the chart."""
    panels = [
        ("milliseconds of processor time a message", "sessions", by_sessions(options)),
        ("the same, for taking one in", "messages waiting", by_queue(options)),
    ]
    for title, axis, lines in panels:
        print(f"{title}, by {axis}:")
        for name, points in lines.items():
            print(f"  {name:8} " + "  ".join(f"{x:,}: {y:.3f}" for x, y in points))
    path.write_text(picture(panels))


def by_sessions(options):
    lines = {"relay": [], "postfix": []}
    for sessions in SESSIONS:
        some = type(options)(**vars(options))
        some.sessions, some.messages = sessions, max(200, min(options.messages, sessions * 300))
        for name, system in [("relay", Relay), ("postfix", Postfix)]:
            lines[name].append((sessions, measure(some, system).cpu))
    return lines


def by_queue(options):
    points, waiting = [], 0
    with relay(options, free_port()) as running:
        for length in QUEUES:
            if length > waiting:
                fill(running.port, length - waiting, DOMAINS)
                waiting = length
            settled(running)
            before = cpu_seconds(running.process)
            fill(running.port, PROBE, DOMAINS)
            waiting += PROBE
            points.append((length, (cpu_seconds(running.process) - before) * 1000 / PROBE))
    return {"relay": points}


def picture(panels):
    """Both panels side by side, as SVG."""
    width = 2 * (LEFT + WIDTH + GAP)
    height = TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (title, axis, lines) in enumerate(panels):
        parts.append(panel(number * (LEFT + WIDTH + GAP) + LEFT, title, axis, lines))
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(left, title, axis, lines):
    columns = [x for x, _ in next(iter(lines.values()))]
    most = max(y for points in lines.values() for _, y in points) * 1.1
    place = lambda number: left + WIDTH * (number + 0.5) / len(columns)
    level = lambda y: TOP + HEIGHT * (1 - y / most)
    parts = [f'<text x="{left}" y="18" font-weight="bold">{html.escape(title)}</text>']
    for tick in range(5):
        y = most * tick / 4
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{level(y):.1f}" y2="{level(y):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 6}" y="{level(y) + 4:.1f}" text-anchor="end">{y:.2f}</text>')
    for number, column in enumerate(columns):
        parts.append(f'<text x="{place(number):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{column:,}</text>')
    parts.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{html.escape(axis)}</text>')
    for name, points in lines.items():
        ink = INKS[name]
        spots = [(place(number), level(y)) for number, (_, y) in enumerate(points)]
        parts.append(f'<polyline fill="none" stroke="{ink}" stroke-width="2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{ink}"/>' for x, y in spots]
        x, y = spots[-1]
        parts.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}" text-anchor="end" fill="{ink}">{html.escape(name)}</text>')
    return "\n".join(parts)
