//! What every adapter makes of the objects of real clusters, and of broken ones.

mod support;

use std::collections::BTreeMap;

use cni_adapters::{Asked, Facts, NODES, Observed, service_cidrs, watches};
use serde_json::{Value, json};
use support::{documents, facts, observed};

struct Case {
    file: &'static str,
    cni: &'static str,
    auto: &'static str,
    source: &'static str,
    pod_cidrs: &'static [&'static str],
    per_node: &'static [(&'static str, &'static [&'static str])],
}

const CASES: &[Case] = &[
    Case {
        file: "flannel-v0.14-kube-system.yaml",
        cni: "flannel",
        auto: "flannel (auto: ConfigMap kube-flannel-cfg found)",
        source: "ConfigMap kube-system/kube-flannel-cfg, net-conf.json",
        pod_cidrs: &["10.244.0.0/16"],
        per_node: &[("master", &["10.244.0.0/24"]), ("worker", &["10.244.1.0/24"])],
    },
    Case {
        file: "flannel-v0.26-dual-stack.yaml",
        cni: "flannel",
        auto: "flannel (auto: ConfigMap kube-flannel-cfg found)",
        source: "ConfigMap kube-flannel/kube-flannel-cfg, net-conf.json",
        pod_cidrs: &["10.244.0.0/16", "2001:cafe:42::/56"],
        per_node: &[
            ("dual-control-plane", &["10.244.0.0/24", "2001:cafe:42::/64"]),
            ("dual-worker", &["10.244.1.0/24", "2001:cafe:42:1::/64"]),
        ],
    },
    Case {
        file: "flannel-k3s-v1.30.yaml",
        cni: "flannel",
        auto: "flannel (auto: flannel's annotations found on Nodes)",
        source: "spec.podCIDRs of every Node",
        pod_cidrs: &["10.42.0.0/23"],
        per_node: &[("k3s-agent", &["10.42.1.0/24"]), ("k3s-server", &["10.42.0.0/24"])],
    },
    Case {
        file: "calico-v3.26-manifest.yaml",
        cni: "calico",
        auto: "calico (auto: IPPools found)",
        source: "IPPool default-ipv4-ippool, default-ipv6-ippool (crd.projectcalico.org/v1)",
        pod_cidrs: &["10.233.64.0/18", "fd85:ee78:d8a6:8607::1:0/112"],
        per_node: &[
            ("node1", &["10.233.90.0/25", "fd85:ee78:d8a6:8607::1:3440/122"]),
            ("node2", &["10.233.96.0/26"]),
        ],
    },
    Case {
        file: "calico-v3.28-operator.yaml",
        cni: "calico",
        auto: "calico (auto: IPPools found, installed by the Tigera operator)",
        source: "IPPool default-ipv4-ippool (crd.projectcalico.org/v1)",
        pod_cidrs: &["10.1.0.0/16"],
        per_node: &[("worker-a", &["10.1.104.0/26"]), ("worker-b", &["10.1.120.64/26"])],
    },
    Case {
        file: "calico-v3-api-group.yaml",
        cni: "calico",
        auto: "calico (auto: IPPools of projectcalico.org/v3 found)",
        source: "IPPool default-ipv4-ippool (projectcalico.org/v3)",
        pod_cidrs: &["192.168.0.0/16"],
        per_node: &[("calico-ipam-control-plane", &["192.168.18.64/26"])],
    },
    Case {
        file: "cilium-v1.14-cluster-pool.yaml",
        cni: "cilium",
        auto: "cilium (auto: ConfigMap cilium-config found)",
        source: "ConfigMap kube-system/cilium-config, cluster-pool-ipv4-cidr and cluster-pool-ipv6-cidr",
        pod_cidrs: &["10.0.0.0/12", "10.32.0.0/12", "fd00::/104"],
        per_node: &[
            ("kind-control-plane", &["10.0.0.0/24", "fd00::/120"]),
            ("kind-worker", &["10.0.1.0/24", "fd00::100/120"]),
        ],
    },
    Case {
        file: "cilium-v1.16-kubernetes.yaml",
        cni: "cilium",
        auto: "cilium (auto: ConfigMap cilium-config found)",
        source: "spec.podCIDRs of every Node",
        pod_cidrs: &["10.244.2.0/23"],
        per_node: &[("talos-worker-1", &["10.244.2.0/24"]), ("talos-worker-2", &["10.244.3.0/24"])],
    },
    Case {
        file: "cilium-v1.16-multi-pool.yaml",
        cni: "cilium",
        auto: "cilium (auto: ConfigMap cilium-config found)",
        source: "CiliumPodIPPool default, mars",
        pod_cidrs: &["10.10.0.0/16", "10.20.0.0/16", "fd00:20::/104"],
        per_node: &[("kind-worker", &["10.10.0.0/26", "10.20.0.0/27", "fd00:20::/112"])],
    },
    Case {
        file: "node-kind.yaml",
        cni: "node",
        auto: "node (auto: no other CNI found)",
        source: "spec.podCIDRs of every Node",
        pod_cidrs: &["10.244.0.0/23", "10.244.2.0/24", "fd00:10:244:1::/64"],
        per_node: &[
            ("kind-control-plane", &["10.244.0.0/24"]),
            ("kind-worker", &["10.244.1.0/24", "fd00:10:244:1::/64"]),
            ("old", &["10.244.2.0/24"]),
        ],
    },
];

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn messages(facts: &Facts) -> Vec<String> {
    texts(&facts.problems)
}

#[test]
fn every_cluster_is_read_by_name_and_by_auto() {
    for case in CASES {
        let observed = observed(&documents(case.file));
        let named = facts(case.cni, &observed);
        let auto = facts("auto", &observed);
        assert_eq!(named.adapter, case.cni, "{}", case.file);
        assert_eq!(auto.adapter, case.auto, "{}", case.file);
        assert_eq!(Facts { adapter: named.adapter.clone(), ..auto }, named, "{}", case.file);
        assert_eq!(named.source, case.source, "{}", case.file);
        assert_eq!(texts(&named.pod_cidrs), case.pod_cidrs, "{}", case.file);
        let per_node: BTreeMap<&str, Vec<String>> =
            named.per_node.iter().map(|(node, cidrs)| (node.as_str(), texts(cidrs))).collect();
        let expected: BTreeMap<&str, Vec<String>> =
            case.per_node.iter().map(|(node, cidrs)| (*node, texts(cidrs))).collect();
        assert_eq!(per_node, expected, "{}", case.file);
        assert_eq!(messages(&named), Vec::<String>::new(), "{}", case.file);
    }
}

#[test]
fn every_document_is_watched_by_somebody() {
    let all: Vec<_> = watches()
        .into_iter()
        .chain(service_cidrs::SERVICE_CIDRS)
        .chain([service_cidrs::API_SERVER_PODS])
        .collect();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        for object in documents(&file) {
            assert!(all.iter().any(|watch| support::matches(watch, &object)), "{file}: {object}");
        }
    }
}

#[test]
fn an_unknown_cni_is_named_with_those_there_are() {
    let facts = facts("weave", &observed(&documents("node-kind.yaml")));
    assert_eq!(
        messages(&facts),
        [
            r#"Cluster east: spec.clusterLinkOptions.cni is "weave"; it must be one of auto, node, flannel, calico, cilium"#
        ]
    );
    assert!(facts.stale().is_some() && facts.pod_cidrs.is_empty());
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let empty = observed(&[]);
    let missing = |cni| messages(&facts(cni, &empty));
    assert_eq!(
        missing("calico"),
        [
            "calico: no enabled IPPool of crd.projectcalico.org/v1 or projectcalico.org/v3 in the member cluster; create one, or set spec.clusterLinkOptions.cni to the CNI in use"
        ]
    );
    assert_eq!(
        missing("cilium"),
        [
            "cilium: no ConfigMap kube-system/cilium-config in the member cluster; set spec.clusterLinkOptions.cni to the CNI in use"
        ]
    );
    for cni in ["node", "flannel", "auto"] {
        let messages = missing(cni);
        assert_eq!(messages.len(), 1, "{cni}");
        assert!(messages[0].contains("no Node with spec.podCIDRs"), "{cni}: {messages:?}");
    }
}

/// One broken value, where it is broken, what is said of it, and what remains.
#[test]
fn a_broken_value_costs_no_other_fact() {
    for (file, cni, kind, name, pointer, bad, message, remaining) in [
        (
            "calico-v3.26-manifest.yaml",
            "calico",
            "IPPool",
            "default-ipv6-ippool",
            "/spec/cidr",
            json!("fd85::/129"),
            r#"IPPool default-ipv6-ippool: spec.cidr is "fd85::/129", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#,
            vec!["10.233.64.0/18", "fd85:ee78:d8a6:8607::1:3440/122"],
        ),
        (
            "calico-v3.26-manifest.yaml",
            "calico",
            "BlockAffinity",
            "node1-10-233-90-0-26",
            "/spec/cidr",
            json!(26),
            r#"BlockAffinity node1-10-233-90-0-26: spec.cidr is "26", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#,
            vec!["10.233.64.0/18", "fd85:ee78:d8a6:8607::1:0/112"],
        ),
        (
            "node-kind.yaml",
            "node",
            "Node",
            "kind-worker",
            "/spec/podCIDRs/0",
            json!("10.244.1.0"),
            r#"Node kind-worker: spec.podCIDRs[0] is "10.244.1.0", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#,
            vec!["10.244.0.0/24", "10.244.2.0/24", "fd00:10:244:1::/64"],
        ),
        (
            "cilium-v1.14-cluster-pool.yaml",
            "cilium",
            "ConfigMap",
            "cilium-config",
            "/data/cluster-pool-ipv4-cidr",
            json!("10.0.0.0/12 ten"),
            r#"ConfigMap kube-system/cilium-config: data[cluster-pool-ipv4-cidr] is "ten", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#,
            vec!["10.0.0.0/12", "fd00::/104"],
        ),
        (
            "cilium-v1.16-multi-pool.yaml",
            "cilium",
            "CiliumPodIPPool",
            "mars",
            "/spec/ipv6/cidrs/0",
            json!(null),
            r#"CiliumPodIPPool mars: spec.ipv6.cidrs[0] is "null", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#,
            vec!["10.10.0.0/16", "10.20.0.0/16", "fd00:20::/112"],
        ),
        (
            "flannel-v0.26-dual-stack.yaml",
            "flannel",
            "ConfigMap",
            "kube-flannel-cfg",
            "/data/net-conf.json",
            json!(r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"cafe"}"#),
            r#"ConfigMap kube-flannel/kube-flannel-cfg: net-conf.json IPv6Network is "cafe", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#,
            vec!["10.244.0.0/16"],
        ),
        (
            "flannel-v0.26-dual-stack.yaml",
            "flannel",
            "ConfigMap",
            "kube-flannel-cfg",
            "/data/net-conf.json",
            json!("{"),
            r#"ConfigMap kube-flannel/kube-flannel-cfg: data[net-conf.json] is "{", which is not flannel's configuration in JSON; correct it"#,
            vec!["10.244.0.0/23", "2001:cafe:42::/63"],
        ),
        (
            "cilium-v1.16-kubernetes.yaml",
            "cilium",
            "ConfigMap",
            "cilium-config",
            "/data/ipam",
            json!("eni"),
            r#"ConfigMap kube-system/cilium-config: data[ipam] is "eni", which is not supported; supported are cluster-pool, kubernetes and multi-pool"#,
            vec![],
        ),
    ] {
        let mut objects = documents(file);
        let object = objects.iter_mut().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap();
        *object.pointer_mut(pointer).unwrap() = bad;
        let facts = facts(cni, &observed(&objects));
        assert_eq!(messages(&facts), [message]);
        assert_eq!(texts(&facts.pod_cidrs), remaining, "{message}");
    }
}

#[test]
fn a_block_without_its_node_is_named() {
    let mut objects = documents("calico-v3.28-operator.yaml");
    let block = objects.iter_mut().find(|o| o["kind"] == "BlockAffinity").unwrap();
    block["spec"].as_object_mut().unwrap().remove("node");
    let facts = facts("calico", &observed(&objects));
    assert_eq!(
        messages(&facts),
        [
            r#"BlockAffinity worker-a-10-1-104-0-26: spec.node is "", which is not the name of a Node; correct it"#
        ]
    );
    assert_eq!(facts.per_node.keys().collect::<Vec<_>>(), ["worker-b"]);
}

#[test]
fn objects_that_cannot_be_read_any_more_are_said_to_be_stale_and_still_count() {
    let mut observed = observed(&documents("calico-v3.26-manifest.yaml"));
    let before = facts("auto", &observed);
    let pools = watches().into_iter().find(|watch| watch.kind == "IPPool" && watch.version == "v1").unwrap();
    observed.fail(pools, "ippools.crd.projectcalico.org is forbidden");
    let after = facts("auto", &observed);
    assert_eq!(before.pod_cidrs, after.pod_cidrs);
    assert_eq!(
        after.stale().unwrap().to_string(),
        "ippools.crd.projectcalico.org/v1 cannot be read: ippools.crd.projectcalico.org is forbidden; what is known of it may be out of date"
    );
    observed
        .list(pools, documents("calico-v3.26-manifest.yaml").into_iter().filter(|o| o["kind"] == "IPPool"));
    assert_eq!(facts("auto", &observed), before);
}

#[test]
fn auto_does_not_take_an_unreadable_cni_for_an_absent_one() {
    let mut observed = observed(&documents("node-kind.yaml"));
    let pools = watches().into_iter().find(|watch| watch.kind == "IPPool" && watch.version == "v1").unwrap();
    observed.fail(pools, "forbidden");
    let facts = facts("auto", &observed);
    assert_eq!(facts.adapter, "node (auto: no other CNI found)");
    assert!(facts.stale().is_some());
    assert_eq!(facts.pod_cidrs.len(), 3);
}

#[test]
fn auto_leaves_a_chained_cilium_and_a_policy_only_calico_alone() {
    let mut objects = documents("node-kind.yaml");
    objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"ipam": "cluster-pool", "cni-chaining-mode": "aws-cni"}}));
    objects.push(json!({"apiVersion": "operator.tigera.io/v1", "kind": "Installation",
        "metadata": {"name": "default"}, "spec": {"cni": {"type": "AmazonVPC"}}}));
    assert_eq!(facts("auto", &observed(&objects)).adapter, "node (auto: no other CNI found)");
}

#[test]
fn flannels_own_switches_decide_on_families() {
    let mut objects = documents("flannel-v0.26-dual-stack.yaml");
    objects[0]["data"]["net-conf.json"] = json!(
        r#"{"EnableIPv4":false,"EnableIPv6":true,"Network":"10.244.0.0/16","IPv6Network":"2001:cafe:42::/56"}"#
    );
    assert_eq!(texts(&facts("flannel", &observed(&objects)).pod_cidrs), ["2001:cafe:42::/56"]);
    objects[0]["data"]["net-conf.json"] =
        json!(r#"{"Network":"10.244.0.0/16","IPv6Network":"2001:cafe:42::/56"}"#);
    assert_eq!(texts(&facts("flannel", &observed(&objects)).pod_cidrs), ["10.244.0.0/16"]);
}

fn of_kind(observed: &Observed, watch: &cni_adapters::WatchSpec) -> Vec<Value> {
    observed.of(watch).cloned().collect()
}

#[test]
fn service_cidrs_come_from_objects() {
    let observed = observed(&documents("service-cidrs.yaml"));
    let objects = of_kind(&observed, &service_cidrs::SERVICE_CIDRS[0]);
    let found = service_cidrs::from_objects(&objects).unwrap();
    assert_eq!(texts(&found.cidrs), ["10.96.0.0/15", "fd00:10:96::/112"]);
    assert_eq!(found.source, "ServiceCIDR kubernetes, more");
    assert_eq!(service_cidrs::from_objects(&[]), None);
}

#[test]
fn service_cidrs_come_from_refusals() {
    for (refusals, expected) in [
        (
            vec![
                r#"Service "clusterlink-probe" is invalid: spec.clusterIPs: Invalid value: []string{"192.0.2.1"}: failed to allocate IP 192.0.2.1: the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12"#,
                r#"Service "clusterlink-probe" is invalid: spec.clusterIPs: Invalid value: []string{"2001:db8::1"}: failed to allocate IP 2001:db8::1: the provided IP (2001:db8::1) is not in the valid range. The range of valid IPs is fd00:10:96::/112"#,
            ],
            vec!["10.96.0.0/12", "fd00:10:96::/112"],
        ),
        (
            vec![
                r#"Service "x" is invalid: spec.clusterIPs: Invalid value: []string{"10.43.157.71"}: failed to allocated ip:10.43.157.71 with error:provided IP is not in the valid range. The range of valid IPs is 10.53.0.0/16"#,
                r#"Service "x" is invalid: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#,
            ],
            vec!["10.53.0.0/16"],
        ),
        (
            vec!["provided IP is not in the valid range. The range of valid IPs is 10.53.0.0/16."],
            vec!["10.53.0.0/16"],
        ),
    ] {
        assert_eq!(texts(&service_cidrs::from_refusals(refusals).unwrap().cidrs), expected);
    }
    for refusal in
        ["", "The range of valid IPs is ", "services is forbidden", "the range of valid IPs is wide"]
    {
        assert_eq!(service_cidrs::from_refusals([refusal]), None, "{refusal}");
    }
}

#[test]
fn service_cidrs_come_from_the_api_servers_command_line() {
    for (file, expected, source) in [
        (
            "kube-apiserver-kubeadm-v1.29.yaml",
            vec!["10.96.0.0/16", "fd00:10:96::/112"],
            "Pod kube-system/kube-apiserver-kind-control-plane, --service-cluster-ip-range",
        ),
        (
            "kube-apiserver-args.yaml",
            vec!["10.43.0.0/16"],
            "Pod kube-system/kube-apiserver-server-0, --service-cluster-ip-range",
        ),
    ] {
        let found = service_cidrs::from_pods(&documents(file)).unwrap();
        assert_eq!(texts(&found.cidrs), expected);
        assert_eq!(found.source, source);
    }
    assert_eq!(service_cidrs::from_pods(&documents("node-kind.yaml")), None);
    let pod = |args: Value| json!({"metadata": {"name": "p"}, "spec": {"containers": [{"args": args}]}});
    assert_eq!(service_cidrs::from_pods(&[pod(json!(["--service-cluster-ip-range"]))]), None);
    assert_eq!(service_cidrs::from_pods(&[pod(json!(["--service-cluster-ip-ranges=10.0.0.0/8"]))]), None);
    let bad = service_cidrs::from_pods(&[pod(json!(["--service-cluster-ip-range=10.0.0.0"]))]).unwrap();
    assert_eq!(
        texts(&bad.problems),
        [
            r#"Pod p: --service-cluster-ip-range is "10.0.0.0", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#
        ]
    );
}

#[test]
fn nodes_alone_are_required() {
    let required: Vec<_> =
        watches().into_iter().filter(|watch| !watch.optional).map(|watch| watch.kind).collect();
    assert_eq!(required, ["ConfigMap", "ConfigMap", "ConfigMap", "ConfigMap", "Node"]);
    assert_eq!(NODES.to_string(), "nodes");
}

#[test]
fn auto_stays_with_a_cni_whose_objects_have_vanished_until_another_shows() {
    let before = |adapter: &'static str| Asked { cluster: "east", cni: "auto", before: Some(adapter) };
    let was_calico = before("calico (auto: IPPools found)");
    let vanished = cni_adapters::facts(&was_calico, &observed(&documents("node-kind.yaml")));
    assert_eq!(vanished.adapter, "calico (auto: as before, nothing found now)");
    assert!(vanished.stale().is_some() && vanished.pod_cidrs.is_empty());
    let moved = cni_adapters::facts(&was_calico, &observed(&documents("flannel-v0.26-dual-stack.yaml")));
    assert_eq!(moved.adapter, "flannel (auto: ConfigMap kube-flannel-cfg found)");
    assert_eq!(moved.stale(), None);
    for adapter in ["node (auto: no other CNI found)", "something else", ""] {
        let facts = cni_adapters::facts(&before(adapter), &observed(&documents("node-kind.yaml")));
        assert_eq!(facts.adapter, "node (auto: no other CNI found)", "{adapter:?}");
    }
}
