//! Clusters are installed, joined, looked at, unjoined and uninstalled.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, time::Duration};

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use lifecycle::{
    connect::Connection,
    gather::{self, GatherArgs},
    get::{self, GetArgs, GetOutput, What},
    manifest::{NAMESPACE, VERSION},
    status,
    unjoin::UnjoinArgs,
    upgrade::{self, UpgradeArgs},
};
use serde_json::json;

use crate::{
    dump::{difference, dump},
    faults::Fault,
    world::{self, Heard, World, brief, install_args, join_args, unjoin_args, wait},
};

/// Lines of output that say what became of an object.
fn outcomes(out: &str, word: &str) -> usize {
    out.lines().filter(|line| line.ends_with(word)).count()
}

#[test]
fn a_mesh_comes_and_goes_without_a_trace() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let before = (dump(&control.client).await, dump(&member.client).await);

        let out = world::install(&control, &install_args()).await.unwrap();
        assert!(outcomes(&out, " created") > 20 && outcomes(&out, " unchanged") == 0, "{out}");
        let again = world::install(&control, &install_args()).await.unwrap();
        assert_eq!(outcomes(&again, " unchanged"), outcomes(&out, " created"), "{again}");
        assert_eq!(outcomes(&again, " configured") + outcomes(&again, " created"), 0, "{again}");

        let out = world::join(&control, &member, &join_args("east")).await.unwrap();
        assert!(outcomes(&out, " created") > 25 && outcomes(&out, " unchanged") == 0, "{out}");
        assert!(
            out.ends_with("cluster \"east\" is joined; kosmosctl status says when it takes part\n"),
            "{out}"
        );
        let again = world::join(&control, &member, &join_args("east")).await.unwrap();
        assert_eq!(outcomes(&again, " configured") + outcomes(&again, " created"), 0, "{again}");

        let out = world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap();
        assert!(out.ends_with("cluster \"east\" has left the mesh\n"), "{out}");
        assert_eq!(difference(&before.1, &dump(&member.client).await), Vec::<String>::new());
        let out = world::uninstall(&control).await.unwrap();
        assert!(out.ends_with("ClusterLink is removed\n"), "{out}");
        assert_eq!(difference(&before.0, &dump(&control.client).await), Vec::<String>::new());
        // What is gone is gone.
        let out = world::uninstall(&control).await.unwrap();
        assert!(out.ends_with("there is no ClusterLink here\n"), "{out}");
    });
}

#[test]
fn the_control_cluster_may_be_a_member_and_leave_again() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, _) = world.clean().await;
        let before = dump(&control.client).await;
        world::install(&control, &install_args()).await.unwrap();
        let installed = dump(&control.client).await;
        let itself = Connection { role: lifecycle::connect::Role::Member, ..control.clone() };
        let mut args = join_args("home");
        args.preflight.ignore_preflight.clear();
        world::join(&control, &itself, &args).await.unwrap();
        let error = world::uninstall(&control).await.unwrap_err().to_string();
        assert!(error.contains("clusters are still joined") && error.contains("home"), "{error}");
        world::unjoin(&control, Some(&itself), &unjoin_args("home")).await.unwrap();
        assert_eq!(difference(&installed, &dump(&control.client).await), Vec::<String>::new());
        world::uninstall(&control).await.unwrap();
        assert_eq!(difference(&before, &dump(&control.client).await), Vec::<String>::new());
    });
}

/// At every write the connection is lost once, before the API server got it or after; the same command again goes on.
#[test]
fn a_join_that_is_interrupted_at_any_write_completes_when_it_is_run_again() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let before = dump(&member.client).await;
        world::install(&control, &install_args()).await.unwrap();
        world::join(&control, &member, &join_args("east")).await.unwrap();
        let whole = (names(&control).await, names(&member).await);
        world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap();

        let mut interrupted = 0;
        for number in 1.. {
            let fault = Fault::at(number, number % 2 == 0);
            let (above, below) = lossy(&world, &fault, &control, &member).await;
            let result = world::join(&above, &below, &join_args("east")).await;
            if fault.is_ahead() {
                result.unwrap();
                break;
            }
            let error = result.unwrap_err().to_string();
            assert!(error.contains("the connection was lost"), "{error}");
            assert!(
                error.contains(
                    "the same command again goes on from here; to go back instead: kosmosctl unjoin east"
                ),
                "{error}"
            );
            interrupted += 1;
        }
        assert!(interrupted > 25, "{interrupted} writes were interrupted");
        assert_eq!((names(&control).await, names(&member).await), whole);
        world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap();
        assert_eq!(difference(&before, &dump(&member.client).await), Vec::<String>::new());
        world::uninstall(&control).await.unwrap();
    });
}

/// The same for leaving: every run gets one write further than the one before, and the last one finds nothing left to do.
#[test]
fn a_cluster_leaves_however_often_that_is_interrupted() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let before = dump(&member.client).await;
        world::install(&control, &install_args()).await.unwrap();
        let installed = dump(&control.client).await;
        world::join(&control, &member, &join_args("east")).await.unwrap();
        publish(&control.client, "east", "n1").await;
        for interrupted in 0.. {
            // The first write of every run is the one that takes the cluster out of the plan, while there is a Cluster.
            let fault = Fault::at(2, true);
            let (above, below) = lossy(&world, &fault, &control, &member).await;
            let result = world::unjoin(&above, Some(&below), &unjoin_args("east")).await;
            if fault.is_ahead() {
                result.unwrap();
                assert!(interrupted > 25, "{interrupted} runs were interrupted");
                break;
            }
            let error = result.unwrap_err().to_string();
            assert!(error.contains("the connection was lost"), "{error}");
        }
        assert_eq!(difference(&before, &dump(&member.client).await), Vec::<String>::new());
        assert_eq!(difference(&installed, &dump(&control.client).await), Vec::<String>::new());
        world::uninstall(&control).await.unwrap();
    });
}

/// The same clusters over connections that will be lost.
async fn lossy(
    world: &World,
    fault: &Fault,
    control: &Connection,
    member: &Connection,
) -> (Connection, Connection) {
    let above = fault.client(&world.control.admin_kubeconfig()).await;
    let below = fault.client(&world.member.admin_kubeconfig()).await;
    (Connection { client: above, ..control.clone() }, Connection { client: below, ..member.clone() })
}

async fn names(at: &Connection) -> BTreeSet<String> {
    dump(&at.client).await.into_keys().collect()
}

/// The test plays the managers and the agents: a plan that goes when the cluster is out of it, hosts that are cleaned.
#[test]
fn a_cluster_leaves_in_the_order_that_loses_nothing() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.joined().await;
        let (above, below) = (control.client.clone(), member.client.clone());
        publish(&above, "east", "n1").await;
        config(&above, "east", "n1", false).await;
        config(&below, "east", "n1", true).await;

        // Nobody withdraws the plan: it is said who should, and nothing is removed.
        let impatient = UnjoinArgs { wait: brief(), ..unjoin_args("east") };
        let error = world::unjoin(&control, Some(&member), &impatient).await.unwrap_err().to_string();
        assert!(
            error.contains("the network-manager still plans NodeConfig east-n1 (does it run?)"),
            "{error}"
        );
        assert!(below_has_agent(&below).await);

        // The plan is withdrawn, and no agent cleans its host.
        let configs: Api<NodeConfig> = Api::all(above.clone());
        configs.delete("east-n1", &DeleteParams::default()).await.unwrap();
        let error = world::unjoin(&control, Some(&member), &impatient).await.unwrap_err().to_string();
        assert!(
            error.contains(
                "1 hosts are left: the controller-manager has not withdrawn NodeConfig east-n1 yet"
            ),
            "{error}"
        );
        let configs: Api<NodeConfig> = Api::all(below.clone());
        configs.delete("east-n1", &DeleteParams::default()).await.unwrap();
        let error = world::unjoin(&control, Some(&member), &impatient).await.unwrap_err().to_string();
        assert!(error.contains("the agent of node n1 has not cleaned it yet (does it run?)"), "{error}");
        assert!(below_has_agent(&below).await, "nothing is removed before the hosts are clean");

        // It comes back and cleans.
        let played = tokio::spawn(clean_host(below.clone()));
        world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap();
        played.await.unwrap();
        assert!(Api::<Cluster>::all(above.clone()).get_opt("east").await.unwrap().is_none());
        assert!(Api::<ClusterNode>::all(above).get_opt("east-n1").await.unwrap().is_none());
        world::uninstall(&control).await.unwrap();
    });
}

async fn publish(client: &Client, cluster: &str, node: &str) {
    let nodes: Api<ClusterNode> = Api::all(client.clone());
    let object = serde_json::from_value(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
        "metadata": {"name": format!("{cluster}-{node}"), "labels": {"kosmos.io/cluster": cluster}},
        "spec": {"clusterName": cluster, "nodeName": node, "ip": "192.168.1.1", "interfaceName": "eth0"}}));
    nodes.create(&PostParams::default(), &object.unwrap()).await.unwrap();
}

async fn config(client: &Client, cluster: &str, node: &str, held: bool) {
    let configs: Api<NodeConfig> = Api::all(client.clone());
    let finalizers = if held { vec!["kosmos.io/clusterlink-agent"] } else { Vec::new() };
    let object = serde_json::from_value(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "NodeConfig",
        "metadata": {"name": format!("{cluster}-{node}"), "labels": {"kosmos.io/cluster": cluster}, "finalizers": finalizers},
        "spec": {}}));
    configs.create(&PostParams::default(), &object.unwrap()).await.unwrap();
}

async fn below_has_agent(client: &Client) -> bool {
    let sets = Api::<k8s_openapi::api::apps::v1::DaemonSet>::namespaced(client.clone(), NAMESPACE);
    sets.get_opt("clusterlink-agent").await.unwrap().is_some()
}

async fn clean_host(client: Client) {
    let configs: Api<NodeConfig> = Api::all(client);
    let patch = json!({"metadata": {"finalizers": []}});
    configs.patch("east-n1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[test]
fn a_member_that_is_gone_is_removed_by_force_and_its_hosts_are_named() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let before = dump(&control.client).await;
        world::install(&control, &install_args()).await.unwrap();
        world::join(&control, &member, &join_args("east")).await.unwrap();
        publish(&control.client, "east", "n1").await;
        config(&control.client, "east", "n1", true).await;
        let args = UnjoinArgs { force: true, ..unjoin_args("east") };
        let said = world::unjoin(&control, None, &args).await.unwrap();
        assert!(said.contains("these hosts still carry devices, routes and rules of ClusterLink: n1; run `clusterlink-agent cleanup` as root on each"), "{said}");
        assert!(said.contains("kosmosctl unjoin east --member-context CONTEXT"), "{said}");
        world::uninstall(&control).await.unwrap();
        assert_eq!(difference(&before, &dump(&control.client).await), Vec::<String>::new());
        // It answers again.
        world::unjoin(&control, Some(&member), &unjoin_args("east")).await.unwrap();
        assert!(!below_has_agent(&member.client).await);
    });
}

#[test]
fn the_member_gets_a_credential_that_is_its_own_and_no_more() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.joined().await;
        let secrets: Api<Secret> = Api::namespaced(member.client.clone(), NAMESPACE);
        let secret = secrets.get("clusterlink-control").await.unwrap();
        let text = String::from_utf8(secret.data.unwrap()["kubeconfig"].0.clone()).unwrap();
        let narrow = world::client_of(&text).await;
        let clusters: Api<Cluster> = Api::all(narrow.clone());
        // An API server goes by new rights a moment after they were written.
        for _ in 0..600 {
            if clusters.get("east").await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(clusters.get("east").await.unwrap().name_any(), "east");
        assert_eq!(refused(clusters.get("west").await), 403);
        assert_eq!(refused(Api::<Secret>::all(narrow.clone()).list(&ListParams::default()).await), 403);
        assert_eq!(
            refused(Api::<Deployment>::namespaced(narrow, NAMESPACE).list(&ListParams::default()).await),
            403
        );
        // No credential of whoever joined has come over.
        let admin = std::fs::read_to_string(world.control.admin_kubeconfig()).unwrap();
        assert!(!text.contains("client-key") && !text.contains("insecure"), "{text}");
        assert!(admin.contains("client-key"));
        // A lost one is replaced by the same command, and only then.
        secrets.delete("clusterlink-control", &DeleteParams::default()).await.unwrap();
        let out = world::join(&control, &member, &join_args("east")).await.unwrap();
        assert!(out.contains("secret/clusterlink-control created"), "{out}");
    });
}

fn refused<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> u16 {
    match answer {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn options_are_set_and_what_a_person_has_set_stays() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.installed().await;
        let mut args = join_args("east");
        args.options.network_type = Some(api::NetworkType::Gateway);
        args.components.image = Some("r.example/cl:7".to_owned());
        args.values.agent_api_server = Some(("10.0.0.1".to_owned(), "6443".to_owned()));
        world::join(&control, &member, &args).await.unwrap();
        let clusters: Api<Cluster> = Api::all(control.client.clone());
        let patch = json!({"spec": {"clusterLinkOptions": {"gateways": 3}}});
        clusters.patch("east", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(member.client.clone(), NAMESPACE);
        let patch = json!({"data": {"logLevel": "debug"}});
        maps.patch("clusterlink", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();

        let mut args = join_args("east");
        args.options.cni = Some("node".to_owned());
        world::join(&control, &member, &args).await.unwrap();
        let options = clusters.get("east").await.unwrap().spec.cluster_link_options.unwrap();
        assert_eq!(
            (options.network_type, options.gateways, options.cni.as_str()),
            (api::NetworkType::Gateway, 3, "node")
        );
        let data = maps.get("clusterlink").await.unwrap().data.unwrap();
        assert_eq!((data["cluster"].as_str(), data["logLevel"].as_str()), ("east", "debug"));
        assert_eq!((data["apiServerHost"].as_str(), data["apiServerPort"].as_str()), ("10.0.0.1", "6443"));
    });
}

#[test]
fn a_dry_run_writes_nothing_on_either_side() {
    let Some(world) = World::take() else { return };
    wait(async {
        use lifecycle::write::DryRun;
        let (control, member) = world.clean().await;
        let before = (dump(&control.client).await, dump(&member.client).await);
        for dry_run in [DryRun::Client, DryRun::Server] {
            let mut args = install_args();
            args.write.dry_run = dry_run;
            let out = world::install(&control, &args).await.unwrap();
            let ending = format!(" created{}", dry_run.suffix());
            assert!(outcomes(&out, &ending) > 20, "{out}");
        }
        assert_eq!(difference(&before.0, &dump(&control.client).await), Vec::<String>::new());
        world::install(&control, &install_args()).await.unwrap();
        let before = (dump(&control.client).await, before.1);
        for dry_run in [DryRun::Client, DryRun::Server] {
            let mut args = join_args("east");
            args.write.dry_run = dry_run;
            let out = world::join(&control, &member, &args).await.unwrap();
            assert!(outcomes(&out, &format!(" created{}", dry_run.suffix())) > 25, "{out}");
        }
        assert_eq!(difference(&before.0, &dump(&control.client).await), Vec::<String>::new());
        assert_eq!(difference(&before.1, &dump(&member.client).await), Vec::<String>::new());
    });
}

#[test]
fn what_others_have_put_into_our_namespace_keeps_it() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, _) = world.installed().await;
        let maps: Api<ConfigMap> = Api::namespaced(control.client.clone(), NAMESPACE);
        let map = serde_json::from_value(json!({"metadata": {"name": "precious"}})).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
        let out = world::uninstall(&control).await.unwrap();
        assert!(
            out.contains("namespace/clusterlink-system is kept: configmap/precious in it is not ours"),
            "{out}"
        );
        maps.delete("precious", &DeleteParams::default()).await.unwrap();
    });
}

#[test]
fn an_older_version_is_upgraded_and_a_newer_one_is_left_alone() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.joined().await;
        for (client, name) in [
            (&control.client, "clusterlink-network-manager"),
            (&member.client, "clusterlink-controller-manager"),
        ] {
            pretend(client, name, "0.0.9").await;
        }
        let heard = Heard::default();
        let args = UpgradeArgs { wait: world::no_pods(), ..Default::default() };
        upgrade::upgrade(&control, std::slice::from_ref(&member), &args, &mut heard.say()).await.unwrap();
        let out = heard.out();
        for (client, name) in [
            (&control.client, "clusterlink-network-manager"),
            (&member.client, "clusterlink-controller-manager"),
        ] {
            assert_eq!(version_of(client, name).await, VERSION, "{out}");
        }
        // First the definitions, then the control cluster, then the member.
        let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("{text} in {out}"));
        assert!(at("clusters.kosmos.io") < at("clusterlink-network-manager"), "{out}");
        assert!(
            at("deployment.apps/clusterlink-network-manager configured") < at("upgrade cluster \"east\""),
            "{out}"
        );

        pretend(&member.client, "clusterlink-controller-manager", "9.0.0").await;
        let error = upgrade::upgrade(&control, std::slice::from_ref(&member), &args, &mut heard.say())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("the member cluster runs 9.0.0, which is newer than this kosmosctl"),
            "{error}"
        );
        pretend(&control.client, "clusterlink-network-manager", "1.4.0").await;
        let error = world::install(&control, &install_args()).await.unwrap_err();
        assert!(error.to_string().contains("going back is not tested"), "{error}");
        let forced = lifecycle::install::InstallArgs { force: true, ..install_args() };
        world::install(&control, &forced).await.unwrap();
        assert_eq!(version_of(&control.client, "clusterlink-network-manager").await, VERSION);
    });
}

async fn pretend(client: &Client, name: &str, version: &str) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = json!({"metadata": {"labels": {"app.kubernetes.io/version": version}}});
    deployments.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn version_of(client: &Client, name: &str) -> String {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    deployments.get(name).await.unwrap().labels()["app.kubernetes.io/version"].clone()
}

#[test]
fn status_get_and_gather_show_what_is_there_and_no_secret() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let status = status::status(&control, &[], None).await.unwrap();
        assert!(
            status.problems[0].contains("serves no Clusters: is it the control cluster?"),
            "{:?}",
            status.problems
        );
        world::install(&control, &install_args()).await.unwrap();
        world::join(&control, &member, &join_args("east")).await.unwrap();
        publish(&control.client, "east", "n1").await;

        let status = status::status(&control, std::slice::from_ref(&member), None).await.unwrap();
        assert!(!status.well);
        let said = |text: &str| {
            assert!(
                status.problems.iter().any(|problem| problem.contains(text)),
                "{text}: {:?}",
                status.problems
            )
        };
        said("Cluster east: no word on CIDRsKnown: its controller-manager has never reported");
        said("clusterlink-network-manager of cluster control: 0 of 2 pods are available");
        said("node n1 of cluster east: no agent of it is ready");

        let args = |what, output| GetArgs {
            what,
            names: Vec::new(),
            control: Default::default(),
            cluster: None,
            selector: None,
            output,
            no_headers: false,
        };
        let shown = Heard::default();
        get::get(&control, &args(What::Clusters, None), &mut shown.say()).await.unwrap();
        let out = shown.out();
        assert!(out.starts_with("NAME   NETWORK_TYPE   IP_FAMILY") && out.contains("\neast   p2p "), "{out}");
        let shown = Heard::default();
        let only = GetArgs { cluster: Some("west".to_owned()), ..args(What::Nodes, None) };
        get::get(&control, &only, &mut shown.say()).await.unwrap();
        assert_eq!((shown.out().as_str(), shown.remarks().as_str()), ("", "no clusternodes found\n"));
        let shown = Heard::default();
        get::get(&control, &args(What::Nodes, Some(GetOutput::Name)), &mut shown.say()).await.unwrap();
        assert_eq!(shown.out(), "clusternode.kosmos.io/east-n1\n");
        let missing =
            GetArgs { names: vec!["west".to_owned()], ..args(What::Clusters, Some(GetOutput::Yaml)) };
        let error = get::get(&control, &missing, &mut shown.say()).await.unwrap_err().to_string();
        assert_eq!(error, "get clusters: clusters.kosmos.io \"west\" not found");

        bundle(&control, &member).await;
    });
}

async fn bundle(control: &Connection, member: &Connection) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bundle.tar.gz");
    let args = GatherArgs { file: Some(file.clone()), log_lines: 10, ..Default::default() };
    let heard = Heard::default();
    gather::gather(control, std::slice::from_ref(member), &args, &mut heard.say()).await.unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let remarks = heard.remarks();
    assert!(remarks.contains("member-east/nodes/n1/kernel.json: no agent runs there; on the host, `clusterlink-agent dump` prints it"), "{remarks}");
    let text = unpacked(&file);
    let names: Vec<&str> = text.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "status.yaml",
        "control/objects/clusters.yaml",
        "member-east/objects/clusterlink-system/secrets.yaml",
        "missing.txt",
    ] {
        assert!(names.iter().any(|found| found.ends_with(name)), "{name}: {names:?}");
    }
    let all: String = text.into_iter().map(|(_, text)| text).collect();
    assert!(!all.contains("eyJ") && !all.contains("ZXlK"), "a token is in it");
    assert!(all.contains("bytes left out>"));
    let error = gather::gather(control, &[], &args, &mut heard.say()).await.unwrap_err();
    assert!(format!("{error:#}").contains("File exists"), "{error:#}");
}

fn unpacked(file: &std::path::Path) -> Vec<(String, String)> {
    use std::io::Read;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    });
    entries.collect()
}

#[test]
fn a_wait_that_is_in_vain_says_for_what() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, _) = world.clean().await;
        let args = lifecycle::install::InstallArgs { wait: brief(), ..install_args() };
        let error = world::install(&control, &args).await.unwrap_err().to_string();
        assert!(
            error.contains(
                "timed out after 1s: deployment.apps/clusterlink-network-manager: 0 of 2 pods available"
            ),
            "{error}"
        );
        assert!(error.contains("to go back instead: kosmosctl uninstall"), "{error}");
    });
}
