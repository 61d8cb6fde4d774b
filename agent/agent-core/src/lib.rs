//! NodeConfig and observed kernel in, ordered steps out; pure.
//!
//! How a packet finds its way through what is programmed here: a rule sends it into our table, the route there
//! names a nexthop object, the nexthop names a VTEP's overlay address on one of our VXLAN devices, the neighbour
//! entry says which MAC that address has, and the FDB entry says behind which underlay address that MAC is.
//!
//! [`Spec`] is a NodeConfig in words; [`Actual`] is what was read from the kernel; [`Desired`] is what the kernel
//! shall hold, given both; [`diff`] says which [`Step`]s lead there; [`pass`] does all of it over a [`Kernel`] and
//! re-reads, so that its [`Report`] says what is, not what was meant.

mod actual;
mod desired;
mod diff;
pub mod firewall;
mod hold;
mod kernel;
mod linger;
mod model;
mod nexthops;
mod pass;
mod refusal;
mod report;
mod rest;
mod restore;
mod side_by_side;
mod source;
pub mod spec;
mod step;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

pub use actual::{Actual, ActualDevice, ActualNexthop, Host, HostAddress, HostLink, HostRoute, Owner};
pub use desired::{Desired, Known};
pub use diff::diff;
pub use kernel::{Kernel, KernelError, Reading, Refusal};
pub use linger::Spared;
pub use model::{
    ALIAS, Device, INBOUND_TABLE, Kind, NEXTHOP_IDS, Nexthop, PROTOCOL, ROUTE_METRIC, Resilience, Route,
    RouteKey, Rule, Setting, Sysctl, TABLE, UNREACHABLE_METRIC,
};
pub use pass::{Authority, Pass, cleanup, inspect, pass};
pub use refusal::Refused;
pub use report::{Cause, Counts, Difference, Report};
pub use spec::{InvalidEntry, Spec};
pub use step::{ChangeSet, Stage, Step};
