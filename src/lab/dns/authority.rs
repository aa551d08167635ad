//! Authoritative servers for the lab's zones, so that a client can walk from the root
//! (RFC 1034 §4.3, RFC 4035 §3.1).
//!
//! Every zone has a name server of its own unless some shall share one. Each has its own address,
//! and all listen on one port.
//! They answer with AA for what is theirs, refer with DS or its denial and with glue for what is
//! below, and refuse the rest. No recursion.

use super::view::View;
use super::world::World;
use crate::lab::bad;
use crate::lab::dns::server::DnsServer;
use crate::lab::sockets::{Sockets, free_block};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The most servers: one address each, from `127.1.x.1` on.
pub const SERVER_LIMIT: usize = 250;
/// How often a port is chosen again when it is free on one address and taken on another.
const PORT_ATTEMPTS: usize = 16;

/// The running servers; they stop when this is dropped.
#[derive(Debug)]
pub struct Authorities {
    servers: BTreeMap<Name, Arc<DnsServer>>,
    root: SocketAddr,
    world: Arc<World>,
    block: u8,
    /// The last part of the next address.
    next: u8,
}

impl Authorities {
    /// Starts a server for every zone of the world on a port that the system chooses, and has the
    /// zones name them: `ns1.` in the zone, `a.root-servers.` for the root.
    ///
    /// # Errors
    /// When there are too many zones, or no sockets can be had.
    pub async fn start(world: Arc<World>) -> io::Result<Self> {
        Self::start_shared(world, &[]).await
    }

    /// As [`Authorities::start`], with one server for all the zones named. Where it has a parent
    /// and its child, nobody is ever referred to the child, and its DS must be asked for.
    ///
    /// # Errors
    /// As [`Authorities::start`], and when a zone named is not there.
    pub async fn start_shared(world: Arc<World>, together: &[&str]) -> io::Result<Self> {
        let mut last = bad("no port");
        for _ in 0..PORT_ATTEMPTS {
            match Self::start_on(Arc::clone(&world), 0, together).await {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
                done => return done,
            }
        }
        Err(last)
    }

    /// As [`Authorities::start_shared`] on a given port: for clients that know no other than 53.
    ///
    /// # Errors
    /// As [`Authorities::start_shared`].
    pub async fn start_on(world: Arc<World>, port: u16, together: &[&str]) -> io::Result<Self> {
        let (block, mut port) = (free_block(Sockets::Bound)?, port);
        let (mut servers, mut root, mut next) = (BTreeMap::new(), None, 1);
        for (zones, nth) in groups(&world, together)?.into_iter().zip(1_u16..) {
            let host = u8::try_from(nth).ok().filter(|nth| usize::from(*nth) <= SERVER_LIMIT);
            let host = host.ok_or_else(|| bad("too many zones for servers"))?;
            let address = Ipv4Addr::new(127, 1, block, host);
            next = host + 1;
            let view = View::Zones(zones.clone());
            let server = Arc::new(DnsServer::start_at((address, port).into(), Arc::clone(&world), view).await?);
            port = server.address().port();
            for origin in zones {
                if origin.is_root() {
                    root = Some(server.address());
                }
                let named = if origin.is_root() { "a.root-servers" } else { "ns1" };
                let name = Name::from_ascii(named).and_then(|name| name.append_domain(&origin)).map_err(bad)?;
                world.serve(&origin, &name, address)?;
                servers.insert(origin, Arc::clone(&server));
            }
        }
        Ok(Self { servers, root: root.ok_or_else(|| bad("a world without a root"))?, world, block, next })
    }

    /// One more server of a zone under a name of the caller's choice, which gets its address. Only a name
    /// in the zone itself comes with glue.
    ///
    /// # Errors
    /// When there is no zone for one of the names, or no socket can be had.
    pub async fn add(&mut self, origin: &str, name: &str) -> io::Result<Arc<DnsServer>> {
        let host = Some(self.next).filter(|host| usize::from(*host) <= SERVER_LIMIT);
        let address = Ipv4Addr::new(127, 1, self.block, host.ok_or_else(|| bad("too many servers"))?);
        let view = View::Zones(vec![super::world::name(origin)?]);
        let server = DnsServer::start_at((address, self.port()).into(), Arc::clone(&self.world), view).await?;
        self.next += 1;
        self.world.add(name, RData::A(A(address)))?;
        self.world.serve_also(origin, name)?;
        Ok(Arc::new(server))
    }

    /// The root hint: where the server of the root listens.
    #[must_use]
    pub fn root(&self) -> SocketAddr {
        self.root
    }

    /// The port of all servers.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.root.port()
    }

    /// The server of one zone: its address, its questions, the boxes on the path to it.
    ///
    /// # Errors
    /// When the zone has none.
    pub fn server(&self, origin: &str) -> io::Result<&DnsServer> {
        let server = self.servers.get(&super::world::name(origin)?);
        server.map(AsRef::as_ref).ok_or_else(|| bad(format!("no server for {origin}")))
    }

    /// All servers by zone, the root first.
    pub fn servers(&self) -> impl Iterator<Item = (&Name, &DnsServer)> {
        self.servers.iter().map(|(origin, server)| (origin, server.as_ref()))
    }
}

/// The zones of each server: those together, and every other one alone.
fn groups(world: &World, together: &[&str]) -> io::Result<Vec<Vec<Name>>> {
    let shared = together.iter().map(|origin| super::world::name(origin)).collect::<io::Result<Vec<_>>>()?;
    let origins = world.origins();
    if let Some(absent) = shared.iter().find(|origin| !origins.contains(origin)) {
        return Err(bad(format!("no zone {absent}")));
    }
    let alone = origins.into_iter().filter(|origin| !shared.contains(origin)).map(|origin| vec![origin]);
    let mut groups: Vec<_> = alone.collect();
    if !shared.is_empty() {
        groups.push(shared);
    }
    Ok(groups)
}
