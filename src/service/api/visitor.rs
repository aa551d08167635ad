//! Who asks: by a token, by the cookie of a session, or by the word of a proxy; without I/O.

use super::forwarded::is_proxy;
use super::sessions::Sessions;
use super::wanted::AskedOver;
use crate::clock::Timestamp;
use crate::config::AdminConfig;
use crate::config::users::{User, UserRole, Users};
use crate::service::admin::listener::{AdminPeer, AdminTransport};
use crate::spool::event::Actor;
use axum::http::{HeaderMap, Method, header};

/// The cookie of a session in TLS: no other host and no other port can set it.
const SECURE_COOKIE: &str = "__Host-relay";
/// The same in clear, for loopback.
const CLEAR_COOKIE: &str = "relay-session";
/// The field that brings the form token along where there is no form.
pub(super) const FORM_TOKEN_FIELD: &str = "x-csrf-token";

/// Somebody who may ask.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// The name of the user.
    pub(super) name: String,
    /// What the user may do.
    pub(super) role: UserRole,
    /// How that is known.
    pub(super) proof: LoginProof,
}

/// How it is known who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoginProof {
    /// A token, which no browser sends by itself.
    Token,
    /// The session of this name.
    Session(String),
    /// A proxy says so.
    Vouched,
    /// The system says which user of this host has opened the control socket, where it says that.
    Socket(Option<u32>),
}

/// What a request says of who asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// Nothing.
    Nobody,
    /// This token.
    Token(String),
    /// The session of this name.
    Session(String),
    /// A proxy says that it is this user.
    Vouched(String),
}

/// What a request says of who asks. Two such fields of a proxy, or one that is no text, are nobody.
pub(super) fn claimed(headers: &HeaderMap, peer: AdminPeer, admin: &AdminConfig) -> Claimed {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        return match token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
            Some((_, token)) => Claimed::Token(token.trim().to_owned()),
            None => Claimed::Nobody,
        };
    }
    if let Some(field) = &admin.user_header
        && is_proxy(peer.address.ip(), admin)
    {
        let mut said = headers.get_all(field.as_str()).iter();
        return match (said.next().and_then(|value| value.to_str().ok()), said.next()) {
            (Some(name), None) if !name.is_empty() => Claimed::Vouched(name.to_owned()),
            _ => Claimed::Nobody,
        };
    }
    session_cookie(headers, peer.transport).map_or(Claimed::Nobody, Claimed::Session)
}

/// The name of the session that a browser brought along.
pub(super) fn session_cookie(headers: &HeaderMap, transport: AdminTransport) -> Option<String> {
    let name = cookie_name(transport);
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut of_name = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    of_name.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

const fn cookie_name(transport: AdminTransport) -> &'static str {
    match transport {
        AdminTransport::Clear => CLEAR_COOKIE,
        AdminTransport::Tls => SECURE_COOKIE,
    }
}

/// The field that gives a browser its session, or takes it away where the name is empty.
pub(super) fn set_cookie(session: &str, transport: AdminTransport) -> String {
    let secure = match transport {
        AdminTransport::Clear => "",
        AdminTransport::Tls => "; Secure",
    };
    let end = if session.is_empty() { "; Max-Age=0" } else { "" };
    format!("{}={session}; Path=/; HttpOnly; SameSite=Strict{secure}{end}", cookie_name(transport))
}

/// Who that is, by the users of now: one who has lost the role, or is gone, may do nothing.
pub(super) fn visitor(claimed: Claimed, users: &Users, sessions: &mut Sessions, now: Timestamp) -> Option<Visitor> {
    let (name, proof) = match claimed {
        Claimed::Nobody => return None,
        Claimed::Token(token) => return users.by_token(&token).and_then(|user| of(&user, LoginProof::Token)),
        Claimed::Session(session) => (sessions.user(&session, now)?, LoginProof::Session(session)),
        Claimed::Vouched(name) => (name, LoginProof::Vouched),
    };
    users.get(&name).and_then(|user| of(user, proof))
}

fn of(user: &User, proof: LoginProof) -> Option<Visitor> {
    Some(Visitor { name: user.name.clone(), role: user.role?, proof })
}

impl Visitor {
    /// Somebody who has opened the control socket, which its owner and root alone can.
    pub(super) fn here(uid: Option<u32>) -> Self {
        let name = uid.map_or_else(|| "somebody on this host".to_owned(), |uid| format!("user id {uid}"));
        Self { name, role: UserRole::Operator, proof: LoginProof::Socket(uid) }
    }

    /// Over what this visitor asks.
    pub(super) const fn over(&self) -> AskedOver {
        match self.proof {
            LoginProof::Token | LoginProof::Session(_) | LoginProof::Vouched => AskedOver::Network,
            LoginProof::Socket(_) => AskedOver::Socket,
        }
    }

    /// As histories name whoever did something.
    pub(super) fn actor(&self, reason: Option<&str>) -> Actor {
        match self.proof {
            LoginProof::Token | LoginProof::Session(_) | LoginProof::Vouched => Actor::user(&self.name, reason),
            LoginProof::Socket(uid) => Actor::process(uid, reason),
        }
    }

    /// What the form token of this visitor is made of; none where none is needed.
    pub(super) fn form_subject(&self) -> Option<String> {
        match &self.proof {
            LoginProof::Token | LoginProof::Socket(_) => None,
            LoginProof::Session(session) => Some(format!("session {session}")),
            LoginProof::Vouched => Some(format!("vouched {}", self.name)),
        }
    }
}

/// Whether a browser sent the request on behalf of a page of ours, as far as it says.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text("origin") else { return true };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == text("host")
}

/// Whether a method only looks.
pub(super) fn only_looks(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn peer(address: &str) -> AdminPeer {
        AdminPeer { address: address.parse().unwrap(), transport: AdminTransport::Clear }
    }

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut made = HeaderMap::new();
        for (name, value) in all.iter().map(pair) {
            made.append(name, value);
        }
        made
    }

    fn proxied() -> AdminConfig {
        AdminConfig {
            trusted_proxies: vec!["192.0.2.0/24".parse().unwrap()],
            user_header: Some("X-Forwarded-User".to_owned()),
            ..AdminConfig::default()
        }
    }

    #[test]
    fn a_proxy_is_believed_from_its_own_address_alone_and_when_it_speaks_clearly() {
        let of = |address: &str, all: &[(&str, &str)]| claimed(&headers(all), peer(address), &proxied());
        let vouched = Claimed::Vouched("anna".to_owned());
        assert_eq!(of("192.0.2.1:5", &[("x-forwarded-user", "anna")]), vouched);
        assert_eq!(of("[::ffff:192.0.2.1]:5", &[("x-forwarded-user", "anna")]), vouched);
        assert_eq!(of("127.0.0.1:5", &[("x-forwarded-user", "anna")]), Claimed::Nobody);
        assert_eq!(of("192.0.2.1:5", &[("x-forwarded-user", "anna"), ("x-forwarded-user", "eve")]), Claimed::Nobody);
        assert_eq!(of("192.0.2.1:5", &[("x-forwarded-user", "")]), Claimed::Nobody);
        let plain = AdminConfig::default();
        assert_eq!(claimed(&headers(&[("x-forwarded-user", "anna")]), peer("127.0.0.1:5"), &plain), Claimed::Nobody);
    }

    #[test]
    fn a_session_is_that_of_the_users_of_now() {
        let mut sessions = Sessions::new().unwrap();
        let name = sessions.begin("anna", NOW).unwrap();
        let claim =
            || claimed(&headers(&[("cookie", &format!("a=b; relay-session={name}"))]), peer("127.0.0.1:5"), &proxied());
        assert_eq!(claim(), Claimed::Session(name.clone()));
        let mut role =
            |text: &str| visitor(claim(), &Users::parse(text).unwrap(), &mut sessions, NOW).map(|visitor| visitor.role);
        assert_eq!(role("anna ! role=operator"), Some(UserRole::Operator));
        assert_eq!(role("anna ! role=look"), Some(UserRole::Look), "the role of now");
        assert_eq!(role("anna !"), None);
        assert_eq!(role("bob ! role=operator"), None);
        assert_eq!(
            claimed(&headers(&[("cookie", "relay-sessions=x")]), peer("127.0.0.1:5"), &proxied()),
            Claimed::Nobody
        );
    }

    #[test]
    fn what_another_site_has_sent_is_seen() {
        for (all, same) in [
            (&[("host", "relay:9925"), ("origin", "http://relay:9925")][..], true),
            (&[("host", "relay:9925"), ("origin", "http://evil.example")], false),
            (&[("host", "relay:9925"), ("origin", "null")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site"), ("host", "relay"), ("origin", "http://relay")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[], true),
        ] {
            assert_eq!(is_same_origin(&headers(all)), same, "{all:?}");
        }
    }

    #[test]
    fn a_cookie_is_for_the_port_alone_and_in_tls_for_nothing_else() {
        let clear = set_cookie("x", AdminTransport::Clear);
        assert_eq!(clear, "relay-session=x; Path=/; HttpOnly; SameSite=Strict");
        let tls = set_cookie("", AdminTransport::Tls);
        assert_eq!(tls, "__Host-relay=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0");
    }
}
