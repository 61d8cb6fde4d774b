//! What a control plane shall be like.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::Binaries;

/// Where Services are unless said otherwise.
const SERVICES: Ipv4Network = match Ipv4Network::new_checked(Ipv4Addr::new(10, 96, 0, 0), 16) {
    Some(network) => network,
    None => unreachable!(),
};

/// What a control plane shall be like. [`Options::named`] is right for most tests; change what you need.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name in kubeconfigs and certificates.
    pub name: String,
    /// The programs.
    pub binaries: Binaries,
    /// Where its files are. It is created, and removed at the end. Unset: a new temporary directory.
    pub directory: Option<PathBuf>,
    /// The network namespace that all processes run in, as a path to enter (`/run/netns/x`, `/proc/PID/ns/net`). Unset: the
    /// caller's own.
    pub network_namespace: Option<PathBuf>,
    /// The address that the API server listens on. The unspecified one means all addresses.
    pub listen: IpAddr,
    /// The address that kubeconfigs and the Service `kubernetes` name.
    pub advertise: IpAddr,
    /// The port that the API server listens on; 0 takes a free one.
    pub port: u16,
    /// Further names and addresses in the serving certificate.
    pub names: Vec<String>,
    /// The Service CIDRs; one of each family for dual stack.
    pub service_cidrs: Vec<IpNetwork>,
    /// Admission plugins to switch off. Without a controller manager no service account exists by itself, and
    /// `ServiceAccount` refuses pods whose account does not exist.
    pub disabled_admission: Vec<String>,
    /// Further flags of kube-apiserver.
    pub api_server_flags: Vec<String>,
    /// Further environment of kube-apiserver and kube-controller-manager.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// A control plane on 127.0.0.1, on a free port, with the Service CIDR 10.96.0.0/16.
    pub fn named(name: &str, binaries: Binaries) -> Self {
        Self {
            name: name.to_owned(),
            binaries,
            directory: None,
            network_namespace: None,
            listen: Ipv4Addr::LOCALHOST.into(),
            advertise: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            names: Vec::new(),
            service_cidrs: vec![IpNetwork::V4(SERVICES)],
            disabled_admission: Vec::new(),
            api_server_flags: Vec::new(),
            environment: Vec::new(),
        }
    }
}
