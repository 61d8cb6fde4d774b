//! What a person says to the API servers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context, Result};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Clients for the API servers of a sandbox, as their administrator.
pub struct Apis {
    runtime: Runtime,
    clients: BTreeMap<String, Client>,
}

/// What every object here can do.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize> Object for K {}

impl Apis {
    /// One client for each kubeconfig.
    ///
    /// # Errors
    /// A kubeconfig cannot be read.
    pub fn connect<'a>(kubeconfigs: impl IntoIterator<Item = (&'a str, std::path::PathBuf)>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut clients = BTreeMap::new();
        for (cluster, path) in kubeconfigs {
            let client = runtime
                .block_on(client(&path))
                .with_context(|| format!("API server of {cluster}: {}", path.display()))?;
            clients.insert(cluster.to_owned(), client);
        }
        Ok(Apis { runtime, clients })
    }

    fn api<K: Object>(&self, cluster: &str) -> Result<Api<K>> {
        let client = self.clients.get(cluster).with_context(|| format!("there is no cluster {cluster}"))?;
        Ok(Api::all(client.clone()))
    }

    fn ask<T>(&self, what: String, asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T> {
        self.runtime.block_on(asked).context(what)
    }

    /// An object.
    ///
    /// # Errors
    /// The server does not give it.
    pub fn get<K: Object>(&self, cluster: &str, name: &str) -> Result<K> {
        self.ask(format!("get {cluster} {name}"), self.api::<K>(cluster)?.get(name))
    }

    /// Every object of a kind.
    ///
    /// # Errors
    /// The server does not give them.
    pub fn list<K: Object>(&self, cluster: &str) -> Result<Vec<K>> {
        let all = ListParams::default();
        Ok(self.ask(format!("list {cluster}"), self.api::<K>(cluster)?.list(&all))?.items)
    }

    /// Changes a part of an object.
    ///
    /// # Errors
    /// The server refuses.
    pub fn patch<K: Object>(&self, cluster: &str, name: &str, patch: &Value) -> Result<()> {
        let (api, params) = (self.api::<K>(cluster)?, PatchParams::default());
        self.ask(format!("patch {cluster} {name}"), api.patch(name, &params, &Patch::Merge(patch))).map(drop)
    }

    /// Changes a part of an object's status.
    ///
    /// # Errors
    /// The server refuses.
    pub fn patch_status<K: Object>(&self, cluster: &str, name: &str, patch: &Value) -> Result<()> {
        let (api, params) = (self.api::<K>(cluster)?, PatchParams::default());
        let patch = Patch::Merge(patch);
        let asked = api.patch_status(name, &params, &patch);
        self.ask(format!("patch status {cluster} {name}"), asked).map(drop)
    }

    /// Makes an object.
    ///
    /// # Errors
    /// The server refuses.
    pub fn create<K: Object>(&self, cluster: &str, object: &K) -> Result<()> {
        let (api, params) = (self.api::<K>(cluster)?, PostParams::default());
        self.ask(format!("create {cluster}"), api.create(&params, object)).map(drop)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The server refuses.
    pub fn delete<K: Object>(&self, cluster: &str, name: &str) -> Result<()> {
        let (api, params) = (self.api::<K>(cluster)?, DeleteParams::default());
        self.ask(format!("delete {cluster} {name}"), api.delete(name, &params)).map(drop)
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
