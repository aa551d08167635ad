//! One listener as sessions see it: its rules, its certificates and users, its part of all places.

use super::places::{Places, TakenPlace};
use super::rules::{Offer, Rules, TlsOffer};
use super::tls::{ListenerFiles, ListenerTls};
use super::{ClientAccess, RefusalReason, standing};
use crate::clock::Timestamp;
use crate::config::{ClientTls, Config, ListenerConfig};
use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub(super) struct Door {
    /// What the operator wants here.
    pub(super) listener: ListenerConfig,
    /// What holds for sessions.
    pub(super) rules: Arc<Rules>,
    /// What its files held.
    pub(super) files: ListenerFiles,
    /// Its part of the places of all.
    most: usize,
    places: Places,
    unproven: Places,
    /// Connections of balancers that have not said yet for whom they connect.
    announced: Places,
}

/// A place at a door.
pub(super) struct PlaceHere {
    /// None for those who may not relay: they are counted elsewhere.
    _here: Option<TakenPlace>,
    /// Kept until the client has proven who it is.
    pub(super) unproven: Option<TakenPlace>,
}

impl Door {
    /// All doors of a configuration, that of `[listen]` first.
    #[must_use]
    pub(super) fn all(config: &Config, files: Vec<ListenerFiles>) -> Vec<Arc<Self>> {
        let mut files = files.into_iter();
        let listeners = config.listeners().into_iter();
        listeners.map(|listener| Arc::new(Self::new(config, listener, files.next().unwrap_or_default()))).collect()
    }

    fn new(config: &Config, listener: ListenerConfig, files: ListenerFiles) -> Self {
        let tls = match (listener.tls, &files.tls) {
            (ClientTls::Off, _) => TlsOffer::Off,
            (ClientTls::Starttls | ClientTls::Required | ClientTls::Implicit, None) => TlsOffer::Unavailable,
            (ClientTls::Starttls | ClientTls::Required | ClientTls::Implicit, Some(_)) => TlsOffer::Available,
        };
        let auth = if files.users.is_some() { Offer::Yes } else { Offer::No };
        let all = config.listen.max_sessions;
        // A flood at one leaves room at the others, also where nobody has said how much.
        let usual = if config.listener.is_empty() { all } else { all - all / 4 };
        let most = listener.max_sessions.unwrap_or(usual).min(all);
        let rules = Arc::new(Rules::new(config, &listener, tls, auth));
        let (places, unproven, announced) = (Places::default(), Places::default(), Places::default());
        Self { listener, rules, files, most, places, unproven, announced }
    }

    /// With the places of the door of the same name before, whose sessions go on.
    #[must_use]
    pub(super) fn after(self: &Arc<Self>, before: &[Arc<Self>]) -> Arc<Self> {
        let same = before.iter().find(|door| door.listener.name == self.listener.name);
        same.map_or_else(
            || Arc::clone(self),
            |door| {
                let [places, unproven, announced] = [&door.places, &door.unproven, &door.announced].map(Places::clone);
                Arc::new(Self { places, unproven, announced, ..Self::clone(self) })
            },
        )
    }

    /// Whether sessions under both are alike.
    #[must_use]
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.rules == other.rules
            && self.most == other.most
            && self.listener.is_alike_for_sessions(&other.listener)
            && self.files.are_alike(&other.files)
    }

    /// Its TLS side, where it has one.
    #[must_use]
    pub(super) fn tls(&self) -> Option<&ListenerTls> {
        self.files.tls.as_ref().filter(|_| self.listener.tls != ClientTls::Off)
    }

    /// Whether an address is that of a balancer, who must say for whom it connects.
    #[must_use]
    pub(super) fn is_balancer(&self, address: IpAddr) -> bool {
        standing(&self.listener.proxy_protocol_from, address) == ClientAccess::Permitted
    }

    /// Who may do what from there, before anything is proven.
    #[must_use]
    pub(super) fn standing(&self, address: IpAddr) -> ClientAccess {
        match standing(&self.listener.clients, address) {
            ClientAccess::Denied if self.files.users.is_some() => ClientAccess::MayLogIn,
            ClientAccess::Denied if self.shows_are_judged() => ClientAccess::MayShowCertificate,
            by_network @ (ClientAccess::Denied
            | ClientAccess::Permitted
            | ClientAccess::MayLogIn
            | ClientAccess::MayShowCertificate) => by_network,
        }
    }

    fn shows_are_judged(&self) -> bool {
        self.tls().is_some_and(|tls| tls.shown.is_some())
    }

    /// Whether certificates that a client has shown open the way here.
    #[must_use]
    pub(super) fn opens_for(&self, chain: Option<&[CertificateDer<'_>]>, now: Timestamp) -> bool {
        let shown = self.tls().and_then(|tls| tls.shown.as_ref());
        shown.zip(chain).is_some_and(|(shown, chain)| shown.open_the_way(chain, now))
    }

    /// A place for somebody with that standing. Strangers have half of the places: those who may as they are
    /// find the other half.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn place(&self, standing: ClientAccess) -> Result<PlaceHere, RefusalReason> {
        let none = RefusalReason::TooManySessionsHere;
        let unproven = match standing {
            ClientAccess::Denied => return Ok(PlaceHere { _here: None, unproven: None }),
            ClientAccess::Permitted => None,
            ClientAccess::MayLogIn | ClientAccess::MayShowCertificate => {
                Some(self.unproven.take(self.most.div_ceil(2)).ok_or(none)?)
            }
        };
        Ok(PlaceHere { _here: Some(self.places.take(self.most).ok_or(none)?), unproven })
    }

    /// A place for a balancer that has not said anything yet.
    ///
    /// # Errors
    /// When too many wait like that.
    pub(super) fn announced(&self) -> Result<TakenPlace, RefusalReason> {
        self.announced.take(self.most).ok_or(RefusalReason::TooManySessionsHere)
    }
}
