//! `openssl s_server` behind a front that speaks SMTP: it has no STARTTLS of its own.
//!
//! The front holds the dialogue up to STARTTLS and then carries octets, without looking at them,
//! between the client and an `s_server` of its own for each connection. What that decrypts comes
//! back on its standard output, and the dialogue goes on there.

use crate::daemon::{run_ok, wait_for};
use crate::delivery::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What one client did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// Its commands in clear.
    pub(crate) in_clear: Vec<String>,
    /// What `s_server -brief` said of the handshake, where the client began one.
    pub(crate) handshake: Option<String>,
    /// Its commands inside TLS.
    pub(crate) in_tls: Vec<String>,
}

impl Session {
    /// The version that was spoken.
    pub(crate) fn version(&self) -> Option<&str> {
        self.handshake.as_deref()?.lines().find_map(|line| line.strip_prefix("Protocol version: "))
    }
}

/// How an `s_server` is called.
#[derive(Clone)]
struct Call {
    dir: PathBuf,
    arguments: Vec<String>,
    /// How many there were.
    count: Arc<AtomicUsize>,
}

/// What the clients of a server did.
#[derive(Default)]
struct Sessions {
    open: AtomicUsize,
    ended: Mutex<Vec<Session>>,
}

/// An MX host that is one `s_server` for each connection. It ends when it is dropped.
pub(crate) struct SServer {
    address: SocketAddr,
    sessions: Arc<Sessions>,
    ending: Arc<AtomicBool>,
    front: Option<JoinHandle<()>>,
}

impl SServer {
    /// Starts the front. `leaf.pem` and `leaf.key` are in `dir`.
    pub(crate) fn start(dir: &Path, address: SocketAddr, arguments: &[&str]) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (sessions, ending) = (Arc::<Sessions>::default(), Arc::new(AtomicBool::new(false)));
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        let call = Call { dir: dir.to_owned(), arguments, count: Arc::default() };
        let (kept, stop) = (Arc::clone(&sessions), Arc::clone(&ending));
        let front = std::thread::spawn(move || accept(&listener, &call, &kept, &stop));
        Self { address, sessions, ending, front: Some(front) }
    }

    /// All sessions, as soon as they have ended. A client may keep one open for a while.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        let none_is_open = || (self.sessions.open.load(Ordering::Acquire) == 0).then_some(());
        wait_for("the end of all sessions", PATIENCE, none_is_open);
        self.sessions.ended.lock().unwrap().clone()
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // A last connection, so that the front looks.
        let _last = TcpStream::connect(self.address);
        let ended = self.front.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn accept(listener: &TcpListener, call: &Call, sessions: &Sessions, ending: &AtomicBool) {
    std::thread::scope(|scope| {
        for client in listener.incoming() {
            if ending.load(Ordering::Relaxed) {
                return;
            }
            let client = client.unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            sessions.open.fetch_add(1, Ordering::AcqRel);
            scope.spawn(move || {
                let session = serve(&client, call);
                sessions.ended.lock().unwrap().push(session);
                sessions.open.fetch_sub(1, Ordering::AcqRel);
            });
        }
    });
}

/// Serves one client to its end.
fn serve(client: &TcpStream, call: &Call) -> Session {
    let mut session = Session::default();
    let mut writer = client;
    // A client may be gone at any time; what it did before counts.
    let _gone = writer.write_all(b"220 mx.test ESMTP\r\n");
    let next = converse(&mut BufReader::new(client), &mut writer, &mut session.in_clear);
    if matches!(next, Ok(Next::StartTls)) {
        let (handshake, in_tls) = encrypted(client, call);
        session.handshake = Some(handshake);
        session.in_tls = in_tls;
    }
    session
}

/// The session from the handshake on: what is said of it, and the commands in it.
fn encrypted(client: &TcpStream, call: &Call) -> (String, Vec<String>) {
    // A name of its own: on a port, somebody else may listen before it does.
    let name = format!("{}.socket", call.count.fetch_add(1, Ordering::Relaxed));
    let mut child = s_server(call, &name);
    let socket = call.dir.join(name);
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut stderr, mut said) = (child.stderr.take().unwrap(), String::new());
    let server = wait_for("s_server to listen", PATIENCE, || {
        let server = UnixStream::connect(&socket).ok();
        if server.is_none()
            && let Some(status) = child.try_wait().unwrap()
        {
            stderr.read_to_string(&mut said).unwrap();
            panic!("s_server ended at once ({status}): {said}");
        }
        server
    });
    let mut commands = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            carry(client, &server);
            let _closed = server.shutdown(Shutdown::Write);
        });
        scope.spawn(|| {
            carry(&server, client);
            let _closed = client.shutdown(Shutdown::Write);
        });
        let mut stdin = stdin;
        let _gone = converse(&mut BufReader::new(stdout), &mut stdin, &mut commands);
    });
    stderr.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    (said, commands)
}

/// OpenSSL wants the name of its socket short: it stays without the folder.
fn s_server(call: &Call, socket: &str) -> Child {
    let mut command = Command::new("openssl");
    command.current_dir(&call.dir).args(["s_server", "-naccept", "1", "-brief", "-unix", socket]);
    command.args(["-cert", "leaf.pem", "-key", "leaf.key"]).args(&call.arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Octets from one to the other, to the end.
fn carry(mut from: impl Read, mut to: impl Write) {
    let _gone = std::io::copy(&mut from, &mut to);
}

/// How a dialogue goes on.
enum Next {
    End,
    StartTls,
}

/// SMTP at its simplest: everything is welcome.
fn converse(client: &mut impl BufRead, answers: &mut impl Write, commands: &mut Vec<String>) -> std::io::Result<Next> {
    loop {
        let Some(command) = line(client)? else { return Ok(Next::End) };
        commands.push(command.clone());
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-mx.test\r\n250-8BITMIME\r\n250 STARTTLS\r\n",
            "STARTTLS" => "220 go ahead\r\n",
            "DATA" => {
                answers.write_all(b"354 go ahead\r\n")?;
                answers.flush()?;
                while line(client)?.is_some_and(|line| line != ".") {}
                "250 kept\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        answers.write_all(answer.as_bytes())?;
        answers.flush()?;
        match verb.as_str() {
            "STARTTLS" => return Ok(Next::StartTls),
            "QUIT" => return Ok(Next::End),
            _ => {}
        }
    }
}

/// A line without its end; `None` where there is none any more.
fn line(client: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    client.read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// Makes `leaf.pem` and `leaf.key` in a folder by a script; gives the SHA-256 of the public key
/// and of the certificate.
pub(crate) fn leaf(dir: &Path, script: &str) -> [String; 2] {
    run_ok(Command::new("sh").current_dir(dir).args(["-e", "-c", script]));
    let key = "openssl x509 -in leaf.pem -noout -pubkey | openssl pkey -pubin -outform DER";
    let certificate = "openssl x509 -in leaf.pem -outform DER";
    [key, certificate].map(|der| {
        let script = format!("{der} | openssl dgst -sha256 -r");
        let digest = run_ok(Command::new("sh").current_dir(dir).args(["-c", &script]));
        digest.split_whitespace().next().unwrap().to_owned()
    })
}
