//! The built-in kinds: names, schemas from k8s-openapi, columns and strategies.

use std::sync::{Arc, OnceLock};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use structural_schema::Schema;

use super::annotations;
use super::columns::{Column, Columns, builtin as column};
use super::strategy::Strategy;
use super::{Resource, Storage, Version};

const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// One line of the table of built-in kinds.
struct Row {
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    namespaced: bool,
    status: bool,
    selectable: &'static [&'static str],
    strategy: Strategy,
    columns: &'static [Column],
    component: fn(&mut SchemaGenerator) -> String,
}

/// All built-in resources, made once: their schemas are the same for every server of a process.
pub(crate) fn resources() -> Vec<Arc<Resource>> {
    static RESOURCES: OnceLock<Vec<Arc<Resource>>> = OnceLock::new();
    let build = || rows().into_iter().map(|row| Arc::new(resource(row))).collect();
    RESOURCES.get_or_init(build).clone()
}

/// The completed definitions of all built-in types, by their OpenAPI names.
pub(crate) fn definitions() -> &'static Map<String, Value> {
    static DEFINITIONS: OnceLock<Map<String, Value>> = OnceLock::new();
    DEFINITIONS.get_or_init(|| {
        let mut generator = SchemaGenerator::default();
        for row in rows() {
            (row.component)(&mut generator);
        }
        let mut definitions = generator.take_definitions(true);
        annotations::complete(&mut definitions);
        definitions
    })
}

fn component<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

fn resource(row: Row) -> Resource {
    let component = (row.component)(&mut SchemaGenerator::default());
    let mut schema = Schema::compile(&document(&component)).expect("the built-in schemas compile (tested)");
    if row.status {
        schema = schema.with_status_subresource();
    }
    let version = Version {
        name: "v1".to_owned(),
        schema,
        component,
        open_api: None,
        status_subresource: row.status,
        columns: Columns::Builtin(row.columns),
        selectable: row.selectable.iter().map(|&s| s.to_owned()).collect(),
    };
    Resource {
        group: row.group.to_owned(),
        plural: row.plural.to_owned(),
        singular: row.singular.to_owned(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        short_names: row.short_names.iter().map(|&s| s.to_owned()).collect(),
        categories: row.strategy.categories().iter().map(|&category| category.to_owned()).collect(),
        namespaced: row.namespaced,
        strategy: row.strategy,
        storage: if row.group == "events.k8s.io" { Storage::CoreEvents } else { Storage::Own },
        storage_version: "v1".to_owned(),
        versions: vec![version],
    }
}

/// One type's schema with everything it refers to. A CRD's own schemas are free-form here: they are judged by
/// compiling them, and their type refers to itself.
fn document(component: &str) -> Value {
    let mut definitions = definitions().clone();
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    definitions.insert(format!("{EXTENSIONS}.JSONSchemaProps"), free);
    let mut document = definitions.get(component).expect("the component has just been generated").clone();
    document["$defs"] = Value::Object(definitions);
    document
}

fn rows() -> Vec<Row> {
    let core = Row {
        group: "",
        plural: "",
        singular: "",
        kind: "",
        short_names: &[],
        namespaced: true,
        status: false,
        selectable: &[],
        strategy: Strategy::Plain,
        columns: column::DEFAULT,
        component: component::<ConfigMap>,
    };
    let mut rows = workloads(&core);
    rows.extend(configuration(&core));
    rows.extend(networking(&core));
    rows
}

fn workloads(core: &Row) -> Vec<Row> {
    vec![
        Row {
            plural: "nodes",
            singular: "node",
            kind: "Node",
            short_names: &["no"],
            namespaced: false,
            status: true,
            selectable: &["spec.unschedulable"],
            strategy: Strategy::Node,
            columns: column::NODE,
            component: component::<Node>,
            ..core.copy()
        },
        Row {
            plural: "pods",
            singular: "pod",
            kind: "Pod",
            short_names: &["po"],
            status: true,
            selectable: &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ],
            strategy: Strategy::Pod,
            columns: column::POD,
            component: component::<Pod>,
            ..core.copy()
        },
        Row {
            plural: "namespaces",
            singular: "namespace",
            kind: "Namespace",
            short_names: &["ns"],
            namespaced: false,
            status: true,
            selectable: &["status.phase"],
            strategy: Strategy::Namespace,
            columns: column::NAMESPACE,
            component: component::<Namespace>,
            ..core.copy()
        },
        Row {
            plural: "events",
            singular: "event",
            kind: "Event",
            short_names: &["ev"],
            selectable: EVENT_FIELDS,
            columns: column::EVENT,
            component: component::<Event>,
            ..core.copy()
        },
        Row {
            group: "events.k8s.io",
            plural: "events",
            singular: "event",
            kind: "Event",
            short_names: &["ev"],
            selectable: EVENT_FIELDS,
            columns: column::EVENT,
            component: component::<NewEvent>,
            ..core.copy()
        },
        Row {
            group: "coordination.k8s.io",
            plural: "leases",
            singular: "lease",
            kind: "Lease",
            columns: column::LEASE,
            component: component::<Lease>,
            ..core.copy()
        },
        Row {
            group: "apiextensions.k8s.io",
            plural: "customresourcedefinitions",
            singular: "customresourcedefinition",
            kind: "CustomResourceDefinition",
            short_names: &["crd", "crds"],
            namespaced: false,
            status: true,
            strategy: Strategy::Crd,
            columns: column::CRD,
            component: component::<CustomResourceDefinition>,
            ..core.copy()
        },
    ]
}

fn configuration(core: &Row) -> Vec<Row> {
    vec![
        Row {
            plural: "configmaps",
            singular: "configmap",
            kind: "ConfigMap",
            short_names: &["cm"],
            columns: column::CONFIG_MAP,
            strategy: Strategy::ConfigMap,
            ..core.copy()
        },
        Row {
            plural: "secrets",
            singular: "secret",
            kind: "Secret",
            selectable: &["type"],
            strategy: Strategy::Secret,
            columns: column::SECRET,
            component: component::<Secret>,
            ..core.copy()
        },
        Row {
            plural: "serviceaccounts",
            singular: "serviceaccount",
            kind: "ServiceAccount",
            short_names: &["sa"],
            strategy: Strategy::ServiceAccount,
            component: component::<ServiceAccount>,
            ..core.copy()
        },
    ]
}

fn networking(core: &Row) -> Vec<Row> {
    vec![
        Row {
            plural: "services",
            singular: "service",
            kind: "Service",
            short_names: &["svc"],
            status: true,
            selectable: &["spec.clusterIP", "spec.type"],
            strategy: Strategy::Service,
            columns: column::SERVICE,
            component: component::<Service>,
            ..core.copy()
        },
        Row {
            plural: "endpoints",
            singular: "endpoints",
            kind: "Endpoints",
            short_names: &["ep"],
            columns: column::ENDPOINTS,
            component: component::<Endpoints>,
            ..core.copy()
        },
        Row {
            group: "discovery.k8s.io",
            plural: "endpointslices",
            singular: "endpointslice",
            kind: "EndpointSlice",
            strategy: Strategy::EndpointSlice,
            columns: column::ENDPOINT_SLICE,
            component: component::<EndpointSlice>,
            ..core.copy()
        },
        Row {
            group: "networking.k8s.io",
            plural: "servicecidrs",
            singular: "servicecidr",
            kind: "ServiceCIDR",
            namespaced: false,
            status: true,
            strategy: Strategy::ServiceCidr,
            columns: column::SERVICE_CIDR,
            component: component::<ServiceCIDR>,
            ..core.copy()
        },
    ]
}

impl Row {
    fn copy(&self) -> Row {
        Row { ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_schema_compiles() {
        for row in rows() {
            let component = (row.component)(&mut SchemaGenerator::default());
            Schema::compile(&document(&component)).unwrap_or_else(|e| panic!("{component}: {e}"));
        }
        assert_eq!(resources().len(), rows().len());
    }
}
