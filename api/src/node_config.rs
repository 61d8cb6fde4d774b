//! NodeConfig: everything a node's kernel shall hold, and what its agent saw there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What a node's kernel shall hold; named like its ClusterNode.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kosmos.io",
    version = "v1alpha1",
    kind = "NodeConfig",
    plural = "nodeconfigs",
    status = "NodeConfigStatus",
    doc = "What a node's kernel shall hold, and what its agent saw there.",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"APPLIED","type":"string","jsonPath":".status.conditions[?(@.type==\"Applied\")].status"}"#,
    printcolumn = r#"{"name":"REASON","type":"string","jsonPath":".status.conditions[?(@.type==\"Applied\")].reason"}"#,
    printcolumn = r#"{"name":"ENTRIES","type":"integer","jsonPath":".status.entries.desired"}"#,
    printcolumn = r#"{"name":"DIFFERING","type":"integer","jsonPath":".status.entries.differing"}"#,
    printcolumn = r#"{"name":"CHANGED","type":"date","jsonPath":".status.lastChangeTime"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigSpec {
    /// VXLAN devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Routes to other clusters and to the own gateways, in ClusterLink's table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Of a gateway: routes for what comes in between clusters, to the node that has the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbound_routes: Vec<Route>,
    /// CIDRs that are unreachable where no route above holds: nothing of ours leaks to the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub unreachable: Vec<String>,
    /// Which VTEP (by MAC) is behind which underlay address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdbs: Vec<Fdb>,
    /// Which MAC has which overlay address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arps: Vec<Arp>,
    /// What the node's packet filter shall do for the overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    /// Priority of the rule that leads to ClusterLink's table; default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 32765))]
    pub rule_priority: Option<u32>,
    /// Kosmos's free-text rules: accepted, never applied, warned about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iptables: Vec<Iptables>,
}

/// A VXLAN device.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// `vxlan`.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["vxlan"]))]
    pub kind: String,
    /// One of `vx-bridge`, `vx-local`, `vx-bridge-6`, `vx-local-6`.
    pub name: String,
    /// Overlay address with prefix length. No connected route comes of it.
    #[schemars(schema_with = "schema::cidr")]
    pub addr: String,
    /// MAC address of the device.
    #[schemars(schema_with = "schema::mac")]
    pub mac: String,
    /// The underlay interface.
    pub bind_dev: String,
    /// VNI.
    #[schemars(range(min = 1, max = 16777215))]
    pub id: i32,
    /// UDP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Addresses beside `addr`: of the other family, where this device carries both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub extra_addrs: Vec<String>,
    /// MTU in bytes; without it the underlay interface's less the overhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<u32>,
}

/// A route by way of one or several VTEPs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: String,
    /// The VTEP's overlay address; the first of `gws` where there are several.
    #[schemars(schema_with = "schema::ip")]
    pub gw: String,
    /// The device.
    pub dev: String,
    /// All VTEPs of the route, where there are several: flows are spread over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ips")]
    pub gws: Vec<String>,
    /// MTU in bytes, where it is below the device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<u32>,
}

impl Route {
    /// Every VTEP of the route.
    pub fn gateways(&self) -> impl Iterator<Item = &str> {
        let one = if self.gws.is_empty() { std::slice::from_ref(&self.gw) } else { &self.gws };
        one.iter().map(String::as_str)
    }
}

/// A forwarding entry: the VTEP with this MAC is at this underlay address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Fdb {
    /// Underlay address.
    #[schemars(schema_with = "schema::ip")]
    pub ip: String,
    /// MAC of the VTEP.
    #[schemars(schema_with = "schema::mac")]
    pub mac: String,
    /// The device.
    pub dev: String,
}

/// A neighbour: this overlay address has this MAC.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Arp {
    /// Overlay address.
    #[schemars(schema_with = "schema::ip")]
    pub ip: String,
    /// MAC of the VTEP.
    #[schemars(schema_with = "schema::mac")]
    pub mac: String,
    /// The device.
    pub dev: String,
}

/// What the packet filter does for the overlay, said in the sets that its rules are made of.
///
/// *Own* is what is in this cluster, *remote* what is joined to it. The agent makes of them: accepts for forwarded
/// packets that use one of our devices between own and own, or own and remote; identity SNAT, so that a source
/// survives the CNI's masquerade; masquerade of what was translated here to an own service's backend; no tracking
/// of transit on a gateway; an MSS clamp; a refusal of the pairs that cannot be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Firewall {
    /// Pods of the own cluster.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub pod_cidrs: Vec<String>,
    /// Pods of this node: tracked even on a gateway, because both directions pass here; their CNI's address on this
    /// node is the source of the host's own packets to other clusters.
    #[serde(default, rename = "nodePodCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub node_pod_cidrs: Vec<String>,
    /// Services of the own cluster.
    #[serde(default, rename = "serviceCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub service_cidrs: Vec<String>,
    /// Overlay addresses of the own cluster's nodes, summarised.
    #[serde(default, rename = "overlayCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub overlay_cidrs: Vec<String>,
    /// Pods, services and node overlay addresses of the clusters joined to this one.
    #[serde(default, rename = "remoteCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub remote_cidrs: Vec<String>,
    /// Whether transit passes here: on a gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transit: bool,
    /// Pairs that could be sent but never answered: refused at their source with an ICMP error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<CidrPair>,
    /// The mark bit of what may be forwarded; default 0x20000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
}

/// A source and a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct CidrPair {
    /// Source.
    #[schemars(schema_with = "schema::cidr")]
    pub from: String,
    /// Destination.
    #[schemars(schema_with = "schema::cidr")]
    pub to: String,
}

/// A free-text rule of Kosmos.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Iptables {
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Arguments of the rule.
    pub rule: String,
}

/// What the agent saw, by re-reading the kernel after its last pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigStatus {
    /// Generation of the spec that the rest speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the kernel was last compared with the spec and found equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// When the agent last changed the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change_time: Option<Time>,
    /// How many kernel objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Entries>,
    /// What still differs, at most twenty of them, each with the operation that failed and the kernel's answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<String>,
    /// What an operator reads first; one writer for each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Counts of kernel objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entries {
    /// What the spec asks for.
    pub desired: u64,
    /// What is not (yet) so.
    pub differing: u64,
}
