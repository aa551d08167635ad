//! The words of the page, in English and in Dutch. What the relay says of mail is in `dutch.rs`, and in English
//! as everywhere else.

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageLanguage {
    /// English.
    English,
    /// Dutch.
    Dutch,
}

/// Makes the type of all words, and one value of it for each language.
macro_rules! words {
    ($($name:ident: $english:literal, $dutch:literal;)*) => {
        /// All words in one language.
        #[derive(Debug)]
        pub(super) struct PageWords {
            /// Which it is.
            pub(super) language: PageLanguage,
            $(pub(super) $name: &'static str,)*
        }

        /// In English.
        static ENGLISH: PageWords = PageWords { language: PageLanguage::English, $($name: $english,)* };
        /// In Dutch.
        static DUTCH: PageWords = PageWords { language: PageLanguage::Dutch, $($name: $dutch,)* };
    };
}

words! {
    tag: "en", "nl";
    skip: "To the content", "Naar de inhoud";
    menu: "Pages", "Pagina's";
    now: "Now", "Nu";
    find: "Find", "Zoeken";
    domain: "Domain", "Domein";
    queue: "Queue", "Wachtrij";
    incidents: "Incidents", "Incidenten";
    reports: "Reports", "Rapporten";
    exceptions: "Exceptions", "Uitzonderingen";
    log_in: "Log in", "Inloggen";
    log_out: "Log out", "Uitloggen";
    name: "Name", "Naam";
    password: "Password", "Wachtwoord";
    wrong: "Name or password is wrong.", "Naam of wachtwoord is onjuist.";
    later: "Too many logins have failed. Try again in a quarter of an hour.",
        "Te veel mislukte pogingen. Probeer het over een kwartier opnieuw.";
    no_role: "This user has no role here.", "Deze gebruiker heeft hier geen rol.";
    flows: "Mail flows", "De mail loopt";
    stopped: "No new mail is taken", "Er wordt geen nieuwe mail aangenomen";
    nothing_waits: "nothing waits", "er wacht niets";
    one_waits: "1 domain waits", "1 domein wacht";
    domains_wait: "domains wait", "domeinen wachten";
    messages_held: "Messages that are held", "Vastgehouden berichten";
    records_damaged: "Damaged records in the spool (relay audit)", "Beschadigde records in de spool (relay audit)";
    counting: "the queue is being counted", "de wachtrij wordt geteld";
    go_on: "incidents that go on", "incidenten die gaande zijn";
    dns_path_broken: "DNS path broken:", "DNS-pad kapot:";
    good: "Good", "Goed";
    look_at: "Look", "Kijken";
    act_now: "Act", "Handelen";
    person: "What needs a person", "Wat een mens nodig heeft";
    nobody: "Nothing at the moment.", "Op dit moment niets.";
    last_hour: "The last hour", "Het laatste uur";
    last_day: "The last day", "De laatste dag";
    recipients_in: "recipients in", "ontvangers in";
    recipients_out: "out", "uit";
    waits_by_cause: "What waits, by domain", "Wat wacht, per domein";
    waits_by_age: "What waits, by age", "Wat wacht, naar leeftijd";
    age: "Age", "Leeftijd";
    messages: "Messages", "Berichten";
    recipients: "Recipients", "Ontvangers";
    causes: "Causes", "Oorzaken";
    oldest: "Oldest", "Oudste";
    older: "older", "ouder";
    under: "under", "onder";
    held: "held", "vastgehouden";
    as_of: "Counted at", "Geteld om";
    subject: "Queue id, Message-ID or address", "Queue-ID, Message-ID of adres";
    search: "Search", "Zoek";
    nothing_known: "Nothing is known of that. It may be older than the history that is kept.",
        "Daarover is niets bekend. Het kan ouder zijn dan de bewaarde geschiedenis.";
    more_exist: "There are older messages.", "Er zijn oudere berichten.";
    from: "From", "Van";
    to: "To", "Aan";
    accepted: "Accepted", "Aangenomen";
    what_happened: "What happened", "Wat er gebeurde";
    for_caller: "For the caller", "Voor de beller";
    copy: "Copy", "Kopieer";
    copied: "Copied", "Gekopieerd";
    met_incident: "Many domains failed alike", "Veel domeinen faalden op dezelfde wijze";
    check: "Check now", "Nu controleren";
    checking: "The DNS and the mail servers are being asked", "De DNS en de mailservers worden bevraagd";
    seconds: "seconds", "seconden";
    stop_check: "Stop", "Stop";
    reload_page: "The page loads again by itself.", "De pagina ververst zichzelf.";
    check_ended: "The check was ended.", "De controle is beëindigd.";
    posture: "What the watch has found", "Wat de bewaking vond";
    not_watched: "This domain is not watched.", "Dit domein wordt niet bewaakt.";
    nothing_found: "Nothing was found that will stop mail.", "Er is niets gevonden dat mail zal tegenhouden.";
    mail_servers: "Mail servers", "Mailservers";
    being_asked: "The DNS is being asked; the page loads again by itself.",
        "De DNS wordt bevraagd; de pagina ververst zichzelf.";
    no_answer: "the DNS gave no answer in time", "de DNS gaf niet op tijd antwoord";
    no_mx: "no MX, the domain itself", "geen MX, het domein zelf";
    by_configuration: "by the configuration", "volgens de configuratie";
    no_dane: "No DANE", "Geen DANE";
    matched: "matched lately", "paste onlangs";
    usable: "usable, not seen to match lately", "bruikbaar, paste onlangs niet";
    unusable: "not usable", "onbruikbaar";
    last_deliveries: "Last deliveries", "Laatste afleveringen";
    no_delivery: "None among the recipients that came last, as far back as",
        "Geen onder de laatste ontvangers, tot zo ver terug:";
    server: "Server", "Server";
    kept_policy: "MTA-STS policy", "MTA-STS-beleid";
    no_policy: "No policy is kept.", "Er is geen beleid bewaard.";
    what_waits: "What waits for it", "Wat voor dit domein wacht";
    cause: "Cause", "Oorzaak";
    sender: "Sender", "Afzender";
    older_than: "Waits longer than", "Wacht langer dan";
    sort: "First", "Eerst";
    newest: "Newest", "Nieuwste";
    by_domain: "By domain", "Op domein";
    by_next: "Next attempt soonest", "Eerstvolgende poging";
    by_size: "Largest", "Grootste";
    by_attempts: "Most attempts", "Meeste pogingen";
    filter: "Filter", "Filter";
    next_page: "Next page", "Volgende pagina";
    none_fit: "No message that waits fits.", "Geen wachtend bericht voldoet.";
    searched_on: "The search goes on on the next page.", "Het zoeken gaat verder op de volgende pagina.";
    next_try: "Next", "Volgende";
    tries: "Tries", "Pogingen";
    choose: "Choose", "Kies";
    what_to_do: "With the chosen ones", "Met de gekozen berichten";
    reason: "Reason", "Reden";
    retry: "Try again now", "Nu opnieuw proberen";
    hold: "Hold", "Vasthouden";
    release: "Release", "Vrijgeven";
    bounce: "Return to the sender", "Terug naar de afzender";
    delete: "Delete; nobody is told", "Verwijderen; niemand krijgt bericht";
    do_it: "Do it", "Uitvoeren";
    done: "Done", "Gedaan";
    left_alone: "left alone", "met rust gelaten";
    undo: "Undo", "Ongedaan maken";
    undone: "taken back", "teruggenomen";
    choose_some: "Choose at least one message.", "Kies ten minste één bericht.";
    no_incident: "No incident is known.", "Er is geen incident bekend.";
    goes_on: "goes on", "is gaande";
    ended: "ended", "voorbij";
    since: "Since", "Sinds";
    until: "Until", "Tot";
    side: "Side", "Kant";
    domains: "Domains", "Domeinen";
    todo: "What to do", "Wat te doen";
    evidence: "What was seen", "Wat er is gezien";
    tls_reports: "Reports on TLS", "Rapporten over TLS";
    no_reports: "Nothing is counted.", "Er is niets geteld.";
    as_counted: "As it is made of what is counted, for the places that the domain names and for your own copies.",
        "Zoals het uit de tellingen wordt gemaakt, voor de plaatsen die het domein noemt en voor uw eigen kopieën.";
    download: "Download", "Downloaden";
    day: "Day", "Dag";
    succeeded: "Succeeded", "Gelukt";
    failed: "Failed", "Mislukt";
    report: "Report", "Rapport";
    in_force: "Exceptions in force", "Uitzonderingen van kracht";
    over: "Exceptions that are over", "Uitzonderingen die voorbij zijn";
    no_exceptions: "None.", "Geen.";
    suspensions: "Suspended", "Geschorst";
    nobody_suspended: "Nobody is suspended.", "Niemand is geschorst.";
    suspend: "Suspend", "Schorsen";
    resume: "Let in again", "Weer toelaten";
    kind: "Kind", "Soort";
    user: "user", "gebruiker";
    destination: "destination", "bestemming";
    who_suspended: "Who suspended, and let in again", "Wie heeft geschorst en weer toegelaten";
    was_suspended: "suspended", "geschorst";
    was_resumed: "let in again", "weer toegelaten";
    for_how_long: "For how long, such as 4h; empty: until it is ended",
        "Hoe lang, zoals 4h; leeg: tot het wordt beëindigd";
    by: "by", "door";
    as_command: "As `relay check` says it", "Zoals `relay check` het zegt, in het Engels";
}

impl PageWords {
    /// Those that a browser prefers: whichever of the two it names first.
    pub(super) fn preferred(accept_language: Option<&str>) -> &'static Self {
        let named = accept_language.unwrap_or_default().split(',').map(str::trim);
        let mut known = named.filter_map(|tag| match tag.split(['-', ';']).next() {
            Some("nl") => Some(&DUTCH),
            Some("en") => Some(&ENGLISH),
            Some(_) | None => None,
        });
        known.next().unwrap_or(&ENGLISH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_first_that_a_browser_names_and_the_page_knows() {
        let tag = |header: &str| PageWords::preferred(Some(header)).tag;
        assert_eq!([tag("nl-NL,nl;q=0.9,en;q=0.8"), tag("de,en;q=0.5"), tag("fr"), tag("")], ["nl", "en", "en", "en"]);
        assert_eq!(PageWords::preferred(None).tag, "en");
    }
}
