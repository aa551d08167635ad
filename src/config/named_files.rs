//! Whether the files that a configuration names are there, and can be read by who runs the relay. What is in
//! them is looked at by those who use it.

use super::files::open_regular;
use super::problem::{ConfigError, Problem};
use super::settings::LoadedConfig;
use super::{Config, RootsSource, TrustAnchorSource};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The file in the folder of `[notify] templates`.
const TEXTS: &str = "reports.toml";

/// A file, and the path of the key that names it.
struct NamedFile {
    key: String,
    file: PathBuf,
}

impl LoadedConfig {
    /// Looks at the files that it names.
    ///
    /// # Errors
    /// All that cannot be used, each with the line of its key.
    pub fn look_at_files(&self) -> Result<(), ConfigError> {
        let files = named(&self.config).into_iter().filter_map(|NamedFile { key, file }| {
            let error = open_regular(&file).err()?;
            Some(self.lines.problem(&key, format!("{}: cannot be read: {error}", file.display())))
        });
        let mut problems: Vec<Problem> = files.chain(self.spool()).chain(self.tables()).collect();
        problems.sort_by_key(|problem| problem.line);
        if problems.is_empty() { Ok(()) } else { Err(self.lines.error(problems)) }
    }

    fn spool(&self) -> Option<Problem> {
        let path = &self.config.spool.path;
        let is_other = path.metadata().is_ok_and(|metadata| !metadata.is_dir());
        let message = || format!("{} is no folder: name one, or a path where none is yet", path.display());
        is_other.then(|| self.lines.problem("spool.path", message()))
    }

    /// What may be missing, and must not be what is read without an end.
    fn tables(&self) -> Vec<Problem> {
        let dns = &self.config.dns;
        let both = [("dns.resolv_conf", &dns.resolv_conf), ("dns.hosts", &dns.hosts)];
        let endless = both.into_iter().filter(|(_, path)| {
            path.metadata().is_ok_and(|metadata| {
                let kind = metadata.file_type();
                kind.is_fifo() || kind.is_socket() || kind.is_dir() || kind.is_block_device()
            })
        });
        endless.map(|(key, path)| self.lines.problem(key, format!("{} is no file", path.display()))).collect()
    }

    /// What whoever the spool belongs to cannot read, each in a line; nothing where that is nobody else than
    /// who asks. Rights are told by owner, group and mode.
    #[must_use]
    pub fn unreadable_for_service(&self, configuration: Option<&Path>) -> Vec<String> {
        let Ok(spool) = self.config.spool.path.metadata() else { return Vec::new() };
        let service = ServiceUser::of(spool.uid(), spool.gid());
        if spool.uid() == rustix::process::geteuid().as_raw() || spool.uid() == 0 {
            return Vec::new();
        }
        let itself = configuration.map(|file| (String::new(), file.to_owned()));
        let others = named(&self.config).into_iter().map(|NamedFile { key, file }| (key, file));
        let unreadable = itself.into_iter().chain(others).filter(|(_, file)| !service.reads(file));
        let told = unreadable.map(|(key, file)| {
            let message = format!(
                "{} cannot be read by {}, to whom the spool belongs: give it to that user or group (chgrp, chmod g+r)",
                file.display(),
                service.name
            );
            match key.as_str() {
                "" => message,
                key => self.lines.error(vec![self.lines.problem(key, message)]).to_string(),
            }
        });
        told.collect()
    }
}

/// Who the relay runs as.
struct ServiceUser {
    name: String,
    uid: u32,
    groups: Vec<u32>,
}

impl ServiceUser {
    fn of(uid: u32, gid: u32) -> Self {
        let table = |path: &str| super::files::read_regular_text(Path::new(path)).unwrap_or_default();
        let users = table("/etc/passwd");
        let user = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = user.into_iter().find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid));
        let name = user.as_ref().and_then(|fields| fields.first()).map(|name| (*name).to_owned());
        let own = user.as_ref().and_then(|fields| fields.get(3)).and_then(|id| id.parse().ok());
        let name = name.unwrap_or_else(|| format!("user {uid}"));
        let groups = table("/etc/group");
        let member = groups.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_in = fields.get(3)?.split(',').any(|member| member == name);
            is_in.then(|| fields.get(2)?.parse().ok()).flatten()
        });
        let groups = member.chain(own).chain([gid]).collect();
        Self { name, uid, groups }
    }

    /// Whether the way to a file and the file itself are open to this user.
    fn reads(&self, file: &Path) -> bool {
        const READ: u32 = 0o4;
        const ENTER: u32 = 0o1;
        // What is not there is told by others.
        let allows = |path: &Path, right: u32| {
            path.metadata().map_or(true, |metadata| {
                let place = if metadata.uid() == self.uid {
                    6
                } else if self.groups.contains(&metadata.gid()) {
                    3
                } else {
                    0
                };
                metadata.mode() >> place & right != 0
            })
        };
        let folders = file.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        allows(file, READ) && folders.into_iter().all(|folder| allows(folder, ENTER))
    }
}

fn named(config: &Config) -> Vec<NamedFile> {
    let file = |key: &str, file: &Path| NamedFile { key: key.to_owned(), file: file.to_owned() };
    let listen = &config.listen;
    let of_listener = listen.certificate.iter().map(|path| file("listen.certificate", path));
    let of_listener = of_listener.chain(listen.private_key.iter().map(|path| file("listen.private_key", path)));
    let anchors = match &config.dns.trust_anchors {
        TrustAnchorSource::Builtin => None,
        TrustAnchorSource::File(path) => Some(file("dns.trust_anchors", path)),
    };
    let roots_of = |key: &str, roots: &RootsSource| match roots {
        RootsSource::System => None,
        RootsSource::File(path) => Some(file(key, path)),
    };
    let roots =
        roots_of("tls.roots", &config.tls.roots).into_iter().chain(roots_of("spool.roots", &config.spool.roots));
    let roots = roots.chain(config.spool.url_file.iter().map(|path| file("spool.url_file", path)));
    let texts = config.notify.templates.iter().map(|folder| file("notify.templates", &folder.join(TEXTS)));
    let of_destinations = config.destination.iter().enumerate().flat_map(|(nth, destination)| {
        let at = |key: &str, path: &Path| NamedFile { key: format!("destination.{nth}.{key}"), file: path.to_owned() };
        let password = destination.login.iter().filter_map(|login| login.password_file.as_deref());
        let password = password.map(|path| at("login.password_file", path));
        let pair = destination.client_certificate.iter();
        let pair = pair
            .flat_map(|pair| [at("client_certificate.chain", &pair.chain), at("client_certificate.key", &pair.key)]);
        password.chain(pair).collect::<Vec<_>>()
    });
    let of_dkim = config.dkim.key.iter().enumerate().filter_map(|(nth, rule)| {
        Some(NamedFile { key: format!("dkim.key.{nth}.key_file"), file: rule.key_file.clone()? })
    });
    let admin = &config.admin;
    let of_admin = [
        ("admin.users", &admin.users),
        ("admin.certificate", &admin.certificate),
        ("admin.private_key", &admin.private_key),
    ];
    let of_admin = of_admin.into_iter().filter_map(|(key, path)| Some(file(key, path.as_deref()?)));
    of_listener.chain(of_admin).chain(anchors).chain(roots).chain(texts).chain(of_destinations).chain(of_dkim).collect()
}
