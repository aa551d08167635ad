//! Replays `testdata/dialogue/accept/*.txt` against the conversation: command by command, all
//! at once, and cut at every octet. The replies and the messages must always be the same.
//!
//! ```text
//! # a remark                          set KEY VALUE   before the first line: a rule or a fault
//! C: a line of the client, with CRLF  R: octets as they are
//! S: a line of the server             Q: a message that was queued: sender recipients content
//! TLS: the handshake is done here
//! ```
//! In `C:` and `R:` the escapes `\r \n \0 \t \\` and `\xNN` stand for octets.
#![expect(clippy::disallowed_methods, reason = "reads the dialogue files")]

use super::ClientAccess;
use super::conversation::{Action, Conversation};
use super::intake::SpoolFault;
use super::meters::Allowance;
use super::rules::{ClientInTrace, InClear, LiteralLoopback, Literals, Offer, Rules, SendersOfUser, TlsOffer};
use super::step::{AdmitFault, LoginOutcome};
use crate::clock::Timestamp;
use crate::config::users::{User, Users, hash};
use crate::envelope::{BodyType, Charset, QueueId, TlsRequest};
use crate::smtp::sasl::Credentials;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// A dialogue: what holds, and what is said.
struct Script {
    rules: Rules,
    standing: ClientAccess,
    admit: Result<(), SpoolFault>,
    store: Result<(), SpoolFault>,
    /// Between two handshakes: the client's turns, each with the lines that must answer it.
    acts: Vec<Vec<(Vec<u8>, String)>>,
    queued: String,
}

impl Script {
    fn parse(text: &str) -> Self {
        let rules = Rules {
            hostname: "relay.example.org".parse().unwrap(),
            postmaster: Some("admin@example.org".parse().unwrap()),
            max_message_bytes: 1000,
            max_recipients: 3,
            max_commands: 1000,
            max_received: 100,
            sender_domains: Vec::new(),
            client_in_trace: ClientInTrace::Shown,
            literals: Literals::All,
            loopback: LiteralLoopback::Refused,
            tls: TlsOffer::Available,
            in_clear: InClear::Mail,
            auth: Offer::No,
            require_tls: Offer::Yes,
            senders: SendersOfUser::Any,
            recipients: Vec::new(),
            ways: None,
            dsn: Offer::No,
            smtp_utf8: Offer::No,
        };
        let first = vec![(Vec::new(), String::new())];
        let (standing, admit, store) = (ClientAccess::Permitted, Ok(()), Ok(()));
        let mut script = Self { rules, standing, admit, store, acts: vec![first], queued: String::new() };
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            script.line(line);
        }
        script
    }

    fn line(&mut self, line: &str) {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        let act = self.acts.last_mut().unwrap();
        match tag {
            "C:" => act.push(([unescape(rest), b"\r\n".to_vec()].concat(), String::new())),
            "R:" => act.push((unescape(rest), String::new())),
            "S:" => writeln!(act.last_mut().unwrap().1, "{rest}\r").unwrap(),
            "TLS:" => self.acts.push(vec![]),
            "Q:" => writeln!(self.queued, "{rest}").unwrap(),
            "set" => self.set(rest),
            other => panic!("{other} is no tag"),
        }
    }

    fn set(&mut self, what: &str) {
        match what.split_once(' ').unwrap() {
            ("postmaster", "none") => self.rules.postmaster = None,
            ("tls", "none") => self.rules.tls = TlsOffer::Off,
            ("tls", "broken") => self.rules.tls = TlsOffer::Unavailable,
            ("tls", "required") => self.rules.in_clear = InClear::Nothing,
            ("auth", "offered") => self.rules.auth = Offer::Yes,
            ("require_tls", "off") => self.rules.require_tls = Offer::No,
            ("senders", "own") => self.rules.senders = SendersOfUser::Own,
            ("dsn", "offered") => self.rules.dsn = Offer::Yes,
            ("smtp_utf8", "offered") => self.rules.smtp_utf8 = Offer::Yes,
            ("client", "denied") => self.standing = ClientAccess::Denied,
            ("client", "may-log-in") => self.standing = ClientAccess::MayLogIn,
            ("admit", "full") => self.admit = Err(SpoolFault::Full),
            ("store", "failed") => self.store = Err(SpoolFault::Failed),
            ("sender_domain", domain) => self.rules.sender_domains.push(domain.parse().unwrap()),
            ("max_received", n) => self.rules.max_received = n.parse().unwrap(),
            ("max_message_bytes", n) => self.rules.max_message_bytes = n.parse().unwrap(),
            other => panic!("{other:?} cannot be set"),
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut octets, mut chars) = (Vec::new(), text.chars());
    while let Some(c) = chars.next() {
        let octet = match (c, if c == '\\' { chars.next() } else { None }) {
            (_, None) => c.to_string().into_bytes(),
            (_, Some('r')) => b"\r".to_vec(),
            (_, Some('n')) => b"\n".to_vec(),
            (_, Some('t')) => b"\t".to_vec(),
            (_, Some('0')) => b"\0".to_vec(),
            (_, Some('\\')) => b"\\".to_vec(),
            (_, Some('x')) => {
                let hex: String = chars.by_ref().take(2).collect();
                vec![u8::from_str_radix(&hex, 16).unwrap()]
            }
            (_, Some(other)) => panic!("\\{other} is no escape"),
        };
        octets.extend(octet);
    }
    octets
}

/// One hash for all dialogues, which are said octet by octet.
static ALICE: LazyLock<Arc<User>> = LazyLock::new(|| {
    let text = format!("alice {} alice@example.org", hash("correct horse").unwrap());
    Arc::clone(Users::parse(&text).unwrap().get("alice").unwrap())
});

/// `alice` has the password `correct horse`; nobody else is a user.
fn outcome(credentials: &Credentials) -> LoginOutcome {
    let name = credentials.name.as_str();
    match (name, credentials.password.octets()) {
        ("alice", b"correct horse") => LoginOutcome::Right(Arc::clone(&ALICE)),
        ("busy", _) => LoginOutcome::NotNow,
        (_, _) => LoginOutcome::Wrong,
    }
}

/// A conversation with a world that answers as the script says.
struct DialogueStage {
    conversation: Conversation,
    admit: Result<(), SpoolFault>,
    store: Result<(), SpoolFault>,
    draft: Vec<u8>,
    next_id: u64,
    /// From STARTTLS to the handshake: what comes then is never input.
    securing: bool,
    closed: bool,
    output: String,
    queued: String,
}

impl DialogueStage {
    fn new(script: &Script) -> Self {
        let client = "192.0.2.1".parse().unwrap();
        let conversation = Conversation::new(Arc::new(script.rules.clone()), client, script.standing);
        Self {
            conversation,
            admit: script.admit,
            store: script.store,
            draft: Vec::new(),
            next_id: 0,
            securing: false,
            closed: false,
            output: String::new(),
            queued: String::new(),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        if self.closed || self.securing {
            return;
        }
        self.conversation.input().extend_from_slice(piece);
        loop {
            match self.conversation.next() {
                Action::Read => break,
                Action::LogIn(credentials) => self.conversation.logged_in(outcome(&credentials)),
                Action::Admit(_) => self.conversation.admitted(match self.admit {
                    Ok(()) => Ok(Allowance::ALL),
                    Err(fault) => Err(AdmitFault::Spool(fault)),
                }),
                Action::Open => {
                    self.draft.clear();
                    let now = Timestamp(1_795_261_468_000);
                    self.conversation.opened(QueueId(self.next_id), now);
                    self.next_id += 1;
                }
                Action::Write => {
                    self.draft.extend_from_slice(self.conversation.piece());
                    self.conversation.written(Ok(()));
                }
                Action::Store(envelope) => {
                    self.queue(&envelope);
                    let stored = self.store.map(|()| QueueId(self.next_id - 1));
                    self.conversation.stored(stored);
                }
                Action::Tell(refusal) => {
                    let told = (refusal.code, refusal.enhanced.unwrap().to_string());
                    let is_listed =
                        super::REFUSALS.iter().any(|&(code, status)| (code, status) == (told.0, told.1.as_str()));
                    assert!(is_listed, "{told:?}");
                }
                Action::StartTls => {
                    self.securing = true;
                    break;
                }
                Action::Close(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        let output = self.conversation.output();
        self.output.push_str(std::str::from_utf8(output).unwrap());
        output.clear();
    }

    fn queue(&mut self, envelope: &crate::envelope::Envelope) {
        if self.store.is_err() {
            return;
        }
        let content = self.draft.strip_prefix(b"Received: from ").expect("our Received line is on top");
        let end = content.windows(2).enumerate().filter(|(_, w)| *w == b"\r\n").map(|(i, _)| i + 2);
        let end = end.into_iter().find(|&i| content.get(i) != Some(&b'\t')).unwrap();
        let recipients: Vec<&str> = envelope.recipients.iter().map(crate::smtp::address::Mailbox::as_str).collect();
        let body = if envelope.body == BodyType::EightBitMime { "8BITMIME " } else { "" };
        let charset = if envelope.charset == Charset::Utf8 { "UTF8 " } else { "" };
        let tls = match envelope.tls {
            TlsRequest::ByPolicy => "",
            TlsRequest::Required => "TLS-REQUIRED ",
            TlsRequest::Optional => "TLS-OPTIONAL ",
        };
        let dsn = if envelope.dsn.is_empty() { String::new() } else { dsn(envelope) };
        let content = content[end..].escape_ascii();
        writeln!(self.queued, "{} {} {body}{charset}{tls}{dsn}{content}", envelope.reverse_path, recipients.join(","))
            .unwrap();
    }

    fn handshake(&mut self) {
        assert!(self.securing, "the script has TLS: where STARTTLS was not accepted");
        self.securing = false;
        self.conversation.secured();
    }
}

/// As the commands to the next hop would have it.
fn dsn(envelope: &crate::envelope::Envelope) -> String {
    let word = |name: &str, value: Option<&dyn std::fmt::Display>| match value {
        Some(value) => format!("{name}={value} "),
        None => String::new(),
    };
    let mut text = word("RET", envelope.dsn.ret.as_ref().map(|v| v as _));
    text += &word("ENVID", envelope.dsn.envelope_id.as_ref().map(|v| v as _));
    for i in 0..envelope.recipients.len() {
        let asked = envelope.dsn_for(i);
        text += &word(&format!("{i}:NOTIFY"), asked.notify.as_ref().map(|v| v as _));
        text += &word(&format!("{i}:ORCPT"), asked.original.as_ref().map(|v| v as _));
    }
    text
}

fn scripts() -> Vec<(PathBuf, Script)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dialogue/accept");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "the dialogue files are missing");
    paths.into_iter().map(|path| (path.clone(), Script::parse(&std::fs::read_to_string(path).unwrap()))).collect()
}

fn play(script: &Script, cut: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> (String, String) {
    let mut stage = DialogueStage::new(script);
    for (i, act) in script.acts.iter().enumerate() {
        if i > 0 {
            stage.handshake();
        }
        let said: Vec<u8> = act.iter().flat_map(|(said, _)| said.clone()).collect();
        for piece in cut(&said) {
            stage.feed(&piece);
        }
    }
    (stage.output, stage.queued)
}

#[test]
fn every_dialogue_gives_its_replies_command_by_command() {
    for (path, script) in scripts() {
        let mut stage = DialogueStage::new(&script);
        for (i, act) in script.acts.iter().enumerate() {
            if i > 0 {
                stage.handshake();
            }
            for (said, expected) in act {
                stage.output.clear();
                stage.feed(said);
                assert_eq!(&stage.output, expected, "{}: after {:?}", path.display(), String::from_utf8_lossy(said));
            }
        }
        assert_eq!(stage.queued, script.queued, "{}: what was queued", path.display());
    }
}

#[test]
fn rfc2920_3_2_every_dialogue_gives_the_same_replies_wherever_it_is_cut() {
    for (path, script) in scripts() {
        let whole = play(&script, |said| vec![said.to_vec()]);
        let expected: String = script.acts.iter().flatten().map(|(_, expected)| expected.as_str()).collect();
        assert_eq!(whole, (expected, script.queued.clone()), "{}: all at once", path.display());
        let single = play(&script, |said| said.chunks(1).map(<[u8]>::to_vec).collect());
        assert_eq!(single, whole, "{}: octet by octet", path.display());
        let longest = script.acts.iter().map(|act| act.iter().map(|(said, _)| said.len()).sum::<usize>()).max();
        for at in 0..longest.unwrap_or(0) {
            let two = play(&script, |said| {
                let (a, b) = said.split_at(at.min(said.len()));
                vec![a.to_vec(), b.to_vec()]
            });
            assert_eq!(two, whole, "{}: cut at {at}", path.display());
        }
    }
}

#[test]
fn rfc2034_4_every_reply_has_a_fitting_enhanced_code_and_rfc5321_4_5_3_1_5_length() {
    for (path, script) in scripts() {
        let (output, _) = play(&script, |said| vec![said.to_vec()]);
        for line in output.split_inclusive('\n') {
            assert!(line.ends_with("\r\n") && line.len() <= 512 && line.is_ascii(), "{}: {line:?}", path.display());
            let (code, rest) = line.split_at(3);
            let exempt = rest.starts_with('-') || ["354", "334"].contains(&code) || line.contains("relay.example.org");
            let greeting_like = line.starts_with("250 STARTTLS")
                || line.starts_with("250 CHUNKING")
                || line.starts_with("250 REQUIRETLS")
                || line.starts_with("250 AUTH PLAIN LOGIN")
                || line.starts_with("250 DSN")
                || line.starts_with("250 SMTPUTF8");
            if !exempt && !greeting_like && !line.contains("a host name or address literal") {
                let class = format!(" {}.", &code[..1]);
                assert!(rest.starts_with(&class), "{}: {line:?}", path.display());
            }
        }
    }
}

/// A small generator (SplitMix64), so that a failure names a seed that repeats it.
struct SeededRandom(u64);

impl SeededRandom {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

#[test]
fn random_commands_and_octets_never_panic_and_never_hang() {
    let words: [&[u8]; 34] = [
        b"EHLO a\r\n", b"HELO b\r\n", b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
        b"RCPT TO:<c@d.example>\r\n", b"RCPT TO:<postmaster>\r\n", b"RCPT TO:<>\r\n",
        b"MAIL FROM:<> RET=FULL ENVID=a+2B SMTPUTF8\r\n", b"RCPT TO:<c@d.example> NOTIFY=DELAY ORCPT=rfc822;c\r\n",
        b"RCPT TO:<\xc3\xbc@d.example>\r\n", b"RCPT TO:<c@d.example> NOTIFY=\r\n", b"TLS-Required: No\r\n", b" REQUIRETLS", b"DATA\r\n", b"BDAT 5\r\n",
        b"BDAT 3 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT 7 X\r\n", b"BDAT -1\r\n", b"RSET\r\n", b"NOOP\r\n", b"VRFY x\r\n",
        b"STARTTLS\r\n", b"QUIT\r\n", b"\r\n", b".\r\n", b"\r\n.\r\n", b"a", b"\n", b"\r", b"\0", b"\xff\xfe", b"Received: x\r\n",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    let mut queued = 0;
    for seed in 0..400 {
        let mut random = SeededRandom(seed);
        let script = Script::parse("set dsn offered\nset smtp_utf8 offered");
        let (mut whole, mut cut) = (DialogueStage::new(&script), DialogueStage::new(&script));
        let mut said = b"EHLO a\r\n".to_vec();
        for _ in 0..random.below(200) {
            match random.below(12) {
                0 => said.push(u8::try_from(random.below(256)).unwrap()),
                1 => said.extend_from_slice(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"),
                _ => said.extend_from_slice(words[random.below(words.len())]),
            }
        }
        whole.feed(&said);
        let mut rest = said.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len().min(40)));
            cut.feed(piece);
            rest = after;
        }
        assert_eq!((&whole.output, &whole.queued), (&cut.output, &cut.queued), "seed {seed}");
        queued += whole.queued.lines().count();
    }
    assert!(queued > 50, "the mix hardly ever makes a message: {queued}");
}
