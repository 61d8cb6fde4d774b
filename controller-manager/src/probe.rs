//! Asks the member's API server for Services with impossible addresses, in a dry run: its refusal names its range.

use std::time::Duration;

use cni_adapters::service_cidrs::IMPOSSIBLE;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    FIELD_MANAGER,
    index::{News, Source},
    watch::Report,
};

const RETRY: Duration = Duration::from_secs(2);
/// A range may grow; it is asked for again now and then.
const AGAIN: Duration = Duration::from_secs(600);

/// Asks until nobody listens any more.
pub(crate) async fn run(client: Client, reports: mpsc::Sender<Report>) {
    loop {
        let wait = match refusals(&client).await {
            Ok(refusals) => {
                let news = News::Listed(refusals.into_iter().map(Value::String).collect());
                if reports.send((Source::Refusals, news)).await.is_err() {
                    return;
                }
                AGAIN
            }
            Err(error) => {
                tracing::warn!(%error, "the member's API server cannot be asked for its service range; trying again");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What the API server says of one address of each family. An error is only what it did not say itself.
async fn refusals(client: &Client) -> Result<Vec<String>, kube::Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let dry_run = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let mut refusals = Vec::new();
    for family in IMPOSSIBLE {
        for address in family {
            match services.create(&dry_run, &service(address)).await {
                // Whoever has this address in its range gets asked for another.
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code < 500 => {
                    refusals.push(status.message.clone());
                    break;
                }
                Err(error) => return Err(error),
            }
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
