//! CRDs: the project's own, and what becomes of a kind that goes.

use api::{Cluster, ClusterNode};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::fixture::*;

contract!(
    the_custom_resources_of_the_project_are_served,
    a_kind_that_goes_waits_for_its_objects_and_takes_no_new_ones,
    the_namespaces_of_the_system_stay,
);

async fn the_custom_resources_of_the_project_are_served(world: World) {
    let client = world.client().await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::crd::all() {
        let name = crd.metadata.name.clone().unwrap();
        let params = PatchParams::apply("kosmosctl").force();
        crds.patch(&name, &params, &Patch::Apply(&crd)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let clusters: Api<Cluster> = Api::all(client.clone());
    let nodes: Api<ClusterNode> = Api::all(client.clone());
    eventually("the kinds are served", async || {
        clusters.list(&ListParams::default()).await.ok()?;
        nodes.list(&ListParams::default()).await.ok()
    })
    .await;
    let object = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "east"},
            "spec": {"clusterLinkOptions": {}}});
    clusters.patch("east", &PatchParams::apply("kosmosctl"), &Patch::Apply(object)).await.unwrap();
    assert_eq!(clusters.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(nodes.list(&ListParams::default()).await.unwrap().items.is_empty());
}

async fn a_kind_that_goes_waits_for_its_objects_and_takes_no_new_ones(world: World) {
    let client = world.client().await;
    let widgets = widgets(&client).await;
    let mut held = widget(&client, "held", json!({"size": 1}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    widgets.create(&PostParams::default(), &held).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.delete(&widgets_name(&client), &DeleteParams::default()).await.unwrap();
    // kube-apiserver learns of its own definitions by a watch.
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    let new = widget(&client, "new", json!({"size": 1}));
    eventually("no new ones", async || widgets.create(&dry_run, &new).await.is_err().then_some(())).await;
    let refused =
        refusal(widgets.create(&PostParams::default(), &widget(&client, "new", json!({"size": 1}))).await);
    let words = "\"new\" is forbidden: create not allowed while custom resource definition is terminating";
    assert_eq!((refused.code, refused.message), (403, format!("{} {words}", widgets_name(&client))));
    let free = json!({"metadata": {"finalizers": null}});
    widgets.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    let name = widgets_name(&client);
    eventually("the definition goes", async || crds.get_opt(&name).await.unwrap().is_none().then_some(()))
        .await;
    eventually("the kind goes", async || widgets.list(&ListParams::default()).await.is_err().then_some(()))
        .await;
    // The same kind may come again, without its past.
    define(&client, &widget_crd(&client)).await;
    assert!(widgets.list(&ListParams::default()).await.unwrap().items.is_empty());
}

async fn the_namespaces_of_the_system_stay(world: World) {
    let namespaces: Api<Namespace> = Api::all(world.client().await);
    let refused = refusal(namespaces.delete("kube-system", &DeleteParams::default()).await);
    assert_eq!(refused.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
}
