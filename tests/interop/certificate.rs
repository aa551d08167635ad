//! Certificates and TLSA records by the openssl command, so that nothing of ours computes what
//! ours is tested against (RFC 6698 §2.1, RFC 7671 §5.1).

use crate::daemon::run_ok;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate on disk with its key.
pub(crate) struct Certificate {
    /// Certificate chain, PEM.
    pub(crate) chain: PathBuf,
    /// Private key, PEM.
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// A self-signed certificate for a host.
    pub(crate) fn self_signed(dir: &Path, host: &str) -> Self {
        let made = Self { chain: dir.join(format!("{host}.pem")), key: dir.join(format!("{host}.key")) };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7"]);
        openssl.args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")]);
        openssl.arg("-keyout").arg(&made.key).arg("-out").arg(&made.chain);
        run_ok(&mut openssl);
        made
    }

    /// A certificate for a host below a CA of its own; the file holds leaf and CA.
    pub(crate) fn below_a_ca(dir: &Path, host: &str) -> Self {
        let made = Self { chain: dir.join(format!("{host}.pem")), key: dir.join(format!("{host}.key")) };
        let script = "set -e
            new_key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
            openssl req -x509 $new_key -days 7 -subj '/CN=A CA' -addext keyUsage=keyCertSign -keyout ca.key -out ca.pem
            openssl req $new_key -subj /CN=leaf -keyout \"$2\" -out leaf.csr
            printf 'subjectAltName=DNS:%s\n' \"$3\" > leaf.ext
            openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 7 -extfile leaf.ext -out leaf.pem
            cat leaf.pem ca.pem > \"$1\"";
        let mut openssl = Command::new("sh");
        openssl.current_dir(dir).args(["-c", script, "sh"]).arg(&made.chain).arg(&made.key).arg(host);
        run_ok(&mut openssl);
        made
    }

    /// `2 0 1` and the SHA-256 of the last certificate of the chain.
    pub(crate) fn tlsa_2_0_1(&self) -> String {
        let script = "tac \"$1\" | sed '/BEGIN CERT/q' | tac | openssl x509 -outform DER | openssl dgst -sha256 -r";
        let digest = run_ok(Command::new("sh").args(["-c", script, "sh"]).arg(&self.chain));
        format!("2 0 1 {}", digest.split_whitespace().next().unwrap())
    }

    /// `3 1 1` and the SHA-256 of the public key.
    pub(crate) fn tlsa_3_1_1(&self) -> String {
        let script =
            "openssl x509 -in \"$1\" -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
        let digest = run_ok(Command::new("sh").args(["-c", script, "sh"]).arg(&self.chain));
        format!("3 1 1 {}", digest.split_whitespace().next().unwrap())
    }
}

/// A CA that a test may trust, and its certificates.
pub(crate) struct Ca {
    dir: PathBuf,
}

impl Ca {
    /// A new CA, kept in a folder of its own.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&dir).args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "7", "-subj", &format!("/CN={name}"), "-addext", "keyUsage=keyCertSign"]);
        run_ok(openssl.args(["-keyout", "ca.key", "-out", "ca.pem"]));
        Self { dir }
    }

    /// The CA's own certificate, as `[tls] roots` takes it.
    pub(crate) fn pem(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for a host.
    pub(crate) fn issue(&self, host: &str) -> Certificate {
        self.made_with(&[], host)
    }

    /// A certificate for a host that was valid for a week a month ago.
    pub(crate) fn issue_expired(&self, host: &str) -> Certificate {
        self.made_with(&["faketime", "30 days ago"], host)
    }

    fn made_with(&self, wrapper: &[&str], host: &str) -> Certificate {
        let count = std::fs::read_dir(&self.dir).unwrap().count();
        let file = |kind: &str| self.dir.join(format!("{count}-{host}.{kind}"));
        let made = Certificate { chain: file("pem"), key: file("key") };
        let script = "set -e
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=leaf -keyout \"$2\" -out leaf.csr
            printf 'subjectAltName=DNS:%s\n' \"$3\" > leaf.ext
            chain=$1; shift 3
            \"$@\" openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 7 -extfile leaf.ext -out leaf.pem
            cat leaf.pem ca.pem > \"$chain\"";
        let mut openssl = Command::new("sh");
        openssl.current_dir(&self.dir).args(["-c", script, "sh"]).arg(&made.chain).arg(&made.key).arg(host);
        run_ok(openssl.arg("env").args(wrapper));
        made
    }
}

/// `count` well-formed `3 1 1` records that fit no certificate.
pub(crate) fn tlsa_that_fit_nothing(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("3 1 1 {:064x}", 0xdead_0000_u64 + n as u64)).collect()
}
