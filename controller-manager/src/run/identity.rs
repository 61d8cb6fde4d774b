//! Who the two API servers are.

use std::time::Duration;

use component::Readiness;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use super::Config;

/// How long to wait before asking again.
const RETRY: Duration = Duration::from_secs(2);
/// An API server that does not say who it is by then is asked again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the member is the control cluster: their kube-system namespaces are one.
pub(super) async fn is_same_server(config: &Config, readiness: &Readiness) -> bool {
    let mut said = None;
    loop {
        match tokio::try_join!(identity(&config.member, "member"), identity(&config.control, "control")) {
            Ok((member, control)) => return member == control,
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    tracing::warn!(
                        "{error}; trying again. Meanwhile what stands in the member stays as it is"
                    );
                }
                readiness.set(Some(error.clone()));
                said = Some(error);
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn identity(client: &Client, whose: &str) -> Result<String, String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let late = || {
        Err(format!(
            "the {whose} cluster's API server cannot be asked who it is: no answer within {PATIENCE:?}"
        ))
    };
    let Ok(answer) = tokio::time::timeout(PATIENCE, namespaces.get("kube-system")).await else {
        return late();
    };
    let failed = |why: String| {
        format!("the {whose} cluster's API server cannot be asked who it is (Namespace kube-system): {why}")
    };
    match answer {
        Ok(namespace) => namespace.metadata.uid.ok_or_else(|| failed("it has no uid".to_owned())),
        Err(kube::Error::Api(status)) => Err(failed(status.message.clone())),
        Err(error) => Err(failed(error.to_string())),
    }
}
