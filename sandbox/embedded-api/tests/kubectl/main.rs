//! The real kubectl against the server, over TLS, as a person uses it: every verb, with its output.
//!
//! The kubectl is the one that `build/kubernetes` builds, or that of `$KUBEBUILDER_ASSETS`. Where the path has one with
//! other versions beside it (`kubectl.1.NN`), each from 1.29 on runs the core of the suite too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use fixture::{Cluster, binaries};

const WIDGET: &str =
    "apiVersion: example.com/v1alpha1\nkind: Widget\nmetadata: {name: w1}\nspec: {size: 3}\n";
const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m1, namespace: default}\ndata: {a: \"1\"}\n";

/// What every supported kubectl must be able to do.
fn core_of_the_suite(cluster: &Cluster) {
    let both = cluster.file("both.yaml", &format!("{WIDGET}---\n{CONFIG_MAP}"));
    cluster
        .ok(&["apply", "-f", &cluster.crd()])
        .says("customresourcedefinition.apiextensions.k8s.io/widgets.example.com created");
    cluster.ok(&["apply", "-f", &both]).says("widget.example.com/w1 created").says("configmap/m1 created");
    cluster
        .ok(&["apply", "-f", &both])
        .says("widget.example.com/w1 unchanged")
        .says("configmap/m1 unchanged");
    cluster.ok(&["get", "wd"]).says("NAME   SIZE   AGE").says("w1     3");
    cluster.ok(&["get", "widgets", "w1", "-o", "jsonpath={.spec.mode}"]).is("fast");
    cluster.ok(&["get", "cm", "m1", "-o", "yaml"]).says("  a: \"1\"");
    let changed = cluster.file(
        "changed.yaml",
        &format!(
            "{}---\n{}",
            WIDGET.replace('3', "4"),
            CONFIG_MAP.replace('1', "2").replace("m2", "m1").replace("v2", "v1")
        ),
    );
    cluster
        .ok(&["apply", "-f", &changed])
        .says("widget.example.com/w1 configured")
        .says("configmap/m1 configured");
    cluster.ok(&["get", "cm", "m1", "-o", "jsonpath={.data.a}"]).is("2");
    cluster.ok(&["apply", "--server-side", "-f", &changed]).says("widget.example.com/w1 serverside-applied");
    cluster.ok(&["label", "wd", "w1", "tier=gold"]).says("labeled");
    cluster.ok(&["get", "wd", "-l", "tier in (gold)", "-o", "name"]).is("widget.example.com/w1");
    cluster.ok(&["explain", "widgets.spec.size"]).says("How big.");
    cluster.ok(&["describe", "wd", "w1"]).says("Size:  4");
    cluster
        .ok(&["delete", "-f", &both])
        .says("widget.example.com \"w1\" deleted")
        .says("configmap \"m1\" deleted");
    cluster
        .fails(&["get", "wd", "w1"])
        .says("Error from server (NotFound): widgets.example.com \"w1\" not found");
    cluster.ok(&["delete", "crd", "widgets.example.com"]).says("deleted");
}

#[test]
fn every_supported_version_does_the_core() {
    for binary in binaries() {
        let cluster = Cluster::start(&binary);
        core_of_the_suite(&cluster);
    }
}

fn with_widget(test: impl FnOnce(&Cluster)) {
    let Some(binary) = binaries().into_iter().next() else { return };
    let cluster = Cluster::start(&binary);
    cluster.ok(&["apply", "-f", &cluster.crd()]);
    cluster.ok(&["apply", "-f", &cluster.file("w.yaml", WIDGET)]);
    test(&cluster);
}

#[test]
fn it_finds_out_what_is_served() {
    with_widget(|cluster| {
        cluster.ok(&["version"]).says("Server Version: v1.33.0+embedded");
        cluster.ok(&["api-resources"]).says("nodes").says("widgets").says("endpointslices");
        cluster.ok(&["api-versions"]).says("example.com/v1alpha1");
        cluster.ok(&["explain", "pods.spec.containers.env"]).says("List of environment variables");
        cluster.ok(&["explain", "crd.spec.versions"]).says("served");
        cluster.ok(&["get", "--raw", "/readyz"]).is("ok");
        cluster.fails(&["get", "deployments"]).says("doesn't have a resource type \"deployments\"");
        cluster
            .fails(&["get", "--raw", "/apis/apps/v1/deployments"])
            .says("is not served by the embedded API server");
        cluster.fails(&["auth", "whoami"]).says("is not served by the embedded API server");
        cluster
            .fails(&["scale", "--replicas=2", "wd/w1"])
            .says("the server could not find the requested resource");
    });
}

#[test]
fn it_shows_tables_narrow_and_wide() {
    with_widget(|cluster| {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {node-role.kubernetes.io/control-plane: \"\"}}\n\
            status: {addresses: [{type: InternalIP, address: 10.0.0.1}], nodeInfo: {kubeletVersion: v1.33.0, osImage: Sandbox, kernelVersion: \"6\", \
            containerRuntimeVersion: none, architecture: amd64, bootID: b, kubeProxyVersion: v, machineID: m, operatingSystem: linux, systemUUID: u}, \
            conditions: [{type: Ready, status: \"True\"}]}\n";
        cluster.ok(&["create", "-f", &cluster.file("node.yaml", node)]).says("node/n1 created");
        cluster.ok(&["get", "nodes"]).says("n1     Ready    control-plane");
        cluster.ok(&["get", "nodes", "-o", "wide"]).says("10.0.0.1").says("Sandbox");
        cluster.ok(&["cordon", "n1"]).says("node/n1 cordoned");
        cluster.ok(&["taint", "node", "n1", "a=b:NoSchedule"]).says("node/n1 tainted");
        cluster.ok(&["get", "nodes"]).says("Ready,SchedulingDisabled");
        cluster.ok(&["describe", "node", "n1"]).says("InternalIP:  10.0.0.1");
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: default}\nspec: {ports: [{port: 80}], selector: {app: x}}\n";
        cluster.ok(&["apply", "-f", &cluster.file("svc.yaml", service)]);
        cluster
            .ok(&["get", "svc", "s", "-o", "wide"])
            .says("ClusterIP   10.96.")
            .says("80/TCP")
            .says("app=x");
        cluster.ok(&["get", "wd", "-o", "wide"]).says("READY");
        cluster.ok(&["get", "ns", "-A"]).says("kube-system       Active");
        cluster.ok(&["get", "servicecidrs"]).says("10.96.0.0/12");
        cluster.ok(&["get", "crd"]).says("widgets.example.com");
        cluster.ok(&["get", "all", "-A"]).says("service/s");
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {nodeName: n1, containers: [{name: c, image: i}]}\n";
        cluster.ok(&["apply", "-f", &cluster.file("pod.yaml", pod)]);
        cluster.ok(&["get", "pods", "-o", "wide"]).says("0/1     Pending").says("n1");
        cluster.ok(&["get", "pods", "--field-selector", "spec.nodeName=n1", "-o", "name"]).is("pod/p");
        cluster.ok(&["describe", "pod", "p"]).says("Status:       Pending");
    });
}

#[test]
fn it_changes_objects_in_every_way() {
    with_widget(|cluster| {
        cluster.ok(&["patch", "wd", "w1", "--type=merge", "-p", r#"{"spec":{"size":5}}"#]).says("patched");
        cluster
            .ok(&[
                "patch",
                "wd",
                "w1",
                "--type=json",
                "-p",
                r#"[{"op":"replace","path":"/spec/size","value":6}]"#,
            ])
            .says("patched");
        cluster
            .ok(&[
                "patch",
                "wd",
                "w1",
                "--subresource=status",
                "--type=merge",
                "-p",
                r#"{"status":{"phase":"Ready"}}"#,
            ])
            .says("patched");
        cluster
            .ok(&["get", "wd", "w1", "-o", "jsonpath={.spec.size} {.status.phase} {.metadata.generation}"])
            .is("6 Ready 3");
        cluster.ok(&["annotate", "wd", "w1", "note=x"]).says("annotated");
        cluster.fails(&["patch", "wd", "w1", "--type=merge", "-p", r#"{"spec":{"size":0}}"#])
            .says("The Widget \"w1\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1");
        let json = cluster.ok(&["get", "wd", "w1", "-o", "json"]).text.replace("\"size\": 6", "\"size\": 7");
        let stale = cluster.file("w.json", &json);
        cluster.ok(&["replace", "-f", &stale]).says("widget.example.com/w1 replaced");
        cluster.fails(&["replace", "-f", &stale]).says("the object has been modified");
        cluster
            .ok(&["patch", "ns", "default", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#])
            .says("namespace/default patched");
        let unknown = cluster.file("unknown.yaml", &WIDGET.replace("size: 3", "size: 3, sise: 1"));
        cluster.fails(&["apply", "-f", &unknown]).says("unknown field \"spec.sise\"");
        cluster
            .ok(&["apply", "--validate=warn", "-f", &unknown])
            .says("Warning: unknown field \"spec.sise\"");
        cluster
            .ok(&[
                "apply",
                "--dry-run=server",
                "-f",
                &cluster.file("w9.yaml", &WIDGET.replace("size: 3", "size: 9")),
            ])
            .says("(server dry run)");
        cluster.ok(&["get", "wd", "w1", "-o", "jsonpath={.spec.size}"]).is("3");
    });
}

#[test]
fn it_applies_server_side_with_conflicts_and_diffs() {
    with_widget(|cluster| {
        let bigger = cluster.file("bigger.yaml", &WIDGET.replace("size: 3", "size: 8"));
        cluster.differs(&["diff", "-f", &bigger]).says("-  size: 3").says("+  size: 8");
        cluster
            .fails(&["apply", "--server-side", "--field-manager=other", "-f", &bigger])
            .says("Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\"")
            .says(".spec.size");
        cluster
            .ok(&["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", &bigger])
            .says("serverside-applied");
        cluster
            .ok(&["get", "wd", "w1", "-o", "yaml", "--show-managed-fields"])
            .says("manager: other")
            .says("f:size");
        cluster.ok(&["diff", "-f", &bigger, "--server-side", "--field-manager=other", "--force-conflicts"]);
    });
}

#[test]
fn it_waits_and_watches() {
    with_widget(|cluster| {
        let watch = cluster.spawn(&["get", "wd", "-w"]);
        // It has listed: what comes now is what it watches.
        watch.until("w1     3", 1);
        cluster.ok(&[
            "patch",
            "wd",
            "w1",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
        ]);
        cluster.ok(&["wait", "--for=condition=Ready", "wd/w1", "--timeout=120s"]).says("condition met");
        cluster.ok(&["label", "wd", "w1", "a=b"]);
        watch.until("w1     3", 2);
        let waiting = cluster.spawn(&["wait", "--for=delete", "wd/w1", "--timeout=120s"]);
        cluster.ok(&["delete", "wd", "w1"]).says("widget.example.com \"w1\" deleted");
        waiting.done();
    });
}

#[test]
fn it_creates_by_subcommand() {
    with_widget(|cluster| {
        cluster.ok(&["create", "configmap", "c", "--from-literal=k=v"]).says("configmap/c created");
        cluster.ok(&["get", "cm", "c", "-o", "jsonpath={.data.k}"]).is("v");
        cluster.ok(&["create", "secret", "generic", "s", "--from-literal=k=v"]).says("secret/s created");
        cluster.ok(&["get", "secret", "s", "-o", "jsonpath={.data.k} {.type}"]).is("dg== Opaque");
        cluster.ok(&["create", "serviceaccount", "a"]).says("serviceaccount/a created");
        cluster.ok(&["create", "service", "clusterip", "w", "--tcp=80:8080"]).says("service/w created");
        cluster
            .ok(&[
                "get",
                "svc",
                "w",
                "-o",
                "jsonpath={.spec.ports[0].port} {.spec.ports[0].targetPort} {.spec.selector.app}",
            ])
            .is("80 8080 w");
        cluster
            .fails(&["create", "deployment", "d", "--image=i"])
            .says("is not served by the embedded API server");
    });
}

#[test]
fn it_deletes_in_every_way() {
    with_widget(|cluster| {
        cluster.ok(&[
            "patch",
            "wd",
            "w1",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":["example.com/hold"]}}"#,
        ]);
        cluster.ok(&["delete", "wd", "w1", "--wait=false"]).says("deleted");
        cluster.ok(&["get", "wd", "w1", "-o", "jsonpath={.metadata.finalizers[0]}"]).is("example.com/hold");
        cluster.ok(&["patch", "wd", "w1", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
        cluster.fails(&["get", "wd", "w1"]).says("NotFound");
        cluster.ok(&["create", "namespace", "team"]).says("namespace/team created");
        cluster.ok(&[
            "apply",
            "-n",
            "team",
            "-f",
            &cluster.file("cm.yaml", &CONFIG_MAP.replace(", namespace: default", "")),
        ]);
        cluster.ok(&["delete", "ns", "team"]).says("namespace \"team\" deleted");
        cluster.fails(&["get", "cm", "-n", "team", "m1"]).says("NotFound");
        cluster.ok(&["apply", "-f", &cluster.file("m.yaml", CONFIG_MAP)]);
        cluster.ok(&["delete", "cm", "--all", "-n", "default"]).says("configmap \"m1\" deleted");
        cluster.ok(&["delete", "cm", "gone", "--ignore-not-found"]);
    });
}
