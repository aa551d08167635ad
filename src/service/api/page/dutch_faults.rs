//! Faults in Dutch by their words: what is wrong and what to do, where the fault itself, with its names, is not at hand;
//! and the Dutch of the words that stand beside them.

use crate::check::Verdict;
use crate::check::posture::PostureKind;
use crate::outcome::{Certainty, Side};
use crate::resolve::AbsentBecause;
use crate::resolve::paths::standing::PathStanding;
use axum::http::StatusCode;

/// A fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct DutchFault {
    word: &'static str,
    /// What is wrong.
    pub(super) sentence: &'static str,
    /// What to do about it.
    pub(super) to_do: &'static str,
}

const fn fault(word: &'static str, sentence: &'static str, to_do: &'static str) -> DutchFault {
    DutchFault { word, sentence, to_do }
}

/// A word of another version of the relay.
const UNKNOWN: DutchFault = fault(
    "",
    "Voor deze fout is er geen Nederlandse tekst.",
    "Lees de Engelse tekst hieronder, of vraag de beheerders.",
);

const PATIENCE: &str = "Er hoeft niets te gebeuren: de mail wacht en wordt opnieuw geprobeerd.";
const RECIPIENT: &str = "De beheerders van de ontvangende mailserver moeten dit herstellen; de mail wacht zolang.";
const RESOLVER: &str = "Geef de Engelse tekst aan de beheerders van de resolver.";
const FIREWALL: &str = "Geef de Engelse tekst aan de beheerders van de firewall of het IPS.";
const CONFIGURATION: &str = "De beheerders van deze relay moeten de instellingen nakijken.";
const INTERCEPTED: &str = "Zien andere netwerken een ander certificaat, dan wordt TLS hier onderschept: vraag de beheerders van de \
     firewall. Anders moet de ontvanger het herstellen.";
const SPELLING: &str = "Controleer de spelling van het adres.";
const SENDER: &str = "De afzender krijgt een bericht dat zegt wat te doen is.";

/// Where a reason is missing.
pub(super) const SAY_WHY: &str = "Geef een reden.";
/// Where a condition of a filter is none.
pub(super) const NOT_UNDERSTOOD: &str = "Een van de voorwaarden is niet te gebruiken.";
/// Where something stands in the way.
pub(super) const NOT_POSSIBLE: &str = "Dat kan nu niet.";
/// Where too much waits.
pub(super) const TOO_MANY_TO_SORT: &str = "Zoveel berichten worden alleen op leeftijd gesorteerd: oudste of nieuwste.";
/// Where no mail is taken.
pub(super) const REFUSES: &str = "de opslag (schijf of database) neemt niets aan; `relay status` zegt waarom";
/// Where another configuration cannot be used.
pub(super) const CONFIGURATION_REFUSED: &str = "de nieuwe instellingen zijn geweigerd; `relay status` zegt waarom";
/// Where nobody can be suspended, or let in again.
pub(super) const NOT_SUSPENDED: &str = "Deze naam of tijd is niet te gebruiken, of er is geen reden gegeven.";

/// What an answer of that status says to people.
pub(super) const fn answer(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "Log eerst in.",
        403 => "Dat mag u niet, of het formulier is verouderd: laad de pagina opnieuw.",
        404 => "Dat is er niet, of niet meer.",
        405 => "Zo kan dat niet.",
        409 => NOT_POSSIBLE,
        429 => "Te veel tegelijk: probeer het zo dadelijk opnieuw.",
        500..600 => "Dat is nu niet gelukt: probeer het opnieuw.",
        _ => "Dat is niet goed ingevuld.",
    }
}

/// The causes of failed attempts, and what a check finds behind them.
const FAULTS: &[DutchFault] = &[
    fault("domain-not-found", "Het domein bestaat niet.", SPELLING),
    fault("null-mx", "Het domein geeft aan dat het geen mail aanneemt.", "Vraag de ontvanger om een ander adres."),
    fault("no-mail-host", "Het domein heeft geen mailserver.", RECIPIENT),
    fault("special-use-domain", "Het domein eindigt op een naam die internet niet heeft.", SPELLING),
    fault("next-hop-unknown", "De mailserver die in de instellingen staat, is niet gevonden.", CONFIGURATION),
    fault(
        "dns-unavailable",
        "De DNS gaf geen bruikbaar antwoord, dus is niet bekend hoe veilig kan worden bezorgd.",
        "Werken andere namen wel, zoek dan naar een firewall of IPS die grote of ongewone DNS-antwoorden weggooit.",
    ),
    fault(
        "dnssec-invalid",
        "Ondertekende DNS-antwoorden zijn ongeldig en kunnen vervalst zijn; ze zijn niet gebruikt.",
        "Vergelijk met een validerende resolver elders: ziet die hetzelfde, dan is de zone van de ontvanger stuk. Kijk \
         ook naar de klok.",
    ),
    fault("mail-loop", "De mail komt weer bij deze relay uit: een kringloop.", CONFIGURATION),
    fault("address-forbidden", "De mailserver heeft een adres waar deze relay niet mag bezorgen.", CONFIGURATION),
    fault(
        "no-route",
        "Deze relay heeft geen netwerkroute naar de mailservers.",
        "Kijk naar de adressen en routes van deze machine.",
    ),
    fault(
        "connect-failed",
        "Er komt geen verbinding met de mailservers tot stand.",
        "Kijk of uitgaand verkeer op poort 25 hier open is, en daarna of de servers aanstaan.",
    ),
    fault(
        "timed-out",
        "De mailservers antwoorden niet op tijd.",
        "Gebeurt het bij veel servers, zoek dan een inspecterende firewall hier; bij één, vraag de beheerders daar.",
    ),
    fault(
        "connection-lost",
        "De verbinding met de mailservers valt weg.",
        "Gebeurt het bij veel servers, zoek dan een inspecterende firewall hier; bij één, vraag de beheerders daar.",
    ),
    fault(
        "perhaps-taken",
        "De mailserver kreeg het hele bericht en zei niet of hij het aannam. Het kan zijn aangekomen.",
        "Vraag de ontvanger of het bericht er is.",
    ),
    fault(
        "protocol-error",
        "De mailservers houden zich niet aan de regels voor mailverkeer (SMTP).",
        "Kijk met de hand wat er antwoordt; een inspecterende firewall hier kan het gesprek veranderen.",
    ),
    fault("rejected", "De mailserver weigert het bericht.", "De reden van de andere kant staat bij het bericht."),
    fault("rejected-for-now", "De mailserver weigert het bericht voorlopig.", PATIENCE),
    fault(
        "starttls-not-supported",
        "Versleuteling is hier verplicht, maar de mailserver biedt die niet.",
        "Zien andere netwerken daar wel STARTTLS, dan haalt een firewall hier het weg. Anders moet de ontvanger het herstellen.",
    ),
    fault(
        "tls-handshake-failed",
        "Er komt geen versleutelde verbinding met de mailserver tot stand.",
        "Lukt TLS vanuit andere netwerken wel, dan zit een inspecterende firewall hier in de weg. Anders moet de ontvanger het \
         herstellen.",
    ),
    fault(
        "tlsa-invalid",
        "Het certificaat van de mailserver past niet bij wat het domein in ondertekende DNS publiceert (DANE). Het kan de \
         verkeerde server zijn, dus is er niets afgegeven.",
        INTERCEPTED,
    ),
    fault("certificate-expired", "Het certificaat van de mailserver is verlopen.", INTERCEPTED),
    fault("certificate-host-mismatch", "Het certificaat van de mailserver is voor een andere server.", INTERCEPTED),
    fault("certificate-not-trusted", "Het certificaat van de mailserver wordt niet vertrouwd.", INTERCEPTED),
    fault("validation-failure", "Het certificaat van de mailserver is niet geldig.", INTERCEPTED),
    fault(
        "sts-mx-not-listed",
        "De DNS noemt een mailserver die het MTA-STS-beleid van het domein niet noemt. Het kan de verkeerde server zijn.",
        "De ontvanger moet de server in het beleid opnemen. Zien andere netwerken andere MX-records, dan vervalst iemand ze hier.",
    ),
    fault("dane-required", "De instellingen van deze relay eisen DANE, en dat is er niet.", CONFIGURATION),
    fault("sts-required", "De instellingen van deze relay eisen een MTA-STS-beleid, en dat is er niet.", CONFIGURATION),
    fault(
        "sts-policy-lost",
        "Een bewaard MTA-STS-beleid kan niet worden gelezen en een nieuw is niet op te halen.",
        "De beheerders van deze relay kunnen `relay policy refresh` uitvoeren.",
    ),
    fault(
        "requiretls-unmet",
        "Het bericht mag alleen over beveiligde verbindingen gaan (REQUIRETLS), en dat kan hier niet.",
        "Verstuur het zonder REQUIRETLS, of vraag de ontvanger om het te ondersteunen.",
    ),
    fault("login-failed", "Deze relay moet inloggen bij de mailserver, en dat lukt niet.", CONFIGURATION),
    fault(
        "login-unprotected",
        "Deze relay moet inloggen bij de mailserver en doet dat niet: de verbinding is niet veilig.",
        CONFIGURATION,
    ),
    fault("source-unavailable", "Deze relay heeft het adres niet waarvandaan zij moet versturen.", CONFIGURATION),
    fault(
        "no-address-of-family",
        "De mailserver heeft geen adres van de soort die de instellingen toestaan.",
        CONFIGURATION,
    ),
    fault("dkim-signing-failed", "Deze relay moet het bericht ondertekenen (DKIM) en kan dat niet.", CONFIGURATION),
    fault("dkim-unsignable", "De kop van het bericht is te groot om te ondertekenen (DKIM).", SENDER),
    fault("message-too-large", "Het bericht is groter dan de mailserver aanneemt.", SENDER),
    fault("eight-bit-not-offered", "Het bericht heeft 8-bits inhoud, en die neemt de mailserver niet aan.", SENDER),
    fault("smtputf8-not-offered", "Een adres of de kop heeft tekens die de mailserver niet aanneemt.", SENDER),
    fault(
        "content-damaged",
        "De opgeslagen kopie van het bericht is beschadigd.",
        "De beheerders van deze relay moeten de schijf nakijken; vraag de afzender het bericht opnieuw te versturen.",
    ),
    fault("bounced-by-operator", "De beheerders hebben het bericht uit de wachtrij genomen.", SENDER),
    fault("expired", "Het is lang zonder succes geprobeerd en opgegeven.", SENDER),
    fault(
        "local-dns-count-filter",
        "DNS-antwoorden met meer dan een bepaald aantal records verdwijnen op weg naar deze relay. Het domein zelf is in orde.",
        FIREWALL,
    ),
    fault(
        "local-dns-type-filter",
        "DNS-antwoorden van een bepaalde soort (TLSA) verdwijnen op weg naar deze relay. Het domein zelf is in orde.",
        FIREWALL,
    ),
    fault(
        "local-dns-size-filter",
        "Grote DNS-antwoorden verdwijnen op weg naar deze relay. Het domein zelf is in orde.",
        FIREWALL,
    ),
    fault("local-dns-edns-filter", "DNS-vragen met EDNS komen niet door: iets onderweg gooit ze weg.", FIREWALL),
    fault("local-dns-blocked", "De DNS is vanaf deze relay niet bereikbaar: iets onderweg houdt het tegen.", FIREWALL),
    fault("local-tcp53-blocked", "DNS over TCP (poort 53) is vanaf deze relay dicht.", FIREWALL),
    fault(
        "local-port25-blocked",
        "Poort 25 is hier dicht: geen enkele mailserver is te bereiken, ook die van anderen niet.",
        FIREWALL,
    ),
    fault("local-tls-blocked", "Iets op de weg vanaf deze relay laat TLS met mailservers niet door.", FIREWALL),
    fault(
        "local-smtp-rewritten",
        "Iets op de weg vanaf deze relay antwoordt in plaats van de mailserver, of verandert het gesprek.",
        FIREWALL,
    ),
    fault(
        "local-tls-intercepted",
        "Iets op de weg vanaf deze relay onderschept TLS: het toont een ander certificaat dan de mailserver heeft.",
        FIREWALL,
    ),
    fault(
        "local-clock-wrong",
        "De klok van deze machine staat verkeerd.",
        "De beheerders van deze relay moeten de klok gelijkzetten.",
    ),
    fault(
        "local-trust-anchor",
        "De sleutels van de DNS-root waarop deze relay vertrouwt, kloppen niet meer.",
        "De beheerders van deze relay moeten haar bijwerken.",
    ),
    fault("resolver-side", "De resolver die deze relay vraagt, geeft niet wat de zone zelf antwoordt.", RESOLVER),
    fault("resolver-strips-dnssec", "De resolver geeft antwoorden zonder hun handtekeningen (DNSSEC).", RESOLVER),
    fault("resolver-not-validating", "De resolver controleert handtekeningen (DNSSEC) niet.", RESOLVER),
    fault("recipient-dns", "De DNS-servers van het domein zelf antwoorden niet goed.", RECIPIENT),
    fault(
        "certificate-expires-soon",
        "Het certificaat van de mailserver verloopt binnenkort.",
        "De beheerders van de ontvangende mailserver moeten het vernieuwen.",
    ),
    fault("sts-policy-invalid", "Het MTA-STS-beleid van het domein is niet te gebruiken.", RECIPIENT),
    fault("sts-webpki-invalid", "Het certificaat van de server met het MTA-STS-beleid is niet geldig.", RECIPIENT),
    fault("sts-policy-fetch-error", "Het MTA-STS-beleid van het domein is niet op te halen.", RECIPIENT),
    fault(
        "slow",
        "Een server antwoordt trager dan deze controle wacht; de bezorging wacht langer en kan slagen.",
        "Kijk over een uur opnieuw.",
    ),
    fault(
        "inconclusive",
        "Wat er misgaat is van hieruit niet vast te stellen.",
        "Controleer vanuit een ander netwerk.",
    ),
    fault("exception-in-force", "De mail gaat de deur uit door een uitzondering in de instellingen.", CONFIGURATION),
    fault("ok", "Mail aan dit domein wordt bezorgd.", "Er hoeft niets te gebeuren."),
];

/// The fault of that word.
pub(super) fn by_word(word: &str) -> &'static DutchFault {
    FAULTS.iter().find(|known| known.word == word).unwrap_or(&UNKNOWN)
}

/// Who has to act.
pub(super) const fn side(side: Side) -> &'static str {
    match side {
        Side::Here => "deze relay",
        Side::Resolver => "de DNS-resolver",
        Side::Path => "het netwerk onderweg",
        Side::Recipient => "de ontvanger",
        Side::Sender => "de afzender",
    }
}

/// How sure that is.
pub(super) const fn certainty(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Inconclusive => "niet zeker",
        Certainty::Likely => "waarschijnlijk",
        Certainty::Proven => "bewezen",
    }
}

/// What a check came to.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "IN ORDE",
        Verdict::Warning => "LET OP",
        Verdict::Fault => "FOUT",
        Verdict::Inconclusive => "ONBESLIST",
    }
}

/// The same where it is kept as a word.
pub(super) fn verdict_word(word: &str) -> &str {
    let mut all = [Verdict::Ok, Verdict::Warning, Verdict::Fault, Verdict::Inconclusive].into_iter();
    let Some(known) = all.find(|known| known.word() == word) else { return word };
    verdict(known)
}

/// What will stop mail.
pub(super) const fn posture(kind: PostureKind) -> &'static str {
    match kind {
        PostureKind::SignatureEnds => "een handtekening van de zone loopt af",
        PostureKind::CertificateEnds => "een certificaat dat geldig moet zijn, loopt af",
        PostureKind::AddressDiffers => "een van de adressen van een mailserver werkt niet, de andere wel",
        PostureKind::HostNotInPolicy => "het MTA-STS-beleid noemt een van de mailservers niet",
        PostureKind::PolicyUnusable => "het MTA-STS-beleid is aangekondigd en niet te gebruiken",
        PostureKind::TlsaWithoutNextKey => "voor de volgende sleutel is er geen TLSA-record",
    }
}

/// Why there is no DANE.
pub(super) const fn no_dane(because: AbsentBecause) -> &'static str {
    match because {
        AbsentBecause::AddressesInsecure => "de adressen van de server zijn niet ondertekend",
        AbsentBecause::ProvenAbsent => "de ondertekende zone heeft geen TLSA-records voor de server",
        AbsentBecause::TlsaInsecure => "de TLSA-records zijn niet ondertekend",
        AbsentBecause::MxInsecure => "de MX-records die naar de server leiden, zijn niet ondertekend",
        AbsentBecause::AddressLiteral => "de volgende server is een adres en geen naam",
        AbsentBecause::PrivateName => "de naam staat buiten de ondertekende DNS, dus er valt niets te controleren",
    }
}

/// How a path to the DNS has done lately.
pub(super) const fn path(standing: PathStanding) -> &'static str {
    match standing {
        PathStanding::Good => "bracht onlangs alles wat gevraagd werd",
        PathStanding::PutBack => "faalde onlangs waar een ander pad het antwoord had",
        PathStanding::Loses => "antwoorden voor verschillende namen gingen onlangs verloren, en geen ander pad had ze",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::every;
    use crate::report::dutch_sentence;
    use std::collections::BTreeSet;

    #[test]
    fn every_cause_has_a_text_of_its_own_and_no_word_stands_twice() {
        for cause in every::cause() {
            assert_eq!(by_word(cause.row().word).word, cause.row().word);
            assert_ne!(dutch_sentence(&cause), cause.sentence(), "a sentence in English");
        }
        let words: BTreeSet<&str> = FAULTS.iter().map(|known| known.word).collect();
        assert_eq!(words.len(), FAULTS.len());
        assert_eq!(by_word("of-another-version").sentence, UNKNOWN.sentence);
    }
}
