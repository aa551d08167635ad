//! The paths there are at present: those of the configuration, of which the ones to the servers of the
//! system change with `/etc/resolv.conf`. Whoever looks something up goes by one list from its
//! beginning to its end.

use super::setup::Setup;
use super::{Carrier, Path, PathName, Source};
use crate::config::Config;
use crate::resolve::error::DnsSetupError;
use crate::resolve::event::DnsEvent;
use std::sync::{Arc, Mutex, PoisonError};

/// A list of paths, which does not change.
pub(in crate::resolve) type List = Arc<[Arc<Path>]>;

/// The paths.
pub(in crate::resolve) struct Paths {
    list: Mutex<List>,
    /// What they are made from; none for paths from outside.
    setup: Option<Setup>,
}

impl Paths {
    /// Those of the configuration.
    pub(in crate::resolve) fn of(config: &Config) -> Result<Self, DnsSetupError> {
        let setup = Setup::new(config)?;
        Ok(Self { list: Mutex::new(setup.paths()?.into()), setup: Some(setup) })
    }

    /// Those to the servers of the system.
    pub(in crate::resolve) fn of_system(setup: Setup) -> Self {
        Self { list: Mutex::new(setup.system_paths().into()), setup: Some(setup) }
    }

    /// Those of somebody else.
    pub(in crate::resolve) fn over(sources: Vec<(PathName, Arc<dyn Source>)>) -> Self {
        let path = |(name, source)| Arc::new(Path::new(name, Carrier::Source(source)));
        Self { list: Mutex::new(sources.into_iter().map(path).collect()), setup: None }
    }

    /// The paths of now.
    pub(in crate::resolve) fn now(&self, tell: impl Fn(&DnsEvent<'_>)) -> List {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        match self.setup.as_ref().map_or(Ok(None), |setup| setup.changed(&list)) {
            Ok(None) => {}
            Ok(Some(new)) => {
                let (added, gone) = (only_in(&new, &list), only_in(&list, &new));
                *list = new.into();
                tell(&DnsEvent::SystemChanged { added: &added, gone: &gone });
            }
            Err(why) => tell(&DnsEvent::SystemKept { why: &why }),
        }
        Arc::clone(&list)
    }
}

fn only_in(these: &[Arc<Path>], those: &[Arc<Path>]) -> Vec<PathName> {
    let only = these.iter().filter(|path| those.iter().all(|other| other.name != path.name));
    only.map(|path| path.name.clone()).collect()
}
