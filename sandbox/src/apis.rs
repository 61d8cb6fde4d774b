//! One embedded API server for each cluster: on the host's loopback for people, on the underlay for the components.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use api::Family;
use embedded_api::{Config, MASTERS, Server, Token, User};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::addressing::{ClusterLayout, Layout, underlay_gateway};
use crate::objects;
use crate::scenario::CONTROL;
use crate::state::{ApiStatus, StateDir, StateError};

/// Where the API servers listen on the underlay, counted up from the control cluster's.
pub(crate) const FIRST_PORT: u16 = 6443;

/// Why an API server is not there.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It cannot be made.
    #[error(transparent)]
    Server(#[from] embedded_api::Error),
    /// It cannot listen.
    #[error("API server of {cluster}: cannot listen on {address}: {source}")]
    Listen {
        /// Its cluster.
        cluster: String,
        /// Where.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// An object of the world was refused.
    #[error("API server of {cluster}: {kind} {name}: {source}")]
    Object {
        /// Its cluster.
        cluster: String,
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
        /// The server's answer.
        source: Box<kube::Error>,
    },
    /// No token could be made.
    #[error("cannot read random bytes: {0}")]
    Random(io::Error),
    /// A kubeconfig could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A cluster's listener on the host's loopback, bound before the host is left.
#[derive(Debug)]
pub struct HostListener {
    cluster: String,
    listener: TcpListener,
}

impl HostListener {
    /// Whose it is.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The socket.
    pub(crate) fn into_listener(self) -> TcpListener {
        self.listener
    }
}

/// One listener for the control cluster and one for each member, on free ports.
pub fn bind_on_host(layout: &Layout) -> Result<Vec<HostListener>, ApiError> {
    let names = std::iter::once(CONTROL).chain(layout.clusters.iter().map(|cluster| cluster.name.as_str()));
    names
        .map(|cluster| {
            let listener = listen(cluster, SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0))?;
            Ok(HostListener { cluster: cluster.to_owned(), listener })
        })
        .collect()
}

fn listen(cluster: &str, address: SocketAddr) -> Result<TcpListener, ApiError> {
    let wrong =
        |source| ApiError::Listen { cluster: cluster.to_owned(), address: address.to_string(), source };
    TcpListener::bind(address).map_err(wrong)
}

/// A component that holds a kubeconfig.
struct Identity {
    /// The name of its kubeconfig.
    name: String,
    /// The family by which it reaches the server.
    family: Family,
    token: Token,
}

/// Running API servers.
pub struct Apis {
    servers: Vec<(String, Arc<Server>)>,
    statuses: Vec<ApiStatus>,
}

impl Apis {
    /// Makes, fills and serves an API server for each cluster, and writes everybody's kubeconfig.
    pub async fn start(
        layout: &Layout,
        listeners: Vec<HostListener>,
        state: &StateDir,
    ) -> Result<Self, ApiError> {
        let mut apis = Apis { servers: Vec::new(), statuses: Vec::new() };
        for (offset, host) in (0..).zip(listeners) {
            let cluster = layout.clusters.iter().find(|cluster| cluster.name == host.cluster);
            apis.start_one(layout, cluster, host, FIRST_PORT + offset, state)?;
        }
        let filled = apis.servers.iter().map(|(name, server)| {
            let cluster = layout.clusters.iter().find(|cluster| cluster.name == *name);
            let objects = cluster.map_or_else(|| objects::control(layout), objects::member);
            fill(name, server, objects)
        });
        futures::future::try_join_all(filled).await?;
        Ok(apis)
    }

    /// Where they are, the control cluster's first.
    pub fn statuses(&self) -> Vec<ApiStatus> {
        self.statuses.clone()
    }

    fn start_one(
        &mut self,
        layout: &Layout,
        cluster: Option<&ClusterLayout>,
        host: HostListener,
        port: u16,
        state: &StateDir,
    ) -> Result<(), ApiError> {
        let name = host.cluster;
        let wrong =
            |source| ApiError::Listen { cluster: name.clone(), address: "127.0.0.1".to_owned(), source };
        let url = format!("https://{}", host.listener.local_addr().map_err(wrong)?);
        let admin = token("kubernetes-admin", &[MASTERS])?;
        let identities = identities(layout, cluster)?;
        let server = Server::new(config(&name, cluster, &admin, &identities))?;
        state.write(&format!("{name}.kubeconfig"), &server.kubeconfig(&url, &admin.token))?;
        for identity in &identities {
            let inside = format!("https://{}", SocketAddr::new(underlay_gateway(identity.family), port));
            let text = server.kubeconfig(&inside, &identity.token.token);
            state.write(&format!("{}.kubeconfig", identity.name), &text)?;
        }
        let mut listeners = vec![host.listener];
        for family in Family::ALL {
            listeners.push(listen(&name, SocketAddr::new(underlay_gateway(family), port))?);
        }
        let server = Arc::new(server);
        serve(name.clone(), Arc::clone(&server), listeners);
        self.statuses.push(ApiStatus { kubeconfig: state.kubeconfig(&name), cluster: name.clone(), url });
        self.servers.push((name, server));
        Ok(())
    }
}

fn serve(name: String, server: Arc<Server>, listeners: Vec<TcpListener>) {
    tokio::spawn(async move {
        if let Err(error) = server.serve(listeners, std::future::pending()).await {
            tracing::error!(cluster = name, %error, "the API server has ended");
        }
    });
}

fn config(name: &str, cluster: Option<&ClusterLayout>, admin: &Token, identities: &[Identity]) -> Config {
    let mut config = Config::named(name);
    if let Some(cluster) = cluster {
        config.service_cidrs = cluster.service_cidrs.iter().map(ToString::to_string).collect();
    }
    config.tokens = identities.iter().map(|identity| identity.token.clone()).chain([admin.clone()]).collect();
    config.subject_names.extend(Family::ALL.map(|family| underlay_gateway(family).to_string()));
    config
}

/// Who talks to this API server beside its administrator: a member's agents and controller-manager, and in the control
/// cluster every member's controller-manager and the network-manager.
fn identities(layout: &Layout, cluster: Option<&ClusterLayout>) -> Result<Vec<Identity>, ApiError> {
    let account = |name: String, user: String, family| {
        let token = token(&format!("system:serviceaccount:clusterlink-system:{user}"), &[])?;
        Ok::<_, ApiError>(Identity { name, family, token })
    };
    let mut identities = Vec::new();
    match cluster {
        None => {
            identities.push(account(
                CONTROL.to_owned() + ".network-manager",
                "network-manager".into(),
                Family::V4,
            )?);
            for member in &layout.clusters {
                let user = format!("controller-manager-{}", member.name);
                identities.push(account(format!("{CONTROL}.{user}"), user, Family::V4)?);
            }
        }
        Some(cluster) => {
            let name = format!("{}.controller-manager", cluster.name);
            identities.push(account(name, "controller-manager".to_owned(), Family::V4)?);
            for node in &cluster.nodes {
                let family = node.underlay.first().map_or(Family::V4, |&ip| Family::of(ip));
                let name = format!("{}.agent-{}", cluster.name, node.name);
                identities.push(account(name, format!("agent-{}", node.name), family)?);
            }
        }
    }
    Ok(identities)
}

fn token(user: &str, groups: &[&str]) -> Result<Token, ApiError> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(ApiError::Random)?;
    let secret = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = groups.iter().chain(&["system:authenticated"]).map(|&group| group.to_owned()).collect();
    Ok(Token { token: secret, user: user.to_owned(), groups })
}

/// Creates the objects, in order, and then gives those their status that have one.
async fn fill(cluster: &str, server: &Server, objects: Vec<Value>) -> Result<(), ApiError> {
    let client = Client::new(server.service_as(User::in_process()), "default");
    for value in objects {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let created = create(&client, value).await;
        created.map_err(|source| ApiError::Object {
            cluster: cluster.to_owned(),
            kind,
            name,
            source: Box::new(source),
        })?;
    }
    Ok(())
}

async fn create(client: &Client, mut value: Value) -> Result<(), kube::Error> {
    let status = value.as_object_mut().and_then(|object| object.remove("status"));
    let object: DynamicObject = serde_json::from_value(value).map_err(kube::Error::SerdeError)?;
    let api = api_of(client, &object);
    let name = object.metadata.name.clone().unwrap_or_default();
    api.create(&PostParams::default(), &object).await?;
    if let Some(status) = status {
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// Where an object of any kind is written.
pub(crate) fn api_of(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}
