//! `kosmosctl plan` as a person runs it: what goes in, what comes out on which stream, and with which exit status.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use api::NodeConfig;
use kube::{Api, Client, Config, api::PostParams, config::Kubeconfig};
use sandbox::{Sandbox, UpOptions, scenario::Scenario};
use serde_json::{Value, json};

fn kosmosctl() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kosmosctl"))
}

/// What a run said, and how it ended.
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

fn plan(args: &[&str], stdin: &str) -> Said {
    let mut command = Command::new(kosmosctl());
    command.arg("plan").args(args).env_remove("KUBECONFIG").env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { status: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A folder of a test's own, empty.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plan").join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn cluster(name: &str, number: u8) -> Value {
    json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
        "spec": {"clusterLinkOptions": {"networkType": "p2p"}},
        "status": {"clusterLinkStatus": {"podCIDRs": [format!("10.{number}.0.0/16")],
            "serviceCIDRs": [format!("10.9{number}.0.0/16")]}}})
}

fn node(cluster: &str, number: u8) -> Value {
    json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
        "metadata": {"name": format!("{cluster}-n1")},
        "spec": {"clusterName": cluster, "nodeName": "n1", "ip": format!("192.168.{number}.1"),
            "interfaceName": "eth0", "podCIDRs": [format!("10.{number}.1.0/24")]}})
}

/// Two P2P clusters of one node each.
fn mesh() -> [Value; 4] {
    [cluster("a", 1), cluster("b", 2), node("a", 1), node("b", 2)]
}

fn stream(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

fn list(objects: &[Value]) -> String {
    serde_json::to_string_pretty(&json!({"apiVersion": "v1", "kind": "List", "items": objects})).unwrap()
}

#[test]
fn every_way_to_give_the_same_objects_gives_the_same_plan() {
    let folder = folder("ways");
    let [a, b, an, bn] = mesh();
    let all = write(&folder, "all.yaml", &stream(&mesh()));
    let expected = plan(&["-f", &all], "");
    assert_eq!((expected.status, expected.stderr.as_str()), (0, ""));
    assert_eq!(expected.stdout.matches("kind: NodeConfig").count(), 2, "{}", expected.stdout);
    assert!(expected.stdout.contains("cidr: 10.2.1.0/24"), "{}", expected.stdout);

    let (some, rest) = (folder.join("some"), folder.join("rest"));
    std::fs::create_dir_all(&some).unwrap();
    std::fs::create_dir_all(&rest).unwrap();
    let clusters = write(&some, "1-clusters.yml", &stream(&[b, a]));
    let nodes = write(&rest, "nodes.json", &list(&[bn, an]));
    write(&some, "README.md", "kind: [");
    let (some, rest) = (some.to_str().unwrap(), rest.to_str().unwrap());
    for (args, stdin) in [
        (vec!["-f", "-"], stream(&mesh())),
        (vec!["-f", "-"], list(&mesh())),
        (vec!["-f", some, "-f", rest], String::new()),
        (vec!["-f", &clusters, &nodes], String::new()),
        (vec!["-f", some, "-f", "-"], list(&mesh()[2..])),
        (vec!["-o", "yaml", "--filename", &nodes, "--filename", &clusters], String::new()),
        (vec!["-f", "-"], format!("\u{feff}{}", stream(&mesh()))),
    ] {
        let said = plan(&args, &stdin);
        assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{args:?}");
        assert_eq!(said.stdout, expected.stdout, "{args:?}");
    }
}

#[test]
fn what_is_printed_is_accepted_again_and_differs_in_nothing() {
    let folder = folder("round-trip");
    let mesh = write(&folder, "mesh.yaml", &stream(&mesh()));
    for format in ["yaml", "json"] {
        let printed = plan(&["-f", &mesh, "-o", format], "");
        assert_eq!((printed.status, printed.stderr.as_str()), (0, ""));
        let said = plan(&["-f", &mesh, "-f", "-", "--diff"], &printed.stdout);
        assert_eq!(
            (said.status, said.stdout.as_str(), said.stderr.as_str()),
            (0, "nothing would change\n", "")
        );
        let ignored = plan(&["-f", &mesh, "-f", "-", "-o", format], &printed.stdout);
        assert_eq!((ignored.status, ignored.stdout), (0, printed.stdout));
        assert_eq!(ignored.stderr, "note: 2 NodeConfig(s) in the files are ignored without --diff\n");
    }
}

#[test]
fn json_is_a_list_that_other_programs_read() {
    let said = plan(&["-f", "-", "-o", "json"], &stream(&mesh()));
    let list: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a-n1", "b-n1"]);
    assert_eq!(list["items"][0]["metadata"]["labels"], json!({"kosmos.io/cluster": "a"}));
}

#[test]
fn a_difference_is_said_entry_by_entry() {
    let before = plan(&["-f", "-"], &stream(&mesh()));
    let folder = folder("difference");
    let actual = write(&folder, "actual.yaml", &before.stdout);
    let mut moved = mesh();
    moved[3]["spec"]["podCIDRs"] = json!(["10.2.7.0/24"]);
    let said = plan(&["-f", "-", "-f", &actual, "--diff"], &stream(&moved));
    assert_eq!((said.status, said.stderr.as_str()), (0, ""));
    for line in [
        "NodeConfig a-n1",
        "  - routes 10.2.1.0/24 via 241.168.2.1 dev vx-bridge",
        "  + routes 10.2.7.0/24 via 241.168.2.1 dev vx-bridge",
        "NodeConfig b-n1",
        "  - firewall.nodePodCIDRs 10.2.1.0/24",
        "  + firewall.nodePodCIDRs 10.2.7.0/24",
    ] {
        assert!(said.stdout.lines().any(|printed| printed == line), "{line} in\n{}", said.stdout);
    }
    let gone = plan(&["-f", "-", "-f", &actual, "--diff"], &stream(&[mesh()[0].clone(), mesh()[2].clone()]));
    assert!(gone.stdout.contains("NodeConfig b-n1 (removed)\n"), "{}", gone.stdout);
}

/// What the network-manager leaves alone is not announced as removed.
#[test]
fn what_would_stay_is_no_difference() {
    let planned = plan(&["-f", "-"], &stream(&mesh())).stdout;
    let folder = folder("stays");
    let foreign = "---\napiVersion: kosmos.io/v1alpha1\nkind: NodeConfig\nmetadata: {name: mine}\nspec: {}\n";
    let actual = write(&folder, "actual.yaml", &(planned + foreign));
    let mut faulty = mesh();
    faulty[3]["spec"].as_object_mut().unwrap().remove("ip");
    let said = plan(&["-f", "-", "-f", &actual, "--diff"], &stream(&faulty));
    assert_eq!(said.status, 0);
    assert!(said.stdout.contains("NodeConfig a-n1\n"), "{}", said.stdout);
    assert!(!said.stdout.contains("b-n1 (") && !said.stdout.contains("mine"), "{}", said.stdout);
    let notes: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(
        notes,
        [
            "note: NodeConfig b-n1 stays as it is until its ClusterNode can be planned",
            "note: NodeConfig mine stays as it is: it has no label kosmos.io/cluster, so it is somebody else's",
        ]
    );
}

#[test]
fn what_cannot_be_planned_is_said_and_the_rest_is_planned() {
    type Spoil = fn(&mut [Value; 4]);
    let cases: [(Spoil, &str, usize); 8] = [
        (
            |mesh| mesh[1]["status"]["clusterLinkStatus"]["podCIDRs"] = json!(["10.1.0.0/16"]),
            "Cluster b: CIDROverlap: pod CIDR 10.1.0.0/16 overlaps pod CIDR 10.1.0.0/16 of cluster a: ",
            2,
        ),
        (
            |mesh| mesh[1]["status"]["clusterLinkStatus"]["podCIDRs"] = json!(["10.2.0.0/33"]),
            "Cluster b: InvalidCIDR: status.clusterLinkStatus.podCIDRs \"10.2.0.0/33\" is not a CIDR",
            2,
        ),
        (
            |mesh| mesh[2] = mesh[3].clone(),
            "ClusterNode b-n1: NameCollision: 2 ClusterNodes would share this name",
            0,
        ),
        (
            |mesh| mesh[1]["spec"] = json!({}),
            "Cluster b: NoOptions: spec.clusterLinkOptions is missing: the cluster takes no part; add it",
            1,
        ),
        (
            |mesh| mesh[3]["spec"]["ip"] = Value::Null,
            "ClusterNode b-n1: NoAddress: spec.ip and spec.ip6 are both missing: the node's agent sets them",
            1,
        ),
        (
            |mesh| mesh[3]["spec"]["ip"] = json!("192.168.2.256"),
            "ClusterNode b-n1: InvalidAddress: spec.ip \"192.168.2.256\" is not an IPv4 unicast address",
            1,
        ),
        (
            |mesh| {
                mesh[1]["spec"]["clusterLinkOptions"]["globalCIDRsMap"] =
                    json!({"10.2.0.0/16": "10.77.0.0/16"})
            },
            "Cluster b: GlobalCIDRsMapUnsupported: ",
            2,
        ),
        (
            |mesh| mesh[1]["spec"]["clusterLinkOptions"]["tunnelType"] = json!("ipsec"),
            "Cluster b: IPsecUnsupported: ",
            1,
        ),
    ];
    for (spoil, message, planned) in cases {
        let mut mesh = mesh();
        spoil(&mut mesh);
        let said = plan(&["-f", "-"], &stream(&mesh));
        assert!(said.stderr.lines().any(|line| line.starts_with(message)), "{message}\n{}", said.stderr);
        assert_eq!(said.status, 0, "{message}");
        assert_eq!(said.stdout.matches("kind: NodeConfig").count(), planned, "{message}\n{}", said.stderr);
    }
}

#[test]
fn what_cannot_be_read_plans_nothing_and_fails() {
    let folder = folder("unreadable");
    let (mesh, planned) = (stream(&mesh()), plan(&["-f", "-"], &stream(&mesh())).stdout);
    let twice = format!("{mesh}---\n{planned}\n---\n{planned}");
    let binary = folder.join("binary.yaml");
    std::fs::write(&binary, b"\xff\xfe").unwrap();
    let empty = folder.join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let (binary, empty) = (binary.to_str().unwrap(), empty.to_str().unwrap());
    let spoilt = mesh.replace("\"p2p\"", "\"quantum\"");
    for (args, stdin, status, message) in [
        (vec!["-f", "/nowhere.yaml"], "", 1, "error: /nowhere.yaml cannot be read: No such file"),
        (vec!["-f", binary], "", 1, "binary.yaml cannot be read: stream did not contain valid UTF-8"),
        (vec!["-f", empty], "", 1, "holds no .yaml, .yml or .json file"),
        (vec!["-f", "-"], "", 1, "error: nothing was planned: - holds no Cluster and no ClusterNode"),
        (vec!["-f", "-"], "hello\n", 1, "error: standard input: document 1: this is no Kubernetes object"),
        (vec!["-f", "-"], "kind: [", 1, "error: standard input: document 1: "),
        (
            vec!["-f", "-"],
            &spoilt,
            1,
            "Cluster a: spec.clusterLinkOptions.networkType \"quantum\": unknown variant",
        ),
        (
            vec!["-f", "-", "--diff"],
            &mesh,
            1,
            "error: --diff compares with NodeConfigs, and the files hold none",
        ),
        (vec!["-f", "-", "--diff"], &twice, 1, "error: NodeConfig a-n1 stands in the files twice"),
        (vec!["-f", "-", "--diff", "--kubeconfig", "/nowhere"], &mesh, 1, "error: --kubeconfig /nowhere: "),
        (vec!["-f", "-", "--diff", "-o", "json"], &mesh, 2, "cannot be used with"),
        (vec!["-f", "-", "--kubeconfig", "x"], &mesh, 2, "--diff"),
        (vec!["-f", "-", "-o", "xml"], &mesh, 2, "[possible values: yaml, json]"),
        (vec![], "", 2, "--filename <FILE>"),
    ] {
        let said = plan(&args, stdin);
        assert!(said.stderr.contains(message), "{args:?}: {message}\n{}", said.stderr);
        assert_eq!((said.status, said.stdout.as_str()), (status, ""), "{args:?}\n{}", said.stderr);
    }
}

#[test]
fn an_api_server_that_is_not_there_is_named() {
    let folder = folder("unreachable");
    // Nobody listens on port 1.
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}]});
    let kubeconfig = write(&folder, "kubeconfig", &kubeconfig.to_string());
    let said = plan(&["-f", "-", "--diff", "--kubeconfig", &kubeconfig], &stream(&mesh()));
    assert_eq!((said.status, said.stdout.as_str()), (1, ""));
    let message = "error: the NodeConfigs of http://127.0.0.1:1/ cannot be read: ";
    assert!(said.stderr.starts_with(message), "{}", said.stderr);
}

#[test]
fn other_objects_and_unknown_fields_are_passed_over_aloud() {
    let mut mesh = mesh().to_vec();
    mesh[0]["spec"]["clusterLinkOptions"]["netwrkType"] = json!("gateway");
    mesh.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
    let said = plan(&["-f", "-"], &stream(&mesh));
    assert_eq!(said.status, 0);
    assert_eq!(
        said.stderr,
        "note: standard input: document 1: Cluster a: spec.clusterLinkOptions.netwrkType is ignored: Cluster has no such field\n\
         note: standard input: document 5: Node n1: ignored, because v1 Node is no part of a plan\n"
    );
}

#[test]
fn a_live_control_cluster_is_compared_with() {
    let Some(sandbox) = control_cluster() else { return };
    let kubeconfig = sandbox.kubeconfig("control");
    let kubeconfig = kubeconfig.to_str().unwrap();
    let args = ["-f", "-", "--diff", "--kubeconfig", kubeconfig];

    let new = plan(&args, &stream(&mesh()));
    assert_eq!((new.status, new.stderr.as_str()), (0, ""));
    assert!(new.stdout.starts_with("NodeConfig a-n1 (new)\n"), "{}", new.stdout);

    let planned = plan(&["-f", "-", "-o", "json"], &stream(&mesh())).stdout;
    create(kubeconfig, serde_json::from_str::<Value>(&planned).unwrap()["items"].clone());
    let same = plan(&args, &stream(&mesh()));
    assert_eq!((same.status, same.stdout.as_str(), same.stderr.as_str()), (0, "nothing would change\n", ""));

    let gone = plan(&args, &stream(&mesh()[..3]));
    assert!(gone.stdout.contains("NodeConfig b-n1 (removed)\n"), "{}", gone.stdout);
    let context =
        plan(&["-f", "-", "--diff", "--kubeconfig", kubeconfig, "--context", "nobody"], &stream(&mesh()));
    assert_eq!((context.status, context.stdout.as_str()), (1, ""));
    assert!(context.stderr.contains("nobody"), "{}", context.stderr);
}

/// A sandbox of API servers alone, or why there is none here.
fn control_cluster() -> Option<Sandbox> {
    let skipped = |why: &str| {
        skip::skip(why);
        None
    };
    if !kosmosctl().with_file_name("clusterlink-netperf").is_file() {
        return skipped("clusterlink-netperf is not built beside kosmosctl");
    }
    let scenario = Scenario { clusters: vec!["a:p2p:1".parse().unwrap()], ..Scenario::default() };
    let name = format!("plan-{}", std::process::id());
    let options =
        UpOptions { without_components: true, kosmosctl: Some(kosmosctl()), ..UpOptions::named(name) };
    match Sandbox::up(&scenario, &options, |_| {}) {
        Ok(sandbox) => Some(sandbox),
        Err(error) if error.to_string().contains("cannot create") => skipped(&error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

fn create(kubeconfig: &str, configs: Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let configs_api: Api<NodeConfig> = Api::all(Client::try_from(config).unwrap());
        for config in serde_json::from_value::<Vec<NodeConfig>>(configs).unwrap() {
            configs_api.create(&PostParams::default(), &config).await.unwrap();
        }
    });
}
