//! Cluster: a member of the mesh, what it wants, and what was found of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A member cluster of the mesh.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kosmos.io",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    status = "ClusterStatus",
    doc = "A member cluster of the mesh.",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"NETWORK_TYPE","type":"string","jsonPath":".spec.clusterLinkOptions.networkType"}"#,
    printcolumn = r#"{"name":"IP_FAMILY","type":"string","jsonPath":".spec.clusterLinkOptions.ipFamily"}"#,
    printcolumn = r#"{"name":"PLANNED","type":"string","jsonPath":".status.conditions[?(@.type==\"Planned\")].status"}"#,
    printcolumn = r#"{"name":"UNIQUE","type":"string","jsonPath":".status.conditions[?(@.type==\"CIDRsUnique\")].status"}"#,
    printcolumn = r#"{"name":"POD_CIDRS","type":"string","jsonPath":".status.clusterLinkStatus.podCIDRs","priority":1}"#,
    printcolumn = r#"{"name":"SERVICE_CIDRS","type":"string","jsonPath":".status.clusterLinkStatus.serviceCIDRs","priority":1}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Accepted for Kosmos's sake, never read: a credential has no place in a custom resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Namespace of ClusterLink's components in the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the components' images come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// How this cluster takes part in the overlay. Without it, it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_link_options: Option<ClusterLinkOptions>,
    /// Options of Kosmos ClusterTree: accepted, never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub cluster_tree_options: Option<serde_json::Value>,
}

/// How a cluster takes part in the overlay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLinkOptions {
    /// `false` keeps the cluster out of the mesh.
    #[serde(default = "yes")]
    pub enable: bool,
    /// The CNI adapter: `auto` picks by what it finds; `flannel`, `calico`, `cilium`, `node` (Node.spec.podCIDRs).
    #[serde(default = "auto")]
    pub cni: String,
    /// `p2p`: every node tunnels by itself. `gateway`: gateway nodes carry the cluster's traffic.
    #[serde(default)]
    pub network_type: NetworkType,
    /// Which families of pods and services take part.
    #[serde(default)]
    pub ip_family: IpFamily,
    /// Accepted for Kosmos's sake, never read (there, too).
    #[serde(default, rename = "useIPPool", skip_serializing_if = "Option::is_none")]
    pub use_ip_pool: Option<bool>,
    /// Where the addresses of `vx-local` come from; default `242.0.0.0/8` and `fd42:6c6f::/32`.
    #[serde(default, rename = "localCIDRs", skip_serializing_if = "Option::is_none")]
    pub local_cidrs: Option<OverlayCidrs>,
    /// Where the addresses of `vx-bridge` come from; default `241.0.0.0/8` and `fd41:6272::/32`.
    #[serde(default, rename = "bridgeCIDRs", skip_serializing_if = "Option::is_none")]
    pub bridge_cidrs: Option<OverlayCidrs>,
    /// Network interfaces of named nodes.
    #[serde(default, rename = "nicNodeNames", skip_serializing_if = "Vec::is_empty")]
    pub nic_node_names: Vec<NicNodeNames>,
    /// The interface of all other nodes; `*` detects it.
    #[serde(default = "any_nic", rename = "defaultNICName")]
    pub default_nic_name: String,
    /// Own CIDR to global CIDR. Refused with a condition for now.
    #[serde(default, rename = "globalCIDRsMap", skip_serializing_if = "BTreeMap::is_empty")]
    pub global_cidrs_map: BTreeMap<String, String>,
    /// How `*` is detected: `can-reach=ADDRESS`; without it the interface of the Node's InternalIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autodetection_method: Option<String>,
    /// What carries a packet between clusters.
    #[serde(default)]
    pub tunnel_type: TunnelType,
    /// How many gateways a gateway-mode cluster has; default 2.
    #[serde(default = "two_gateways")]
    #[schemars(range(min = 1, max = 32))]
    pub gateways: u16,
    /// MTU of the underlay, in bytes; without it each agent measures its own interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 65535))]
    pub mtu: Option<u32>,
    /// UDP ports of the tunnels; the same in every cluster of a mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<TunnelPorts>,
    /// Priority of the `ip rule` that leads to our table; default 200. The one before it is ours as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 32765))]
    pub rule_priority: Option<u32>,
}

fn yes() -> bool {
    true
}

fn auto() -> String {
    "auto".to_owned()
}

fn any_nic() -> String {
    "*".to_owned()
}

fn two_gateways() -> u16 {
    2
}

impl Default for ClusterLinkOptions {
    fn default() -> Self {
        ClusterLinkOptions {
            enable: yes(),
            cni: auto(),
            network_type: NetworkType::default(),
            ip_family: IpFamily::default(),
            use_ip_pool: None,
            local_cidrs: None,
            bridge_cidrs: None,
            nic_node_names: Vec::new(),
            default_nic_name: any_nic(),
            global_cidrs_map: BTreeMap::new(),
            autodetection_method: None,
            tunnel_type: TunnelType::default(),
            gateways: two_gateways(),
            mtu: None,
            ports: None,
            rule_priority: None,
        }
    }
}

/// How a cluster's traffic leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    /// Every node tunnels to every remote node or gateway.
    #[default]
    P2p,
    /// Through gateway nodes.
    Gateway,
}

/// Families of pods and services that take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// Both, where a node has both.
    #[default]
    All,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

impl IpFamily {
    /// Whether this family takes part.
    pub fn includes(self, family: crate::Family) -> bool {
        match self {
            IpFamily::All => true,
            IpFamily::Ipv4 => family == crate::Family::V4,
            IpFamily::Ipv6 => family == crate::Family::V6,
        }
    }
}

/// What carries a packet between clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelType {
    /// VXLAN in clear text (RFC 7348).
    #[default]
    Vxlan,
    /// VXLAN within ESP. Never falls back to clear text: refused with a condition for now.
    Ipsec,
}

/// A pool of overlay addresses for each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverlayCidrs {
    /// IPv4 pool.
    #[schemars(schema_with = "schema::cidr")]
    pub ip: String,
    /// IPv6 pool.
    #[schemars(schema_with = "schema::cidr")]
    pub ip6: String,
}

/// The interface of the nodes named here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NicNodeNames {
    /// Name of the underlay interface.
    pub interface_name: String,
    /// Names of the nodes, whole.
    pub node_name: Vec<String>,
}

/// UDP ports of the four tunnels; those of Kosmos where not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelPorts {
    /// `vx-bridge`, 4876.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<u16>,
    /// `vx-local`, 4877.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<u16>,
    /// `vx-bridge-6`, 4866.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge6: Option<u16>,
    /// `vx-local-6`, 4867.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local6: Option<u16>,
}

/// What was found of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What the cluster's controller-manager found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_link_status: Option<ClusterLinkStatus>,
    /// Status of Kosmos ClusterTree: accepted, never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub cluster_tree_status: Option<serde_json::Value>,
    /// What an operator reads first; one writer for each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The CIDRs of a cluster and where they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLinkStatus {
    /// CIDRs that its pods' addresses come from.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub pod_cidrs: Vec<String>,
    /// CIDRs that its services' addresses come from.
    #[serde(default, rename = "serviceCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub service_cidrs: Vec<String>,
    /// The CNI adapter in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The object that the pod CIDRs were read from.
    #[serde(default, rename = "podCIDRSource", skip_serializing_if = "Option::is_none")]
    pub pod_cidr_source: Option<String>,
    /// What the service CIDRs were read from.
    #[serde(default, rename = "serviceCIDRSource", skip_serializing_if = "Option::is_none")]
    pub service_cidr_source: Option<String>,
}
