"""What the benchmarks measure: the relay and others, each started on a folder of its own, all mail to one sink."""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
IP = "127.0.2.1"
START_LIMIT_S = 60
ROUND_LIMIT_S = 1200

POSTFIX_SERVICES = """
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsproxy unix - - n - 0 tlsproxy
showq unix n - n - - showq
pickup unix n - n 60 1 pickup
postlog unix-dgram n - n - 1 postlogd
"""


def free_port():
    with socket.socket() as probe:
        probe.bind((IP, 0))
        return probe.getsockname()[1]


def wait_until(what, condition, process):
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{what}: the process ended with {process.returncode}")
        if condition():
            return
        time.sleep(0.05)
    raise SystemExit(f"{what}: not after {START_LIMIT_S} s")


def listens(port):
    try:
        socket.create_connection((IP, port), 1).close()
        return True
    except OSError:
        return False


def start(command, log):
    """A daemon in a session of its own that gets SIGTERM when this script dies."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", "setsid", *map(str, command)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log.open("wb"), stderr=subprocess.STDOUT)


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def cpu_seconds(process):
    """The processor time that a daemon and its children have taken, ended ones too, in seconds."""
    taken = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # Fields 6 and 14 to 17 of proc(5): the session, own time, and that of children waited for.
        if int(fields[3]) == process.pid:
            taken += sum(map(int, fields[11:15]))
    return taken / os.sysconf("SC_CLK_TCK")


def memory_peak(process):
    """The most memory that a daemon had, in megabytes."""
    return memory(process, "VmHWM")


def memory(process, kind="VmRSS"):
    """Memory of a daemon without its children, in megabytes, by a line of proc(5)'s `status`."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{kind}:")) / 1024


class Nothing:
    """smtp-source straight into smtp-sink: what the test programs themselves can do."""

    name = "nothing between"

    def __init__(self, _options, _folder, sink_port):
        self.port = sink_port

    def cpu_seconds(self):
        return 0.0

    def stop(self):
        pass


class Relay:
    """The relay, all mail to the sink, everything else as by default."""

    name = "relay"

    def __init__(self, options, folder, sink_port):
        self.port, admin = free_port(), free_port()
        config = folder / "relay.toml"
        config.write_text(
            f'hostname = "relay.test"\n[listen]\nsmtp = ["{IP}:{self.port}"]\n[admin]\nlisten = "{IP}:{admin}"\n'
            f'[spool]\npath = "{folder}/spool"\n{self.spool(options, folder)}[delivery]\nallow_loopback = true\n'
            f"{self.destination(sink_port)}{self.further(options, folder)}"
        )
        self.prepare(options, config)
        self.program, self.config, self.log, self.admin = options.relay, config, folder / "relay.log", admin
        self.launch()

    def launch(self):
        """Starts it, also once more on what it left."""
        self.process = start([self.program, "serve", "--config", self.config], self.log)
        wait_until("relay ready", self.is_ready, self.process)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://{IP}:{self.admin}/readyz", timeout=1).status == 200
        except OSError:
            return False

    def command(self, *words):
        """What one of its commands prints."""
        done = subprocess.run([self.program, *words, "--config", self.config], capture_output=True, text=True, check=True)
        return done.stdout

    def spool(self, _options, _folder):
        return ""

    def destination(self, sink_port):
        """Where all mail goes."""
        return f'[[destination]]\ndomains = ["*"]\nnext_hop = "{IP}:{sink_port}"\n'

    def further(self, _options, _folder):
        return ""

    def prepare(self, _options, _config):
        pass

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def stop(self):
        stop(self.process)


class DatabaseServer:
    """A PostgreSQL of its own, in a folder."""

    # More than what every measurement sets.
    settings = ()

    def start_database(self, folder):
        """Gives the URL of an empty database."""
        self.data, self.database_port = folder / "database", free_port()
        self.data.mkdir()
        shutil.chown(self.data, "postgres", "postgres")
        self.somebody = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        self.programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        make = [self.programs / "initdb", "--auth=trust", "--username=relay", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [*self.somebody, *make, "--pgdata", self.data / "data"], check=True, cwd="/", stdout=subprocess.DEVNULL
        )
        settings = ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=256MB", "max_wal_size=4GB"]
        settings = [word for setting in [*settings, *self.settings] for word in ("-c", setting)]
        server = [self.programs / "postgres", "-D", self.data / "data", "-k", self.data, "-p", self.database_port]
        self.server = start([*self.somebody, *server, *settings], folder / "database.log")
        wait_until("the database", lambda: self.sql("SELECT 1") is not None, self.server)
        return f"postgresql://relay@127.0.0.1:{self.database_port}/postgres"

    def sql(self, text):
        ask = [self.programs / "psql", "-h", "127.0.0.1", "-p", str(self.database_port), "-U", "relay", "-d", "postgres"]
        said = subprocess.run([*ask, "-Atc", text], capture_output=True, text=True, check=False)
        return said.stdout.strip() if said.returncode == 0 else None

    def wal(self):
        return int(self.sql("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))

    def stop_database(self):
        """At once: what it holds is thrown away."""
        os.killpg(self.server.pid, signal.SIGQUIT)
        self.server.wait(60)


class InDatabase(DatabaseServer, Relay):
    """The same with its spool in PostgreSQL."""

    name = "relay, database"

    def spool(self, options, folder):
        self.messages = options.messages
        return f'engine = "postgresql"\nurl = "{self.start_database(folder)}"\nnode = "one"\n'

    def prepare(self, options, config):
        subprocess.run([options.relay, "spool", "init", "--config", config], check=True, stdout=subprocess.DEVNULL)
        self.begin = self.wal()

    def stop(self):
        super().stop()
        print(f"{self.name:16} {(self.wal() - self.begin) // self.messages} octets of WAL a message", flush=True)
        self.stop_database()


class Signing(Relay):
    """The same with a key for the domain of the author."""

    name = "relay, signing"

    def further(self, options, folder):
        rules = ""
        for key_type in ["rsa", "ed25519"] if options.sign == "both" else [options.sign]:
            key = folder / f"{key_type}.pem"
            make = [options.relay, "dkim", "new", "client.test", "--selector", key_type, "--type", key_type, "--file", key]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
            rules += f'[[dkim.key]]\ndomain = "client.test"\nselector = "{key_type}"\nkey_file = "{key}"\n'
        return rules


class Postfix:
    """Debian's Postfix, with the limits raised that would hold it back here."""

    name = "postfix"
    next_hop = f"relayhost = [{IP}]:{{sink_port}}\ndisable_dns_lookups = yes\n"
    settings = ""

    def __init__(self, options, folder, sink_port):
        self.port = free_port()
        for name in ["conf", "queue", "data"]:
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        (folder / "conf/master.cf").write_text(f"{IP}:{self.port} inet n - n - - smtpd\n{POSTFIX_SERVICES}")
        (folder / "conf/main.cf").write_text(
            f"""compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = postfix.test
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
{self.next_hop.format(sink_port=sink_port)}smtpd_peername_lookup = no
default_process_limit = 200
default_destination_concurrency_limit = 200
initial_destination_concurrency = 40
smtpd_client_connection_count_limit = 0
qmgr_message_active_limit = 100000
qmgr_message_recipient_limit = 100000
in_flow_delay = {options.in_flow_delay}
{self.settings}"""
        )
        subprocess.run(["postfix", "-c", folder / "conf", "check"], check=True)
        programs = subprocess.check_output(["postconf", "-c", folder / "conf", "-h", "daemon_directory"], text=True)
        self.command = [f"{programs.strip()}/master", "-s", "-c", folder / "conf"]
        self.process = start(self.command, folder / "postfix.out")
        wait_until("postfix listening", lambda: listens(self.port), self.process)

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def stop(self):
        stop(self.process)


UNPACKED = REPOSITORY / "target/interop/usr/sbin"


class Exim:
    """Debian's Exim, as `tests/run` unpacks it below target/. It forks for every delivery."""

    name = "exim"
    program = UNPACKED / "exim4"

    def __init__(self, options, folder, sink_port):
        self.port = free_port()
        for name in ["spool", "log"]:
            (folder / name).mkdir()
            shutil.chown(folder / name, "Debian-exim")
        config = folder / "exim.conf"
        config.write_text(
            f"""primary_hostname = exim.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/spool/exim.pid
local_interfaces = <; [{IP}]:{self.port}
acl_smtp_rcpt = accept
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
remote_max_parallel = 40
keep_environment =
deliver_drop_privilege
begin routers
all:
  driver = manualroute
  route_list = * {IP}
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {sink_port}
  allow_localhost
  hosts_try_fastopen =
"""
        )
        self.process = start([self.program, "-C", config, "-bdf"], folder / "exim.out")
        wait_until("exim listening", lambda: listens(self.port), self.process)

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def stop(self):
        stop(self.process)


class OpenSmtpd:
    """Debian's OpenSMTPD, as `tests/run` unpacks it below target/. Its folders are compiled in, so it has mounts of its own."""

    name = "opensmtpd"
    program = UNPACKED / "smtpd"
    mounts = """set -e
mkdir -m 711 "$3/smtpd"
mount --bind "$3" /var/spool
for folder in /run /var/lib; do mount -t tmpfs -o mode=755 none $folder; done
mkdir -p /var/lib/opensmtpd/empty
mount --bind "$1/libexec" /usr/libexec
exec "$1/sbin/smtpd" -d -f "$2"
"""

    def __init__(self, options, folder, sink_port):
        self.port = free_port()
        (folder / "spool").mkdir()
        config = folder / "smtpd.conf"
        config.write_text(
            f"smtp limit max-mails {options.messages}\nlisten on {IP} port {self.port}\n"
            f"action out relay host smtp://{IP}:{sink_port}\nmatch from any for any action out\n"
        )
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", self.mounts, "sh"]
        self.process = start([*command, UNPACKED.parent, config, folder / "spool"], folder / "smtpd.out")
        wait_until("opensmtpd listening", lambda: listens(self.port), self.process)

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def stop(self):
        stop(self.process)


def others():
    """The servers besides Postfix that are here."""
    return [system for system in [Exim, OpenSmtpd] if system.program.exists()]


class Round(typing.NamedTuple):
    """What one round gave: messages a second taken in, and from end to end; milliseconds of processor time a message."""

    taken: float
    whole: float
    cpu: float


def measure(options, system, look=lambda between: None):
    """One round: so many messages through that system, by as many sessions, into one sink; then a look at it."""
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="end-to-end-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        sink_port = free_port()
        sink_command = ["smtp-sink", "-4", "-u", "nobody", "-R", "/", "-M", options.messages, f"{IP}:{sink_port}", 256]
        sink = start(sink_command, folder / "sink.log")
        wait_until("smtp-sink listening", lambda: listens(sink_port), sink)
        between = None
        try:
            between = system(options, folder, sink_port)
            source = ["smtp-source", "-4", "-M", "client.test", "-f", "load@client.test", "-t", "b@many.test"]
            source += ["-s", options.sessions, "-m", options.messages, "-l", options.octets]
            source += [] if options.reconnect else ["-d"]
            os.sync()
            before = between.cpu_seconds()
            begin = time.monotonic()
            source = [*map(str, source), f"{IP}:{between.port}"]
            client = subprocess.Popen(source, stderr=subprocess.PIPE, text=True)
            if system is Nothing:
                # The sink ends with the last message, before the source has read the reply: that is the end. The
                # source then sleeps for a second before it gives up, which belongs to no message.
                sink.wait(ROUND_LIMIT_S)
                taken = end = time.monotonic()
                client.communicate(timeout=ROUND_LIMIT_S)
            else:
                _, complaint = client.communicate(timeout=ROUND_LIMIT_S)
                taken = time.monotonic()
                if client.returncode != 0:
                    raise SystemExit(f"not every message was taken: {complaint.strip()}")
                sink.wait(ROUND_LIMIT_S)
                end = time.monotonic()
            cpu = (between.cpu_seconds() - before) * 1000 / options.messages
            look(between)
            return Round(options.messages / (taken - begin), options.messages / (end - begin), cpu)
        finally:
            if between is not None:
                between.stop()
            stop(sink)


def hand_in(port, count, octets, waits, pause=0.0, first=0.0):
    """Hands messages in on one connection, and notes how long each 250 came after the dot (RFC 5321 4.5.3.2.6). The first
    after `first` seconds, and another every `pause` seconds; without a pause as fast as it goes."""
    body = b"Subject: wait\r\n\r\n" + b"x" * 70 + b"\r\n"
    body = (body + (b"y" * 70 + b"\r\n") * (octets // 72))[:octets].rstrip(b"\r\n")
    with socket.create_connection((IP, port), START_LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = connection.makefile("rb")

        def expect(code):
            while True:
                line = replies.readline()
                if line[3:4] != b"-":
                    break
            if not line.startswith(code):
                raise SystemExit(f"the server said {line!r} and not {code!r}")

        def say(command, code):
            connection.sendall(command)
            expect(code)

        expect(b"220")
        say(b"EHLO client.test\r\n", b"250")
        begun = time.monotonic() + first
        for number in range(count):
            time.sleep(max(0.0, begun + number * pause - time.monotonic()))
            say(b"MAIL FROM:<load@client.test>\r\n", b"250")
            say(b"RCPT TO:<b@many.test>\r\n", b"250")
            say(b"DATA\r\n", b"354")
            connection.sendall(body)
            begin = time.monotonic()
            say(b"\r\n.\r\n", b"250")
            waits.append(time.monotonic() - begin)
        say(b"QUIT\r\n", b"221")


def waits_after_the_dot(options, system, sessions, each, pause=0.0):
    """How long clients wait between the dot and the 250: all waits, in milliseconds, sorted. With a pause the messages of
    all sessions come evenly."""
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="end-to-end-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        sink_port = free_port()
        sink = start(["smtp-sink", "-4", "-u", "nobody", "-R", "/", f"{IP}:{sink_port}", 256], folder / "sink.log")
        wait_until("smtp-sink listening", lambda: listens(sink_port), sink)
        between = None
        try:
            between = system(options, folder, sink_port)
            waits = []
            with concurrent.futures.ThreadPoolExecutor(sessions) as clients:
                arguments = (between.port, each, options.octets, waits)
                starts = [pause * number / sessions for number in range(sessions)]
                for ended in [clients.submit(hand_in, *arguments, pause, first) for first in starts]:
                    ended.result()
            return sorted(wait * 1000 for wait in waits)
        finally:
            if between is not None:
                between.stop()
            stop(sink)
