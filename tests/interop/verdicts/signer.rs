//! Zones signed by foreign programs: `ldns-signzone` and BIND's `dnssec-signzone`
//! (RFC 4034, RFC 5155), with every way of vouching for them in the parent (RFC 4509, RFC 6605),
//! and with the damage of the field done to them afterwards.

use crate::daemon::run_ok;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Signatures that ended long ago.
const PAST: (&str, &str) = ("20200101000000", "20200201000000");
/// Signatures that begin in many years.
const FUTURE: (&str, &str) = ("20400101000000", "20400201000000");
/// How many of BIND's keys sign everything a zone needs; further ones stand behind them.
const OWN_KEYS: usize = 2;
/// The length of an RSA key, in bits.
const RSA_BITS: &str = "2048";

/// Who signs a zone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    /// One key signs everything.
    Ldns,
    /// A key-signing and a zone-signing key.
    Bind,
    /// Nobody; the parent may claim otherwise.
    Nobody,
}

/// How the zone says that something is not there.
#[derive(Clone, Copy)]
pub(crate) enum Denial {
    Nsec,
    Nsec3 { salt: &'static str, iterations: u16 },
    OptOut,
}

/// What the parent says about the zone's key.
#[derive(Clone, Copy)]
pub(crate) enum Ds {
    /// Nothing: the delegation is not signed.
    Absent,
    /// Digests that fit, by their number (RFC 3658, RFC 4509, RFC 6605).
    Fits(&'static [u8]),
    /// A SHA-256 digest of another key.
    Wrong,
    /// A SHA-1 digest that fits and a SHA-256 digest that does not (RFC 4509 §3).
    StrongOneIsWrong,
    /// These record data alone.
    Text(&'static str),
    /// SHA-256 that fits beside a record of an algorithm that nobody knows.
    FitsBesideUnknown,
    /// A record for a zone that has no keys.
    ForNoKey,
    /// SHA-256 of the key that stands here among all. That of a zone-signing key is as good as any:
    /// the SEP flag is only a hint (RFC 4034 §2.1.1).
    OfKey(usize),
}

/// When the signatures hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    Now,
    Past,
    Future,
}

/// What happens to the zone after it was signed.
#[derive(Clone, Copy)]
pub(crate) enum Damage {
    None,
    /// Signatures over these types are gone; `*` is everything but DNSKEY.
    SignaturesGone(&'static str),
    /// Records of this type are gone, with their signatures.
    RecordsGone(&'static str),
    /// Text is replaced.
    Replaced(&'static str, &'static str),
    /// Signatures of a run with this window stand beside the records' own keys.
    DataOutOf(Window),
    /// Keys other than the first two are gone, and their signatures stand in front of the good ones.
    KeysGone,
    /// The first two keys stand behind all others.
    OwnKeysLast,
}

/// One zone.
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) signer: Signer,
    pub(crate) algorithm: &'static str,
    /// Further keys of BIND's, as options of `dnssec-keygen`.
    pub(crate) more_keys: &'static [&'static [&'static str]],
    pub(crate) denial: Denial,
    pub(crate) ds: Ds,
    pub(crate) window: Window,
    pub(crate) damage: Damage,
    pub(crate) lines: String,
}

impl Shape {
    /// A sound zone: one ECDSA key, NSEC, a SHA-256 digest in the parent.
    pub(crate) fn new(name: &str, lines: &str) -> Self {
        Self {
            name: name.to_owned(),
            signer: Signer::Ldns,
            algorithm: "ECDSAP256SHA256",
            more_keys: &[],
            denial: Denial::Nsec,
            ds: Ds::Fits(&[2]),
            window: Window::Now,
            damage: Damage::None,
            lines: lines.to_owned(),
        }
    }

    /// A zone that is not signed.
    pub(crate) fn unsigned(name: &str, ds: Ds, lines: &str) -> Self {
        Self { signer: Signer::Nobody, ds, ..Self::new(name, lines) }
    }

    /// The name of its files.
    pub(crate) fn file(&self) -> String {
        if self.name == "." { "root".to_owned() } else { self.name.trim_end_matches('.').replace('.', "-") }
    }

    /// Makes its keys; gives the base names of their files, the key-signing key first.
    pub(crate) fn make_keys(&self, dir: &Path) -> Vec<String> {
        match self.signer {
            Signer::Nobody => Vec::new(),
            Signer::Ldns => {
                let mut keygen = Command::new("ldns-keygen");
                keygen.args(["-a", self.algorithm, "-k"]);
                if self.algorithm.starts_with("RSA") {
                    keygen.args(["-b", RSA_BITS]);
                }
                vec![run_ok(keygen.current_dir(dir).arg(&self.name)).trim().to_owned()]
            }
            Signer::Bind => {
                let make = |flags: &[&str]| {
                    let mut keygen = Command::new("dnssec-keygen");
                    let algorithm = if flags.contains(&"-a") { &[][..] } else { &["-a", self.algorithm] };
                    keygen.args(["-q", "-n", "ZONE"]).args(algorithm).args(flags);
                    if algorithm.concat().contains("RSA") {
                        keygen.args(["-b", RSA_BITS]);
                    }
                    run_ok(keygen.current_dir(dir).arg(&self.name)).trim().to_owned()
                };
                let mut keys = vec![make(&["-f", "KSK"]), make(&[])];
                keys.extend(self.more_keys.iter().map(|flags| make(flags)));
                keys
            }
        }
    }

    /// The DS records that its parent holds.
    pub(crate) fn delegation(&self, dir: &Path, keys: &[String]) -> String {
        let name = &self.name;
        let digest_of = |key: &str, number: u8| {
            let key = format!("{key}.key");
            let wanted = match number {
                1 => "SHA-1",
                4 => "SHA-384",
                _ => "SHA-256",
            };
            run_ok(Command::new("dnssec-dsfromkey").current_dir(dir).args(["-a", wanted, &key]))
        };
        let digest = |number| digest_of(&keys[0], number);
        match self.ds {
            Ds::Absent => String::new(),
            Ds::Fits(digests) => digests.iter().map(|number| digest(*number)).collect(),
            Ds::Wrong => another_digest(&digest(2)),
            Ds::StrongOneIsWrong => digest(1) + &another_digest(&digest(2)),
            Ds::Text(data) => format!("{name} 300 IN DS {data}\n"),
            Ds::FitsBesideUnknown => digest(2) + &format!("{name} 300 IN DS 4711 201 2 {}\n", "ab".repeat(32)),
            Ds::OfKey(number) => digest_of(&keys[number], 2),
            Ds::ForNoKey => format!("{name} 300 IN DS 4711 13 2 {}\n", "ab".repeat(32)),
        }
    }

    /// Signs the zone file and does the damage; `FILE.zone.signed` is what is served.
    pub(crate) fn sign(&self, dir: &Path, keys: &[String]) {
        let text = self.signed(dir, keys, self.window);
        let text = match self.damage {
            Damage::None => text,
            Damage::SignaturesGone("*") => without(&text, |f| f[3] == "RRSIG" && f[4] != "DNSKEY"),
            Damage::SignaturesGone(kind) => without(&text, |f| f[3] == "RRSIG" && f[4] == kind),
            Damage::RecordsGone(kind) => without(&text, |f| f[3] == kind || f[3] == "RRSIG" && f[4] == kind),
            Damage::Replaced(from, to) => {
                assert!(text.contains(from), "{from} is not in {}:\n{text}", self.name);
                text.replace(from, to)
            }
            Damage::DataOutOf(window) => {
                let keys_alone = without(&text, |f| f[3] == "RRSIG" && f[4] != "DNSKEY");
                let other = self.signed(dir, keys, window);
                keys_alone + &without(&other, |f| f[3] != "RRSIG" || f[4] == "DNSKEY")
            }
            Damage::KeysGone => self.with_signatures_of_gone_keys(dir, keys, &text),
            Damage::OwnKeysLast => with_own_keys_last(dir, &keys[..OWN_KEYS], &text),
        };
        std::fs::write(dir.join(format!("{}.zone.signed", self.file())), text).unwrap();
    }

    /// The signed zone: one record a line, name, TTL, class, type, data.
    fn signed(&self, dir: &Path, keys: &[String], window: Window) -> String {
        let (file, out) = (format!("{}.zone", self.file()), format!("{}.zone.raw", self.file()));
        let mut command = match self.signer {
            Signer::Nobody => return std::fs::read_to_string(dir.join(file)).unwrap(),
            Signer::Ldns => self.ldns_command(window),
            Signer::Bind => self.bind_command(window),
        };
        command.current_dir(dir).args(["-f", &out, "-o", &self.name, &file]);
        // BIND finds all others by itself and uses them as their own dates say.
        run_ok(command.args(keys.iter().take(OWN_KEYS)));
        std::fs::read_to_string(dir.join(&out)).unwrap()
    }

    /// What a zone that knows its own keys alone signs, and in front the signatures of the others.
    fn with_signatures_of_gone_keys(&self, dir: &Path, keys: &[String], with_all: &str) -> String {
        let (own, gone) = keys.split_at(OWN_KEYS);
        let alone = dir.join(format!("{}-alone", self.file()));
        std::fs::create_dir(&alone).unwrap();
        let key_files = own.iter().flat_map(|key| [format!("{key}.key"), format!("{key}.private")]);
        for file in key_files.chain([format!("{}.zone", self.file())]) {
            std::fs::copy(dir.join(&file), alone.join(&file)).unwrap();
        }
        let tags: Vec<&str> = gone.iter().filter_map(|key| key.rsplit('+').next()).collect();
        let is_of_gone = |f: &[&str]| {
            f[3] == "RRSIG" && f[4] != "DNSKEY" && tags.iter().any(|tag| tag.trim_start_matches('0') == f[10])
        };
        let signatures = without(with_all, |f| !is_of_gone(f));
        assert!(signatures.lines().count() > gone.len() * 4, "{}:\n{with_all}", self.name);
        signatures + &self.signed(&alone, own, self.window)
    }

    fn ldns_command(&self, window: Window) -> Command {
        let mut command = Command::new("ldns-signzone");
        match self.denial {
            Denial::Nsec => &mut command,
            Denial::Nsec3 { salt, iterations } => {
                command.args(["-n", "-t", &iterations.to_string()]);
                if salt == "-" { &mut command } else { command.args(["-s", salt]) }
            }
            Denial::OptOut => command.args(["-n", "-t", "0", "-p"]),
        };
        if let Some((from, to)) = times(window) {
            command.args(["-i", from, "-e", to]);
        }
        command
    }

    fn bind_command(&self, window: Window) -> Command {
        let mut command = Command::new("dnssec-signzone");
        command.args(["-q", "-P", "-S", "-N", "keep", "-O", "full"]);
        match self.denial {
            Denial::Nsec => &mut command,
            Denial::Nsec3 { salt, iterations } => command.args(["-3", salt, "-H", &iterations.to_string()]),
            Denial::OptOut => command.args(["-3", "-", "-H", "0", "-A"]),
        };
        if let Some((from, to)) = times(window) {
            command.args(["-s", from, "-e", to]);
        }
        command
    }
}

const fn times(window: Window) -> Option<(&'static str, &'static str)> {
    match window {
        Window::Now => None,
        Window::Past => Some(PAST),
        Window::Future => Some(FUTURE),
    }
}

/// A DS record with another digest of the same length.
fn another_digest(ds: &str) -> String {
    let fields: Vec<&str> = ds.split_whitespace().collect();
    let (front, digest) = fields.split_at(6);
    format!("{} {}\n", front.join(" "), "cd".repeat(digest.concat().len() / 2))
}

/// A zone whose first keys stand behind all others.
fn with_own_keys_last(dir: &Path, own: &[String], text: &str) -> String {
    let data = |fields: &[&str]| fields.concat();
    let own: Vec<String> = own
        .iter()
        .map(|key| {
            let file = std::fs::read_to_string(dir.join(format!("{key}.key"))).unwrap();
            let record = file.lines().find(|line| !line.starts_with(';')).unwrap();
            data(&record.split_whitespace().skip_while(|word| *word != "DNSKEY").skip(4).collect::<Vec<_>>())
        })
        .collect();
    let is_own = |f: &[&str]| f[3] == "DNSKEY" && own.contains(&data(&f[7..]));
    let (others, last) = (without(text, is_own), without(text, |f| !is_own(f)));
    assert_eq!(last.lines().filter(|line| !line.starts_with(';')).count(), own.len(), "{text}");
    others + &last
}

/// The records of a zone without those of which `is_gone` says so, given its fields.
fn without(text: &str, is_gone: impl Fn(&[&str]) -> bool) -> String {
    text.lines().fold(String::new(), |mut kept, line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.len() < 5 || !is_gone(&fields) {
            writeln!(kept, "{line}").unwrap();
        }
        kept
    })
}
