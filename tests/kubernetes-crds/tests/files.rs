//! What is pinned can be had, and is what the tests take it for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use upstream::{Project, Upstream};

#[test]
fn the_versions_are_those_that_are_named() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    assert!(
        upstream.text(Project::Calico, "manifests/calico.yaml").contains("docker.io/calico/node:v3.28.5")
    );
    assert_eq!(upstream.text(Project::Cilium, "VERSION").trim(), "1.20.2");
    assert!(upstream.text(Project::Flannel, "Documentation/kube-flannel.yml").contains("flannel:v0.28.10"));
}

#[test]
fn yaml_lists_and_archives_are_read() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let nodes = upstream.objects(Project::Cilium, "test/controlplane/node/ciliumnodes/v1.26/state4.yaml");
    assert_eq!(nodes.iter().map(|node| node["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["Node", "Node"]);
    let archive = "operator/pkg/ipam/testdata/multipool/multiple-pools.txtar";
    let node = upstream.archived(Project::Cilium, archive, "expected-v1.yaml");
    assert_eq!(node[0]["spec"]["ipam"]["pools"]["allocated"][0]["cidrs"][0], "10.10.0.0/24");
    let crds = upstream.crds(Project::Calico, "manifests/crds.yaml", &["ippools.crd.projectcalico.org"]);
    assert_eq!(crds[0]["spec"]["names"]["kind"], "IPPool");
}
