//! The parameters of MAIL and RCPT, as an MX host of the lab takes them (RFC 5321 §4.1.2, §4.1.1.11).
//!
//! A parameter is taken only when its keyword was in the last reply to EHLO. A relay that sends
//! what was not offered gets 555, as it would from a real server.

use crate::smtp::reply::Reply;

/// What is wrong with the parameters of MAIL, behind this offer.
pub(in crate::lab) fn refuse_mail(params: &str, offered: &[String], secured: CommandChannel) -> Option<Reply> {
    params.split_ascii_whitespace().find_map(|param| refuse_mail_param(param, offered, secured))
}

/// What is wrong with the parameters of RCPT, behind this offer.
pub(in crate::lab) fn refuse_rcpt(params: &str, offered: &[String]) -> Option<Reply> {
    params.split_ascii_whitespace().find_map(|param| {
        let (name, _) = split(param);
        match name.as_str() {
            // RFC 3461 §4.1, §4.2.
            "NOTIFY" | "ORCPT" if has(offered, "DSN") => None,
            _ => Some(not_offered(param)),
        }
    })
}

/// Whether a command came through TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum CommandChannel {
    Clear,
    Tls,
}

fn refuse_mail_param(param: &str, offered: &[String], secured: CommandChannel) -> Option<Reply> {
    let (name, value) = split(param);
    let needs = |keyword: &str| if has(offered, keyword) { None } else { Some(not_offered(param)) };
    match (name.as_str(), value) {
        ("SIZE", Some(value)) => size(value, offered, param),
        ("BODY", Some(value)) => match value.to_ascii_uppercase().as_str() {
            "7BIT" | "8BITMIME" => needs("8BITMIME"),
            // RFC 3030 §3: of no use without BDAT.
            "BINARYMIME" => needs("BINARYMIME").or_else(|| needs("CHUNKING")),
            _ => Some(Reply::new(501, 5, 4, format!("not known here: {param}"))),
        },
        ("RET" | "ENVID", Some(_)) => needs("DSN"),
        ("AUTH", Some(_)) => needs("AUTH"),
        ("SMTPUTF8", None) => needs("SMTPUTF8"),
        // RFC 8689 §4.1: never in clear, whatever was offered.
        ("REQUIRETLS", None) if secured == CommandChannel::Clear && has(offered, "REQUIRETLS") => {
            Some(Reply::new(530, 7, 10, "REQUIRETLS needs TLS"))
        }
        ("REQUIRETLS", None) => needs("REQUIRETLS"),
        _ => Some(not_offered(param)),
    }
}

/// RFC 1870 §6.1: what is declared too large is refused at once.
fn size(value: &str, offered: &[String], param: &str) -> Option<Reply> {
    let Ok(declared) = value.parse::<u64>() else { return Some(Reply::new(501, 5, 4, format!("no size: {param}"))) };
    let Some(keyword) = offered.iter().find(|keyword| is(keyword, "SIZE")) else {
        return Some(not_offered(param));
    };
    let limit = keyword.split_once(' ').map_or(0, |(_, limit)| limit.parse().unwrap_or(0));
    // RFC 1870 §4: 0 and nothing mean that there is no fixed limit.
    if limit > 0 && declared > limit { Some(Reply::new(552, 3, 4, "message too large")) } else { None }
}

fn not_offered(param: &str) -> Reply {
    Reply::new(555, 5, 4, format!("not offered: {param}"))
}

/// Whether a keyword is among those offered.
pub(in crate::lab) fn has(offered: &[String], keyword: &str) -> bool {
    offered.iter().any(|there| is(there, keyword))
}

fn is(line: &str, keyword: &str) -> bool {
    line.split(' ').next().is_some_and(|there| there.eq_ignore_ascii_case(keyword))
}

fn split(param: &str) -> (String, Option<&str>) {
    let (name, value) = param.split_once('=').map_or((param, None), |(name, value)| (name, Some(value)));
    (name.to_ascii_uppercase(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(params: &str, offered: &[&str]) -> Option<u16> {
        let offered: Vec<String> = offered.iter().map(|&keyword| keyword.to_owned()).collect();
        refuse_mail(params, &offered, CommandChannel::Tls).map(|reply| reply.code)
    }

    #[test]
    fn rfc5321_4_1_1_11_parameters_need_their_keyword() {
        assert_eq!(code("", &[]), None);
        assert_eq!(code("SIZE=10 BODY=8BITMIME", &["size 100", "8BITMIME"]), None);
        for params in ["SIZE=10", "BODY=8BITMIME", "RET=HDRS", "SMTPUTF8", "REQUIRETLS", "X-OWN=1", "SIZE"] {
            assert_eq!(code(params, &["PIPELINING"]), Some(555), "{params}");
        }
        assert_eq!(code("BODY=BINARYMIME", &["BINARYMIME"]), Some(555));
        assert_eq!(code("REQUIRETLS SMTPUTF8 RET=FULL ENVID=x", &["REQUIRETLS", "SMTPUTF8", "DSN"]), None);
        assert_eq!(refuse_rcpt("NOTIFY=NEVER", &["DSN".to_owned()]), None);
        assert_eq!(refuse_rcpt("NOTIFY=NEVER", &[]).unwrap().code, 555);
    }

    #[test]
    fn rfc1870_6_1_the_declared_size_is_held_against_the_limit() {
        assert_eq!(code("SIZE=100", &["SIZE 100"]), None);
        assert_eq!(code("SIZE=101", &["SIZE 100"]), Some(552));
        assert_eq!(code("SIZE=101", &["SIZE"]), None);
        assert_eq!(code("SIZE=ten", &["SIZE 100"]), Some(501));
    }

    #[test]
    fn rfc8689_4_1_requiretls_in_clear_is_refused() {
        let offered = ["REQUIRETLS".to_owned()];
        assert_eq!(refuse_mail("REQUIRETLS", &offered, CommandChannel::Clear).unwrap().code, 530);
        assert_eq!(refuse_mail("REQUIRETLS", &offered, CommandChannel::Tls), None);
    }
}
