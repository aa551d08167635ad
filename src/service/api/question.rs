//! What `/api/v1` can be asked: from a request to a typed question, without I/O.

use super::wanted::{
    ActBody, ApiOrder, AskedOver, CheckBody, LogLevelBody, ReportsBody, SuspensionBody, resumption, suspended_kind,
};
use crate::accept::suspended::Resumption;
use crate::clock::Timestamp;
use crate::command::queue::Filter;
use crate::command::queue::page::{self, MOST_OF_PAGE, PageWanted};
use crate::config::users::UserRole;
use crate::envelope::QueueId;
use crate::smtp::address::Domain;
use crate::spool::tls_session::{ReportDay, TlsReportId};
use serde::Deserialize;

/// Where the interface begins.
pub(super) const ROOT: &str = "/api/v1/";

/// Messages of a page where nobody says how many.
const USUAL_PAGE: usize = 50;
/// The most stories of one answer.
const MOST_STORIES: usize = 100;
/// The longest subject, in octets: an address or a Message-ID.
const SUBJECT_LIMIT: usize = 998;

/// What is asked or ordered.
#[derive(Debug)]
pub(super) enum ApiQuestion {
    /// Who asks, and what they may do.
    Me,
    /// The description of the interface.
    OpenApi,
    /// How the relay is.
    Status,
    /// Which configuration is in force.
    Settings,
    /// A page of what waits.
    Queue(PageWanted),
    /// What waits, by age and domain.
    Summary,
    /// What happened to messages.
    Stories {
        /// A queue id, a Message-ID or an address.
        subject: String,
        /// The most messages.
        limit: usize,
    },
    /// The content of a message.
    Content(QueueId),
    /// Faults that many domains have in common.
    Incidents,
    /// The domains that are watched.
    Posture,
    /// One of them.
    PostureOf(Domain),
    /// What is known of a domain, watched or not.
    DomainView(Domain),
    /// The operator's weakenings.
    Exceptions,
    /// Who is suspended.
    Suspensions,
    /// The MTA-STS policies that are kept.
    Policies,
    /// What became of the reports on TLS.
    TlsReports,
    /// The report on TLS to a domain about a day.
    TlsReportOf(TlsReportId),
    /// The checks that run or have ended lately.
    Checks,
    /// One of them.
    Check(String),
    /// Its progress, as it comes.
    CheckEvents(String),
    /// Something is to change.
    Order(ApiOrder),
}

/// Why a request is no question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QuestionFault {
    /// There is nothing of that name.
    NotFound,
    /// It is there, for other methods.
    Method,
    /// It cannot be understood, for this reason.
    Malformed(String),
}

/// A way into the interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiRoute {
    /// The method.
    pub(super) method: &'static str,
    /// The path below [`ROOT`]; `{}` stands for any one word.
    pub(super) path: &'static str,
    /// What whoever asks must be.
    pub(super) needs: RouteNeeds,
}

/// Who may take a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteNeeds {
    /// Whoever has this role, or a higher one.
    Role(UserRole),
    /// A user of this host who may open the control socket: what steers the process itself, or shows its
    /// configuration, is no matter of a page.
    ThisHost,
}

const fn route(method: &'static str, path: &'static str, needs: UserRole) -> ApiRoute {
    ApiRoute { method, path, needs: RouteNeeds::Role(needs) }
}

const fn here(method: &'static str, path: &'static str) -> ApiRoute {
    ApiRoute { method, path, needs: RouteNeeds::ThisHost }
}

/// All of them.
pub(super) const ROUTES: &[ApiRoute] = &[
    route("GET", "me", UserRole::Look),
    route("GET", "openapi.json", UserRole::Look),
    route("GET", "status", UserRole::Look),
    route("GET", "queue", UserRole::Look),
    route("GET", "queue/summary", UserRole::Look),
    route("GET", "messages", UserRole::Look),
    route("GET", "messages/{}/content", UserRole::Operator),
    route("GET", "incidents", UserRole::Look),
    route("GET", "posture", UserRole::Look),
    route("GET", "posture/{}", UserRole::Look),
    route("GET", "domains/{}", UserRole::Look),
    route("GET", "exceptions", UserRole::Look),
    route("GET", "suspensions", UserRole::Look),
    route("POST", "suspensions", UserRole::Operator),
    route("DELETE", "suspensions", UserRole::Operator),
    route("GET", "policies", UserRole::Look),
    route("GET", "tls-reports", UserRole::Look),
    route("GET", "tls-reports/{}/{}", UserRole::Look),
    route("POST", "acts", UserRole::HelpDesk),
    route("GET", "checks", UserRole::Look),
    route("POST", "checks", UserRole::HelpDesk),
    route("GET", "checks/{}", UserRole::Look),
    route("DELETE", "checks/{}", UserRole::HelpDesk),
    route("GET", "checks/{}/events", UserRole::Look),
    here("GET", "settings"),
    here("POST", "reload"),
    here("POST", "log-level"),
    here("POST", "tls-reports"),
    here("POST", "drain"),
];

/// What a request consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiRequest<'a> {
    /// The method.
    pub(super) method: &'a str,
    /// The path, as it came.
    pub(super) path: &'a str,
    /// What follows the question mark.
    pub(super) query: &'a str,
    /// The body.
    pub(super) body: &'a [u8],
    /// The form in which the answer is wanted.
    pub(super) form: AnswerForm,
    /// Over what it came.
    pub(super) over: AskedOver,
    /// When it came.
    pub(super) now: Timestamp,
}

/// How the answer to an order about many messages is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// At its end, as one object.
    Whole,
    /// Message by message, as server-sent events.
    Events,
}

impl AnswerForm {
    /// What the field `Accept` says.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("text/event-stream")) { Self::Events } else { Self::Whole }
    }
}

impl ApiRequest<'_> {
    /// The way that it takes.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn route(&self) -> Result<&'static ApiRoute, QuestionFault> {
        let words = self.words();
        let fits = |route: &&ApiRoute| {
            let pattern: Vec<&str> = route.path.split('/').collect();
            pattern.len() == words.len() && pattern.iter().zip(&words).all(|(p, word)| *p == "{}" || p == word)
        };
        let mut there = ROUTES.iter().filter(fits).peekable();
        if there.peek().is_none() {
            return Err(QuestionFault::NotFound);
        }
        there.find(|route| route.method == self.method).ok_or(QuestionFault::Method)
    }

    /// What is asked by that way.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub(super) fn question(&self, route: &ApiRoute) -> Result<ApiQuestion, QuestionFault> {
        let words = self.words();
        let name = words.get(1).copied().unwrap_or_default();
        let question = match (route.method, route.path) {
            ("GET", "me") => ApiQuestion::Me,
            ("GET", "openapi.json") => ApiQuestion::OpenApi,
            ("GET", "status") => ApiQuestion::Status,
            ("GET", "settings") => ApiQuestion::Settings,
            ("GET", "queue") => ApiQuestion::Queue(page_wanted(self.query).map_err(QuestionFault::Malformed)?),
            ("GET", "queue/summary") => ApiQuestion::Summary,
            ("GET", "messages") => self.stories()?,
            ("GET", "messages/{}/content") => ApiQuestion::Content(queue_id(name)?),
            ("GET", "incidents") => ApiQuestion::Incidents,
            ("GET", "posture") => ApiQuestion::Posture,
            ("GET", "posture/{}") => ApiQuestion::PostureOf(domain(name)?),
            ("GET", "domains/{}") => ApiQuestion::DomainView(domain(name)?),
            ("GET", "exceptions") => ApiQuestion::Exceptions,
            ("GET", "suspensions") => ApiQuestion::Suspensions,
            ("DELETE", "suspensions") => ApiQuestion::Order(self.resume()?),
            ("GET", "policies") => ApiQuestion::Policies,
            ("GET", "tls-reports") => ApiQuestion::TlsReports,
            ("POST", _) => ApiQuestion::Order(self.order(route)?),
            ("GET", "tls-reports/{}/{}") => {
                let day = words.get(2).copied().unwrap_or_default();
                ApiQuestion::TlsReportOf(TlsReportId { day: report_day(day)?, domain: domain(name)?.to_string() })
            }
            ("GET", "checks") => ApiQuestion::Checks,
            ("GET", "checks/{}") => ApiQuestion::Check(name.to_owned()),
            ("DELETE", "checks/{}") => ApiQuestion::Order(ApiOrder::CancelCheck(name.to_owned())),
            ("GET", "checks/{}/events") => ApiQuestion::CheckEvents(name.to_owned()),
            _ => return Err(QuestionFault::NotFound),
        };
        Ok(question)
    }

    fn words(&self) -> Vec<&str> {
        self.path.strip_prefix(ROOT).unwrap_or_default().split('/').collect()
    }

    fn stories(&self) -> Result<ApiQuestion, QuestionFault> {
        let (mut subject, mut limit) = (String::new(), None);
        for (name, value) in pairs(self.query) {
            match name.as_str() {
                "subject" => subject = value,
                "limit" => limit = Some(number(&value, MOST_STORIES).map_err(QuestionFault::Malformed)?),
                _ => return Err(unknown(&name)),
            }
        }
        match subject.trim() {
            "" => Err(malformed("subject: write a queue id, a Message-ID or an address")),
            long if long.len() > SUBJECT_LIMIT => Err(malformed("subject: that is too long")),
            subject => Ok(ApiQuestion::Stories { subject: subject.to_owned(), limit: limit.unwrap_or(USUAL_PAGE / 2) }),
        }
    }

    fn order(&self, route: &ApiRoute) -> Result<ApiOrder, QuestionFault> {
        let order = match route.path {
            "acts" => {
                let wanted = self.json::<ActBody>()?.wanted(self.over);
                wanted.map(if self.form == AnswerForm::Events { ApiOrder::ActInEvents } else { ApiOrder::Act })
            }
            "suspensions" => self.json::<SuspensionBody>()?.suspension(self.over, self.now).map(ApiOrder::Suspend),
            "checks" => Ok(ApiOrder::StartCheck(self.json::<CheckBody>()?.domain)),
            "log-level" => self.json::<LogLevelBody>()?.wanted(),
            "tls-reports" => Ok(ApiOrder::SendTlsReports(self.json::<ReportsBody>()?.domain)),
            "reload" => Ok(ApiOrder::Reload),
            "drain" => Ok(ApiOrder::Drain),
            _ => return Err(QuestionFault::NotFound),
        };
        order.map_err(QuestionFault::Malformed)
    }

    fn resume(&self) -> Result<ApiOrder, QuestionFault> {
        let (mut kind, mut known, mut reason) = (None, None, String::new());
        for (name, value) in pairs(self.query) {
            match name.as_str() {
                "kind" => kind = suspended_kind(&value),
                "name" => known = Some(value),
                "reason" => reason = value,
                _ => return Err(unknown(&name)),
            }
        }
        let (Some(kind), Some(name)) = (kind, known) else {
            return Err(malformed("give kind (sender, user or destination) and name"));
        };
        let wanted = resumption(Resumption { kind, name, reason }, self.over);
        wanted.map(ApiOrder::Resume).map_err(QuestionFault::Malformed)
    }

    fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T, QuestionFault> {
        serde_json::from_slice(self.body).map_err(|error| malformed(&format!("the body: {error}")))
    }
}

/// The page that an address asks for.
///
/// # Errors
/// What cannot be understood.
pub(super) fn page_wanted(query: &str) -> Result<PageWanted, String> {
    let (mut filter, mut sort, mut after, mut limit) = (Filter::default(), None, None, USUAL_PAGE);
    // A form sends what nobody has filled in, too.
    for (name, value) in pairs(query).into_iter().filter(|(_, value)| !value.is_empty()) {
        match name.as_str() {
            "sort" => sort = Some(value),
            "after" => after = Some(value),
            "limit" => limit = number(&value, MOST_OF_PAGE)?,
            _ => filter = filter.with(&name, value.trim()).map_err(|why| format!("{name}: {why}"))?,
        }
    }
    Ok(PageWanted { filter, order: page::from_words(sort.as_deref(), after.as_deref())?, limit })
}

/// Names and values of a query or a form.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("limit: write a number from 1 to {most}"))
}

fn queue_id(text: &str) -> Result<QueueId, QuestionFault> {
    text.parse().map_err(|_| QuestionFault::NotFound)
}

fn domain(text: &str) -> Result<Domain, QuestionFault> {
    text.parse().map_err(|_| malformed("that is no domain"))
}

fn report_day(text: &str) -> Result<ReportDay, QuestionFault> {
    ReportDay::try_from(text.to_owned()).map_err(|_| malformed("write a day such as 2026-11-21"))
}

fn malformed(why: &str) -> QuestionFault {
    QuestionFault::Malformed(why.to_owned())
}

fn unknown(name: &str) -> QuestionFault {
    malformed(&format!("{name}: there is no such condition"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::api::wanted::{ActWanted, needed_for};
    use crate::spool::event::Act;
    use std::time::Duration;

    fn asked_over(over: AskedOver, method: &str, target: &str, body: &str) -> Result<ApiQuestion, QuestionFault> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let form = AnswerForm::accepted(None);
        let request = ApiRequest { method, path, query, body: body.as_bytes(), form, over, now: Timestamp(0) };
        request.question(request.route()?)
    }

    fn asked(method: &str, target: &str, body: &str) -> Result<ApiQuestion, QuestionFault> {
        asked_over(AskedOver::Network, method, target, body)
    }

    fn fault(method: &str, target: &str, body: &str) -> QuestionFault {
        asked(method, target, body).unwrap_err()
    }

    #[test]
    fn every_way_leads_to_a_question() {
        for route in ROUTES {
            let path = route.path.replace("/{}/{}", "/a.example/2026-11-21");
            let path = path.replace("{}", if route.path.contains("content") { "0000000000001" } else { "a.example" });
            let query = match (route.method, route.path) {
                ("GET", "messages") => "?subject=x",
                ("DELETE", "suspensions") => "?kind=user&name=eve&reason=repaired",
                _ => "",
            };
            let body = match (route.method, route.path) {
                ("POST", "suspensions") => r#"{"kind":"user","name":"eve","reason":"taken over","for":"4h"}"#,
                ("POST", "acts") => r#"{"act":"hold","domain":"a.example","reason":"asked to"}"#,
                ("POST", "log-level") => r#"{"level":"debug","for":"10m"}"#,
                ("POST", _) => r#"{"domain":"a.example"}"#,
                _ => "",
            };
            asked(route.method, &format!("{ROOT}{path}{query}"), body)
                .unwrap_or_else(|fault| panic!("{route:?}: {fault:?}"));
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_is_asked_wrongly() {
        for nowhere in ["/api/v1/", "/api/v1/nothing", "/api/v1/queue/", "/api/v1//queue", "/api/v2/queue", "/api/v1"] {
            assert_eq!(fault("GET", nowhere, ""), QuestionFault::NotFound, "{nowhere}");
        }
        assert_eq!(fault("PUT", "/api/v1/queue", ""), QuestionFault::Method);
        assert_eq!(fault("GET", "/api/v1/acts", ""), QuestionFault::Method);
        for (target, words) in [
            ("/api/v1/queue?limit=0", "from 1 to 500"),
            ("/api/v1/queue?limit=501", "from 1 to 500"),
            ("/api/v1/queue?sort=colour", "oldest, newest, domain"),
            ("/api/v1/queue?sort=size&after=1795261468000-0000000000001", "next"),
            ("/api/v1/queue?after=x", "next"),
            ("/api/v1/queue?cause=nonsense", "no such cause"),
            ("/api/v1/queue?colour=red", "colour: there is no such condition"),
            ("/api/v1/messages", "write a queue id"),
            ("/api/v1/posture/a%20b", "no domain"),
            ("/api/v1/tls-reports/a.example/tomorrow", "a day such as"),
        ] {
            let QuestionFault::Malformed(why) = fault("GET", target, "") else { panic!("{target}") };
            assert!(why.contains(words), "{target}: {why}");
        }
    }

    #[test]
    fn an_order_names_what_it_is_about_and_why() {
        for (body, words) in [
            ("", "the body"),
            (r#"{"act":"hold","reason":"x"}"#, "say which messages"),
            (r#"{"act":"hold","id":["0000000000001"]}"#, "say why"),
            (r#"{"act":"hold","id":["0000000000001"],"reason":" "}"#, "say why"),
            (r#"{"act":"read","id":["0000000000001"],"reason":"x"}"#, "its own address"),
            (r#"{"act":"hold","id":["nonsense"],"reason":"x"}"#, "no queue id"),
            (r#"{"act":"explode","all":true,"reason":"x"}"#, "the body"),
            (r#"{"act":"hold","all":true,"reason":"x","colour":"red"}"#, "colour"),
        ] {
            let QuestionFault::Malformed(why) = fault("POST", "/api/v1/acts", body) else { panic!("{body}") };
            assert!(why.contains(words), "{body}: {why}");
        }
        let retry = asked("POST", "/api/v1/acts", r#"{"act":"retry","all":true}"#).unwrap();
        assert!(matches!(retry, ApiQuestion::Order(ApiOrder::Act(ActWanted { act: Act::Retry, reason: None, .. }))));
        assert_eq!(needed_for(Act::Retry), UserRole::HelpDesk);
    }

    #[test]
    fn a_user_of_this_host_need_not_say_why() {
        for (path, body) in [
            ("acts", r#"{"act":"hold","all":true}"#),
            ("acts", r#"{"act":"read","id":["0000000000001"]}"#),
            ("suspensions", r#"{"kind":"user","name":"eve"}"#),
        ] {
            let path = format!("{ROOT}{path}");
            assert!(asked_over(AskedOver::Socket, "POST", &path, body).is_ok(), "{body}");
            assert!(matches!(fault("POST", &path, body), QuestionFault::Malformed(_)), "{body}");
        }
        assert!(asked_over(AskedOver::Socket, "POST", &format!("{ROOT}acts"), r#"{"act":"hold"}"#).is_err());
        let resume = format!("{ROOT}suspensions?kind=user&name=eve&reason=%20");
        assert!(asked_over(AskedOver::Socket, "DELETE", &resume, "").is_ok());
        assert!(matches!(fault("DELETE", &resume, ""), QuestionFault::Malformed(_)), "an end needs a reason, too");
    }

    #[test]
    fn a_page_has_the_conditions_of_the_command_line() {
        let PageWanted { filter, limit, .. } =
            page_wanted("domain=DEAD.test&cause=&older=4h&sender=%3C%3E&sort=newest&limit=7").unwrap();
        assert_eq!((filter.domain.as_deref(), filter.cause, limit), (Some("dead.test"), None, 7));
        assert_eq!((filter.older, filter.sender.as_deref()), (Some(Duration::from_secs(14_400)), Some("<>")));
    }
}
