//! An outbound SMTP relay that enforces DANE and accounts for every recipient.
//!
//! # The life of a message
//!
//! 1. A permitted client hands it in, and [`accept`] collects envelope and content.
//! 2. [`spool`] makes both durable; only then does the client hear 250.
//! 3. `route` divides its recipients by next hop.
//! 4. [`resolve`] asks the DNS for MX hosts, addresses and TLSA records, and keeps with each
//!    answer what DNSSEC says about it.
//! 5. [`policy`] decides for each MX host what a connection must look like, and later whether
//!    the certificates it presents satisfy its TLSA records.
//! 6. [`deliver`] goes through the hosts and brings back one [`outcome`] for each recipient.
//! 7. Outcomes are durable before anything is forgotten; recipients who failed for good are told
//!    of in a [`report`], which enters the spool in the same step.
//!
//! # Layers
//!
//! A module names only modules of a lower layer; `tests/tidy/` watches it. Stages use the types
//! of the stages to their left and call none of them.
//!
//! | layer | modules |
//! |---|---|
//! | the binary | `main` with `cli`, and `lab`, which nobody else names |
//! | the story | [`observe`] → [`pipeline`] → [`check`], [`command`] → [`service`] |
//! | the stages | [`spool`] → [`accept`] → `route` → [`resolve`] → `https` → [`policy`] → [`deliver`] → [`report`] |
//! | small states over a restart | `state_dir` |
//! | what the operator chose | [`config`] |
//! | nouns | [`envelope`], [`outcome`] |
//! | the language of the standards, time, connections, lines of text | [`smtp`], [`clock`], [`net`], [`text`] |
//!
//! # Seams
//!
//! What a relay has of the world comes in from outside, so that a simulation can bring its own:
//! the time by a [`clock::Clock`], which may go with paused timers; mail and policy hosts by a
//! [`net::Network`]; the DNS by a [`resolve::paths::Source`]; the disk by a [`spool::Spool`];
//! clients by any stream, to [`accept::driver::session`]. [`service::start::Service`] puts them together,
//! for a simulation as for a start.
//!
//! # Standards
//!
//! Every RFC the code cites, and none that it does not.
//!
//! | RFC | what it says here |
//! |---|---|
//! | RFC 1034 | names, CNAME, wildcards |
//! | RFC 1035 | DNS messages |
//! | RFC 1047 | duplicate messages |
//! | RFC 1847 | signed and encrypted parts |
//! | RFC 1870 | SIZE |
//! | RFC 1952 | gzip |
//! | RFC 1982 | times that wrap around |
//! | RFC 2034 | enhanced status codes in replies |
//! | RFC 2045 | quoted-printable |
//! | RFC 2046 | multipart and its boundary |
//! | RFC 2047 | text outside ASCII in header fields |
//! | RFC 2181 | RRsets, TTLs |
//! | RFC 2183 | attachments |
//! | RFC 2308 | negative answers |
//! | RFC 2782 | weights among equals |
//! | RFC 2920 | PIPELINING |
//! | RFC 3030 | CHUNKING |
//! | RFC 3110 | RSA keys in DNSSEC |
//! | RFC 3207 | STARTTLS |
//! | RFC 3339 | time in logs |
//! | RFC 3461 | the DSN extension |
//! | RFC 3463 | enhanced status codes |
//! | RFC 3464 | delivery status notifications |
//! | RFC 3597 | data of unknown types |
//! | RFC 3834 | automatic answers |
//! | RFC 3848 | protocol words in Received |
//! | RFC 3986 | URIs |
//! | RFC 4007 | IPv6 addresses of a link |
//! | RFC 4013 | passwords, prepared |
//! | RFC 4033 | DNSSEC: the idea |
//! | RFC 4034 | DNSSEC: the records |
//! | RFC 4035 | DNSSEC |
//! | RFC 4055 | RSA keys in certificates |
//! | RFC 4422 | SASL |
//! | RFC 4509 | SHA-256 in DS records |
//! | RFC 4592 | wildcards |
//! | RFC 4616 | AUTH PLAIN |
//! | RFC 4648 | base32 |
//! | RFC 4954 | AUTH |
//! | RFC 5011 | states of trust anchors |
//! | RFC 5155 | NSEC3 |
//! | RFC 5246 | TLS 1.2 |
//! | RFC 5280 | certificates and paths |
//! | RFC 5321 | SMTP |
//! | RFC 5322 | the message format |
//! | RFC 5452 | DNS answers that resist forgery |
//! | RFC 5702 | RSA with SHA-2 in DNSSEC |
//! | RFC 5802 | SCRAM |
//! | RFC 5890 | U-labels and A-labels |
//! | RFC 6052 | IPv4 addresses within IPv6 ones |
//! | RFC 6066 | SNI |
//! | RFC 6068 | `mailto:` |
//! | RFC 6125 | names in certificates |
//! | RFC 6152 | 8BITMIME |
//! | RFC 6376 | DKIM |
//! | RFC 6409 | message submission |
//! | RFC 6522 | multipart/report |
//! | RFC 6531 | SMTPUTF8 |
//! | RFC 6532 | headers in UTF-8 |
//! | RFC 6533 | addresses outside ASCII in notifications |
//! | RFC 6605 | ECDSA in DNSSEC |
//! | RFC 6672 | DNAME |
//! | RFC 6698 | TLSA records |
//! | RFC 6724 | which addresses come first |
//! | RFC 6761 | special-use names |
//! | RFC 6762 | `.local` |
//! | RFC 6781 | how zones are signed |
//! | RFC 6840 | DNSSEC, clarified |
//! | RFC 6890 | special addresses |
//! | RFC 6891 | EDNS |
//! | RFC 6895 | numbers of record types |
//! | RFC 7208 | SPF |
//! | RFC 6962 | logs of certificates |
//! | RFC 7372 | enhanced codes for SPF and DKIM |
//! | RFC 7435 | opportunistic security |
//! | RFC 7489 | DMARC |
//! | RFC 7493 | JSON that all read alike |
//! | RFC 7505 | null MX |
//! | RFC 7646 | negative trust anchors |
//! | RFC 7671 | DANE in practice |
//! | RFC 7672 | DANE for SMTP |
//! | RFC 7677 | SCRAM-SHA-256 |
//! | RFC 7686 | `.onion` |
//! | RFC 7766 | DNS over TCP |
//! | RFC 7858 | DNS over TLS |
//! | RFC 8017 | RSA signatures |
//! | RFC 8080 | Ed25519 in DNSSEC |
//! | RFC 8301 | RSA keys of DKIM |
//! | RFC 8314 | TLS from the first octet |
//! | RFC 8375 | `home.arpa` |
//! | RFC 8446 | TLS 1.3 |
//! | RFC 8460 | reports on TLS |
//! | RFC 8461 | MTA-STS |
//! | RFC 8463 | Ed25519 in DKIM |
//! | RFC 8484 | DNS over HTTPS |
//! | RFC 8689 | REQUIRETLS and TLS-Required |
//! | RFC 8767 | how long answers are kept |
//! | RFC 8906 | servers that fail to answer |
//! | RFC 8996 | the end of TLS 1.0 and 1.1 |
//! | RFC 9155 | the end of SHA-1 in TLS 1.2 |
//! | RFC 9276 | NSEC3 iterations |
//! | RFC 9325 | how to use TLS |
//! | RFC 9422 | LIMITS |
//! | RFC 9476 | `.alt` |
//! | RFC 9520 | failed look-ups and failing DNS servers are remembered for a while |
//! | RFC 9824 | compact denial |
//! | RFC 9905 | the end of SHA-1 in DNSSEC |

pub mod accept;
pub mod check;
pub mod clock;
pub mod command;
pub mod config;
pub mod deliver;
pub mod envelope;
mod flight;
mod https;
#[cfg(feature = "lab")]
pub mod lab;
pub mod net;
pub mod observe;
pub mod outcome;
pub mod pipeline;
pub mod policy;
pub mod report;
pub mod resolve;
mod route;
pub mod service;
pub mod smtp;
pub mod spool;
mod state_dir;
pub mod text;
