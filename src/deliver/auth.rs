//! Logging in at a server: PLAIN, LOGIN and SCRAM-SHA-256, without sockets (RFC 4954, RFC 4616,
//! RFC 5802, RFC 7677, RFC 4013).
//!
//! The strongest way that both sides know is taken; SCRAM never says the password. Its cryptography is
//! that of the TLS library, only the messages are made here. Whoever calls has seen to it that the server
//! is the right one.

use super::egress::Login;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use aws_lc_rs::{constant_time, hmac, pbkdf2};
use data_encoding::BASE64;
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use stringprep::saslprep;

/// Fewer rounds than RFC 7677 §4 asks for would give the password away too cheaply.
const LEAST_ROUNDS: u32 = 4096;
/// More rounds would only keep us busy: ten times what is recommended today.
const MOST_ROUNDS: u32 = 6_000_000;
/// Header and channel binding of a client that binds to none: `n,,` (RFC 5802 §7).
const NO_BINDING: &str = "n,,";

/// A line that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretLine(Vec<u8>);

impl SecretLine {
    fn new(line: &str) -> Self {
        Self(format!("{line}\r\n").into_bytes())
    }

    /// As it goes over the wire.
    #[must_use]
    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }
}

/// It stays out of every log.
impl fmt::Debug for SecretLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLine(..)")
    }
}

/// How one logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginMechanism {
    /// RFC 7677.
    ScramSha256,
    /// RFC 4616.
    Plain,
    /// Older than the standards, and all that some servers know.
    Login,
}

impl LoginMechanism {
    const fn word(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// Those that both sides know, the strongest first. SCRAM wants its texts prepared (RFC 5802 §5.1);
    /// where that cannot be, they go by PLAIN, which takes them as they are.
    #[must_use]
    pub(super) fn usable(offered: &[String], login: &Login) -> Vec<Self> {
        let can_scram = prepared(&login.user).is_ok() && prepared(login.password()).is_ok();
        let knows = |mechanism: &Self| offered.iter().any(|word| word.eq_ignore_ascii_case(mechanism.word()));
        [Self::ScramSha256, Self::Plain, Self::Login]
            .into_iter()
            .filter(|mechanism| knows(mechanism) && (can_scram || *mechanism != Self::ScramSha256))
            .collect()
    }
}

/// One login under way.
pub(super) struct LoginExchange {
    login: Login,
    stage: LoginStage,
}

enum LoginStage {
    /// Nothing more to say.
    Said,
    /// LOGIN, before the name.
    Name,
    /// LOGIN, before the password.
    Password,
    /// SCRAM, before the server's salt: what we said first, without its header, and our nonce.
    Salt { first: String, nonce: String },
    /// SCRAM, before the server's proof: what it must be.
    Proof(Vec<u8>),
}

/// What ends a login from our side.
pub(super) type Unsound = &'static str;

impl LoginExchange {
    /// The exchange and its first line. `nonce` is random, and printable without a comma.
    #[must_use]
    pub(super) fn begin(mechanism: LoginMechanism, login: &Login, nonce: &str) -> (Self, SecretLine) {
        let user = &login.user;
        let (stage, line) = match mechanism {
            LoginMechanism::Plain => {
                let all = format!("\0{user}\0{}", login.password());
                (LoginStage::Said, format!("AUTH PLAIN {}", BASE64.encode(all.as_bytes())))
            }
            LoginMechanism::Login => (LoginStage::Name, "AUTH LOGIN".to_owned()),
            LoginMechanism::ScramSha256 => {
                let user = prepared(user).unwrap_or_else(|_| user.into());
                // RFC 5802 §5.1: comma and equals sign have another meaning there.
                let first = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
                let line = format!("AUTH SCRAM-SHA-256 {}", BASE64.encode(format!("{NO_BINDING}{first}").as_bytes()));
                (LoginStage::Salt { first, nonce: nonce.to_owned() }, line)
            }
        };
        (Self { login: login.clone(), stage }, SecretLine::new(&line))
    }

    /// The answer to the text of a 334 (RFC 4954 §4).
    ///
    /// # Errors
    /// What is wrong with the text; then `*` ends the exchange.
    pub(super) fn answer(&mut self, challenge: &str) -> Result<SecretLine, Unsound> {
        let encoded = |text: &str| SecretLine::new(&BASE64.encode(text.as_bytes()));
        match std::mem::replace(&mut self.stage, LoginStage::Said) {
            LoginStage::Said => Err("the server asks for more than there is to say"),
            LoginStage::Name => {
                self.stage = LoginStage::Password;
                Ok(encoded(&self.login.user))
            }
            LoginStage::Password => Ok(encoded(self.login.password())),
            LoginStage::Salt { first, nonce } => {
                let text = decoded(challenge)?;
                let (answer, proof) = self.prove(&first, &nonce, &text)?;
                self.stage = LoginStage::Proof(proof);
                Ok(encoded(&answer))
            }
            LoginStage::Proof(expected) => {
                let text = decoded(challenge)?;
                let proof = text.strip_prefix("v=").and_then(|proof| BASE64.decode(proof.as_bytes()).ok());
                let is_right =
                    proof.is_some_and(|proof| constant_time::verify_slices_are_equal(&proof, &expected).is_ok());
                if is_right {
                    Ok(SecretLine::new(""))
                } else {
                    Err("the server's proof is wrong: it does not know the password")
                }
            }
        }
    }

    /// Whether a server that says that it is over has proven all that it has to.
    ///
    /// # Errors
    /// What is missing.
    pub(super) const fn ended(&self) -> Result<(), Unsound> {
        match self.stage {
            LoginStage::Said => Ok(()),
            LoginStage::Name | LoginStage::Password | LoginStage::Salt { .. } | LoginStage::Proof(_) => {
                Err("the server has ended the exchange before its time")
            }
        }
    }

    /// RFC 5802 §3: our last message, and what the server must prove with.
    fn prove(&self, first: &str, nonce: &str, server_first: &str) -> Result<(String, Vec<u8>), Unsound> {
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (all_nonce, salt, rounds) = (field("r="), field("s="), field("i="));
        let all_nonce = all_nonce.filter(|all| all.len() > nonce.len() && all.starts_with(nonce));
        let all_nonce = all_nonce.ok_or("the server's first message does not continue our nonce")?;
        let salt =
            salt.and_then(|salt| BASE64.decode(salt.as_bytes()).ok()).ok_or("the server's salt cannot be read")?;
        let rounds = rounds.and_then(|rounds| rounds.parse().ok()).filter(|n| (LEAST_ROUNDS..=MOST_ROUNDS).contains(n));
        let rounds = rounds.and_then(NonZeroU32::new).ok_or("the server's number of rounds is out of range")?;
        let password = prepared(self.login.password())?;
        let mut salted = [0; SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let unproven = format!("c={},r={all_nonce}", BASE64.encode(NO_BINDING.as_bytes()));
        let signed = format!("{first},{server_first},{unproven}");
        let client_key = mac(&salted, b"Client Key");
        let stored_key = digest(&SHA256, &client_key);
        let signature = mac(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_proof = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
        Ok((format!("{unproven},p={}", BASE64.encode(&proof)), server_proof))
    }
}

/// The stage tells nobody what was said.
impl fmt::Debug for LoginExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginExchange").field("login", &self.login).finish_non_exhaustive()
    }
}

/// As both sides must have it, however it was typed (RFC 4013).
fn prepared(text: &str) -> Result<Cow<'_, str>, Unsound> {
    saslprep(text).map_err(|_forbidden| "the name or the password holds characters that no login may have")
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn decoded(challenge: &str) -> Result<String, Unsound> {
    let octets = BASE64.decode(challenge.trim().as_bytes()).ok();
    octets.and_then(|octets| String::from_utf8(octets).ok()).ok_or("the server's message cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &SecretLine) -> String {
        String::from_utf8(line.wire().to_vec()).unwrap().trim_end().to_owned()
    }

    fn encoded(text: &str) -> String {
        BASE64.encode(text.as_bytes())
    }

    /// The example of RFC 7677 §3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn example() -> LoginExchange {
        let (exchange, line) = LoginExchange::begin(LoginMechanism::ScramSha256, &Login::new("user", "pencil"), NONCE);
        assert_eq!(said(&line), format!("AUTH SCRAM-SHA-256 {}", encoded("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")));
        exchange
    }

    #[test]
    fn rfc7677_3_the_example_of_the_standard() {
        let mut exchange = example();
        let last = exchange.answer(&encoded(SERVER_FIRST)).unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(said(&last), encoded(expected));
        assert!(exchange.ended().is_err(), "the server has proven nothing yet");
        let proof = encoded("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(said(&exchange.answer(&proof).unwrap()), "");
        assert_eq!(exchange.ended(), Ok(()));
    }

    #[test]
    fn rfc5802_5_a_server_that_does_not_know_the_password_gets_no_further() {
        for wrong in [
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=?,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "",
        ] {
            assert!(example().answer(&encoded(wrong)).is_err(), "{wrong}");
        }
        assert!(example().answer("not base64").is_err());
        for wrong in ["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=", "e=other-error", ""] {
            let mut exchange = example();
            exchange.answer(&encoded(SERVER_FIRST)).unwrap();
            assert!(exchange.answer(&encoded(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rfc4013_name_and_password_are_proven_in_one_form_however_they_were_typed() {
        let last = |user: &str, password: &str| {
            let (mut exchange, first) =
                LoginExchange::begin(LoginMechanism::ScramSha256, &Login::new(user, password), NONCE);
            (said(&first), said(&exchange.answer(&encoded(SERVER_FIRST)).unwrap()))
        };
        let composed = last("J\u{fc}rgen", "gew\u{fc}rz IX");
        assert_eq!(last("Ju\u{308}rgen", "gewu\u{308}r\u{ad}z\u{a0}\u{2168}"), composed);
        assert_eq!(composed.0, format!("AUTH SCRAM-SHA-256 {}", encoded(&format!("n,,n=J\u{fc}rgen,r={NONCE}"))));
        assert_ne!(last("J\u{fc}rgen", "gewurz IX").1, composed.1);
    }

    #[test]
    fn rfc4616_2_and_login_say_name_and_password_as_they_are() {
        let login = Login::new("tim", "tanstaaftanstaaf");
        let (exchange, line) = LoginExchange::begin(LoginMechanism::Plain, &login, "");
        assert_eq!(said(&line), "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
        assert_eq!(exchange.ended(), Ok(()));
        let (mut exchange, line) = LoginExchange::begin(LoginMechanism::Login, &login, "");
        assert_eq!(said(&line), "AUTH LOGIN");
        assert!(exchange.ended().is_err());
        assert_eq!(said(&exchange.answer("VXNlcm5hbWU6").unwrap()), encoded("tim"));
        assert_eq!(said(&exchange.answer("anything").unwrap()), encoded("tanstaaftanstaaf"));
        assert!(exchange.answer("more").is_err());
        assert_eq!(format!("{line:?} {exchange:?}").matches("tanst").count(), 0);
    }

    #[test]
    fn the_strongest_way_that_both_know_comes_first() {
        let usable = |offered: &str, password: &str| {
            let offered: Vec<String> = offered.split(' ').map(str::to_owned).collect();
            LoginMechanism::usable(&offered, &Login::new("u", password))
                .into_iter()
                .map(LoginMechanism::word)
                .collect::<Vec<_>>()
        };
        assert_eq!(usable("LOGIN plain GSSAPI scram-sha-256", "x"), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
        assert_eq!(usable("LOGIN SCRAM-SHA-256", "gew\u{fc}rz"), ["SCRAM-SHA-256", "LOGIN"]);
        assert_eq!(usable("LOGIN SCRAM-SHA-256", "\u{7}"), ["LOGIN"], "what cannot be prepared goes as it is");
        assert!(usable("GSSAPI SCRAM-SHA-256-PLUS XOAUTH2", "x").is_empty());
        let (_, line) = LoginExchange::begin(LoginMechanism::ScramSha256, &Login::new("a=b,c", "x"), "n");
        assert_eq!(said(&line), format!("AUTH SCRAM-SHA-256 {}", encoded("n,,n=a=3Db=2Cc,r=n")));
    }
}
