"""DANE: every receiving host with a TLSA record in a signed zone, behind a resolver that validates; in a network of its own.

The zone is served by NSD, Unbound validates, stunnel speaks TLS for smtp-sink. The relay validates once more by itself;
Postfix believes Unbound. Debian packages: nsd, unbound, ldnsutils, stunnel4, openssl.
"""

import contextlib
import hashlib
import pathlib
import shutil
import subprocess
import tempfile
import time

from cases import COSTS, Row
from cases.filling import fill
from peers import IP, Postfix, Relay, listens, start, stop, wait_until

HOSTS, DOMAINS, ZONE_SERVER = 50, 1_000, "127.0.5.1"
NEEDED = ["nsd", "unbound", "ldns-keygen", "ldns-signzone", "stunnel", "openssl"]


class RelayByMx(Relay):
    """Looks everything up."""

    anchor = None

    def destination(self, _sink_port):
        return ""

    def further(self, _options, _folder):
        # A resolver that is busy for once is asked again at once, and not minutes later.
        retry = '[retry]\nfirst = "1s"\nlongest = "1s"\n'
        return f'[dns]\nupstreams = ["udp://127.0.0.1:53"]\ntrust_anchors = "{self.anchor}"\n{retry}'


class RelayByMxAfresh(RelayByMx):
    """With a connection for each message."""

    def further(self, options, folder):
        return super().further(options, folder) + '[[host]]\nhosts = ["*"]\nmax_messages_per_connection = 1\n'


class PostfixByMx(Postfix):
    """The same."""

    next_hop = ""
    validated = (
        "smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n"
        "minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n"
    )
    settings = validated + "smtp_tls_connection_reuse = yes\n"


class PostfixByMxAfresh(PostfixByMx):
    """With a connection for each message."""

    settings = PostfixByMx.validated + "smtp_connection_cache_on_demand = no\n"


def dane(options):
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        yield Row("DANE", f"left out: {', '.join(missing)} missing", "")
        return
    with world(options) as folder:
        RelayByMx.anchor = folder / "anchor.key"
        count = max(1_000, options.messages // 3)
        (ours, cpu), (theirs, _) = (
            rates(options, system, [(count, HOSTS)])[0] for system in [RelayByMxAfresh, PostfixByMxAfresh]
        )
        COSTS["cpu_ms_message_and_handshake"] = cpu
        bare = bare_handshakes(options, count)
        yield Row(
            "DANE-EE, a handshake a message",
            f"{ours / theirs:.1f} × Postfix ({ours:.0f}/s), {ours / bare:.0%} of a bare rustls client",
            "≥ 5 × Postfix, ≥ 70 %",
        )
        parts = [(DOMAINS, DOMAINS), (count, DOMAINS)]
        ours, theirs = (rates(options, system, parts) for system in [RelayByMx, PostfixByMx])
        COSTS["cpu_ms_message_to_new_domain"] = ours[0][1]
        for name, (one, _), (other, _) in zip(["cold", "warm"], ours, theirs):
            work = f"DANE with reuse, {DOMAINS:,} domains at {HOSTS} hosts, {name}"
            yield Row(work, f"{one / other:.1f} × Postfix with the same Unbound ({one:.0f}/s)", "≥ 5 ×")


def rates(options, system, parts):
    """Messages a second from end to end and milliseconds of processor time a message, for each of these numbers of
    messages and domains."""
    found = []
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="dane-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        running = system(options, folder, 0)
        try:
            for count, domains in parts:
                with sink(count) as arrived:
                    begin, before = time.monotonic(), running.cpu_seconds()
                    fill(running.port, count, domains)
                    arrived.wait(600)
                    cpu = (running.cpu_seconds() - before) * 1000 / count
                    found.append((count / (time.monotonic() - begin), cpu))
        finally:
            running.stop()
    return found


def bare_handshakes(options, count):
    """Handshakes a second of a client that does nothing else, against the same servers."""
    hosts = [f"127.1.0.{host + 1}:25" for host in range(HOSTS)]
    with sink(count * 10):
        told = subprocess.check_output([options.handshakes, str(count), *hosts], text=True)
    return float(told.rpartition(": ")[2].partition("/")[0])


SINK_PORT = 2525


@contextlib.contextmanager
def sink(count):
    """Ends with the last message."""
    command = ["smtp-sink", "-4", "-u", "nobody", "-R", "/", "-M", count, f"{IP}:{SINK_PORT}", 256]
    process = start(command, pathlib.Path("/dev/null"))
    wait_until("smtp-sink listening", lambda: listens(SINK_PORT), process)
    try:
        yield process
    finally:
        stop(process)


@contextlib.contextmanager
def world(options):
    """Zone, resolver and TLS; the resolver of this network is ours."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="world-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        resolv = folder / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.1\noptions edns0 trust-ad\n")
        subprocess.run(["mount", "--bind", resolv, "/etc/resolv.conf"], check=True)
        running = [*zone(folder), tls(folder)]
        try:
            yield folder
        finally:
            for process in running:
                stop(process)


def zone(folder):
    """A signed root in which all names are, on NSD; Unbound before it."""
    digest = certificate(folder)
    lines = [
        ". 3600 IN SOA ns.test. x.test. 1 3600 600 86400 60",
        ". 3600 IN NS ns.test.",
        f"ns.test. 3600 IN A {ZONE_SERVER}",
        f"relay.test. 3600 IN A {IP}",
    ]
    for host in range(HOSTS):
        lines.append(f"mx{host}.test. 3600 IN A 127.1.0.{host + 1}")
        lines.append(f"_25._tcp.mx{host}.test. 3600 IN TLSA 3 1 1 {digest}")
    lines += [f"d{number}.many.test. 3600 IN MX 10 mx{number % HOSTS}.test." for number in range(DOMAINS)]
    (folder / "root.zone").write_text("\n".join(lines) + "\n")
    key = subprocess.check_output(["ldns-keygen", "-k", "-a", "ECDSAP256SHA256", "."], cwd=folder, text=True).strip()
    subprocess.run(["ldns-signzone", "-o", ".", "root.zone", key], cwd=folder, check=True)
    shutil.copy(folder / f"{key}.key", folder / "anchor.key")
    (folder / "nsd.conf").write_text(
        f'server:\n  ip-address: {ZONE_SERVER}\n  username: ""\n  chroot: ""\n  zonesdir: "{folder}"\n  pidfile: ""\n'
        f'  database: ""\n  xfrdfile: "{folder}/xfrd"\n  zonelistfile: "{folder}/zones"\n  cookie-secret-file: ""\n'
        'remote-control:\n  control-enable: no\nzone:\n  name: "."\n  zonefile: "root.zone.signed"\n'
    )
    (folder / "hints").write_text(f". 3600 NS ns.test.\nns.test. 3600 A {ZONE_SERVER}\n")
    (folder / "unbound.conf").write_text(
        f'server:\n  interface: 127.0.0.1\n  username: ""\n  chroot: ""\n  directory: "{folder}"\n  pidfile: ""\n'
        f'  root-hints: "{folder}/hints"\n  trust-anchor-file: "{folder}/anchor.key"\n  do-not-query-localhost: no\n'
        '  module-config: "validator iterator"\n  local-zone: "test." nodefault\n  use-syslog: no\n'
        "remote-control:\n  control-enable: no\n"
    )
    server = start(["nsd", "-d", "-c", folder / "nsd.conf"], folder / "nsd.log")
    resolver = start(["unbound", "-d", "-c", folder / "unbound.conf"], folder / "unbound.log")
    wait_until("the resolver", validates, resolver)
    return server, resolver


def validates():
    told = subprocess.run(["dig", "+dnssec", "+time=1", "+tries=1", "@127.0.0.1", "d0.many.test", "MX"], capture_output=True, text=True)
    return " ad" in told.stdout.partition("flags:")[2].partition(";")[0]


def certificate(folder):
    """A key and its certificate; gives what its TLSA record says."""
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    make += ["-subj", "/CN=mx.test", "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    subprocess.run(make, check=True, capture_output=True)
    public = subprocess.check_output(["openssl", "pkey", "-in", folder / "key.pem", "-pubout", "-outform", "DER"])
    return hashlib.sha256(public).hexdigest()


def tls(folder):
    """TLS in front of smtp-sink, at the address of each host."""
    services = "".join(
        f"[mx{host}]\naccept = 127.1.0.{host + 1}:25\nconnect = {IP}:{SINK_PORT}\nprotocol = smtp\n"
        for host in range(HOSTS)
    )
    (folder / "stunnel.conf").write_text(
        f"foreground = yes\npid =\ncert = {folder}/certificate.pem\nkey = {folder}/key.pem\ndebug = err\n"
        f"socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n{services}"
    )
    process = start(["stunnel", folder / "stunnel.conf"], folder / "stunnel.log")
    wait_until("TLS", lambda: reaches("127.1.0.1", 25), process)
    return process


def reaches(address, port):
    done = subprocess.run(["bash", "-c", f"echo > /dev/tcp/{address}/{port}"], capture_output=True, check=False)
    return done.returncode == 0
