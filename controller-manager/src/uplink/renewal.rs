//! A new token for the old one, and its way into the Secret that both replicas read.

use std::time::Duration;

use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::token::{Token, document, token, with_token};
use crate::FIELD_MANAGER;

/// An API server that does not answer costs an attempt, and no more.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where a Secret holds the kubeconfig.
const KEY: &str = "kubeconfig";

/// Why there is no new token, or why it was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error("no answer within {PATIENCE:?}")]
    Late,
    #[error("{0}")]
    Answered(String),
    #[error(transparent)]
    Transport(kube::Error),
    #[error("the answer holds no token of {namespace}/{account}")]
    Foreign { namespace: String, account: String },
    #[error("its key {KEY} holds the credential of another account, or none; it is left alone")]
    NotOurs,
    #[error("its key {KEY}: {0}")]
    Malformed(String),
}

/// Asks the control cluster for another token of the same account, for as long as the one before was good for.
pub(crate) async fn request(control: Client, old: &Token) -> Result<Token, RenewalError> {
    let seconds = old.expires.as_second() - old.issued.as_second();
    let body = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(control, &old.namespace);
    let parameters = PostParams::default();
    let answer = timely(accounts.create_token_request(&old.account, &parameters, &body)).await?;
    let token = answer.status.and_then(|status| Token::read(&status.token));
    let is_ours = |token: &Token| (&token.namespace, &token.account) == (&old.namespace, &old.account);
    token.filter(is_ours).ok_or_else(|| RenewalError::Foreign {
        namespace: old.namespace.clone(),
        account: old.account.clone(),
    })
}

/// Whether an API server takes a client for anybody.
pub(crate) async fn is_accepted(client: &Client) -> Result<(), RenewalError> {
    timely(client.apiserver_version()).await.map(drop)
}

/// The Secret of the member that the kubeconfig is mounted from.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) member: Client,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Store {
    /// Keeps a renewed token; `old` is the one that it was renewed with. Only where the Secret still holds one of that
    /// account that is not newer: whoever joins again at the same time wins.
    pub(crate) async fn keep(&self, new: &Token, old: &Token) -> Result<(), RenewalError> {
        let secrets: Api<Secret> = Api::namespaced(self.member.clone(), &self.namespace);
        let secret = timely(secrets.get(&self.name)).await?;
        let data = secret.data.unwrap_or_default();
        let held = data.get(KEY).map(|bytes| String::from_utf8_lossy(&bytes.0)).unwrap_or_default();
        let held = document(&held).map_err(RenewalError::Malformed)?;
        let current = token(&held).and_then(Token::read).ok_or(RenewalError::NotOurs)?;
        if current == *new || current.replaces(new) {
            return Ok(());
        }
        if current != *old && !new.replaces(&current) {
            return Err(RenewalError::NotOurs);
        }
        let text = serde_saphyr::to_string(&with_token(held, &new.text))
            .map_err(|error| RenewalError::Malformed(error.to_string()))?;
        // The version makes sure that this is the Secret that was looked at.
        let metadata = json!({"resourceVersion": secret.metadata.resource_version});
        let patch = json!({"metadata": metadata, "data": {KEY: ByteString(text.into_bytes())}});
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        timely(secrets.patch(&self.name, &parameters, &Patch::Merge(&patch))).await.map(drop)
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

async fn timely<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RenewalError> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Err(_) => Err(RenewalError::Late),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(RenewalError::Answered(status.message.clone())),
        Ok(Err(error)) => Err(RenewalError::Transport(error)),
    }
}
