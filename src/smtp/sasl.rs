//! The server's side of AUTH: PLAIN and LOGIN, without sockets (RFC 4954 §4, RFC 4616).
//!
//! ```text
//!   AUTH PLAIN [response] ─▶ 334 ─▶ NUL name NUL password ─▶ credentials
//!   AUTH LOGIN [name]     ─▶ 334 Username: ─▶ name ─▶ 334 Password: ─▶ password ─▶ credentials
//! ```
//! LOGIN is older than the standards; Exchange and many devices know nothing else. What the client says is
//! base64 in every line, and a line of one `*` cancels.

use data_encoding::BASE64;
use std::fmt;

/// What must not be seen in any log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes it out of sight.
    #[must_use]
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into())
    }

    /// For whoever has to see it.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The arguments of AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCommand {
    /// How the client wants to log in, in upper case.
    pub mechanism: String,
    /// What it says at once, in base64; `=` is an empty one.
    pub initial: Option<Secret>,
}

/// Who a client says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The name of the user.
    pub(crate) name: String,
    /// What proves it.
    pub(crate) password: Secret,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SaslExchange {
    /// PLAIN: all in one.
    Plain,
    /// LOGIN: the name.
    LoginName,
    /// LOGIN: the password.
    LoginPassword {
        /// The name that came before.
        name: String,
    },
}

/// How an exchange goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SaslStep {
    /// 334 with this text, and a line is waited for.
    Challenge(SaslExchange, &'static str),
    /// All is said.
    Complete(Credentials),
    /// It is over.
    Fault(SaslFault),
}

/// Why an exchange is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaslFault {
    /// The client has cancelled it.
    Cancelled,
    /// No such mechanism here.
    UnknownMechanism,
    /// A line is not base64.
    NotBase64,
    /// What was said cannot open any door: nothing for name or password, or acting for somebody else.
    Refused,
}

/// `Username:` and `Password:`, as all clients expect them.
const LOGIN_NAME: &str = "VXNlcm5hbWU6";
const LOGIN_PASSWORD: &str = "UGFzc3dvcmQ6";

impl SaslExchange {
    /// Begins one.
    #[must_use]
    pub(crate) fn begin(command: &AuthCommand) -> SaslStep {
        let (exchange, challenge) = match command.mechanism.as_str() {
            "PLAIN" => (Self::Plain, ""),
            "LOGIN" => (Self::LoginName, LOGIN_NAME),
            _ => return SaslStep::Fault(SaslFault::UnknownMechanism),
        };
        match &command.initial {
            None => SaslStep::Challenge(exchange, challenge),
            // RFC 4954 §4: a response of no octets is one `=` here.
            Some(initial) if initial.octets() == b"=" => exchange.on(&Secret::new("")),
            Some(initial) => exchange.on(initial),
        }
    }

    /// The client's next line, without its end.
    #[must_use]
    pub(crate) fn on(self, line: &Secret) -> SaslStep {
        if line.octets() == b"*" {
            return SaslStep::Fault(SaslFault::Cancelled);
        }
        let Ok(said) = BASE64.decode(line.octets()) else { return SaslStep::Fault(SaslFault::NotBase64) };
        match self {
            Self::Plain => plain(&said),
            Self::LoginName => match text(&said) {
                Some(name) => SaslStep::Challenge(Self::LoginPassword { name }, LOGIN_PASSWORD),
                None => SaslStep::Fault(SaslFault::Refused),
            },
            Self::LoginPassword { name } => complete(name, &said),
        }
    }
}

/// `[for whom] NUL name NUL password` (RFC 4616 §2). Nobody acts for others here.
fn plain(said: &[u8]) -> SaslStep {
    let mut parts = said.split(|octet| *octet == 0);
    let (Some(for_whom), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return SaslStep::Fault(SaslFault::Refused);
    };
    match text(name) {
        Some(name) if for_whom.is_empty() || for_whom == name.as_bytes() => complete(name, password),
        Some(_) | None => SaslStep::Fault(SaslFault::Refused),
    }
}

fn complete(name: String, password: &[u8]) -> SaslStep {
    if password.is_empty() {
        return SaslStep::Fault(SaslFault::Refused);
    }
    SaslStep::Complete(Credentials { name, password: Secret::new(password) })
}

/// A name: UTF-8 and something that can be shown.
fn text(said: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(said).ok().filter(|text| !text.is_empty() && !text.contains(char::is_control))?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(mechanism: &str, initial: Option<&str>) -> SaslStep {
        let initial = initial.map(|said| Secret::new(if said == "=" { said.to_owned() } else { encoded(said) }));
        SaslExchange::begin(&AuthCommand { mechanism: mechanism.to_owned(), initial })
    }

    fn encoded(said: &str) -> String {
        BASE64.encode(said.as_bytes())
    }

    fn complete(name: &str, password: &str) -> SaslStep {
        SaslStep::Complete(Credentials { name: name.to_owned(), password: Secret::new(password) })
    }

    #[test]
    fn rfc4616_2_plain_says_all_at_once_or_after_an_empty_challenge() {
        assert_eq!(auth("PLAIN", Some("\0bob\0secret")), complete("bob", "secret"));
        assert_eq!(auth("PLAIN", Some("bob\0bob\0secret")), complete("bob", "secret"));
        assert_eq!(auth("PLAIN", None), SaslStep::Challenge(SaslExchange::Plain, ""));
        assert_eq!(SaslExchange::Plain.on(&Secret::new(encoded("\0bob\0s\u{e9}"))), complete("bob", "s\u{e9}"));
        for refused in
            ["", "bob", "bob\0secret", "\0bob\0", "\0\0secret", "eve\0bob\0secret", "\0bob\0a\0b", "\0b\x01\0x"]
        {
            let said = if refused.is_empty() { "=" } else { refused };
            assert_eq!(auth("PLAIN", Some(said)), SaslStep::Fault(SaslFault::Refused), "{refused:?}");
        }
    }

    #[test]
    fn login_asks_for_name_and_password() {
        let SaslStep::Challenge(exchange, "VXNlcm5hbWU6") = auth("LOGIN", None) else { panic!() };
        let SaslStep::Challenge(exchange, "UGFzc3dvcmQ6") = exchange.on(&Secret::new(encoded("bob"))) else { panic!() };
        assert_eq!(exchange.on(&Secret::new(encoded("secret"))), complete("bob", "secret"));
        let name = SaslExchange::LoginPassword { name: "bob".to_owned() };
        assert_eq!(auth("LOGIN", Some("bob")), SaslStep::Challenge(name.clone(), "UGFzc3dvcmQ6"));
        assert_eq!(name.on(&Secret::new("")), SaslStep::Fault(SaslFault::Refused));
    }

    #[test]
    fn rfc4954_4_what_is_no_base64_and_what_cancels_ends_the_exchange() {
        for bad in ["AGJvYg", "AGJvYgBz ZWNyZXQ=", "Ag==x", "=", "A===", "AB=="] {
            assert_eq!(SaslExchange::Plain.on(&Secret::new(bad)), SaslStep::Fault(SaslFault::NotBase64), "{bad}");
        }
        for exchange in
            [SaslExchange::Plain, SaslExchange::LoginName, SaslExchange::LoginPassword { name: "b".to_owned() }]
        {
            assert_eq!(exchange.on(&Secret::new("*")), SaslStep::Fault(SaslFault::Cancelled));
        }
        assert_eq!(auth("CRAM-MD5", None), SaslStep::Fault(SaslFault::UnknownMechanism));
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let shown = format!("{:?} {:?}", auth("PLAIN", Some("\0bob\0hunter2")), Secret::new("hunter2"));
        assert!(shown.contains("bob") && !shown.contains("hunter2"), "{shown}");
    }
}
