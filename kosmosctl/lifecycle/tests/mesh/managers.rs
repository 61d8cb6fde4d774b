//! The real managers, with the credentials and rights that install and join gave them: a cluster joins, is well, and leaves.
//! The test plays kubelet and agents.

use std::time::Duration;

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::Secret,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use lifecycle::{join::JoinArgs, manifest::NAMESPACE, status};
use serde_json::json;

use crate::{
    dump::{difference, dump},
    world::{self, World, install_args, join_args, patient, unjoin_args, wait},
};

const FINALIZER: &str = "kosmos.io/clusterlink-agent";

#[test]
fn a_cluster_joins_is_well_and_leaves_by_the_work_of_the_real_managers() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let before = (dump(&control.client).await, dump(&member.client).await);
        world::install(&control, &install_args()).await.unwrap();
        world::join(&control, &member, &join_args("east")).await.unwrap();

        let planner =
            world.control.kubeconfig_of_account(NAMESPACE, "clusterlink-network-manager").await.unwrap();
        let planner = network_manager::Config::alone(world.control.client_of(&planner).await.unwrap());
        let planner = tokio::spawn(network_manager::run(planner));
        let account = "clusterlink-controller-manager";
        let own = world.member.kubeconfig_of_account(NAMESPACE, account).await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(member.client.clone(), NAMESPACE);
        let secret = secrets.get("clusterlink-control").await.unwrap().data.unwrap();
        let uplink = controller_manager::Config {
            cluster: "east".to_owned(),
            member: world.member.client_of(&own).await.unwrap(),
            control: world::client_of(std::str::from_utf8(&secret["kubeconfig"].0).unwrap()).await,
        };
        let uplink =
            tokio::spawn(controller_manager::run(uplink, its_deployment_is_gone(member.client.clone())));
        let agents = tokio::spawn(play_agents(member.client.clone()));
        play_kubelets(&control.client, &member.client).await;

        // The same command again, which now waits until the cluster takes part.
        let args = JoinArgs { wait: patient(), ..join_args("east") };
        let out = world::join(&control, &member, &args).await.unwrap();
        assert!(
            out.ends_with("  Cluster east: 2 of 2 nodes carry the overlay\ncluster \"east\" is joined\n"),
            "{out}"
        );
        let status = status::status(&control, &[], None).await.unwrap();
        assert_eq!(status.problems, Vec::<String>::new());
        assert_eq!((status.well, status.clusters[0].applied), (true, 2));
        assert_eq!(status.clusters[0].service_cidrs, ["10.112.0.0/16"]);

        world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap();
        uplink.abort();
        agents.abort();
        assert_eq!(difference(&before.1, &dump(&member.client).await), Vec::<String>::new());
        assert!(
            Api::<Cluster>::all(control.client.clone())
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        );
        planner.abort();
        world::uninstall(&control).await.unwrap();
        assert_eq!(difference(&before.0, &dump(&control.client).await), Vec::<String>::new());
    });
}

/// As a kubelet ends the pods of a Deployment that is deleted.
async fn its_deployment_is_gone(client: Client) {
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    while !matches!(deployments.get_opt("clusterlink-controller-manager").await, Ok(None)) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Workloads that run.
async fn play_kubelets(control: &Client, member: &Client) {
    let ready = |replicas: i32| {
        json!({"status": {"observedGeneration": 100, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas}})
    };
    for (client, name) in
        [(control, "clusterlink-network-manager"), (member, "clusterlink-controller-manager")]
    {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        deployments.patch_status(name, &PatchParams::default(), &Patch::Merge(ready(2))).await.unwrap();
    }
    let status = json!({"status": {"observedGeneration": 100, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
        "numberMisscheduled": 0, "updatedNumberScheduled": 2, "numberReady": 2, "numberAvailable": 2}});
    let sets: Api<DaemonSet> = Api::namespaced(member.clone(), NAMESPACE);
    sets.patch_status("clusterlink-agent", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// Agents of n1 and n2: they publish their underlay, hold their NodeConfigs, report, and let go when their hosts are clean.
async fn play_agents(client: Client) {
    let apply = PatchParams::apply("clusterlink-agent").force();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let nodes: Api<ClusterNode> = Api::all(client.clone());
        for number in [1, 2] {
            let name = format!("east-n{number}");
            let node = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
                "metadata": {"name": name, "labels": {"kosmos.io/cluster": "east"}},
                "spec": {"interfaceName": "eth0", "ip": format!("192.168.1.{number}")}});
            // Until the definitions are there, and when they are there no more.
            let _ = nodes.patch(&name, &apply, &Patch::Apply(node)).await;
        }
        let configs: Api<NodeConfig> = Api::all(client.clone());
        let Ok(list) = configs.list(&ListParams::default()).await else { continue };
        for config in list {
            let name = config.name_any();
            let leaving = config.metadata.deletion_timestamp.is_some();
            let finalizers = if leaving { vec![] } else { vec![FINALIZER] };
            if config.finalizers() != finalizers {
                let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
                let _ = configs.patch(&name, &PatchParams::default(), &patch).await;
            }
            if !leaving {
                let generation = config.metadata.generation;
                let status = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "NodeConfig", "metadata": {"name": name},
                    "status": {"observedGeneration": generation, "entries": {"desired": 1, "differing": 0},
                        "conditions": [{"type": "Applied", "status": "True", "reason": "AsDesired", "message": "",
                            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
                let _ = configs.patch_status(&name, &apply, &Patch::Apply(status)).await;
            }
        }
    }
}
