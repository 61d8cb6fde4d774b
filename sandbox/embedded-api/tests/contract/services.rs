//! Services: their addresses, and how a client learns the range.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::fixture::*;

contract!(
    a_service_gets_an_address_of_its_own,
    the_range_is_learnt_from_a_refusal,
    the_range_is_an_object_where_that_api_is_served,
    an_apply_keeps_what_the_server_allocated,
);

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

async fn a_service_gets_an_address_of_its_own(world: World) {
    let api: Api<Service> = Api::default_namespaced(world.client().await);
    let ports = json!([{"port": 80}]);
    let mut addresses = Vec::new();
    for name in ["one", "two"] {
        let spec = api
            .create(&PostParams::default(), &service(name, json!({"ports": ports})))
            .await
            .unwrap()
            .spec
            .unwrap();
        assert_eq!(spec.cluster_ips.as_ref().unwrap().first(), spec.cluster_ip.as_ref());
        addresses.push(spec.cluster_ip.unwrap());
    }
    assert_ne!(addresses[0], addresses[1]);
    api.delete("one", &Default::default()).await.unwrap();
    let asked = json!({"ports": ports, "clusterIP": addresses[0]});
    let again = api.create(&PostParams::default(), &service("three", asked.clone())).await.unwrap();
    assert_eq!(again.spec.unwrap().cluster_ip.as_ref(), Some(&addresses[0]));
    let refused = refusal(api.create(&PostParams::default(), &service("four", asked)).await);
    assert!(refused.message.contains("provided IP is already allocated"), "{}", refused.message);
}

async fn the_range_is_learnt_from_a_refusal(world: World) {
    let client = world.client().await;
    let api: Api<Service> = Api::default_namespaced(client);
    let probe = service("probe", json!({"clusterIP": "1.1.1.1", "ports": [{"port": 443}]}));
    let refused = refusal(api.create(&PostParams { dry_run: true, ..Default::default() }, &probe).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert!(
        refused.message.ends_with(
            "the provided IP (1.1.1.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
        ),
        "{}",
        refused.message
    );
}

async fn the_range_is_an_object_where_that_api_is_served(world: World) {
    let api: Api<ServiceCIDR> = Api::all(world.client().await);
    let cidrs = api.get("kubernetes").await.unwrap().spec.unwrap().cidrs.unwrap();
    assert_eq!(cidrs, ["10.96.0.0/16"]);
}

async fn an_apply_keeps_what_the_server_allocated(world: World) {
    let api: Api<Service> = Api::default_namespaced(world.client().await);
    let object = |port: u16| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": port}]}});
    let params = PatchParams::apply("me").force();
    let first = api.patch("s", &params, &Patch::Apply(object(80))).await.unwrap().spec.unwrap();
    let second = api.patch("s", &params, &Patch::Apply(object(81))).await.unwrap().spec.unwrap();
    assert_eq!(first.cluster_ip, second.cluster_ip);
    let ports: Vec<i32> = second.ports.unwrap().iter().map(|p| p.port).collect();
    assert_eq!(ports, [81]);
}
