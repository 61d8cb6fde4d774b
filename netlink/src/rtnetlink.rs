//! The front door: changes in batches, and dumps of every kind of object.

use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;

use crate::address::Address;
use crate::fdb::FdbEntry;
use crate::ip::Family;
use crate::link::Link;
use crate::neighbour::{self, Neighbour};
use crate::nexthop::Nexthop;
use crate::op::Op;
use crate::route::Route;
use crate::rule::Rule;
use crate::transport::{Connection, Error, KernelSocket, Refusal, Request};

/// The kernel's answer to one [`Op`].
pub type OpResult = Result<(), Refusal>;

/// A blocking connection to one network namespace.
///
/// It belongs to the namespace of the thread that opened it, and stays there when it moves to another
/// thread. Every wait has an end; an [`Error`] means that the kernel must be read again.
#[derive(Debug)]
pub struct Netlink {
    connection: Connection<KernelSocket>,
}

impl Netlink {
    /// Opens a connection to the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { connection: Connection::new(KernelSocket::open()?) })
    }

    /// How long to wait for any one answer, ten seconds unless set.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.connection.set_timeout(timeout);
    }

    /// The address of this connection, which events of its changes carry.
    pub fn port(&self) -> u32 {
        self.connection.socket().port()
    }

    /// Applies changes in their order, and returns the kernel's answer to each.
    ///
    /// A refused change stops nothing. An error of the transport leaves the outcome of the rest unknown.
    pub fn apply(&mut self, ops: &[Op]) -> Result<Vec<OpResult>, Error> {
        let results = self.connection.batch(ops.iter().map(Op::request))?;
        let answered = ops.iter().zip(results);
        let mut results: Vec<_> = answered.map(|(op, result)| op.settle(result)).collect();
        self.set_aliases(ops, &mut results)?;
        Ok(results)
    }

    /// The second half of the creations that succeeded and want an alias.
    fn set_aliases(&mut self, ops: &[Op], results: &mut [OpResult]) -> Result<(), Error> {
        let mut places = Vec::new();
        let mut requests = Vec::new();
        for (place, (op, result)) in ops.iter().zip(results.iter()).enumerate() {
            if let (Op::CreateLink(link), Ok(())) = (op, result) {
                places.extend(link.alias.as_ref().map(|_| place));
                requests.extend(link.alias_request());
            }
        }
        for (place, result) in places.into_iter().zip(self.connection.batch(requests)?) {
            results[place] = result.map_err(|refusal| Refusal { index: place, ..refusal });
        }
        Ok(())
    }

    /// All devices.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.connection.dump("devices", &Link::dump_request(), Link::decode)
    }

    /// The device of this name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let reading = "device";
        match self.connection.get(reading, &Link::get_request(name), Link::decode)? {
            Ok(link) => Ok(link),
            Err(refusal) if refusal.is_absent() => Ok(None),
            Err(refusal) => Err(Error::Dump { reading, refusal }),
        }
    }

    /// All addresses of all devices, of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let request = Request::new(libc::RTM_GETADDR, 0, &AddressMessage::default());
        self.connection.dump("addresses", &request, Address::decode)
    }

    /// The routes of one table, or of all of them; a table that does not exist is empty.
    pub fn routes(&mut self, family: Family, table: Option<u32>) -> Result<Vec<Route>, Error> {
        let wanted = |route: &Route| table.is_none_or(|table| route.table == table);
        let request = Route::dump_request(family, table);
        let routes =
            self.connection.dump("routes", &request, |frame| Ok(Route::decode(frame)?.filter(wanted)));
        match routes {
            // "FIB table does not exist"
            Err(Error::Dump { refusal, .. }) if table.is_some() && refusal.errno == libc::ENOENT => {
                Ok(Vec::new())
            }
            routes => routes,
        }
    }

    /// The policy rules of a family, except inverted ones.
    pub fn rules(&mut self, family: Family) -> Result<Vec<Rule>, Error> {
        self.connection.dump("rules", &Rule::dump_request(family), Rule::decode)
    }

    /// The neighbours of one device, of both families.
    pub fn neighbours(&mut self, device: u32) -> Result<Vec<Neighbour>, Error> {
        let request = neighbour::dump_request(AddressFamily::Unspec, device);
        let wanted = |neighbour: &Neighbour| neighbour.device == device;
        self.connection.dump("neighbours", &request, |frame| Ok(Neighbour::decode(frame)?.filter(wanted)))
    }

    /// The forwarding entries of one device.
    pub fn fdb(&mut self, device: u32) -> Result<Vec<FdbEntry>, Error> {
        let request = neighbour::dump_request(AddressFamily::Bridge, device);
        let wanted = |entry: &FdbEntry| entry.device == device;
        self.connection
            .dump("forwarding entries", &request, |frame| Ok(FdbEntry::decode(frame)?.filter(wanted)))
    }

    /// All nexthop objects, except those for forwarding entries.
    pub fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error> {
        self.connection.dump("nexthops", &Nexthop::dump_request(), Nexthop::decode)
    }
}
