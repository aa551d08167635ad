//! One server over one transport: the question goes out, the raw message comes back.
//!
//! hickory carries it: UDP with a fresh socket for every question, TCP, TLS and HTTPS with one
//! connection for many (RFC 7766 §6.2.1, RFC 7858, RFC 8484). DO and EDNS as RFC 6891 and
//! RFC 4035 §3.2.1 have them; what is truncated is fetched over TCP (RFC 7766 §5). Nothing is
//! believed here: a message only has to be an answer to the question.

use super::FetchError;
use super::scoped::Scoped;
use super::tolerant::WirePrivacy;
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::config::{ConnectionConfig, ProtocolConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle, FirstAnswer};
use hickory_resolver::{ConnectionProvider, PoolContext};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// UDP payload we offer: fits every path without fragments (the value of the DNS flag day 2020).
pub(super) const UDP_PAYLOAD_BYTES: u16 = 1232;

/// What is asked of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resolve) enum Flags {
    /// A resolver, and we validate: RD, DO, CD (RFC 4035 §3.2.2: it shall not keep from us what
    /// it thinks is bogus).
    Validate,
    /// A resolver that validates for us: RD, AD (RFC 6840 §5.7), no CD.
    TrustAd,
    /// An authoritative server: DO alone.
    Authority,
}

type Connection = DnsExchange<Scoped>;

/// A server.
pub(in crate::resolve) struct Channel {
    server: SocketAddr,
    connection: ConnectionConfig,
    context: Arc<PoolContext>,
    /// Drives the connections, which end with it: it has to live as long as they do.
    provider: Scoped,
    live: Mutex<Option<Connection>>,
    /// The same server over TCP, for what is truncated.
    tcp: Option<Arc<Self>>,
}

impl Channel {
    pub(super) fn new(server: SocketAddr, mut connection: ConnectionConfig, context: &Arc<PoolContext>) -> Self {
        connection.port = server.port();
        let is_clear = matches!(connection.protocol, ProtocolConfig::Udp | ProtocolConfig::Tcp);
        let wire = if is_clear { WirePrivacy::Clear } else { WirePrivacy::Encrypted };
        let (context, provider) = (Arc::clone(context), Scoped::to(server, wire));
        Self { server, connection, context, provider, live: Mutex::default(), tcp: None }
    }

    /// UDP and TCP of one server: what is truncated over the first is fetched over the second.
    pub(super) fn udp(server: SocketAddr, context: &Arc<PoolContext>) -> (Self, Arc<Self>) {
        let tcp = Arc::new(Self::new(server, ConnectionConfig::tcp(), context));
        let udp = Self::new(server, ConnectionConfig::udp(), context);
        (Self { tcp: Some(Arc::clone(&tcp)), ..udp }, tcp)
    }

    /// Asks one question. TCP, where it is needed, has as long as UDP had.
    pub(super) async fn ask(&self, name: &Name, record_type: RecordType, flags: Flags) -> Result<Message, FetchError> {
        let limit = self.context.options.timeout;
        let message = self.ask_once(name, record_type, flags, limit).await?;
        match &self.tcp {
            Some(tcp) if message.metadata.truncation => {
                let over_tcp = tcp.ask_once(name, record_type, flags, limit).await;
                over_tcp.map_err(|fault| FetchError::Truncated(Box::new(fault)))
            }
            Some(_) => Ok(message),
            None if message.metadata.truncation => Err(FetchError::Broken("truncated over a stream".into())),
            None => Ok(message),
        }
    }

    async fn ask_once(
        &self,
        name: &Name,
        record_type: RecordType,
        flags: Flags,
        limit: Duration,
    ) -> Result<Message, FetchError> {
        let query = Query::query(name.clone(), record_type);
        let request = request(&query, flags);
        let sent = tokio::time::timeout(limit, self.send(request)).await.map_err(|_elapsed| FetchError::TimedOut)?;
        let message = sent.map_err(|error| fault_of(&error))?;
        if answers(&message, &query) {
            Ok(message)
        } else {
            Err(FetchError::Broken("an answer to another question".into()))
        }
    }

    /// A connection that has been idle may have been closed by the server; then a fresh one.
    async fn send(&self, request: DnsRequest) -> Result<Message, NetError> {
        if let Some(connection) = self.live() {
            match connection.send(request.clone()).first_answer().await {
                Ok(response) => return Ok(response.into_message()),
                // Somebody who waited in vain says nothing about the connection.
                Err(NetError::Timeout) => return Err(NetError::Timeout),
                Err(_closed) => self.keep(None),
            }
        }
        let connection = self.provider.new_connection(self.server.ip(), &self.connection, &self.context)?.await?;
        self.keep(Some(connection.clone()));
        let response = connection.send(request).first_answer().await;
        if response.is_err() {
            self.keep(None);
        }
        response.map(hickory_proto::op::DnsResponse::into_message)
    }

    fn live(&self) -> Option<Connection> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, connection: Option<Connection>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

fn request(query: &Query, flags: Flags) -> DnsRequest {
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    options.edns_payload_len = UDP_PAYLOAD_BYTES;
    options.edns_set_dnssec_ok = flags != Flags::TrustAd;
    options.recursion_desired = flags != Flags::Authority;
    let (mut message, options) = DnsRequest::from_query(query.clone(), options).into_parts();
    message.metadata.checking_disabled = flags == Flags::Validate;
    message.metadata.authentic_data = flags == Flags::TrustAd;
    DnsRequest::new(message, options)
}

/// RFC 5452 §9.1: an answer repeats the question.
pub(super) fn answers(message: &Message, query: &Query) -> bool {
    let [asked] = message.queries.as_slice() else { return false };
    message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && asked.name() == query.name()
        && asked.query_type() == query.query_type()
        && asked.query_class() == query.query_class()
}

fn fault_of(error: &NetError) -> FetchError {
    if matches!(error, NetError::Timeout) { FetchError::TimedOut } else { FetchError::Broken(error.to_string()) }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test is its own server")]
mod tests {
    use super::*;
    use hickory_resolver::TlsConfig;
    use hickory_resolver::config::ResolverOpts;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn query() -> Query {
        Query::query(Name::from_ascii("a.test.").unwrap(), RecordType::MX)
    }

    #[test]
    fn rfc4035_3_2_2_who_validates_asks_with_do_and_cd_and_who_trusts_with_ad() {
        let bits = |flags| {
            let (message, _) = request(&query(), flags).into_parts();
            let edns = message.edns.unwrap();
            let meta = message.metadata;
            assert_eq!(edns.max_payload(), UDP_PAYLOAD_BYTES);
            [edns.flags().dnssec_ok, meta.checking_disabled, meta.authentic_data, meta.recursion_desired]
        };
        assert_eq!(bits(Flags::Validate), [true, true, false, true]);
        assert_eq!(bits(Flags::TrustAd), [false, false, true, true]);
        assert_eq!(bits(Flags::Authority), [true, false, false, false]);
    }

    #[test]
    fn rfc5452_9_1_an_answer_repeats_the_question() {
        let mut message = Message::response(1, OpCode::Query);
        assert!(!answers(&message, &query()), "no question");
        message.add_query(Query::query(Name::from_ascii("b.test.").unwrap(), RecordType::MX));
        assert!(!answers(&message, &query()), "another name");
        message.queries = vec![Query::query(Name::from_ascii("A.TEST.").unwrap(), RecordType::MX)];
        assert!(answers(&message, &query()), "case means nothing");
        message.queries = vec![Query::query(Name::from_ascii("a.test.").unwrap(), RecordType::A)];
        assert!(!answers(&message, &query()), "another type");
    }

    /// Answers every question of every connection with nothing; counts the connections.
    async fn serve(listener: TcpListener, connections: Arc<AtomicUsize>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut octets = vec![0; usize::from(length)];
                    stream.read_exact(&mut octets).await.unwrap();
                    let asked = Message::from_vec(&octets).unwrap();
                    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
                    answer.queries = asked.queries;
                    let octets = answer.to_vec().unwrap();
                    stream.write_u16(u16::try_from(octets.len()).unwrap()).await.unwrap();
                    stream.write_all(&octets).await.unwrap();
                }
            });
        }
    }

    #[tokio::test]
    async fn rfc7766_6_2_1_one_connection_carries_one_question_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::default();
        tokio::spawn(serve(listener, Arc::clone(&connections)));
        let context = PoolContext::new(ResolverOpts::default(), TlsConfig::new().unwrap());
        let (_udp, tcp) = Channel::udp(address, &Arc::new(context));
        for _question in 0..20 {
            tcp.ask(&Name::root(), RecordType::SOA, Flags::Validate).await.unwrap();
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}
