"""What the benchmarks measure: the relay and others, each started on a folder of its own, all mail to one sink."""

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
            f'[[destination]]\ndomains = ["*"]\nnext_hop = "{IP}:{sink_port}"\n{self.further(options, folder)}'
        )
        self.prepare(options, config)
        self.process = start([options.relay, "serve", "--config", config], folder / "relay.log")

        def is_ready():
            try:
                return urllib.request.urlopen(f"http://{IP}:{admin}/readyz", timeout=1).status == 200
            except OSError:
                return False

        wait_until("relay ready", is_ready, self.process)

    def spool(self, _options, _folder):
        return ""

    def further(self, _options, _folder):
        return ""

    def prepare(self, _options, _config):
        pass

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def stop(self):
        stop(self.process)


class InDatabase(Relay):
    """The same with its spool in PostgreSQL."""

    name = "relay, database"
    # More than what every measurement sets.
    settings = ()

    def spool(self, options, folder):
        self.messages, self.data, self.database_port = options.messages, folder / "database", free_port()
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
        return f'engine = "postgresql"\nurl = "postgresql://relay@127.0.0.1:{self.database_port}/postgres"\nnode = "one"\n'

    def prepare(self, options, config):
        subprocess.run([options.relay, "spool", "init", "--config", config], check=True, stdout=subprocess.DEVNULL)
        self.begin = self.wal()

    def sql(self, text):
        ask = [self.programs / "psql", "-h", "127.0.0.1", "-p", str(self.database_port), "-U", "relay", "-d", "postgres"]
        said = subprocess.run([*ask, "-Atc", text], capture_output=True, text=True, check=False)
        return said.stdout.strip() if said.returncode == 0 else None

    def wal(self):
        return int(self.sql("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))

    def stop(self):
        super().stop()
        print(f"{self.name:16} {(self.wal() - self.begin) // self.messages} octets of WAL a message", flush=True)
        # At once: what it holds is thrown away.
        os.killpg(self.server.pid, signal.SIGQUIT)
        self.server.wait(60)


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
relayhost = [{IP}]:{sink_port}
disable_dns_lookups = yes
smtpd_peername_lookup = no
default_process_limit = 200
default_destination_concurrency_limit = 200
initial_destination_concurrency = 40
smtpd_client_connection_count_limit = 0
qmgr_message_active_limit = 100000
qmgr_message_recipient_limit = 100000
in_flow_delay = {options.in_flow_delay}
"""
        )
        subprocess.run(["postfix", "-c", folder / "conf", "check"], check=True)
        programs = subprocess.check_output(["postconf", "-c", folder / "conf", "-h", "daemon_directory"], text=True)
        self.process = start([f"{programs.strip()}/master", "-s", "-c", folder / "conf"], folder / "postfix.out")
        wait_until("postfix listening", lambda: listens(self.port), self.process)

    def cpu_seconds(self):
        return cpu_seconds(self.process)

    def stop(self):
        stop(self.process)


class Round(typing.NamedTuple):
    """What one round gave: messages a second taken in, and from end to end; milliseconds of processor time a message."""

    taken: float
    whole: float
    cpu: float


def measure(options, system):
    """One round: so many messages through that system, by as many sessions, into one sink."""
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
            return Round(options.messages / (taken - begin), options.messages / (end - begin), cpu)
        finally:
            if between is not None:
                between.stop()
            stop(sink)
