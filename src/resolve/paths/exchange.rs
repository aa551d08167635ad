//! One question to one authoritative server, over UDP or over TCP, with EDNS or without.
//!
//! The servers of the world answer in more shapes than those of a resolver: with FORMERR that
//! repeats no question (RFC 6891 §7), or from a closed port. Both are heard here at once, on
//! a socket that is connected to the server and hears nobody else. Every question has a port and an
//! identifier of its own (RFC 5452 §9.2), and an answer repeats both and the question (§9.1); an
//! error that repeats no question says only that the question was not understood.

#![expect(clippy::disallowed_methods, reason = "this driver asks authoritative servers")]

use super::FetchError;
use super::channel::{UDP_PAYLOAD_BYTES, answers};
use crate::resolve::dnssec::decode;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one answer is waited for; the slow servers of the world are below this.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// More than the payload that is offered: some servers keep to no offer.
const DATAGRAM_BYTES: usize = 4096;
/// Octets of a header (RFC 1035 §4.1.1).
const HEADER_BYTES: usize = 12;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct WireQuestion {
    pub(super) name: Name,
    pub(super) record_type: RecordType,
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Means {
    /// UDP with EDNS and DO; TCP for what is truncated.
    Datagram,
    /// TCP with EDNS and DO.
    Stream,
    /// UDP without EDNS (RFC 6891 §6.2.2); TCP for what is truncated.
    Plain,
}

/// Why no message came.
#[derive(Debug)]
pub(super) enum Failure {
    /// This host has no way to the server; nothing was sent.
    NoWay(io::Error),
    /// The server, or something on the way to it.
    There(FetchError),
}

/// Asks, and brings whatever message answers.
pub(super) async fn ask(server: SocketAddr, question: &WireQuestion, means: Means) -> Result<Message, Failure> {
    let request = request(question, means);
    if means == Means::Stream {
        return over(stream(server, &request)).await;
    }
    let message = over(datagram(server, &request)).await?;
    if !message.metadata.truncation {
        return Ok(message);
    }
    over(stream(server, &request)).await.map_err(|failure| match failure {
        Failure::There(fault) => Failure::There(FetchError::Truncated(Box::new(fault))),
        no_way @ Failure::NoWay(_) => no_way,
    })
}

async fn over(talk: impl Future<Output = Result<Message, Failure>>) -> Result<Message, Failure> {
    timeout(ANSWER_WITHIN, talk).await.unwrap_or(Err(Failure::There(FetchError::TimedOut)))
}

fn request(question: &WireQuestion, means: Means) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(question.name.clone(), question.record_type));
    message.metadata.recursion_desired = false;
    if means != Means::Plain {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD_BYTES).set_version(0).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    message
}

fn octets(request: &Message) -> Result<Vec<u8>, Failure> {
    request.to_vec().map_err(|error| Failure::There(FetchError::Broken(error.to_string())))
}

fn broken(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::There(FetchError::TimedOut);
    }
    Failure::There(FetchError::Broken(error.to_string()))
}

async fn datagram(server: SocketAddr, request: &Message) -> Result<Message, Failure> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(Failure::NoWay)?;
    // Looks for the way and sends nothing.
    socket.connect(server).await.map_err(Failure::NoWay)?;
    socket.send(&octets(request)?).await.map_err(broken)?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        // An error is what ICMP said: a port where nobody listens.
        let length = socket.recv(&mut buffer).await.map_err(broken)?;
        // Anything else may be forged, and the real answer may yet come.
        if let Some(message) = read(buffer.get(..length).unwrap_or_default(), request) {
            return Ok(message);
        }
    }
}

async fn stream(server: SocketAddr, request: &Message) -> Result<Message, Failure> {
    let question = octets(request)?;
    let mut framed = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    framed.extend_from_slice(&question);
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut came = vec![0; usize::from(length)];
        stream.read_exact(&mut came).await?;
        Ok(came)
    };
    let came: Vec<u8> = talk.await.map_err(broken)?;
    match read(&came, request) {
        Some(message) if message.metadata.truncation => {
            Err(Failure::There(FetchError::Broken("truncated over a stream".into())))
        }
        Some(message) => Ok(message),
        None => Err(Failure::There(FetchError::Broken("an answer to another question".into()))),
    }
}

/// The message, when it is one that answers the request.
fn read(came: &[u8], request: &Message) -> Option<Message> {
    let query = request.queries.first()?;
    match decode(came) {
        Ok(message) if message.metadata.id == request.metadata.id && answers(&message, query) => Some(message),
        Ok(message) if !message.queries.is_empty() => None,
        Ok(_) | Err(_) => not_understood(came, request),
    }
}

/// RFC 6891 §7: a server that knows no EDNS may answer with a bare header, or with a copy of what it could
/// not read.
fn not_understood(came: &[u8], request: &Message) -> Option<Message> {
    let header: &[u8; HEADER_BYTES] = came.first_chunk()?;
    let [id_high, id_low, flags, code, ..] = *header;
    let is_response = flags & 0x80 != 0 && u16::from_be_bytes([id_high, id_low]) == request.metadata.id;
    let code = ResponseCode::from(0, code & 0x0f);
    let knows_no_edns = code == ResponseCode::FormErr || code == ResponseCode::NotImp;
    if !(is_response && knows_no_edns) {
        return None;
    }
    let mut message = Message::response(request.metadata.id, OpCode::Query);
    message.metadata.message_type = MessageType::Response;
    message.metadata.response_code = code;
    message.queries.clone_from(&request.queries);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Message {
        request(
            &WireQuestion { name: Name::from_ascii("a.test.").unwrap(), record_type: RecordType::MX },
            Means::Datagram,
        )
    }

    fn header(request: &Message, flags: u8, code: u8) -> Vec<u8> {
        let [high, low] = request.metadata.id.to_be_bytes();
        vec![high, low, flags, code, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    #[test]
    fn rfc6891_7_an_error_without_a_question_is_heard_and_any_other_message_without_one_is_not() {
        let request = asked();
        let code = |came: &[u8]| read(came, &request).map(|message| message.metadata.response_code);
        assert_eq!(code(&header(&request, 0x80, 1)), Some(ResponseCode::FormErr));
        assert_eq!(code(&header(&request, 0x80, 4)), Some(ResponseCode::NotImp));
        for (flags, said) in [(0x80, 0), (0x80, 2), (0x80, 3), (0x80, 5), (0x00, 1)] {
            assert_eq!(code(&header(&request, flags, said)), None, "{flags:x} {said}");
        }
        let mut foreign = header(&request, 0x80, 1);
        foreign[0] ^= 1;
        assert_eq!(code(&foreign), None, "another identifier");
        assert_eq!(code(&header(&request, 0x80, 1)[..11]), None, "no header");
    }

    #[test]
    fn rfc6891_7_a_copy_of_the_question_that_cannot_be_read_is_heard_as_the_error_it_is() {
        let request = asked();
        let mut copy = request.to_vec().unwrap();
        copy[2] |= 0x80;
        copy[3] = 1;
        copy.truncate(copy.len() - 3);
        assert_eq!(read(&copy, &request).unwrap().metadata.response_code, ResponseCode::FormErr);
    }

    #[test]
    fn rfc5452_9_1_an_answer_to_another_question_is_not_heard_whatever_its_code() {
        let request = asked();
        let mut other = Message::response(request.metadata.id, OpCode::Query);
        other.metadata.response_code = ResponseCode::FormErr;
        other.add_query(Query::query(Name::from_ascii("b.test.").unwrap(), RecordType::MX));
        assert!(read(&other.to_vec().unwrap(), &request).is_none());
        other.queries.clone_from(&request.queries);
        assert!(read(&other.to_vec().unwrap(), &request).is_some());
    }

    #[test]
    fn rfc6891_6_2_2_what_is_asked_without_edns_says_nothing_of_it() {
        let question = WireQuestion { name: Name::root(), record_type: RecordType::NS };
        let edns = |means| request(&question, means).edns.map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
        let with = Some((1232, true));
        assert_eq!([Means::Datagram, Means::Stream, Means::Plain].map(edns), [with, with, None]);
        assert!(!request(&question, Means::Plain).metadata.recursion_desired);
    }
}
