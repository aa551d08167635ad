//! Foreign programs as children of a test: run to the end, or kept running and stopped again.
//!
//! Guarantee: a [`Daemon`] ends when it is dropped, also when the test panics, and when the test
//! process itself is killed (the kernel then signals it). After a panic its output is shown.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

/// How long a daemon may take to start. Generous: CI machines are slow and full.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a daemon may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);
/// How much of a daemon's output a failed test shows, in octets.
const SHOWN_OUTPUT: usize = 6_000;

/// Where our daemons listen. Clients connect from 127.0.0.1, so that their ports never collide
/// with the ones chosen here.
pub(crate) const DAEMON_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);

/// Ports handed out by this process; two tests that start at once never get the same one.
static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// A port that is free for TCP and UDP on every one of these addresses.
pub(crate) fn free_port(addresses: &[Ipv4Addr]) -> u16 {
    let mut taken = TAKEN.lock().unwrap();
    loop {
        let port = bound(addresses[0], 0).unwrap().local_addr().unwrap().port();
        let is_free = |ip: &Ipv4Addr| bound(*ip, port).is_ok() && UdpSocket::bind((*ip, port)).is_ok();
        if !taken.contains(&port) && addresses.iter().all(is_free) {
            taken.push(port);
            return port;
        }
    }
}

/// A socket that has the port and does not listen: whoever waits for a daemon on a port that is
/// looked at here must not meet us instead.
fn bound(ip: Ipv4Addr, port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ip, port).into())?;
    Ok(socket)
}

/// An address on [`DAEMON_IP`] with a free port.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from((DAEMON_IP, free_port(&[DAEMON_IP])))
}

/// Waits until `condition` gives a value; panics with `what` after `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs());
        std::thread::sleep(POLL);
    }
}

/// Runs a program to its end and gives what it said, whatever its exit code.
pub(crate) fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_owned();
    // A configuration of the machine is no part of a test.
    let output = command.env("PATH", path()).env("RELAY_CONFIG", "/dev/null").stdin(Stdio::null()).output();
    output.unwrap_or_else(|e| panic!("{}: {e} (tests/run installs what is needed)", name.display()))
}

/// Runs a program that must succeed and gives its standard output.
pub(crate) fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard output and standard error together.
pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Where `tests/run` unpacks what Debian does not let stand beside Postfix.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/interop/usr/sbin");

/// The search path with the folders that an ordinary user's path lacks.
fn path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin:{UNPACKED}", std::env::var("PATH").unwrap_or_default())
}

/// The path of a program.
pub(crate) fn which(program: &str) -> PathBuf {
    let found = path().split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{program} is not there (tests/run installs what is needed)"))
}

/// A program that runs until it is dropped.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in a session of its own, with standard output and error appended to `log`.
    pub(crate) fn start(name: &str, command: &Command, log: &Path) -> Self {
        // The daemon gets SIGTERM when the thread that started it is gone.
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "TERM", "--", "setsid"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            wrapped.env(key, value.unwrap_or_default());
        }
        let output = File::options().create(true).append(true).open(log).unwrap();
        wrapped.env("PATH", path()).stdin(Stdio::null());
        wrapped.stdout(output.try_clone().unwrap()).stderr(output);
        let child = wrapped.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something answers on a TCP port.
    pub(crate) fn wait_until_it_listens(&mut self, address: SocketAddr) {
        self.wait_until(&format!("listening on {address}"), || TcpStream::connect(address).ok());
    }

    /// Waits until `condition` gives a value; a daemon that ends before is a failure.
    pub(crate) fn wait_until<T>(&mut self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let what = format!("{} {what}", self.name);
        wait_for(&what, START_LIMIT, || {
            let value = condition();
            if value.is_none()
                && let Some(status) = self.child.try_wait().unwrap()
            {
                panic!("{} ended at once ({status}):\n{}", self.name, self.output());
            }
            value
        })
    }

    /// Everything it has printed so far.
    pub(crate) fn output(&self) -> String {
        read_lossy(&self.log)
    }

    /// Asks it to stop (SIGTERM), waits, and says how it ended; `None` when it had to be killed.
    pub(crate) fn stop(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(status);
        }
        self.signal("TERM");
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(POLL);
        }
        self.kill();
        None
    }

    /// Kills it without a warning (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.child.wait().unwrap();
    }

    /// Sends a signal to its whole process group.
    fn signal(&self, signal: &str) {
        let kill = format!("kill -s {signal} -- -{}", self.child.id());
        let _gone_already = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let in_time = self.stop().is_some();
        if std::thread::panicking() {
            let how = if in_time { "" } else { " (had to be killed)" };
            eprintln!("--- {}{how}, {}:\n{}", self.name, self.log.display(), tail(&self.output()));
        }
    }
}

/// The end of a text, for failure messages.
pub(crate) fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(SHOWN_OUTPUT);
    let start = (start..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(start);
    &text[start..]
}

/// A file as text; empty when it does not exist.
pub(crate) fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// `GET path`: status code and body. HTTP/1.0, so that the end of the connection ends the body.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
