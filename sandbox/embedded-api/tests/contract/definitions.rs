//! CRDs: the project's own, and what becomes of a kind that goes.

use api::{Cluster, ClusterNode};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::fixture::*;

#[tokio::test]
async fn the_custom_resources_of_the_project_are_served() {
    both(async |client| {
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in api::crd::all() {
            let name = crd.metadata.name.clone().unwrap();
            let params = PatchParams::apply("kosmosctl").force();
            crds.patch(&name, &params, &Patch::Apply(&crd)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let clusters: Api<Cluster> = Api::all(client.clone());
        let object = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "east"},
            "spec": {"clusterLinkOptions": {}}});
        clusters.patch("east", &PatchParams::apply("kosmosctl"), &Patch::Apply(object)).await.unwrap();
        assert_eq!(clusters.list(&ListParams::default()).await.unwrap().items.len(), 1);
        let nodes: Api<ClusterNode> = Api::all(client);
        assert!(nodes.list(&ListParams::default()).await.unwrap().items.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_kind_that_goes_waits_for_its_objects_and_takes_no_new_ones() {
    let client = client();
    let widgets = widgets(&client).await;
    let mut held = widget("held", json!({"size": 1}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    widgets.create(&PostParams::default(), &held).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(client);
    crds.delete("widgets.example.com", &DeleteParams::default()).await.unwrap();
    let refused = refusal(widgets.create(&PostParams::default(), &widget("new", json!({"size": 1}))).await);
    assert_eq!(refused.message, "create not allowed while custom resource definition is terminating");
    let free = json!({"metadata": {"finalizers": null}});
    widgets.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    assert_eq!(refusal(crds.get("widgets.example.com").await).code, 404);
    assert_eq!(refusal(widgets.list(&ListParams::default()).await).code, 404);
    // The same kind may come again, without its past.
    crds.create(&PostParams::default(), &widget_crd()).await.unwrap();
    assert!(widgets.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn the_namespaces_of_the_system_stay() {
    let namespaces: Api<Namespace> = Api::all(client());
    let refused = refusal(namespaces.delete("kube-system", &DeleteParams::default()).await);
    assert_eq!(refused.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
}
