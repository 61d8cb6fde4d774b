//! A member's one credential for the control cluster: a short-lived token of its own service account, in a kubeconfig, in
//! a Secret of the member.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use crate::{
    manifest::{CREDENTIAL, MEMBERS_NAMESPACE, NAMESPACE},
    preflight::Way,
    write::{CLUSTERLINK, PART_OF},
};

/// How long a token lives; the controller-manager renews it at half of that.
const LIFE: i64 = 24 * 3600;
/// The key of the Secret.
pub const KEY: &str = "kubeconfig";

/// A token for the service account of a cluster.
pub async fn request(control: &Client, cluster: &str) -> Result<String, kube::Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(control.clone(), MEMBERS_NAMESPACE);
    let spec =
        TokenRequestSpec { audiences: Vec::new(), expiration_seconds: Some(LIFE), bound_object_ref: None };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(cluster, &PostParams::default(), &request).await?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

/// The uid of the service account of a cluster, where it is there.
pub async fn account_uid(control: &Client, cluster: &str) -> Result<Option<String>, kube::Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(control.clone(), MEMBERS_NAMESPACE);
    Ok(accounts.get_opt(cluster).await?.and_then(|account| account.uid()))
}

/// The kubeconfig that a member gets.
pub fn kubeconfig(way: &Way, cluster: &str, token: &str) -> String {
    let mut server = json!({"server": way.server});
    if let Some(authority) = &way.authority {
        server["certificate-authority-data"] = json!(base64::prelude::BASE64_STANDARD.encode(authority));
    }
    if let Some(name) = &way.tls_server_name {
        server["tls-server-name"] = json!(name);
    }
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "control",
        "clusters": [{"name": "control", "cluster": server}],
        "users": [{"name": cluster, "user": {"token": token}}],
        "contexts": [{"name": "control", "context": {"cluster": "control", "user": cluster}}],
    });
    serde_saphyr::to_string(&kubeconfig).unwrap_or_else(|_| kubeconfig.to_string())
}

/// The Secret around it.
pub fn secret(kubeconfig: &str) -> Result<DynamicObject, serde_json::Error> {
    let metadata = ObjectMeta {
        name: Some(CREDENTIAL.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some([(PART_OF.to_owned(), CLUSTERLINK.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let data = [(KEY.to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))].into();
    let secret = Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
    serde_json::from_value(serde_json::to_value(secret)?)
}

/// The kubeconfig that stands in the member's Secret now, as long as it is still good: for this way, this account, and
/// for more than half of a token's life.
pub fn still_good(
    live: &DynamicObject,
    way: &Way,
    cluster: &str,
    uid: &str,
    now: Timestamp,
) -> Option<String> {
    let encoded = live.data["data"][KEY].as_str()?;
    let text = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let value: Value = serde_saphyr::from_str(&text).ok()?;
    let token = value["users"][0]["user"]["token"].as_str()?;
    let claims = claims(token)?;
    let expires = claims["exp"].as_i64()?;
    let account = claims["kubernetes.io"]["serviceaccount"]["uid"].as_str()?;
    let same_way = serde_saphyr::from_str::<Value>(&kubeconfig(way, cluster, token)).ok()? == value;
    (same_way && account == uid && expires - now.as_second() > LIFE / 2).then_some(text)
}

/// What a JSON web token says of itself (RFC 7519); it is not verified, which is its issuer's business.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn way() -> Way {
        Way {
            server: "https://10.0.0.1:6443".to_owned(),
            authority: Some("PEM".to_owned()),
            tls_server_name: None,
            given: false,
            same_cluster: false,
        }
    }

    fn token(exp: i64, uid: &str) -> String {
        let payload = json!({"exp": exp, "kubernetes.io": {"serviceaccount": {"name": "east", "uid": uid}}});
        format!("x.{}.y", BASE64_URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    #[test]
    fn what_is_good_is_kept_and_what_is_not_is_replaced() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let good = kubeconfig(&way(), "east", &token(1_000_000 + LIFE, "u1"));
        let live = secret(&good).unwrap();
        assert_eq!(still_good(&live, &way(), "east", "u1", now).as_deref(), Some(good.as_str()));
        assert_eq!(still_good(&live, &way(), "east", "u2", now), None, "of an account that was made anew");
        assert_eq!(still_good(&live, &way(), "west", "u1", now), None, "of another cluster");
        let later = Timestamp::from_second(1_000_000 + LIFE / 2).unwrap();
        assert_eq!(still_good(&live, &way(), "east", "u1", later), None, "too old");
        let elsewhere = Way { server: "https://10.0.0.2:6443".to_owned(), ..way() };
        assert_eq!(still_good(&live, &elsewhere, "east", "u1", now), None, "to another address");
        let broken = secret("kubeconfig: {").unwrap();
        assert_eq!(still_good(&broken, &way(), "east", "u1", now), None, "no kubeconfig at all");
    }

    #[test]
    fn the_kubeconfig_is_one_that_clients_read() {
        let text = kubeconfig(&way(), "east", "t");
        let read = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("control"));
        assert_eq!(
            read.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
            Some("https://10.0.0.1:6443")
        );
        assert!(!text.contains("insecure"));
    }
}
