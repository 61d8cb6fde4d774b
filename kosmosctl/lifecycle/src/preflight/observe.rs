//! What the member would publish of itself, read beforehand with the adapters that its controller-manager uses.

use api::Cluster;
use cni_adapters::{
    Asked, Facts, Observed, WatchSpec,
    service_cidrs::{self, API_SERVER_PODS, IMPOSSIBLE, SERVICE_CIDRS, ServiceFacts},
};
use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, ObjectMeta, PostParams},
};
use serde_json::Value;

use crate::{connect::Connection, object::code, write::FIELD_MANAGER};

/// What was read of the member.
pub(super) struct Seen {
    pub(super) nodes: Vec<Node>,
    pub(super) pods: Facts,
    pub(super) services: ServiceFacts,
}

pub(super) async fn observe(member: &Connection, candidate: &Cluster) -> Result<Seen, kube::Error> {
    let mut observed = Observed::default();
    for watch in cni_adapters::watches().into_iter().chain(SERVICE_CIDRS).chain([API_SERVER_PODS]) {
        match list(member, &watch).await {
            Ok(objects) => observed.list(watch, objects),
            Err(error) if watch.optional && matches!(code(&error), Some(404 | 501)) => {
                observed.list(watch, [])
            }
            Err(kube::Error::Api(status)) => observed.fail(watch, status.message.clone()),
            Err(error) => return Err(error),
        }
    }
    let options = candidate.spec.cluster_link_options.clone().unwrap_or_default();
    let asked = Asked { cluster: &candidate.name_any(), cni: &options.cni, before: None };
    let pods = cni_adapters::facts(&asked, &observed);
    let services = services(member, &observed).await?;
    let nodes = Api::<Node>::all(member.client.clone()).list(&ListParams::default()).await?.items;
    Ok(Seen { nodes, pods, services })
}

async fn list(member: &Connection, watch: &WatchSpec) -> Result<Vec<Value>, kube::Error> {
    let resource = ApiResource {
        group: watch.group.to_owned(),
        version: watch.version.to_owned(),
        api_version: watch.api_version(),
        kind: watch.kind.to_owned(),
        plural: watch.plural.to_owned(),
    };
    let api: Api<DynamicObject> = match watch.namespace {
        Some(namespace) => Api::namespaced_with(member.client.clone(), namespace, &resource),
        None => Api::all_with(member.client.clone(), &resource),
    };
    let mut params = ListParams::default();
    if let Some(fields) = watch.field_selector() {
        params = params.fields(&fields);
    }
    if let Some(labels) = watch.labels {
        params = params.labels(labels);
    }
    let objects = api.list(&params).await?.items;
    Ok(objects.into_iter().filter_map(|object| serde_json::to_value(object).ok()).collect())
}

async fn services(member: &Connection, observed: &Observed) -> Result<ServiceFacts, kube::Error> {
    for watch in &SERVICE_CIDRS {
        if let Some(facts) = service_cidrs::from_objects(observed.of(watch)) {
            return Ok(facts);
        }
    }
    let refusals = refusals(member).await?;
    let facts = service_cidrs::from_refusals(refusals.iter().map(String::as_str));
    Ok(facts.or_else(|| service_cidrs::from_pods(observed.of(&API_SERVER_PODS))).unwrap_or_default())
}

/// An API server that is asked, in a dry run, for an address outside its service range names the range.
async fn refusals(member: &Connection) -> Result<Vec<String>, kube::Error> {
    let services: Api<Service> = Api::namespaced(member.client.clone(), "default");
    let dry_run = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let mut refusals = Vec::new();
    for address in IMPOSSIBLE.iter().flatten() {
        match services.create(&dry_run, &service(address)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) => refusals.push(status.message.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok(refusals)
}

fn service(address: &str) -> Service {
    Service {
        metadata: ObjectMeta { name: Some("clusterlink-probe".to_owned()), ..ObjectMeta::default() },
        spec: Some(ServiceSpec {
            cluster_ip: Some(address.to_owned()),
            ports: Some(vec![ServicePort { port: 443, ..ServicePort::default() }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
