//! Who reaches whom: every cell of the reach matrix, by a payload that comes back and by the source address that the far
//! side saw.

mod cells;
mod run;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use cells::{End, EndKind, Plan, Probe, Role, Scope, plan};
pub use run::{Cell, Matrix, MatrixOptions, Outcome, Run};

/// The overlay addresses of every node, by its place: first its address in the mesh of each family.
pub type Overlays = BTreeMap<String, Vec<IpAddr>>;
