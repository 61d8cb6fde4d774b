//! The manifests as a whole: a real API server takes them, again and again, and the Deployments keep to `restricted`.

use kubernetes::ControlPlane;
use manifests::{CONTROL, MEMBER, objects};
use serde_json::json;

use crate::actor::{Actor, Try, in_namespace, named, with};
use crate::support::{apply, kubectl};
use crate::world::plane;

#[tokio::test]
async fn applying_again_changes_nothing_and_leaves_the_clusters_name_alone() {
    let Some(plane) = plane() else { return };
    for (part, yaml) in [("again-control", CONTROL), ("again-member", MEMBER)] {
        let before = versions(plane, yaml);
        apply(plane, part, yaml, &[]).unwrap();
        assert_eq!(versions(plane, yaml), before);
    }
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
        kube::Api::namespaced(plane.client().await.unwrap(), "clusterlink-system");
    let settings = maps.get("clusterlink").await.unwrap();
    assert_eq!(settings.data.unwrap()["cluster"], "a");
}

/// What an apply could have changed of every object of a manifest.
fn versions(plane: &ControlPlane, yaml: &str) -> Vec<String> {
    let format = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation} {.metadata.labels} {.data} {.rules}{\"\\n\"}{end}";
    let said = kubectl(plane, "versions", yaml, &["get", "-o", format]).unwrap();
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn server_side_dry_run_validates_every_object() {
    let Some(plane) = plane() else { return };
    for (part, yaml) in [("dry-control", CONTROL), ("dry-member", MEMBER)] {
        let said = apply(plane, part, yaml, &["--dry-run=server", "--validate=strict"]).unwrap();
        assert!(!said.contains("Warning"), "{said}");
        assert_eq!(said.lines().count(), objects(yaml).unwrap().len());
    }
}

#[tokio::test]
async fn the_managers_keep_to_the_restricted_pod_security_standard_and_the_agent_needs_its_namespace() {
    let Some(plane) = plane() else { return };
    let admin = Actor { client: plane.client().await.unwrap() };
    let namespace = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    admin.may(Try::Apply(with(named("v1", "Namespace", "restricted"), namespace))).await;
    admin.may(Try::Apply(in_namespace("restricted", named("v1", "ServiceAccount", "default")))).await;
    for (yaml, refused) in [(CONTROL, 0), (MEMBER, 1)] {
        let mut seen = 0;
        for workload in
            objects(yaml).unwrap().into_iter().filter(|object| !object["spec"]["template"].is_null())
        {
            let mut spec = workload["spec"]["template"]["spec"].clone();
            spec["serviceAccountName"] = json!("default");
            let name = workload["metadata"]["name"].as_str().unwrap();
            let pod = with(in_namespace("restricted", named("v1", "Pod", name)), json!({"spec": spec}));
            if workload["kind"] == "DaemonSet" {
                admin.may_not(Try::Create(pod), "violates PodSecurity").await;
                seen += 1;
            } else {
                admin.may(Try::Create(pod)).await;
            }
        }
        assert_eq!(seen, refused);
    }
}
