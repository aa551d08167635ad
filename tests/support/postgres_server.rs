//! A PostgreSQL server of our own: started in a folder that goes with it, on loopback and a socket, with nothing in it.
//!
//! The server refuses to run as root, so root runs it as `nobody`. A shell stands between: it ends the server when
//! its input ends, which is when the test program does, however that comes.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Programs of the server that Debian installs outside of the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What the shell is told by whoever looks after the folder. It removes it where the program ended without a word.
const STAY: &str = "stay";

/// A server that runs until it is dropped.
pub(crate) struct PostgresServer {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl PostgresServer {
    /// A new server.
    pub(crate) fn start() -> Self {
        Self::start_in(Path::new("/tmp"))
    }

    /// A new server whose data is in that folder.
    pub(crate) fn start_in(parent: &Path) -> Self {
        let options = ["--auth=trust", "--username=relay", "--encoding=UTF8", "--locale=C", "--pgdata"];
        Self::made(parent, "initdb", &options.map(str::to_owned))
    }

    /// A standby of this one, which follows it and may take its place.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let primary = format!("host=127.0.0.1 port={} user=relay application_name={name}", self.port);
        let options = ["--dbname", &primary, "--write-recovery-conf", "--checkpoint=fast", "--pgdata"];
        Self::made(Path::new("/tmp"), "pg_basebackup", &options.map(str::to_owned))
    }

    /// Takes writes from now on.
    pub(crate) fn promote(&self) {
        self.answer("postgres", "SELECT pg_promote()");
    }

    fn made(parent: &Path, by: &str, options: &[String]) -> Self {
        let folder = tempfile::Builder::new().prefix("relay-pg").tempdir_in(parent).unwrap();
        // The server runs as somebody else.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(folder.path().join("socket")).unwrap();
        std::fs::set_permissions(folder.path().join("socket"), Permissions::from_mode(0o777)).unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        std::fs::set_permissions(folder.path().join("home"), Permissions::from_mode(0o777)).unwrap();
        let data = folder.path().join("home/data");
        let maker = [as_somebody(), vec![program(by).display().to_string()], options.to_vec()].concat();
        let made = Command::new(&maker[0])
            .args(&maker[1..])
            .current_dir("/")
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{by}: {}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { folder, port, running: None };
        server.run();
        server
    }

    /// Starts it, also again.
    pub(crate) fn run(&mut self) {
        let log = self.folder.path().join("home/log");
        let script = format!(
            "{as_somebody} {postgres} -D {data} -k {socket} -p {port} -c listen_addresses=127.0.0.1 -c max_connections=400 \
             -c shared_buffers=64MB -c max_wal_size=256MB -c fsync=on </dev/null >>{log} 2>&1 & p=$!; read word; kill -QUIT $p; wait $p; \
             [ \"$word\" = {STAY} ] || rm -rf {folder}",
            as_somebody = as_somebody().join(" "),
            folder = self.folder.path().display(),
            postgres = program("postgres").display(),
            data = self.data().display(),
            socket = self.socket().display(),
            port = self.port,
            log = log.display(),
        );
        let running = Command::new("/bin/sh").args(["-c", &script]).current_dir("/").stdin(Stdio::piped()).spawn();
        let running = running.unwrap();
        self.running = Some(running);
        let until = Instant::now() + Duration::from_secs(60);
        while !self.sql("postgres", "SELECT 1") {
            assert!(Instant::now() < until, "{}", std::fs::read_to_string(&log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `kill -9` of all of it, as the power would.
    pub(crate) fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        for victim in std::iter::once(pid.as_str()).chain(children.lines()) {
            // A child may have gone with its parent already.
            let _gone = Command::new("kill").args(["-9", victim]).stderr(Stdio::null()).status();
        }
        self.stop();
        std::fs::remove_file(self.data().join("postmaster.pid")).unwrap();
    }

    fn stop(&mut self) {
        if let Some(mut shell) = self.running.take() {
            // Whoever is gone needs no word.
            let _gone = shell.stdin.take().map(|mut input| writeln!(input, "{STAY}"));
            let _ended = shell.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("home/data")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Speaks TLS from now on, with this certificate and key in PEM.
    pub(crate) fn speak_tls(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.folder.path().join("home").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            if rustix::process::geteuid().is_root() {
                assert!(Command::new("chown").arg("nobody").arg(&path).status().unwrap().success());
            }
            let setting = if name == "server.crt" { "ssl_cert_file" } else { "ssl_key_file" };
            self.answer("postgres", &format!("ALTER SYSTEM SET {setting} = '{}'", path.display()));
        }
        self.answer("postgres", "ALTER SYSTEM SET ssl = on");
        self.answer("postgres", "SELECT pg_reload_conf()");
    }

    /// The port on loopback.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        url(&[self.port], database)
    }

    /// Whether it did what it was told.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> bool {
        self.psql(database, sql).status.success()
    }

    /// What it answers, without decoration.
    pub(crate) fn answer(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        let mut psql = Command::new(program("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "relay", "-p"])
            .args([&self.port.to_string(), database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that finds no server has ended already.
        let _gone = psql.stdin.take().unwrap().write_all(sql.as_bytes());
        psql.wait_with_output().unwrap()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The URL of a database on one of these ports.
pub(crate) fn url(ports: &[u16], database: &str) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("postgresql://relay@{}/{database}", hosts.join(","))
}

/// What stands before a program that root may not run.
fn as_somebody() -> Vec<String> {
    let words: &[&str] = if rustix::process::geteuid().is_root() {
        &["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
    } else {
        &[]
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A program of the newest version that Debian has installed, or of the path.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(DEBIAN).map(|all| all.map(|one| one.unwrap().path()).collect());
    let mut versions: Vec<PathBuf> = versions.unwrap_or_default();
    versions.sort();
    let installed = versions.into_iter().rev().map(|version| version.join("bin").join(name)).find(|path| path.exists());
    installed.unwrap_or_else(|| PathBuf::from(name))
}
