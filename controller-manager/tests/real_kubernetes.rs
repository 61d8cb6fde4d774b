//! A controller-manager with its own rights before a real API server, which serves the CRDs of Calico and Cilium as
//! those projects ship them. The control cluster is embedded: it is the member that is looked at here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod member;
mod support;

use std::sync::LazyLock;

use k8s_openapi::{
    api::{authorization::v1::SelfSubjectAccessReview, core::v1::Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, api::PostParams};
use kubernetes::{Binaries, ControlPlane, Options, Part};
use member::*;
use serde_json::{Value, json};
use support::{Running, cluster, eventually, install_crds, join, stays};
use tokio::sync::{Mutex, MutexGuard};
use upstream::{Project, Upstream};

/// What the manifests let a controller-manager do in its member.
const RIGHTS: &str = include_str!("../../daemonset/member/controller-manager-rbac.yaml");

static PLANE: LazyLock<Option<ControlPlane>> = LazyLock::new(|| {
    let binaries = Binaries::find_or_skip()?;
    Some(ControlPlane::start(&Options::named("member", binaries)).expect("a control plane starts"))
});

/// The one real member: a test has it for itself, and finds it empty.
struct Member {
    plane: &'static ControlPlane,
    upstream: &'static Upstream,
    /// May do everything.
    admin: Client,
    /// May do what the controller-manager may.
    own: Client,
    _alone: MutexGuard<'static, ()>,
}

impl Member {
    async fn take() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let upstream = Upstream::find_or_skip()?;
        let plane = tokio::task::spawn_blocking(|| PLANE.as_ref()).await.unwrap()?;
        let admin = plane.client().await.unwrap();
        let third_parties = [calico_crds(upstream), calico_v3_crds(), cilium_crds(upstream)].concat();
        uninstall(&admin, &third_parties).await;
        remove_nodes(&admin).await;
        for config in ["calico-config", "cilium-config"] {
            remove(&admin, &config_map(config, json!({}))).await;
        }
        remove(&admin, &more_services()).await;
        if support::names::<CustomResourceDefinition>(&admin).await.is_empty() {
            install_crds(&admin).await;
        }
        let own = rights(plane, &admin).await;
        Some(Member { plane, upstream, admin, own, _alone: alone })
    }

    async fn restart(&self, how: fn(&ControlPlane) -> Result<(), kubernetes::Error>) {
        let plane = self.plane;
        tokio::task::spawn_blocking(move || how(plane)).await.unwrap().unwrap();
    }
}

/// The rights of the manifests, and a client that has them.
async fn rights(plane: &ControlPlane, admin: &Client) -> Client {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "clusterlink-system"}});
    put(admin, &namespace).await;
    let objects: Vec<Value> = serde_saphyr::from_multiple(RIGHTS).unwrap();
    for object in &objects {
        put(admin, object).await;
    }
    let file =
        plane.kubeconfig_of_account("clusterlink-system", "clusterlink-controller-manager").await.unwrap();
    let own = component::connect(Some(&file)).await.unwrap();
    let all = || async { may(&own, LIST_SERVICE_CIDRS).await && may(&own, CREATE_SERVICES).await };
    eventually("the rights", all, |all| *all).await;
    own
}

/// Verb, group, resource and namespace.
type Right = (&'static str, &'static str, &'static str, Option<&'static str>);

const LIST_SERVICE_CIDRS: Right = ("list", "networking.k8s.io", "servicecidrs", None);
const CREATE_SERVICES: Right = ("create", "", "services", Some("default"));

/// Whether the API server goes by a right already: it reads roles and bindings a moment after they were written.
async fn may(client: &Client, (verb, group, resource, namespace): Right) -> bool {
    let attributes = json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace});
    let review = json!({"metadata": {}, "spec": {"resourceAttributes": attributes}});
    let review: SelfSubjectAccessReview = serde_json::from_value(review).unwrap();
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.is_some_and(|status| status.allowed)
}

/// `manifests/crds.yaml` of Calico v3.28.5.
fn calico_crds(upstream: &Upstream) -> Vec<Value> {
    let names = ["ippools.crd.projectcalico.org", "blockaffinities.crd.projectcalico.org"];
    upstream.crds(Project::Calico, "manifests/crds.yaml", &names)
}

/// With the fields and formats that Calico's native CRDs (v3.32, `api/config/crd`) have; its modules do not hold them.
fn calico_v3_crds() -> Vec<Value> {
    let crd = |kind: &str, plural: &str, spec: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.projectcalico.org"),
                "annotations": {"api-approved.kubernetes.io": "unapproved, a test's"}},
            "spec": {"group": "projectcalico.org", "scope": "Cluster",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{"name": "v3", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
    };
    let text = json!({"type": "string"});
    let pool = json!({"type": "object", "required": ["cidr"], "properties": {"cidr": {"type": "string", "format": "cidr"},
        "disabled": {"type": "boolean"}, "blockSize": {"type": "integer"}}});
    let block = json!({"type": "object", "required": ["cidr", "deleted", "node", "state"], "properties": {
        "cidr": {"type": "string", "format": "cidr"}, "deleted": {"type": "boolean", "default": false},
        "node": text, "type": text, "state": {"type": "string", "enum": ["", "confirmed", "pending", "pendingDeletion"]}}});
    vec![crd("IPPool", "ippools", pool), crd("BlockAffinity", "blockaffinities", block)]
}

fn cilium_crds(upstream: &Upstream) -> Vec<Value> {
    let directory = "pkg/k8s/apis/cilium.io/client/crds";
    let files = ["v2/ciliumnodes.yaml", "v2alpha1/ciliumpodippools.yaml"];
    files
        .into_iter()
        .flat_map(|file| upstream.objects(Project::Cilium, &format!("{directory}/{file}")))
        .collect()
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "kube-system"}, "data": data})
}

fn more_services() -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.112.0.0/16"]}})
}

fn pool(name: &str, cidr: &str, disabled: bool) -> Value {
    json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": name},
        "spec": {"blockSize": 26, "cidr": cidr, "disabled": disabled, "ipipMode": "Never", "natOutgoing": true,
            "nodeSelector": "all()", "vxlanMode": "CrossSubnet", "allowedUses": ["Workload", "Tunnel"]}})
}

fn block(node: &str, cidr: &str, state: &str) -> Value {
    let name = format!("{node}-{}", cidr.replace(['.', '/'], "-"));
    json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity", "metadata": {"name": name},
        "spec": {"cidr": cidr, "deleted": "false", "node": node, "state": state}})
}

/// Random histories, each with its faults: the API server restarts or forgets what was, the controller-manager is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_ends_as_a_fresh_start_would() {
    let Some(member) = Member::take().await else { return };
    install(&member.admin, &[calico_crds(member.upstream), cilium_crds(member.upstream)].concat()).await;
    let control = cluster("control").await.client;
    join(&control, "east", json!({})).await;
    for seed in [1] {
        let mut history = History::new(seed);
        let mut running = Running::start("east", &member.own, &control);
        for step in 0..12 {
            history.change(&member.admin).await;
            match step {
                3 => member.restart(|plane| plane.restart(Part::ApiServer)).await,
                6 => {
                    running.kill().await;
                    history.change(&member.admin).await;
                    running = Running::start("east", &member.own, &control);
                }
                9 => member.restart(ControlPlane::forget_history).await,
                _ => {}
            }
        }
        history.end(&member.admin).await;
        ends_as_a_fresh_start_would(&member.own, &control, seed).await;
    }
}

/// What the API server says of a Service with this address, with the controller-manager's rights.
async fn refusal(client: &Client, address: &str) -> String {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = json!({"metadata": {"name": "clusterlink-probe"},
        "spec": {"clusterIP": address, "ports": [{"port": 443}]}});
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match services.create(&dry_run, &serde_json::from_value(service).unwrap()).await.unwrap_err() {
        kube::Error::Api(status) => status.message.clone(),
        error => panic!("{error}"),
    }
}

async fn two_nodes(client: &Client) {
    put(client, &node("n1", &["10.244.0.0/24"])).await;
    put(client, &node("n2", &["10.244.1.0/24"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calico_comes_moves_its_blocks_and_goes() {
    let Some(member) = Member::take().await else { return };
    let (admin, control) = (&member.admin, cluster("control").await.client);
    let east = (&control, "east");
    join(&control, "east", json!({})).await;
    two_nodes(admin).await;
    let running = Running::start("east", &member.own, &control);
    let first = shows("Kubernetes' own CIDRs", east, Published::is_known).await;
    assert_eq!(first.adapter, "node (auto: no other CNI found)");
    assert_eq!((first.pods, first.services), (vec!["10.244.0.0/23".into()], vec!["10.96.0.0/16".into()]));

    // Calico is installed while the controller-manager runs.
    install(admin, &calico_crds(member.upstream)).await;
    put(admin, &pool("default-ipv4-ippool", "192.168.0.0/16", false)).await;
    let (held, moved) =
        (block("n1", "192.168.7.0/26", "confirmed"), block("n2", "192.168.7.0/26", "confirmed"));
    put(admin, &held).await;
    // The Cluster and each node are written side by side, and what was published before was known, too.
    shows("Calico's", east, |now| {
        now.is_known()
            && now.adapter == "calico (auto: IPPools found)"
            && now.pods == ["192.168.0.0/16"]
            && now.node("n1") == ["192.168.7.0/26"]
            && now.node("n2").is_empty()
    })
    .await;

    // The API server restarts and has forgotten what was; meanwhile a block moves.
    remove(admin, &held).await;
    member.restart(ControlPlane::forget_history).await;
    put(admin, &moved).await;
    shows("the moved block", east, |now| now.node("n1").is_empty() && now.node("n2") == ["192.168.7.0/26"])
        .await;

    // From one pool to another, as Calico's documentation has it.
    put(admin, &pool("new-pool", "10.128.0.0/9", false)).await;
    put(admin, &pool("default-ipv4-ippool", "192.168.0.0/16", true)).await;
    put(admin, &block("n1", "10.140.3.0/26", "confirmed")).await;
    shows("both pools", east, |now| {
        now.pods == ["10.128.0.0/9", "192.168.0.0/16"] && !now.node("n1").is_empty()
    })
    .await;
    running.kill().await;
    remove(admin, &moved).await;
    put(admin, &block("n2", "10.140.3.64/26", "confirmed")).await;
    let _running = Running::start("east", &member.own, &control);
    let new = shows("the new pool", east, |now| {
        now.is_known()
            && now.pods == ["10.128.0.0/9"]
            && now.node("n1") == ["10.140.3.0/26"]
            && now.node("n2") == ["10.140.3.64/26"]
    })
    .await;

    // Its CRDs go, and all objects with them: what was known stays, and it is said. The pools go first: a node whose block
    // goes while there are pools has none.
    let (pools, blocks): (Vec<Value>, Vec<Value>) = calico_crds(member.upstream)
        .into_iter()
        .partition(|crd| crd["metadata"]["name"] == "ippools.crd.projectcalico.org");
    uninstall(admin, &pools).await;
    let kept = shows("that nothing is found", east, |now| !now.is_known()).await;
    assert_eq!((&kept.pods, &kept.nodes), (&new.pods, &new.nodes));
    let message = kept.known.unwrap().1;
    // A watch may end before the last of its objects was seen to go.
    let why = ["calico: no enabled IPPool", "crd.projectcalico.org/v1 cannot be read"];
    assert!(why.iter().any(|why| message.contains(why)), "{message}");
    assert!(message.ends_with("Kept as they were: podCIDRs"), "{message}");
    uninstall(admin, &blocks).await;
    stays("what was known", || published(&control, "east"), |now| now.nodes == new.nodes).await;

    // Another CNI takes over, at once: nobody waits for Calico to come back.
    let net_conf = json!({"cilium": "", "ipam": "kubernetes", "enable-ipv4": "true"});
    put(admin, &config_map("cilium-config", net_conf)).await;
    shows("Cilium's", east, |now| {
        now.is_known()
            && now.adapter.starts_with("cilium")
            && now.node("n1") == ["10.244.0.0/24"]
            && now.node("n2") == ["10.244.1.0/24"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calicos_native_crds_and_a_pool_of_each_family() {
    let Some(member) = Member::take().await else { return };
    let (admin, control) = (&member.admin, cluster("control").await.client);
    join(&control, "east", json!({"cni": "calico"})).await;
    two_nodes(admin).await;
    install(admin, &calico_v3_crds()).await;
    let path = "confd/tests/mock_data/calicoctl/mesh/vxlan-always/input.yaml";
    let mut pools = member.upstream.objects(Project::Calico, path);
    pools.retain(|object| object["kind"] == "IPPool");
    for pool in &mut pools {
        // What Calico converts, which its native CRDs do not have.
        pool["spec"].as_object_mut().unwrap().retain(|field, _| field == "cidr");
        put(admin, pool).await;
    }
    let mut held = block("n1", "192.168.7.0/26", "confirmed");
    held["apiVersion"] = json!("projectcalico.org/v3");
    held["spec"]["deleted"] = json!(false);
    put(admin, &held).await;
    let _running = Running::start("east", &member.own, &control);
    let found = shows("the pools and the block", (&control, "east"), |now| {
        now.is_known() && now.nodes.len() == 2 && now.node("n1") == ["192.168.7.0/26"]
    })
    .await;
    assert_eq!(found.pods, ["192.168.0.0/16", "dead:beef::/64"]);
    assert!(found.node("n2").is_empty());
}

const MIGRATION: &str = "operator/pkg/ipam/testdata/multipool/from-cluster-pool-migration.txtar";

/// Cilium's own test objects, through the restart of the API server that a migration may meet; and a second member whose
/// nodes bear the same names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cilium_moves_to_multi_pool_beside_a_cluster_with_the_same_node_names() {
    let Some(member) = Member::take().await else { return };
    let (admin, control) = (&member.admin, cluster("control").await.client);
    let west = cluster("west").await;
    for (name, client) in [("east", admin), ("west", &west.client)] {
        join(&control, name, json!({})).await;
        for (index, host) in ["node-a", "node-b"].into_iter().enumerate() {
            put(client, &node(host, &[&format!("10.42.{index}.0/24")])).await;
        }
    }
    let file = |name: &str| member.upstream.archived(Project::Cilium, MIGRATION, name).remove(0);
    let config = |ipam: &str| {
        config_map(
            "cilium-config",
            json!({"ipam": ipam, "enable-ipv4": "true", "enable-ipv6": "true",
            "cluster-pool-ipv4-cidr": "10.244.0.0/16", "cluster-pool-ipv6-cidr": "fd00::/112"}),
        )
    };
    install(admin, &cilium_crds(member.upstream)).await;
    for object in [config("cluster-pool"), file("node-a.yaml"), file("node-b.yaml")] {
        put(admin, &object).await;
    }
    let _east = Running::start("east", &member.own, &control);
    let _west = Running::start("west", &west.client, &control);
    let whole = |now: &Published| {
        now.node("node-a") == ["10.244.1.0/24", "fd00::/124"]
            && now.node("node-b") == ["10.244.2.0/24", "fd00::10/124"]
    };
    shows("the cluster pool's", (&control, "east"), |now| now.is_known() && whole(now)).await;
    let strangers = shows("the other cluster's", (&control, "west"), |now| {
        now.is_known() && now.node("node-a") == ["10.42.0.0/24"] && now.node("node-b") == ["10.42.1.0/24"]
    })
    .await;

    // Each state that the migration passes through keeps every node's CIDRs.
    put(admin, &config("multi-pool")).await;
    put(admin, &file("custom-pool.yaml")).await;
    // As the operator does: it replaces the object.
    remove(admin, &file("node-a.yaml")).await;
    put(admin, &file("expected-node-a.yaml")).await;
    member.restart(|plane| plane.restart(Part::ApiServer)).await;
    let look = || published(&control, "east");
    shows("the pool", (&control, "east"), |now| {
        now.is_known() && whole(now) && now.pods.contains(&"10.244.0.0/16".into())
    })
    .await;
    // In place: between a removal and the next object the node would have no CIDRs.
    put(admin, &file("expected-node-b.yaml")).await;
    stays("the moved nodes", look, whole).await;
    assert_eq!(published(&control, "west").await.nodes, strangers.nodes);
}

/// What 1.36 says of a Service outside of its ranges names any one of them. Where ServiceCIDRs cannot be listed
/// (any more), what was known of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_ranges_come_from_service_cidrs_and_outlive_a_forbidden_list() {
    let Some(member) = Member::take().await else { return };
    let (admin, control) = (&member.admin, cluster("control").await.client);
    join(&control, "east", json!({})).await;
    two_nodes(admin).await;
    put(admin, &more_services()).await;
    let said = refusal(&member.own, "192.0.2.1").await;
    let sentence = "Service \"clusterlink-probe\" is invalid: spec.clusterIPs: Invalid value: [\"192.0.2.1\"]: failed to allocate IP 192.0.2.1: the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is ";
    let range = said.strip_prefix(sentence).unwrap_or_else(|| panic!("{said}"));
    assert!(["10.96.0.0/16", "10.112.0.0/16"].contains(&range), "{range}");
    assert_eq!(
        refusal(&member.own, "2001:db8::1").await,
        "Service \"clusterlink-probe\" is invalid: spec.clusterIPs[0]: Invalid value: [\"2001:db8::1\"]: IPv6 is not configured on this cluster"
    );
    let short = cni_adapters::service_cidrs::from_refusals([said.as_str()]).unwrap();
    assert_eq!(short.cidrs, [range.parse().unwrap()]);

    let running = Running::start("east", &member.own, &control);
    let both = ["10.96.0.0/16", "10.112.0.0/16"];
    shows("both ranges", (&control, "east"), |now| now.is_known() && now.services == both).await;
    running.kill().await;

    let objects: Vec<Value> = serde_saphyr::from_multiple(RIGHTS).unwrap();
    let mut role = objects.into_iter().find(|object| object["kind"] == "ClusterRole").unwrap();
    let rules = role["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["resources"][0] != "servicecidrs");
    put(admin, &role).await;
    // A watch that began with the right would go on without it.
    eventually("the right is gone", || may(&member.own, LIST_SERVICE_CIDRS), |may| !*may).await;
    let _running = Running::start("east", &member.own, &control);
    let kept = shows("that they are forbidden", (&control, "east"), |now| !now.is_known()).await;
    assert_eq!(kept.services, both);
    let message = kept.known.unwrap().1;
    assert!(message.contains("servicecidrs.networking.k8s.io/v1 cannot be read"), "{message}");
    assert!(message.ends_with("Kept as they were: serviceCIDRs"), "{message}");

    // Whoever never knew them takes what the API server says of an impossible address: one of them.
    let fresh = cluster("fresh").await.client;
    join(&fresh, "east", json!({})).await;
    let _fresh = Running::start("east", &member.own, &fresh);
    let found = shows("one range", (&fresh, "east"), |now| !now.services.is_empty()).await;
    assert!(found.services.len() == 1 && both.contains(&found.services[0].as_str()), "{found:?}");
    assert!(!found.is_known());
}

/// flannel's own manifest in a dual-stack cluster, then the same without its ConfigMap, as in k3s and RKE2: Nodes with
/// several podCIDRs, with one, and with none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dual_stack_flannel_by_manifest_and_inside_k3s() {
    let Some(member) = Member::take().await else { return };
    let (admin, control) = (&member.admin, cluster("control").await.client);
    join(&control, "east", json!({})).await;
    let mut manifest = member.upstream.objects(Project::Flannel, "Documentation/kube-flannel.yml");
    manifest.retain(|object| object["kind"] == "Namespace" || object["kind"] == "ConfigMap");
    for object in &mut manifest {
        if object["kind"] == "ConfigMap" {
            // As `Documentation/configuration.md` has it for dual stack.
            let text = object["data"]["net-conf.json"].as_str().unwrap();
            let mut net_conf: Value = serde_json::from_str(text).unwrap();
            net_conf["EnableIPv6"] = json!(true);
            net_conf["IPv6Network"] = json!("fd00:10:244::/56");
            object["data"]["net-conf.json"] = json!(net_conf.to_string());
        }
        put(admin, object).await;
    }
    for (name, cidrs) in
        [("several", &["10.244.0.0/24", "fd00:10:244::/64"][..]), ("one", &["10.244.1.0/24"]), ("none", &[])]
    {
        let mut node = node(name, cidrs);
        node["metadata"]["annotations"] = json!({"flannel.alpha.coreos.com/backend-type": "vxlan"});
        put(admin, &node).await;
    }
    let nodes = |now: &Published| {
        now.node("several") == ["10.244.0.0/24", "fd00:10:244::/64"]
            && now.node("one") == ["10.244.1.0/24"]
            && now.nodes.get("none").is_some_and(Vec::is_empty)
    };
    let running = Running::start("east", &member.own, &control);
    let found = shows("flannel's", (&control, "east"), |now| now.is_known() && nodes(now)).await;
    assert_eq!(found.adapter, "flannel (auto: ConfigMap kube-flannel-cfg found)");
    assert_eq!(found.pods, ["10.244.0.0/16", "fd00:10:244::/56"]);
    running.kill().await;

    let config = manifest.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    remove(admin, config).await;
    let _running = Running::start("east", &member.own, &control);
    let by_nodes = "flannel (auto: flannel's annotations found on Nodes)";
    let found =
        shows("flannel inside k3s", (&control, "east"), |now| now.adapter == by_nodes && nodes(now)).await;
    assert_eq!(found.pods, ["10.244.0.0/23", "fd00:10:244::/64"]);
    assert!(found.is_known());
}
