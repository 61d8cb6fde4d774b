//! What the manifests promise, read from them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use manifests::{CONTROL, MEMBER, MEMBERSHIP, objects};
use serde_json::Value;

fn everything() -> Vec<Value> {
    [CONTROL, MEMBER, MEMBERSHIP].into_iter().flat_map(|yaml| objects(yaml).unwrap()).collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    everything().into_iter().filter(|object| object["kind"] == kind).collect()
}

fn named(yaml: &str, kind: &str, name: &str) -> Value {
    let found = objects(yaml).unwrap().into_iter();
    found.into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// Every rule, with the name of its role.
fn rules() -> Vec<(String, Value)> {
    let roles = of_kind("ClusterRole").into_iter().chain(of_kind("Role"));
    let with_name = |role: Value| {
        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
        let rules = role["rules"].as_array().unwrap().clone();
        rules.into_iter().map(move |rule| (name.clone(), rule))
    };
    roles.flat_map(with_name).collect()
}

#[test]
fn no_rule_says_everything_or_lets_its_holder_give_itself_more() {
    for (role, rule) in rules() {
        for field in ["apiGroups", "resources", "verbs"] {
            assert!(!texts(&rule[field]).iter().any(|text| text.contains('*')), "{role}: {rule}");
        }
        let verbs = texts(&rule["verbs"]);
        assert!(
            verbs.is_disjoint(&set(["escalate", "bind", "impersonate", "deletecollection"])),
            "{role}: {rule}"
        );
        let resources = texts(&rule["resources"]);
        if !resources.is_disjoint(&set(["secrets", "serviceaccounts/token"])) {
            assert_eq!(rule["resourceNames"].as_array().unwrap().len(), 1, "{role}: {rule}");
        }
        assert!(rule["nonResourceURLs"].is_null(), "{role}: {rule}");
    }
}

#[test]
fn roles_are_ours() {
    let ours: BTreeSet<String> = of_kind("ClusterRole")
        .into_iter()
        .chain(of_kind("Role"))
        .map(|role| role["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    for binding in of_kind("ClusterRoleBinding").into_iter().chain(of_kind("RoleBinding")) {
        assert!(ours.contains(binding["roleRef"]["name"].as_str().unwrap()), "{binding}");
    }
}

#[test]
fn every_rule_says_what_it_is_for() {
    let mut seen = 0;
    for part in ["control", "member", "membership"] {
        for entry in std::fs::read_dir(format!("{}/{part}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            // A policy's rules are indented.
            for at in (0..lines.len()).filter(|at| lines[*at].starts_with("- apiGroups:")) {
                assert!(lines[at - 1].starts_with("# "), "{}:{}: no word on why", path.display(), at + 1);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, rules().len(), "a rule stands elsewhere");
}

/// Group, resource and, where there is one, the only name.
type Watched = (String, String, Option<String>);

#[test]
fn the_controller_manager_may_watch_what_the_adapters_want_to_see_and_nothing_else() {
    let (ours, cni): (BTreeSet<Watched>, BTreeSet<Watched>) = rules_of("clusterlink-controller-manager")
        .into_iter()
        .filter(|rule| texts(&rule["verbs"]).contains("watch"))
        .flat_map(|rule| watched(&rule))
        .partition(|(group, ..)| group == api::GROUP);
    let specs = cni_adapters::watches().into_iter().chain(cni_adapters::service_cidrs::SERVICE_CIDRS);
    let specs = specs.chain([cni_adapters::service_cidrs::API_SERVER_PODS]);
    let wanted: BTreeSet<Watched> = specs
        .map(|spec| (spec.group.to_owned(), spec.plural.to_owned(), spec.name.map(str::to_owned)))
        .collect();
    assert_eq!(cni, wanted);
    let resources: BTreeSet<String> = ours.into_iter().map(|(_, resource, _)| resource).collect();
    assert_eq!(resources, set(["clusters", "clusternodes", "nodeconfigs"]));
}

fn rules_of(role: &str) -> Vec<Value> {
    rules().into_iter().filter(|(name, _)| name == role).map(|(_, rule)| rule).collect()
}

fn watched(rule: &Value) -> Vec<Watched> {
    let names: Vec<Option<String>> = match texts(&rule["resourceNames"]) {
        names if names.is_empty() => vec![None],
        names => names.into_iter().map(Some).collect(),
    };
    let mut found = Vec::new();
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            found.extend(names.iter().map(|name| (group.clone(), resource.clone(), name.clone())));
        }
    }
    found
}

#[test]
fn policies_fail_closed_and_are_bound() {
    let bindings = of_kind("ValidatingAdmissionPolicyBinding");
    for policy in of_kind("ValidatingAdmissionPolicy") {
        let name = &policy["metadata"]["name"];
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
        let bound: Vec<&Value> =
            bindings.iter().filter(|binding| binding["spec"]["policyName"] == *name).collect();
        assert_eq!(bound.len(), 1, "{name}");
        assert_eq!(texts(&bound[0]["spec"]["validationActions"]), set(["Deny"]), "{name}");
        assert!(bound[0]["spec"]["matchResources"].is_null(), "{name}");
        if !policy["spec"]["paramKind"].is_null() {
            assert_eq!(bound[0]["spec"]["paramRef"]["parameterNotFoundAction"], "Deny", "{name}");
        }
    }
}

#[test]
fn the_network_managers_conditions_are_those_that_members_cannot_write() {
    use api::condition::{CIDRS_UNIQUE, OPTIONS_SUPPORTED, PLANNED};
    let list = format!("['{PLANNED}', '{CIDRS_UNIQUE}', '{OPTIONS_SUPPORTED}']");
    for name in ["clusterlink-member-clusters", "clusterlink-member-clusternodes"] {
        let policy = named(CONTROL, "ValidatingAdmissionPolicy", name);
        let variables = policy["spec"]["variables"].as_array().unwrap();
        assert!(variables.iter().any(|variable| variable["expression"] == *list), "{name}: no {list}");
    }
}

#[test]
fn both_installs_begin_with_the_same_objects() {
    let shared: Vec<Value> = objects(CONTROL)
        .unwrap()
        .into_iter()
        .filter(|object| {
            object["kind"] == "CustomResourceDefinition" || object["metadata"]["name"] == "clusterlink-system"
        })
        .collect();
    assert_eq!(shared.len(), 4);
    let member = objects(MEMBER).unwrap();
    for object in shared {
        assert!(member.contains(&object), "{}", object["metadata"]["name"]);
    }
}

#[test]
fn images_and_labels_bear_this_version() {
    let workloads: Vec<Value> =
        everything().into_iter().filter(|o| !o["spec"]["template"].is_null()).collect();
    assert_eq!(workloads.len(), 3);
    for workload in workloads {
        let label = &workload["metadata"]["labels"]["app.kubernetes.io/version"];
        assert_eq!(label, env!("CARGO_PKG_VERSION"));
        let image = &workload["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, &format!("clusterlink:{}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn only_the_agent_has_capabilities_and_it_has_two() {
    for workload in everything().into_iter().filter(|object| !object["spec"]["template"].is_null()) {
        let pod = &workload["spec"]["template"]["spec"];
        let security = &pod["containers"][0]["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(texts(&security["capabilities"]["drop"]), set(["ALL"]));
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let added = texts(&security["capabilities"]["add"]);
        if workload["kind"] == "DaemonSet" {
            assert_eq!(added, set(["NET_ADMIN", "NET_RAW"]));
        } else {
            assert_eq!(added, BTreeSet::new());
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(workload["spec"]["replicas"], 2);
            let budgets = of_kind("PodDisruptionBudget");
            assert!(
                budgets.iter().any(|b| b["spec"]["selector"] == workload["spec"]["selector"]),
                "no budget"
            );
        }
        for probe in ["livenessProbe", "readinessProbe"] {
            assert!(pod["containers"][0][probe]["httpGet"]["path"].is_string(), "{probe}");
        }
        assert!(pod["containers"][0]["resources"]["requests"]["memory"].is_string());
    }
}

#[test]
fn a_membership_bears_one_name_throughout() {
    let objects = manifests::membership("north-1");
    assert_eq!(objects.len(), 5);
    let text = serde_json::to_string(&objects).unwrap();
    assert!(!text.contains(manifests::CLUSTER_NAME), "{text}");
    assert_eq!(objects[0]["metadata"]["name"], "north-1");
}
