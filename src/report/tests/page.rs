//! The page beside the text: the same words, nothing from outside but as text, of bounded size
//! (RFC 6522 §3, RFC 2046 §5.1.4), in one language or several.

use super::*;
use crate::config::Language;
use crate::outcome::Side;
use std::collections::BTreeMap;

/// What a page is made of: nothing that leads or loads from anywhere. The comments are those that Outlook reads.
const ELEMENTS: [&str; 20] = [
    "!DOCTYPE",
    "!--[if",
    "![endif]--",
    "html",
    "head",
    "meta",
    "style",
    "body",
    "table",
    "tr",
    "td",
    "th",
    "div",
    "p",
    "h1",
    "h2",
    "ul",
    "li",
    "bdi",
    "br",
];

/// The page of the only report.
fn page(case: &ReportCase) -> String {
    let leaves = leaves(&case.report());
    leaves.into_iter().find(|(kind, _)| kind == "text/html").unwrap().1
}

/// What a page shows, as a reader sees it: without elements, with what was escaped, each run of spaces as one.
fn shown(page: &str) -> String {
    let body = page.split_once("<body").unwrap().1.replace("<bdi>", "").replace("</bdi>", "");
    let pieces = body.split('>').skip(1).map(|piece| piece.split('<').next().unwrap_or_default());
    let text = pieces.collect::<Vec<_>>().join(" ");
    let escapes = [("&nbsp;", " "), ("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    let text = escapes.into_iter().fold(text, |text, (escape, character)| text.replace(escape, character));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn in_languages(usual: &[Language]) -> Texts {
    Texts::choose(&LanguageChoice { usual, by_domain: &BTreeMap::new() }, None).unwrap()
}

/// Every word of the text, without what draws lines there.
fn words(text: &str) -> Vec<String> {
    let is_drawn = |word: &&str| word.chars().all(|c| c == '-');
    let mut words: Vec<String> = text
        .split_whitespace()
        .filter(|word| !is_drawn(word))
        .map(|word| word.trim_end_matches(':').to_owned())
        .collect();
    words.sort_unstable();
    words
}

#[test]
fn rfc6522_3_text_and_page_say_the_same() {
    let (no, gone) =
        (rejected(&[b"550 5.1.1 <bob@partner.example>: no \"such\" user & none"]), expired(dane_mismatch()));
    let failures = [("bob@partner.example", &no), ("eve@partner.example", &gone), ("\"c  d\"@other.example", &gone)];
    for usual in [&[Language::En][..], &[Language::Nl, Language::En], &[Language::De, Language::Fr]] {
        let mut case = ReportCase::new(&failures, HEADER);
        case.texts = in_languages(usual);
        let report = case.report();
        let leaves = leaves(&report);
        let kinds: Vec<&str> = leaves.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["text/plain", "text/html", "message/delivery-status", "text/rfc822-headers"]);
        let message = MessageParser::default().parse(report.as_bytes()).unwrap();
        assert_eq!(message.parts[1].content_type().unwrap().subtype(), Some("alternative"));
        assert_eq!(words(&shown(&leaves[1].1)), words(&leaves[0].1));
    }
}

#[test]
fn without_html_a_report_has_the_text_alone() {
    let no = rejected(&[b"550 5.1.1 no such user"]);
    let case = ReportCase { html: false, ..ReportCase::new(&[("bob@partner.example", &no)], HEADER) };
    let report = case.report();
    let kinds: Vec<String> = leaves(&report).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    assert!(!report.contains("multipart/alternative"));
    check_golden("plain.eml", &report);
}

#[test]
fn what_strangers_wrote_is_text_on_the_page() {
    let said: [&[u8]; 3] = [
        b"550-5.7.1 <script>alert(1)</script><img src=http://evil.example/x.png>",
        b"550-5.7.1 \"'></td></table><a href=\"http://evil.example\">click</a> \x1b[31m {{ 7*7 }} <!--",
        b"550 5.7.1 a\xe2\x80\xaeb",
    ];
    let hostile = rejected(&said);
    let to = "\"<b onclick='x'>\u{202e}\u{2066}&amp;\"@partner.example";
    let mut case = ReportCase::new(&[(to, &hostile)], "Subject: <h1>\u{202e}big</h1>\r\n\r\n".as_bytes());
    case.envelope.charset = Charset::Utf8;
    let page = page(&case);
    for element in page.split('<').skip(1) {
        let name = element.split([' ', '>', '\n']).next().unwrap();
        assert!(ELEMENTS.contains(&name.trim_start_matches('/')), "{name} in {page}");
        assert!(!element.split('>').next().unwrap().contains("evil"), "{element}");
    }
    assert!(!page.contains("url(") && !page.contains("@import") && page.matches("<!--").count() == 2);
    assert!(!page.chars().any(|c| crate::text::is_deceptive(c) || (c.is_control() && !"\r\n".contains(c))), "{page}");
    let shown = shown(&page);
    for text in ["<script>alert(1)</script>", "<b onclick='x'>\\u{202e}\\u{2066}&amp;", "{{ 7*7 }}", "\\x1B[31m"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    let text = parts(&case.report()).swap_remove(0).1;
    assert!(!text.chars().any(crate::text::is_deceptive) && text.contains("\\u{202e}"), "{text}");
}

#[test]
fn a_page_about_a_thousand_recipients_shows_some_and_says_so() {
    let same = rejected(&[b"550 5.7.1 your message is not wanted"]);
    let to: Vec<String> = (0..1000).map(|n| format!("r{n:03}@domain-{n:03}.example")).collect();
    let case = ReportCase::new(&to.iter().map(|to| (to.as_str(), &same)).collect::<Vec<_>>(), HEADER);
    let page = page(&case);
    assert!(page.len() < 40_000, "{} octets", page.len());
    let shown = shown(&page);
    assert!(shown.contains("And 950 more recipients. The second part of this report names each of them."), "{shown}");
    assert!(shown.contains("r049@domain-049.example") && !shown.contains("r050@domain-050.example"));
    assert_eq!(status_of(&case.report()).matches("Final-Recipient: ").count(), 1000);
}

#[test]
fn a_report_in_two_languages_says_everything_in_both_and_the_evidence_once() {
    let mut case = ReportCase::new(&[("bob@partner.example", &expired(dane_mismatch()))], HEADER);
    case.texts = in_languages(&[Language::Nl, Language::En]);
    let report = check_kind(
        "dutch-english.eml",
        &case,
        &[
            "Uw bericht is niet bezorgd bij bob@partner.example.",
            "English -------  Your message was not delivered to bob@partner.example.",
            "Voor beheerders",
        ],
    );
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    assert_eq!(message.subject(), Some("Niet bezorgd: Offer 2026"));
    let page = page(&case);
    assert!(page.contains("<html lang=\"nl\">") && page.contains("<div lang=\"en\">"), "{page}");
    for (once, count) in [("Queue id", 1), ("relay check partner.example", 1), ("For administrators", 0)] {
        assert_eq!(shown(&page).matches(once).count(), count, "{once}");
    }
}

#[test]
fn german_and_french_reports_are_whole() {
    for (name, language, expected) in [
        ("german.eml", Language::De, ["Ihre Nachricht wurde nicht an bob@partner.example zugestellt.", "4 Tage lang"]),
        ("french.eml", Language::Fr, ["Votre message n'a pas été remis à bob@partner.example.", "pendant 4 jours"]),
    ] {
        let mut case = ReportCase::new(&[("bob@partner.example", &expired(dane_mismatch()))], HEADER);
        case.texts = in_languages(&[language]);
        check_kind(name, &case, &expected);
    }
}

#[test]
fn every_cause_and_kind_has_a_page_in_every_language() {
    for language in Language::ALL {
        for cause in every::cause() {
            let recipient = [("bob@partner.example", &cause)];
            let failed = ReportCase { texts: in_languages(&[language]), ..ReportCase::new(&recipient, HEADER) };
            assert!(shown(&page(&failed)).contains("bob@partner.example"), "{cause:?}");
        }
        let waits =
            ReportCase { texts: in_languages(&[language]), ..waiting(&["bob@partner.example"], &dane_mismatch()) };
        let shown = shown(&page(&waits));
        assert!(shown.contains("2026-11-21 12:44 UTC"), "{shown}");
        let side = in_languages(&[language]);
        let reader = "ann@corp.example".parse().unwrap();
        let who = side.of(&reader).first.side_must_act(Side::Recipient);
        assert!(shown.contains(&who), "{who} in {shown}");
    }
}
