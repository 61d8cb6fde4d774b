//! What is refused before anything is written, and with which words.

use api::Cluster;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use lifecycle::{
    check::{self, CheckArgs},
    connect::{Connection, ControlArgs, MemberArgs},
    join::{self, JoinArgs},
    manifest::NAMESPACE,
};
use serde_json::json;

use crate::{
    dump::{difference, dump},
    world::{self, Heard, World, changed, install_args, join_args, unjoin_args, wait},
};

/// What a join that is refused says; nothing may be written by it.
async fn refused(world: &World, control: &Connection, args: &JoinArgs) -> String {
    let (_, member) = world.connect().await;
    let before = (dump(&control.client).await, dump(&member.client).await);
    let heard = Heard::default();
    let error = join::join(control, &member, args, &mut heard.say()).await.unwrap_err().to_string();
    assert!(error.starts_with("preflight failed and nothing was written"), "{error}");
    assert_eq!(difference(&before.0, &dump(&control.client).await), Vec::<String>::new());
    assert_eq!(difference(&before.1, &dump(&member.client).await), Vec::<String>::new());
    heard.remarks()
}

#[test]
fn a_control_cluster_without_clusterlink_is_named() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, _) = world.clean().await;
        let said = refused(&world, &control, &join_args("east")).await;
        assert!(said.contains("FAILED  version: the control cluster (https://127.0.0.1:"), "{said}");
        assert!(said.contains("has no ClusterLink: put it there with kosmosctl install"), "{said}");
    });
}

#[test]
fn a_loopback_address_of_the_control_cluster_is_named() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, _) = world.installed().await;
        let said =
            refused(&world, &control, &JoinArgs { preflight: Default::default(), ..join_args("east") }).await;
        assert!(
            said.contains(
                "FAILED  control-server: the member would look for the control cluster at https://127.0.0.1:"
            ),
            "{said}"
        );
        assert!(said.contains("--control-server https://HOST:PORT"), "{said}");
    });
}

#[test]
fn a_cluster_has_one_name_and_a_name_one_cluster() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.joined().await;
        let said = refused(&world, &control, &join_args("west")).await;
        assert!(said.contains("is joined already, as cluster \"east\": one cluster has one name"), "{said}");
        let clusters: Api<Cluster> = Api::all(control.client.clone());
        let patch = json!({"metadata": {"annotations": {"kosmos.io/cluster-uid": "somebody-else"}}});
        clusters.patch("east", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        let said = refused(&world, &control, &join_args("east")).await;
        assert!(said.contains("Cluster \"east\" is another cluster than https://127.0.0.1:"), "{said}");
        let error =
            world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap_err().to_string();
        assert!(error.contains("is not cluster \"east\": its kube-system namespace has uid"), "{error}");
    });
}

#[test]
fn rights_that_are_missing_are_listed() {
    let Some(world) = World::take() else { return };
    let jane = world.control.kubeconfig_for("jane", &["developers"]).unwrap();
    wait(async {
        world.clean().await;
        let args = ControlArgs { kubeconfig: Some(jane), context: None };
        let jane = Connection::control(&args).await.unwrap();
        let heard = Heard::default();
        let passed = check::check(&jane, None, &CheckArgs::default(), &mut heard.say()).await.unwrap();
        let out = heard.out();
        assert!(
            !passed && out.contains("FAILED  permissions: in the control cluster (https://127.0.0.1:"),
            "{out}"
        );
        assert!(out.contains("you may not create namespaces, nor "), "{out}");
        assert!(out.contains("use a context that may, such as a cluster-admin's"), "{out}");
        // Whether another ClusterLink is there she may not know either.
        assert!(out.contains("FAILED  kosmos: the control cluster (https://127.0.0.1:"), "{out}");
        assert!(out.contains("User \"jane\" cannot list resource \"deployments\""), "{out}");
        assert!(world::install(&jane, &install_args()).await.is_err());
    });
}

#[test]
fn cidrs_that_overlap_a_joined_cluster_are_refused_in_the_plans_words() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.installed().await;
        let clusters: Api<Cluster> = Api::all(control.client.clone());
        let west = serde_json::from_value(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "west"}, "spec": {"clusterLinkOptions": {}}}))
        .unwrap();
        clusters.create(&PostParams::default(), &west).await.unwrap();
        let status = json!({"status": {"clusterLinkStatus": {"podCIDRs": ["10.1.0.0/16"], "serviceCIDRs": ["10.112.0.0/12"]}}});
        clusters.patch_status("west", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        let said = refused(&world, &control, &join_args("east")).await;
        assert!(said.contains("FAILED  addresses: Cluster east: CIDROverlap: pod CIDR 10.1."), "{said}");
        assert!(said.contains("of cluster west: neither is routed from the other's cluster"), "{said}");
        assert!(said.contains("warning addresses: Cluster east: CIDROverlap: service CIDR 10.112.0.0/16 overlaps service CIDR 10.112.0.0/12 of cluster west"), "{said}");
        // Whoever knows better goes on.
        let mut args = join_args("east");
        args.preflight.ignore_preflight.push(lifecycle::preflight::Check::Addresses);
        world::join(&control, &member, &args).await.unwrap();
    });
}

#[test]
fn a_host_port_that_is_taken_is_refused() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.installed().await;
        let pods: Api<Pod> = Api::namespaced(member.client.clone(), "default");
        let pod = serde_json::from_value(json!({"metadata": {"name": "radio"}, "spec": {"containers": [
            {"name": "c", "image": "x", "ports": [{"containerPort": 1, "hostPort": 4876, "protocol": "UDP"}]}]}})).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let said = refused(&world, &control, &join_args("east")).await;
        assert!(said.contains("FAILED  ports: UDP port 4876, which is vx-bridge's, is a host port of pod default/radio: give --port vx-bridge=PORT"), "{said}");
        let mut args = join_args("east");
        args.options.port = vec![(api::Vtep::Bridge, 5000)];
        world::join(&control, &member, &args).await.unwrap();
        pods.delete("radio", &DeleteParams::default().grace_period(0)).await.unwrap();
    });
}

#[test]
fn a_cluster_that_has_settings_of_another_is_not_unjoined() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.joined().await;
        let maps: Api<ConfigMap> = Api::namespaced(member.client.clone(), NAMESPACE);
        assert_eq!(maps.get("clusterlink").await.unwrap().data.unwrap()["cluster"], "east");
        let error =
            world::unjoin(&control, Some(&member), &unjoin_args("west")).await.unwrap_err().to_string();
        assert!(error.contains("is joined as \"east\", not as \"west\""), "{error}");
    });
}

#[test]
fn a_kubeconfig_that_does_not_verify_is_refused() {
    let Some(world) = World::take() else { return };
    let admin = world.control.admin_kubeconfig();
    let insecure = changed(&admin, "insecure.kubeconfig", |text| {
        let mut value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let cluster = &mut value["clusters"][0]["cluster"];
        cluster["insecure-skip-tls-verify"] = json!(true);
        cluster.as_object_mut().unwrap().remove("certificate-authority-data");
        value.to_string()
    });
    let clear = changed(&admin, "clear.kubeconfig", |text| text.replace("https://", "http://"));
    wait(async {
        let error = |path: &std::path::Path| {
            let args = ControlArgs { kubeconfig: Some(path.to_owned()), context: None };
            async move { Connection::control(&args).await.err().unwrap().to_string() }
        };
        assert!(
            error(&insecure).await.contains("says insecure-skip-tls-verify: TLS is always verified here")
        );
        assert!(error(&clear).await.contains("is not https: TLS is always verified here"));
        let missing = error(std::path::Path::new("/nowhere/kubeconfig")).await;
        assert!(missing.starts_with("kubeconfig /nowhere/kubeconfig: "), "{missing}");
        let nobody = Connection::member(&MemberArgs::default(), &world.control_args()).await.err().unwrap();
        assert_eq!(
            nobody.to_string(),
            "which cluster is the member? give --member-context, or --member-kubeconfig"
        );
    });
}
