//! What a pod is given: ConfigMaps, Secrets, tokens, and volumes made of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::Api;
use kube::{Resource, ResourceExt};

use super::Life;
use crate::machines::kubelet::environment::Referred;
use crate::machines::kubelet::volumes::{Owner, Sources, TokenRequested, host_path, tokens, write};

impl Life {
    /// Every ConfigMap and Secret of which the spec speaks, as they are now.
    pub(super) async fn read_referred(&mut self) -> Result<(), String> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let (mut maps, mut secrets) = (Vec::new(), Vec::new());
        for source in
            spec.containers.iter().flat_map(|c| c.env.iter().flatten()).filter_map(|e| e.value_from.as_ref())
        {
            maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
        }
        for volume in spec.volumes.iter().flatten() {
            maps.extend(volume.config_map.iter().map(|map| map.name.clone()));
            secrets.extend(volume.secret.iter().filter_map(|secret| secret.secret_name.clone()));
            for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
                maps.extend(source.config_map.iter().map(|map| map.name.clone()));
                secrets.extend(source.secret.iter().map(|secret| secret.name.clone()));
            }
        }
        let mut referred = Referred::default();
        for name in maps {
            let found = self.get::<ConfigMap>(&name).await?;
            referred.config_maps.extend(found.map(|map| (name, map)));
        }
        for name in secrets {
            let found = self.get::<Secret>(&name).await?;
            referred.secrets.extend(found.map(|secret| (name, secret)));
        }
        self.referred = referred;
        Ok(())
    }

    async fn get<K>(&self, name: &str) -> Result<Option<K>, String>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.context.client.clone(), &self.namespace());
        api.get_opt(name).await.map_err(|error| error.to_string())
    }

    /// Tokens bound to this pod: the API server puts the node's name into them.
    pub(super) async fn renew_tokens(&mut self) -> Result<(), String> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        for asked in tokens(&self.pod) {
            let life = Duration::from_secs(u64::try_from(asked.seconds).unwrap_or(3600));
            if self.tokens.get(&asked).is_some_and(|(_, since)| since.elapsed() < life * 4 / 5) {
                continue;
            }
            let token = self.token(&account, &asked).await.map_err(|error| error.to_string())?;
            self.tokens.insert(asked, (token, Instant::now()));
        }
        Ok(())
    }

    async fn token(&self, account: &str, asked: &TokenRequested) -> Result<String, kube::Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.context.client.clone(), &self.namespace());
        let spec = TokenRequestSpec {
            audiences: asked.audience.iter().cloned().collect(),
            expiration_seconds: Some(asked.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(self.pod.name_any()),
                uid: self.pod.uid(),
            }),
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &Default::default(), &request).await?;
        Ok(answer.status.map(|status| status.token).unwrap_or_default())
    }

    pub(super) fn fill_volumes(&mut self) -> Result<(), String> {
        let whereabouts = self.whereabouts();
        let tokens: BTreeMap<TokenRequested, String> =
            self.tokens.iter().map(|(asked, (token, _))| (asked.clone(), token.clone())).collect();
        let sources =
            Sources { pod: &self.pod, referred: &self.referred, tokens: &tokens, whereabouts: &whereabouts };
        let mut paths = BTreeMap::new();
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let directory = self.directory.join("volumes").join(&volume.name);
            let path = if let Some(source) = &volume.host_path {
                host_path(self.machine(), source)?
            } else if let Some(content) = sources.content(volume)? {
                write(&directory, &content, self.owner()).map_err(|error| error.to_string())?;
                directory
            } else if volume.empty_dir.is_some() {
                std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
                directory
            } else {
                return Err(format!(
                    "volume {:?} is of a kind that the sandbox's kubelet does not know",
                    volume.name
                ));
            };
            paths.insert(volume.name.clone(), path);
        }
        self.volumes = paths;
        Ok(())
    }

    /// The pod's user, and the group that it wants files to have.
    fn owner(&self) -> Owner {
        let context =
            self.pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        Owner { user: id(context.run_as_user), group: id(context.fs_group.or(context.run_as_group)) }
    }
}
