//! ClusterNode: a node of a member cluster, as the whole mesh knows it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GATEWAY_ROLE, NodeId, schema};

/// A node of a member cluster, named `<cluster>-<node>`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kosmos.io",
    version = "v1alpha1",
    kind = "ClusterNode",
    plural = "clusternodes",
    status = "ClusterNodeStatus",
    doc = "A node of a member cluster, as the whole mesh knows it.",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"ROLES","type":"string","jsonPath":".spec.roles"}"#,
    printcolumn = r#"{"name":"INTERFACE","type":"string","jsonPath":".spec.interfaceName"}"#,
    printcolumn = r#"{"name":"IP","type":"string","jsonPath":".spec.ip"}"#,
    printcolumn = r#"{"name":"IP6","type":"string","jsonPath":".spec.ip6","priority":1}"#,
    printcolumn = r#"{"name":"PUBLIC_IP","type":"string","jsonPath":".spec.publicIP","priority":1}"#,
    printcolumn = r#"{"name":"POD_CIDRS","type":"string","jsonPath":".spec.podCIDRs","priority":1}"#,
    printcolumn = r#"{"name":"BRIDGE","type":"string","jsonPath":".status.overlay.bridge","priority":1}"#,
    printcolumn = r#"{"name":"PLANNED","type":"string","jsonPath":".status.conditions[?(@.type==\"Planned\")].status"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNodeSpec {
    /// Name of its Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Name of its Node in that cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// CIDRs of the pods on this node.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub pod_cidrs: Vec<String>,
    /// Underlay IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ipv4")]
    pub ip: Option<String>,
    /// Underlay IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ipv6")]
    pub ip6: Option<String>,
    /// Underlay interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// `gateway`, or nothing: who carries its cluster's traffic to others where that is in gateway mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The address that other clusters send to, where it is not `ip`/`ip6` (1:1 NAT).
    #[serde(default, rename = "publicIP", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ip")]
    pub public_ip: Option<String>,
}

impl ClusterNodeSpec {
    /// Whose node it is, where it says so.
    pub fn id(&self) -> Option<NodeId> {
        Some(NodeId::new(self.cluster_name.clone()?, self.node_name.clone()?))
    }

    /// Whether it bears the gateway role (compared as Kosmos's network-manager does: in any case).
    pub fn is_gateway(&self) -> bool {
        self.roles.iter().any(|role| role.eq_ignore_ascii_case(GATEWAY_ROLE))
    }
}

/// What was measured of a node, and the addresses it was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNodeStatus {
    /// Its VTEP addresses: allocated once by the network-manager, an input of the plan ever after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// MTU of the underlay interface, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What the node's kernel and tools can do, such as `resilient-nexthops`, `nftables`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What an operator reads first; one writer for each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The addresses of a node's VTEPs, without prefix length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overlay {
    /// IPv4 address between clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ipv4")]
    pub bridge: Option<String>,
    /// IPv6 address between clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ipv6")]
    pub bridge6: Option<String>,
    /// IPv4 address within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ipv4")]
    pub local: Option<String>,
    /// IPv6 address within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ipv6")]
    pub local6: Option<String>,
}
