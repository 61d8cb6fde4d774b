//! The four VXLAN devices of a node (DESIGN section 4): which plane, which underlay, which numbers.

use crate::words::Family;

/// Bytes that VXLAN puts before a packet: outer Ethernet is not counted, inner Ethernet (14), VXLAN (8), UDP (8)
/// and the outer IP header (20 or 40) are.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;

/// Whom a device leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// Between clusters: gateways and the nodes of P2P clusters.
    Bridge,
    /// Within a gateway-mode cluster: between its nodes and its gateways.
    Local,
}

/// A node's end of a tunnel: one of its four VXLAN devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vtep {
    /// `vx-bridge`: between clusters over an IPv4 underlay.
    Bridge,
    /// `vx-local`: within a cluster over an IPv4 underlay.
    Local,
    /// `vx-bridge-6`: between clusters over an IPv6 underlay.
    Bridge6,
    /// `vx-local-6`: within a cluster over an IPv6 underlay.
    Local6,
}

impl Vtep {
    /// All four.
    pub const ALL: [Vtep; 4] = [Vtep::Bridge, Vtep::Local, Vtep::Bridge6, Vtep::Local6];

    /// The device of a plane over an underlay of this family.
    pub fn of(plane: Plane, underlay: Family) -> Self {
        match (plane, underlay) {
            (Plane::Bridge, Family::V4) => Vtep::Bridge,
            (Plane::Bridge, Family::V6) => Vtep::Bridge6,
            (Plane::Local, Family::V4) => Vtep::Local,
            (Plane::Local, Family::V6) => Vtep::Local6,
        }
    }

    /// The device of this name, if it is one of ours.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vtep| vtep.name() == name)
    }

    /// The device's name on every node.
    pub fn name(self) -> &'static str {
        match self {
            Vtep::Bridge => "vx-bridge",
            Vtep::Local => "vx-local",
            Vtep::Bridge6 => "vx-bridge-6",
            Vtep::Local6 => "vx-local-6",
        }
    }

    /// Whom it leads to.
    pub fn plane(self) -> Plane {
        match self {
            Vtep::Bridge | Vtep::Bridge6 => Plane::Bridge,
            Vtep::Local | Vtep::Local6 => Plane::Local,
        }
    }

    /// The family of the outer packets.
    pub fn underlay(self) -> Family {
        match self {
            Vtep::Bridge | Vtep::Local => Family::V4,
            Vtep::Bridge6 | Vtep::Local6 => Family::V6,
        }
    }

    /// The VNI, as in Kosmos.
    pub fn vni(self) -> u32 {
        match self {
            Vtep::Bridge => 54,
            Vtep::Local => 55,
            Vtep::Bridge6 => 64,
            Vtep::Local6 => 65,
        }
    }

    /// The UDP port that Kosmos uses and that holds where a Cluster names none.
    pub fn default_port(self) -> u16 {
        match self {
            Vtep::Bridge => 4876,
            Vtep::Local => 4877,
            Vtep::Bridge6 => 4866,
            Vtep::Local6 => 4867,
        }
    }

    /// Bytes by which the tunnel's MTU is below the underlay's.
    pub fn overhead(self) -> u32 {
        match self.underlay() {
            Family::V4 => OVERHEAD_V4,
            Family::V6 => OVERHEAD_V6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_found_by_its_name_and_by_its_place() {
        for vtep in Vtep::ALL {
            assert_eq!(Vtep::named(vtep.name()), Some(vtep));
            assert_eq!(Vtep::of(vtep.plane(), vtep.underlay()), vtep);
        }
        assert_eq!(Vtep::named("flannel.1"), None);
    }
}
