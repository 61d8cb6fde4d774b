//! What bad input gets (DESIGN 7): a message that names the object, the field and the value, and everything else goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::Input;

/// Two P2P clusters of two nodes each, all well; then spoilt.
fn mesh() -> Input {
    let mut yaml = String::new();
    for (cluster, number) in [("a", 1), ("b", 2)] {
        yaml += &format!(
            "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {{name: {cluster}}}\nspec: {{clusterLinkOptions: {{}}}}\n\
             status: {{clusterLinkStatus: {{podCIDRs: [10.{number}.0.0/16], serviceCIDRs: [10.9{number}.0.0/16]}}}}\n---\n"
        );
        for node in 1..3 {
            yaml += &format!(
                "apiVersion: kosmos.io/v1alpha1\nkind: ClusterNode\nmetadata: {{name: {cluster}-n{node}}}\n\
                 spec: {{clusterName: {cluster}, nodeName: n{node}, ip: 192.168.{number}.{node}, interfaceName: eth0, \
                 podCIDRs: [10.{number}.{node}.0/24]}}\n---\n"
            );
        }
    }
    Input::from_yaml(&yaml)
}

/// Spoils the mesh, and sees what is said and who is planned all the same.
fn check(spoil: impl FnOnce(&mut Input), said: &[&str], planned: &[&str]) {
    let mut input = mesh();
    spoil(&mut input);
    let (configs, rejections) = input.plan();
    let rejections: Vec<String> = rejections.iter().map(ToString::to_string).collect();
    assert_eq!(rejections, said);
    assert_eq!(configs.keys().collect::<Vec<_>>(), planned);
}

const ALL: [&str; 4] = ["a-n1", "a-n2", "b-n1", "b-n2"];
const ONLY_A: [&str; 2] = ["a-n1", "a-n2"];

fn options(input: &mut Input, cluster: usize) -> &mut api::ClusterLinkOptions {
    input.clusters[cluster].spec.cluster_link_options.as_mut().unwrap()
}

fn found(input: &mut Input, cluster: usize) -> &mut api::cluster::ClusterLinkStatus {
    input.clusters[cluster].status.as_mut().unwrap().cluster_link_status.as_mut().unwrap()
}

fn pool(ip: &str) -> Option<api::cluster::OverlayCidrs> {
    Some(api::cluster::OverlayCidrs { ip: ip.to_owned(), ip6: "fd99::/32".to_owned() })
}

#[test]
fn a_good_mesh_gets_no_word() {
    check(|_| {}, &[], &ALL);
}

#[test]
fn a_cluster_without_options_takes_no_part() {
    check(
        |input| input.clusters[1].spec.cluster_link_options = None,
        &[
            "Cluster b: NoOptions: spec.clusterLinkOptions is missing: the cluster takes no part; add it (an empty object takes every default)",
            "ClusterNode b-n1: ClusterLeft: spec.clusterName \"b\": that cluster takes no part (NoOptions), see its conditions",
            "ClusterNode b-n2: ClusterLeft: spec.clusterName \"b\": that cluster takes no part (NoOptions), see its conditions",
        ],
        &ONLY_A,
    );
}

#[test]
fn a_disabled_cluster_takes_no_part() {
    check(
        |input| {
            options(input, 1).enable = false;
            input.nodes.truncate(3);
        },
        &[
            "Cluster b: Disabled: spec.clusterLinkOptions.enable is false: the cluster takes no part",
            "ClusterNode b-n1: ClusterLeft: spec.clusterName \"b\": that cluster takes no part (Disabled), see its conditions",
        ],
        &ONLY_A,
    );
}

#[test]
fn ipsec_never_becomes_clear_text() {
    check(
        |input| {
            options(input, 1).tunnel_type = api::TunnelType::Ipsec;
            input.nodes.truncate(3);
        },
        &[
            "Cluster b: IPsecUnsupported: spec.clusterLinkOptions.tunnelType is ipsec, which is not supported yet, and clear text is no substitute: the cluster takes no part; set it to vxlan to run in clear text",
            "ClusterNode b-n1: ClusterLeft: spec.clusterName \"b\": that cluster takes no part (IPsecUnsupported), see its conditions",
        ],
        &ONLY_A,
    );
}

#[test]
fn a_global_map_withholds_what_it_maps_and_nothing_else() {
    let mut input = mesh();
    options(&mut input, 1).global_cidrs_map.insert("10.92.0.0/16".to_owned(), "100.64.0.0/16".to_owned());
    let (configs, rejections) = input.plan();
    assert_eq!(
        rejections.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Cluster b: GlobalCIDRsMapUnsupported: spec.clusterLinkOptions.globalCIDRsMap maps \"10.92.0.0/16\" to \"100.64.0.0/16\", which is not supported yet: 10.92.0.0/16 is routed from other clusters neither as it is nor as 100.64.0.0/16; remove the entry to route it as it is"
        ]
    );
    let cidrs = configs["a-n1"].routes.iter().map(|route| route.cidr.as_str());
    let cidrs: Vec<&str> = cidrs.filter(|cidr| !cidr.contains(':')).collect();
    assert_eq!(cidrs, ["10.2.1.0/24", "10.2.2.0/24", "241.168.2.1/32", "241.168.2.2/32"]);
}

#[test]
fn a_cidr_that_does_not_parse_hides_no_other() {
    check(
        |input| found(input, 1).service_cidrs.push("10.96.0.0/99".to_owned()),
        &[
            "Cluster b: InvalidCIDR: status.clusterLinkStatus.serviceCIDRs \"10.96.0.0/99\" is not a CIDR such as 10.1.0.0/16: it is not routed",
        ],
        &ALL,
    );
    check(
        |input| input.nodes[0].spec.pod_cidrs.push("10.1.9.0".to_owned()),
        &[
            "ClusterNode a-n1: InvalidPodCIDR: spec.podCIDRs \"10.1.9.0\" is not a CIDR such as 10.1.0.0/24: it is not routed",
        ],
        &ALL,
    );
}

#[test]
fn overlapping_cidrs_reject_the_pair_on_both_sides() {
    check(
        |input| found(input, 1).service_cidrs = vec!["10.91.128.0/17".to_owned()],
        &[
            "Cluster a: CIDROverlap: service CIDR 10.91.0.0/16 overlaps service CIDR 10.91.128.0/17 of cluster b: neither is routed from the other's cluster; give one of them another range",
            "Cluster b: CIDROverlap: service CIDR 10.91.128.0/17 overlaps service CIDR 10.91.0.0/16 of cluster a: neither is routed from the other's cluster; give one of them another range",
        ],
        &ALL,
    );
}

#[test]
fn a_cidr_over_an_underlay_address_is_not_routed() {
    check(
        |input| found(input, 1).service_cidrs = vec!["192.168.0.0/16".to_owned()],
        &[
            "Cluster b: CoversUnderlay: service CIDR 192.168.0.0/16 covers underlay address 192.168.1.1 of ClusterNode a-n1: a route to it would swallow the tunnels themselves, so it is not routed from any other cluster; give it another range",
        ],
        &ALL,
    );
}

#[test]
fn a_cidr_in_an_overlay_pool_is_not_routed() {
    check(
        |input| {
            options(input, 0).bridge_cidrs = pool("100.64.0.0/10");
            found(input, 1).service_cidrs = vec!["100.96.0.0/16".to_owned()];
        },
        &[
            "Cluster b: OverlapsPool: service CIDR 100.96.0.0/16 overlaps overlay pool 100.64.0.0/10 of cluster a: it is not routed from other clusters; give one of them another range",
        ],
        &ALL,
    );
}

#[test]
fn pools_must_parse_and_keep_apart() {
    let nodes = |reason: &str| {
        format!(
            "ClusterNode b-n1: ClusterUnplanned: spec.clusterName \"b\": that cluster cannot be planned ({reason}), see its conditions"
        )
    };
    for (ip, message, reason) in [
        (
            "241.0.0.0",
            "InvalidPool: spec.clusterLinkOptions.bridgeCIDRs.ip \"241.0.0.0\" is not an IPv4 CIDR of /28 or wider such as 241.0.0.0/8: correct it",
            "InvalidPool",
        ),
        (
            "242.1.0.0/16",
            "PoolOverlap: spec.clusterLinkOptions.localCIDRs.ip 242.0.0.0/8 overlaps spec.clusterLinkOptions.bridgeCIDRs.ip 242.1.0.0/16: overlay addresses need a range of their own; choose another",
            "PoolOverlap",
        ),
        (
            "10.2.0.0/24",
            "PoolOverlap: spec.clusterLinkOptions.bridgeCIDRs.ip 10.2.0.0/24 overlaps status.clusterLinkStatus.podCIDRs 10.2.0.0/16: overlay addresses need a range of their own; choose another",
            "PoolOverlap",
        ),
    ] {
        check(
            |input| {
                options(input, 1).bridge_cidrs = pool(ip);
                input.nodes.truncate(3);
            },
            &[&format!("Cluster b: {message}"), &nodes(reason)],
            &ONLY_A,
        );
    }
    check(
        |input| options(input, 1).bridge_cidrs = pool("192.168.2.0/28"),
        &[
            "ClusterNode b-n1: PoolOverlap: spec.clusterLinkOptions.bridgeCIDRs.ip 192.168.2.0/28 overlaps its own underlay address 192.168.2.1: overlay addresses need a range of their own; choose another",
            "ClusterNode b-n2: PoolOverlap: spec.clusterLinkOptions.bridgeCIDRs.ip 192.168.2.0/28 overlaps its own underlay address 192.168.2.2: overlay addresses need a range of their own; choose another",
        ],
        &ONLY_A,
    );
}

#[test]
fn a_pool_that_is_full_leaves_the_last_nodes_out() {
    let mut input = mesh();
    options(&mut input, 1).bridge_cidrs = pool("100.64.0.0/28");
    let template = input.nodes[3].clone();
    for number in 3..18 {
        let mut node = template.clone();
        node.metadata.name = Some(format!("b-n{number}"));
        node.spec.node_name = Some(format!("n{number}"));
        node.spec.ip = Some(format!("192.168.2.{number}"));
        node.spec.pod_cidrs = vec![format!("10.2.{number}.0/24")];
        input.nodes.push(node);
    }
    let (configs, rejections) = input.plan();
    let said: Vec<String> = rejections.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].ends_with("PoolExhausted: overlay pool 100.64.0.0/28 of its cluster has no free address left for vx-bridge: give spec.clusterLinkOptions.bridgeCIDRs.ip a wider range"), "{}", said[0]);
    assert_eq!(configs.len(), 2 + 14);
}

#[test]
fn ports_must_differ_within_a_cluster_and_agree_across() {
    let clash = |input: &mut Input| {
        options(input, 1).ports =
            Some(api::cluster::TunnelPorts { bridge: Some(4877), ..Default::default() });
        input.nodes.truncate(2);
    };
    check(
        clash,
        &[
            "Cluster b: PortClash: spec.clusterLinkOptions.ports gives 4877 to vx-bridge and to vx-local: give each device its own UDP port",
        ],
        &ONLY_A,
    );
    let zero = |input: &mut Input| {
        options(input, 1).ports = Some(api::cluster::TunnelPorts { local6: Some(0), ..Default::default() });
        input.nodes.truncate(2);
    };
    check(
        zero,
        &[
            "Cluster b: PortZero: spec.clusterLinkOptions.ports gives port 0 to vx-local-6: give it one from 1 to 65535",
        ],
        &ONLY_A,
    );
    let mismatch = |input: &mut Input| {
        options(input, 1).ports =
            Some(api::cluster::TunnelPorts { bridge: Some(5000), ..Default::default() });
        input.nodes.truncate(2);
    };
    check(
        mismatch,
        &[
            "Cluster b: PortMismatch: UDP port 5000 of vx-bridge is not 4876, the one that the rest of the mesh uses: make spec.clusterLinkOptions.ports the same in every cluster",
        ],
        &ONLY_A,
    );
}

#[test]
fn a_gateway_cluster_needs_a_gateway() {
    check(
        |input| {
            options(input, 1).network_type = api::NetworkType::Gateway;
            input.nodes.truncate(3);
        },
        &[
            "Cluster b: NoGateway: spec.clusterLinkOptions.networkType is gateway and none of its 1 usable ClusterNodes has the role gateway in spec.roles: label a node kosmos.io/gateway=true, or look at the cluster's controller-manager, which chooses them",
            "ClusterNode b-n1: ClusterUnplanned: spec.clusterName \"b\": that cluster cannot be planned (NoGateway), see its conditions",
        ],
        &ONLY_A,
    );
}

#[test]
fn fields_that_are_never_read_are_warned_about() {
    check(
        |input| {
            input.clusters[0].spec.kubeconfig = Some("c2VjcmV0".to_owned());
            options(input, 1).use_ip_pool = Some(true);
        },
        &[
            "Cluster a: IgnoredField: spec.kubeconfig is set and never read: everybody who may read Clusters reads that credential; remove it",
            "Cluster b: IgnoredField: spec.clusterLinkOptions.useIPPool is set and never read: remove it",
        ],
        &ALL,
    );
}

#[test]
fn services_within_pods_are_not_routed() {
    check(
        |input| found(input, 0).service_cidrs = vec!["10.1.128.0/17".to_owned()],
        &[
            "Cluster a: ServiceInPods: service CIDR 10.1.128.0/17 overlaps pod CIDR 10.1.0.0/16 of the same cluster: the service CIDR is not routed from other clusters; correct status.clusterLinkStatus",
        ],
        &ALL,
    );
}

#[test]
fn two_clusters_of_one_name_are_both_refused() {
    let twice = |input: &mut Input| {
        let again = input.clusters[1].clone();
        input.clusters.push(again);
        input.nodes.truncate(2);
    };
    check(
        twice,
        &[
            "Cluster b: DuplicateCluster: metadata.name \"b\" stands in 2 Cluster documents: none of them is used; keep one",
        ],
        &ONLY_A,
    );
}

/// Spoils ClusterNode b-n1 alone.
fn check_node(spoil: impl FnOnce(&mut api::ClusterNode), said: &str) {
    check(|input| spoil(&mut input.nodes[2]), &[said], &["a-n1", "a-n2", "b-n2"]);
}

#[test]
fn a_node_needs_an_identity_of_its_own() {
    check_node(
        |node| node.spec.node_name = None,
        "ClusterNode b-n1: NoIdentity: spec.clusterName or spec.nodeName is missing: set both",
    );
    check_node(
        |node| node.spec.node_name = Some("n7".to_owned()),
        "ClusterNode b-n1: NameMismatch: spec.clusterName \"b\" and spec.nodeName \"n7\" make the name \"b-n7\", not \"b-n1\": rename the object",
    );
    check_node(
        |node| {
            node.metadata.name = Some("c-n1".to_owned());
            node.spec.cluster_name = Some("c".to_owned());
        },
        "ClusterNode c-n1: UnknownCluster: spec.clusterName \"c\": there is no such Cluster",
    );
}

#[test]
fn two_nodes_that_share_a_name_are_both_refused() {
    let collide = |input: &mut Input| {
        let mut cluster = input.clusters[1].clone();
        cluster.metadata.name = Some("a-b".to_owned());
        *input.clusters.get_mut(1).unwrap() = cluster;
        input.nodes.truncate(3);
        for (at, (cluster, node)) in [(1, ("a", "b-c")), (2, ("a-b", "c"))] {
            input.nodes[at].metadata.name = Some("a-b-c".to_owned());
            input.nodes[at].spec.cluster_name = Some(cluster.to_owned());
            input.nodes[at].spec.node_name = Some(node.to_owned());
        }
    };
    check(
        collide,
        &[
            "ClusterNode a-b-c: NameCollision: 2 ClusterNodes would share this name (cluster/node a-b/c, a/b-c): none of them is used; rename a cluster or a node",
        ],
        &["a-n1"],
    );
}

#[test]
fn a_node_needs_addresses_that_can_be_sent_to() {
    check_node(
        |node| node.spec.ip = None,
        "ClusterNode b-n1: NoAddress: spec.ip and spec.ip6 are both missing: the node's agent sets them; is it running, and has it found the underlay interface?",
    );
    check_node(
        |node| node.spec.interface_name = None,
        "ClusterNode b-n1: NoInterface: spec.interfaceName is missing: the node's agent sets it; set nicNodeNames or defaultNICName in its Cluster if it cannot detect it",
    );
    for ip in ["192.168.2", "127.0.0.1", "fd00::1", "169.254.1.1"] {
        check_node(
            |node| node.spec.ip = Some(ip.to_owned()),
            &format!(
                "ClusterNode b-n1: InvalidAddress: spec.ip {ip:?} is not an IPv4 unicast address of a host: correct it, or the interface that it was read from"
            ),
        );
    }
    check_node(
        |node| node.spec.public_ip = Some("2001:db8::1".to_owned()),
        "ClusterNode b-n1: InvalidAddress: spec.publicIP \"2001:db8::1\" is not of a family in which the node has an underlay address: correct it, or the interface that it was read from",
    );
}

#[test]
fn an_address_of_two_nodes_of_a_cluster_is_neithers_unless_one_was_there_before() {
    let spoil = |input: &mut Input| input.nodes[3].spec.ip = Some("192.168.2.1".to_owned());
    let said = |node: &str, other: &str| {
        format!(
            "ClusterNode {node}: DuplicateAddress: spec.ip 192.168.2.1 is an underlay address of ClusterNode {other}, too: one of the two is stale or wrong; delete or correct it"
        )
    };
    check(spoil, &[&said("b-n1", "b-n2"), &said("b-n2", "b-n1")], &ONLY_A);
    let one_was_planned = |input: &mut Input| {
        let planned = input.clone().with_overlays();
        input.nodes[2] = planned.nodes[2].clone();
        spoil(input);
    };
    check(one_was_planned, &[&said("b-n2", "b-n1")], &["a-n1", "a-n2", "b-n1"]);
}

#[test]
fn an_address_that_two_clusters_would_send_to_is_neithers() {
    check(
        |input| input.nodes[2].spec.ip = Some("192.168.1.1".to_owned()),
        &[
            "ClusterNode a-n1: DuplicateEndpoint: other clusters would send to 192.168.1.1 for this node and for ClusterNode b-n1: annotate the Nodes with kosmos.io/public-ip, one address each",
            "ClusterNode b-n1: DuplicateEndpoint: other clusters would send to 192.168.1.1 for this node and for ClusterNode a-n1: annotate the Nodes with kosmos.io/public-ip, one address each",
        ],
        &["a-n2", "b-n2"],
    );
}

#[test]
fn a_node_behind_a_public_address_may_share_its_private_one() {
    let behind = |input: &mut Input| {
        input.nodes[2].spec.ip = Some("192.168.1.1".to_owned());
        input.nodes[2].spec.public_ip = Some("198.51.100.1".to_owned());
    };
    check(
        behind,
        &[
            "ClusterNode a-n1: EndpointShadowed: cluster b cannot send to 192.168.1.1: its own ClusterNode b-n1 has that address; annotate this Node with kosmos.io/public-ip",
        ],
        &ALL,
    );
    let both = |input: &mut Input| {
        behind(input);
        input.nodes[0].spec.public_ip = Some("198.51.100.2".to_owned());
    };
    check(both, &[], &ALL);
}

#[test]
fn blocks_of_two_nodes_that_overlap_lead_nowhere() {
    check(
        |input| input.nodes[3].spec.pod_cidrs = vec!["10.2.1.128/25".to_owned()],
        &[
            "ClusterNode b-n1: BlockOverlap: spec.podCIDRs 10.2.1.0/24 overlaps 10.2.1.128/25 of ClusterNode b-n2: neither leads to a node until one of them is gone",
            "ClusterNode b-n2: BlockOverlap: spec.podCIDRs 10.2.1.128/25 overlaps 10.2.1.0/24 of ClusterNode b-n1: neither leads to a node until one of them is gone",
        ],
        &ALL,
    );
}

#[test]
fn a_p2p_node_without_pods_is_planned_and_said() {
    check(
        |input| input.nodes[2].spec.pod_cidrs.clear(),
        &[
            "ClusterNode b-n1: NoPodCIDRs: spec.podCIDRs is empty: in a P2P cluster no pod of this node is reached from other clusters; its controller-manager sets it",
        ],
        &ALL,
    );
}

#[test]
fn underlays_without_a_family_in_common_are_said() {
    check(
        |input| {
            for (at, node) in input.nodes[2..].iter_mut().enumerate() {
                node.spec.ip = None;
                node.spec.ip6 = Some(format!("fc00::{}", at + 1));
            }
        },
        &[
            "Cluster a: NoCommonUnderlay: 4 pair(s) of nodes of this cluster and of cluster b have no underlay family in common, such as a-n1 and b-n1: they do not reach each other; give them one",
            "Cluster b: NoCommonUnderlay: 4 pair(s) of nodes of this cluster and of cluster a have no underlay family in common, such as b-n1 and a-n1: they do not reach each other; give them one",
        ],
        &ALL,
    );
}

#[test]
fn an_internal_node_without_a_way_to_its_gateways_is_said() {
    check(
        |input| {
            options(input, 1).network_type = api::NetworkType::Gateway;
            input.nodes[2].spec.roles = vec!["Gateway".to_owned()];
            input.nodes[3].spec.ip = None;
            input.nodes[3].spec.ip6 = Some("fc00::1".to_owned());
        },
        &[
            "ClusterNode b-n2: NoPathToGateway: it shares no underlay family with any gateway of its cluster, such as b-n1: it reaches no other cluster; give it, or a gateway, an address of the other family",
        ],
        &ALL,
    );
}

#[test]
fn an_address_that_cannot_be_kept_moves_and_says_so() {
    for (bridge, why) in [
        ("220.1.2.3", "lies outside of its cluster's pool"),
        ("241.168.1.1", "is another node's, too"),
        ("next door", "is not an address"),
    ] {
        let spoil = |input: &mut Input| {
            *input = input.clone().with_overlays();
            input.nodes[2].status.as_mut().unwrap().overlay.as_mut().unwrap().bridge =
                Some(bridge.to_owned());
        };
        let said = format!(
            "ClusterNode b-n1: AddressMoved: status.overlay {bridge:?} {why}: the node gets another address for vx-bridge"
        );
        check(spoil, &[&said], &ALL);
    }
}
