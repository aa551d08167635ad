//! Makes a cell that differs as plain as it can be while it still differs, so that a person sees
//! which facts it takes.

use super::facts::{Asks, Batch, Between, Cell, Domain, Host, Kept, Level, Mail, Rule, Settings, Sts};

/// The plainest batch of one cell that still differs.
pub(crate) fn plainest(mut batch: Batch, differs: impl Fn(&Batch) -> bool) -> Batch {
    while let Some(plainer) = plainer(&batch).into_iter().find(&differs) {
        batch = plainer;
    }
    batch
}

/// All batches that are one step plainer.
fn plainer(batch: &Batch) -> Vec<Batch> {
    let cell = &batch.cells[0];
    let mut all: Vec<Batch> = plainer_settings(batch).into_iter().collect();
    let mut with = |plainer: Cell| all.push(Batch { cells: vec![plainer], ..batch.clone() });
    for nth in 0..cell.first.len() {
        let mut plainer = cell.clone();
        plainer.first.remove(nth);
        with(plainer);
    }
    for nth in 0..cell.later.len() {
        let mut plainer = cell.clone();
        plainer.later.remove(nth);
        with(plainer);
    }
    for nth in (0..cell.hosts.len()).filter(|_| cell.hosts.len() > 1) {
        let mut plainer = cell.clone();
        plainer.hosts.remove(nth);
        with(plainer);
    }
    if let Some(mail) = one_domain(cell) {
        with(mail);
    }
    for (nth, host) in cell.hosts.iter().enumerate() {
        for host in plainer_hosts(host) {
            let mut plainer = cell.clone();
            plainer.hosts[nth] = host;
            with(plainer);
        }
    }
    for (nth, domain) in cell.domains.iter().enumerate() {
        for domain in plainer_domains(domain) {
            let mut plainer = cell.clone();
            plainer.domains[nth] = domain;
            with(plainer);
        }
    }
    for nth in 0..cell.later.len() {
        let mut plainer = cell.clone();
        plainer.later[nth].asks = Asks::Nothing;
        with(plainer);
    }
    all.retain(|plainer| plainer != batch);
    all
}

/// The same with the second domain alone, where no mail goes to the first, or the other way round.
fn one_domain(cell: &Cell) -> Option<Cell> {
    let mut mails = cell.first.iter().chain(&cell.later);
    let only = mails.next().map_or(0, |mail| mail.domain);
    (cell.domains.len() > 1 && mails.all(|mail| mail.domain == only)).then(|| {
        let renamed = |mails: &[Mail]| mails.iter().map(|mail| Mail { domain: 0, ..*mail }).collect();
        let (first, later) = (renamed(&cell.first), renamed(&cell.later));
        Cell { domains: vec![cell.domains[only]], first, later, ..cell.clone() }
    })
}

fn plainer_settings(batch: &Batch) -> Vec<Batch> {
    let (now, usual) = (batch.settings, Settings::DEFAULT);
    let settings = [
        Settings { dane_behind_insecure_mx: usual.dane_behind_insecure_mx, ..now },
        Settings { clear_text_fallback: usual.clear_text_fallback, ..now },
        Settings { tls_required_no: usual.tls_required_no, ..now },
        Settings { mta_sts: usual.mta_sts, ..now },
    ];
    let mut all: Vec<Batch> = settings.into_iter().map(|settings| Batch { settings, ..batch.clone() }).collect();
    let needs_restart = |domain: &Domain| matches!(domain.sts, Sts::Kept(_, Kept::Unreadable, _));
    if !batch.cells[0].domains.iter().any(needs_restart) {
        all.push(Batch { between: Between::Nothing, ..batch.clone() });
    }
    all
}

fn plainer_hosts(host: &Host) -> [Host; 6] {
    let plain = Host::PLAIN;
    [
        Host { addresses: plain.addresses, ..*host },
        Host { tlsa: plain.tlsa, ..*host },
        Host { certificate: plain.certificate, ..*host },
        Host { starttls: plain.starttls, ..*host },
        Host { offers_requiretls: plain.offers_requiretls, ..*host },
        Host { listed: plain.listed, ..*host },
    ]
}

fn plainer_domains(domain: &Domain) -> Vec<Domain> {
    let plain = Domain::PLAIN;
    let mut all = vec![
        Domain { mx: plain.mx, ..*domain },
        Domain { rule: plain.rule, ..*domain },
        Domain { rule: Rule { report_only: false, ..domain.rule }, ..*domain },
        Domain { sts: plain.sts, ..*domain },
    ];
    if domain.rule.level != Some(Level::Encrypt) {
        all.push(Domain { rule: Rule { level: None, ..domain.rule }, ..*domain });
    }
    if let Sts::Kept(mode, kept, _) = domain.sts {
        all.push(Domain { sts: Sts::Published(mode), ..*domain });
        if kept != Kept::Whole {
            let Sts::Kept(_, _, reach) = domain.sts else { return all };
            all.push(Domain { sts: Sts::Kept(mode, Kept::Whole, reach), ..*domain });
        }
    }
    all
}
