"""Hands many messages in fast: as one would who has nothing to wait for but the replies."""

import concurrent.futures
import multiprocessing
import socket
import time

from peers import IP, START_LIMIT_S

CLIENTS = 8
# Messages under way on one connection, so that a sync is shared.
AHEAD = 5
# Messages on one connection: a server bounds the commands of a session.
MOST_ON_CONNECTION = 5_000


def fill(port, messages, domains, octets=4096):
    """So many messages to as many domains; gives the messages a second that were taken."""
    each = max(1, messages // CLIENTS)
    context = multiprocessing.get_context("fork")
    begin = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(CLIENTS, context) as clients:
        for ended in [clients.submit(hand_in, port, n * each, each, domains, octets) for n in range(CLIENTS)]:
            ended.result()
    return each * CLIENTS / (time.monotonic() - begin)


def hand_in(port, first, count, domains, octets):
    """One connection after the other."""
    for begin in range(first, first + count, MOST_ON_CONNECTION):
        on_one_connection(port, begin, min(MOST_ON_CONNECTION, first + count - begin), domains, octets)


def on_one_connection(port, first, count, domains, octets):
    """BDAT lets a whole transaction go out at once (RFC 3030 2)."""
    body = b"Subject: waiting\r\n\r\n" + b"x" * (octets - 20) + b"\r\n"
    with socket.create_connection((IP, port), START_LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = connection.makefile("rb")

        def expect(code):
            while (line := replies.readline())[3:4] == b"-":
                pass
            if not line.startswith(code):
                raise SystemExit(f"the server said {line!r} and not {code!r}")

        expect(b"220")
        connection.sendall(b"EHLO client.test\r\n")
        expect(b"250")
        for begin in range(first, first + count, AHEAD):
            numbers = range(begin, min(begin + AHEAD, first + count))
            for number in numbers:
                to = f"u{number}@d{number % domains}.many.test".encode()
                envelope = b"MAIL FROM:<load@client.test>\r\nRCPT TO:<%b>\r\nBDAT %d LAST\r\n"
                connection.sendall(envelope % (to, len(body)) + body)
            for _ in numbers:
                expect(b"250")
                expect(b"250")
                expect(b"250")
        connection.sendall(b"QUIT\r\n")
        expect(b"221")
