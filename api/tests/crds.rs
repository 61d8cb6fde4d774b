//! The definitions that are installed are those that the types make.

#[test]
fn the_installed_definitions_are_those_of_the_types() {
    let installed = include_str!("../../daemonset/crds/kosmos.io.yaml");
    let mut generated = String::new();
    for crd in api::crd::all() {
        generated.push_str("---\n");
        generated.push_str(&serde_saphyr::to_string(&crd).unwrap());
    }
    assert_eq!(
        installed, generated,
        "daemonset/crds/kosmos.io.yaml is not what the types say: run `make generate`"
    );
}

#[test]
fn every_list_of_conditions_merges_by_type() {
    for crd in api::crd::all() {
        let schema = &crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema;
        let conditions =
            serde_json::to_value(schema).unwrap()["properties"]["status"]["properties"]["conditions"].clone();
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{}", crd.spec.names.kind);
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            serde_json::json!(["type"]),
            "{}",
            crd.spec.names.kind
        );
    }
}

#[test]
fn objects_of_a_kosmos_user_are_read_as_they_are() {
    let cluster: api::Cluster = serde_saphyr::from_str(
        "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: member1}\nspec:\n  kubeconfig: bm90IHJlYWQ=\n  \
         namespace: kosmos-system\n  clusterLinkOptions:\n    cni: calico\n    networkType: gateway\n    useIPPool: false\n    \
         bridgeCIDRs: {ip: 220.0.0.0/8, ip6: '9480::0/16'}\n    nicNodeNames: [{interfaceName: eth1, nodeName: [n1]}]\n  \
         clusterTreeOptions: {enable: true, leafModels: [{leafNodeName: x}]}\n",
    )
    .unwrap();
    let options = cluster.spec.cluster_link_options.unwrap();
    assert_eq!(options.network_type, api::NetworkType::Gateway);
    assert_eq!(options.ip_family, api::IpFamily::All);
    assert!(options.enable, "enable is true where it is not said");
    assert_eq!((options.gateways, options.default_nic_name.as_str()), (2, "*"));
}
