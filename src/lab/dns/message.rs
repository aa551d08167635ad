//! The frame of every answer: its header, its question, its OPT record (RFC 1035 §4.1.1, RFC 6891 §6.1.1).

use super::answer::OUR_PAYLOAD;
use hickory_proto::op::{Edns, Message, Metadata};

/// The answer's header, question and OPT record, as the request wants them.
pub(in crate::lab) fn skeleton(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.metadata.recursion_available = true;
    reply.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}
