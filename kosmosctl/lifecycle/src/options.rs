//! How a cluster takes part, as flags: what is given is set, what is not is left as it is.

use std::collections::BTreeMap;

use api::{Cluster, IpFamily, NetworkType, TunnelType, Vtep};
use clap::Args;
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde_json::{Map, Value, json};

/// Options of a Cluster.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of the Cluster")]
pub struct ClusterOptions {
    /// p2p: every node tunnels by itself; gateway: gateway nodes carry the cluster's traffic [default: p2p].
    #[arg(long, value_name = "TYPE", value_parser = word::<NetworkType>)]
    pub network_type: Option<NetworkType>,
    /// Which families of pods and services take part: all, ipv4 or ipv6 [default: all].
    #[arg(long, value_name = "FAMILY", value_parser = word::<IpFamily>)]
    pub ip_family: Option<IpFamily>,
    /// The CNI adapter: auto, flannel, calico, cilium or node [default: auto].
    #[arg(long, value_name = "NAME")]
    pub cni: Option<String>,
    /// How many gateways a gateway-mode cluster has [default: 2].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=32))]
    pub gateways: Option<u16>,
    /// Where overlay addresses between clusters come from [default: 241.0.0.0/8,fd41:6272::/32].
    #[arg(long, value_name = "IPV4,IPV6", value_parser = pools)]
    pub bridge_cidrs: Option<Pools>,
    /// Where overlay addresses within the cluster come from [default: 242.0.0.0/8,fd42:6c6f::/32].
    #[arg(long, value_name = "IPV4,IPV6", value_parser = pools)]
    pub local_cidrs: Option<Pools>,
    /// The underlay interface of every node that --nic does not name; * detects it [default: *].
    #[arg(long, value_name = "INTERFACE")]
    pub default_nic: Option<String>,
    /// The underlay interface of one node; may be given several times.
    #[arg(long, value_name = "NODE=INTERFACE", value_parser = assignment)]
    pub nic: Vec<(String, String)>,
    /// How the interface is detected: can-reach=ADDRESS [default: by the Node's InternalIP].
    #[arg(long, value_name = "METHOD")]
    pub autodetection_method: Option<String>,
    /// MTU of the underlay in bytes [default: as each agent measures it].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65535))]
    pub mtu: Option<u32>,
    /// UDP port of a tunnel, the same in every cluster of a mesh: vx-bridge=4876, vx-local=4877, vx-bridge-6=4866,
    /// vx-local-6=4867; may be given several times.
    #[arg(long, value_name = "DEVICE=PORT", value_parser = port)]
    pub port: Vec<(Vtep, u16)>,
    /// Priority of the ip rule that leads to our table [default: 200].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(2..=32765))]
    pub rule_priority: Option<u32>,
    /// What carries packets between clusters: vxlan or ipsec [default: vxlan].
    #[arg(long, value_name = "TYPE", value_parser = word::<TunnelType>)]
    pub tunnel_type: Option<TunnelType>,
}

/// A pool of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools(Ipv4Network, Ipv6Network);

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(json!(text)).map_err(|error: serde_json::Error| error.to_string())
}

fn pools(text: &str) -> Result<Pools, String> {
    let wrong = || "write an IPv4 and an IPv6 network, such as 241.0.0.0/8,fd41:6272::/32".to_owned();
    let (v4, v6) = text.split_once(',').ok_or_else(wrong)?;
    let pools = Pools(v4.parse().map_err(|_| wrong())?, v6.parse().map_err(|_| wrong())?);
    if pools.0.ip() != pools.0.network() || pools.1.ip() != pools.1.network() {
        return Err(format!(
            "write {}/{},{}/{}",
            pools.0.network(),
            pools.0.prefix(),
            pools.1.network(),
            pools.1.prefix()
        ));
    }
    Ok(pools)
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (node, interface) = text.split_once('=').ok_or("write NODE=INTERFACE, such as node1=eth1")?;
    Ok((node.to_owned(), interface.to_owned()))
}

fn port(text: &str) -> Result<(Vtep, u16), String> {
    let wrong = || "write DEVICE=PORT, such as vx-bridge=4876".to_owned();
    let (device, port) = text.split_once('=').ok_or_else(wrong)?;
    let vtep = Vtep::named(device).ok_or_else(wrong)?;
    Ok((vtep, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
}

impl ClusterOptions {
    /// `spec.clusterLinkOptions` as far as it was given; a cluster that is joined takes part.
    pub fn given(&self) -> Value {
        let mut fields = Map::from_iter([("enable".to_owned(), json!(true))]);
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        let pools = |pools: Option<Pools>| {
            pools.map(|Pools(ip, ip6)| json!({"ip": ip.to_string(), "ip6": ip6.to_string()}))
        };
        set("networkType", self.network_type.map(|value| json!(value)));
        set("ipFamily", self.ip_family.map(|value| json!(value)));
        set("cni", self.cni.as_ref().map(|value| json!(value)));
        set("gateways", self.gateways.map(|value| json!(value)));
        set("bridgeCIDRs", pools(self.bridge_cidrs));
        set("localCIDRs", pools(self.local_cidrs));
        set("defaultNICName", self.default_nic.as_ref().map(|value| json!(value)));
        set("nicNodeNames", self.nics());
        set("autodetectionMethod", self.autodetection_method.as_ref().map(|value| json!(value)));
        set("mtu", self.mtu.map(|value| json!(value)));
        set("ports", self.ports());
        set("rulePriority", self.rule_priority.map(|value| json!(value)));
        set("tunnelType", self.tunnel_type.map(|value| json!(value)));
        Value::Object(fields)
    }

    fn nics(&self) -> Option<Value> {
        let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (node, interface) in &self.nic {
            nodes.entry(interface).or_default().push(node);
        }
        let entries = nodes
            .into_iter()
            .map(|(interface, nodes)| json!({"interfaceName": interface, "nodeName": nodes}));
        let entries: Vec<Value> = entries.collect();
        (!entries.is_empty()).then(|| json!(entries))
    }

    fn ports(&self) -> Option<Value> {
        let field = |vtep: Vtep| match vtep {
            Vtep::Bridge => "bridge",
            Vtep::Local => "local",
            Vtep::Bridge6 => "bridge6",
            Vtep::Local6 => "local6",
        };
        let ports: Map<String, Value> =
            self.port.iter().map(|(vtep, port)| (field(*vtep).to_owned(), json!(port))).collect();
        (!ports.is_empty()).then(|| json!(ports))
    }

    /// The Cluster as it will be: what is there, with what was given.
    pub fn over(&self, live: Option<&Cluster>, name: &str) -> Result<Cluster, serde_json::Error> {
        let live = live.cloned().unwrap_or_else(|| Cluster::new(name, Default::default()));
        let mut value = serde_json::to_value(&live)?;
        merge(&mut value["spec"]["clusterLinkOptions"], &self.given());
        serde_json::from_value(value)
    }
}

/// A JSON merge patch (RFC 7396) that removes nothing.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        merge(&mut target[key.as_str()], value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: ClusterOptions,
    }

    fn options(args: &str) -> Result<ClusterOptions, clap::Error> {
        let args = std::iter::once("x").chain(args.split(' ').filter(|arg| !arg.is_empty()));
        Cli::try_parse_from(args).map(|cli| cli.options)
    }

    #[test]
    fn what_is_given_is_set_and_nothing_else() {
        assert_eq!(options("").unwrap().given(), json!({"enable": true}));
        let given = options(
            "--network-type gateway --gateways 3 --bridge-cidrs 100.64.0.0/10,fd00::/32 --port vx-bridge=5000 \
             --nic n1=eth1 --nic n2=eth1 --mtu 9000",
        );
        assert_eq!(
            given.unwrap().given(),
            json!({"enable": true, "networkType": "gateway", "gateways": 3, "mtu": 9000,
                "bridgeCIDRs": {"ip": "100.64.0.0/10", "ip6": "fd00::/32"}, "ports": {"bridge": 5000},
                "nicNodeNames": [{"interfaceName": "eth1", "nodeName": ["n1", "n2"]}]})
        );
    }

    #[test]
    fn what_a_person_has_set_stays() {
        let live: Cluster =
            serde_json::from_value(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east"},
            "spec": {"clusterLinkOptions": {"enable": false, "networkType": "gateway", "cni": "calico"}}}))
            .unwrap();
        let cluster = options("--cni flannel").unwrap().over(Some(&live), "east").unwrap();
        let options = cluster.spec.cluster_link_options.unwrap();
        assert_eq!(
            (options.enable, options.network_type, options.cni.as_str()),
            (true, NetworkType::Gateway, "flannel")
        );
    }

    #[test]
    fn a_wrong_value_says_what_to_write() {
        for (args, words) in [
            ("--network-type star", "expected `p2p` or `gateway`"),
            ("--bridge-cidrs 241.0.0.0/8", "write an IPv4 and an IPv6 network"),
            ("--bridge-cidrs 241.0.0.1/8,fd00::/32", "write 241.0.0.0/8,fd00::/32"),
            ("--port eth0=1", "write DEVICE=PORT"),
            ("--port vx-local=0", "write DEVICE=PORT"),
            ("--nic n1", "write NODE=INTERFACE"),
        ] {
            let error = options(args).unwrap_err().to_string();
            assert!(error.contains(words), "{args}: {error}");
        }
    }
}
