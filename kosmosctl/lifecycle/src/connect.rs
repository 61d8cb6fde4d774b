//! Ways to the API servers of both sides, by kubeconfigs and contexts, TLS always verified.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    config::{Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// How long an API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an API server may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Where the control cluster is.
#[derive(Args, Clone, Debug, Default)]
pub struct ControlArgs {
    /// Kubeconfig of the control cluster [default: $KUBECONFIG, else ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the control cluster [default: the current one].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Where the member cluster is.
#[derive(Args, Clone, Debug, Default)]
pub struct MemberArgs {
    /// Kubeconfig of the member cluster [default: as --kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub member_kubeconfig: Option<PathBuf>,
    /// Context of the member cluster [default: the current one of --member-kubeconfig].
    #[arg(long, value_name = "NAME")]
    pub member_context: Option<String>,
}

/// Where member clusters are that are taken along, as many as are named.
#[derive(Args, Clone, Debug, Default)]
pub struct MembersArgs {
    /// Kubeconfig of the members [default: as --kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub member_kubeconfig: Option<PathBuf>,
    /// Context of a member; may be given several times [default: the current one of --member-kubeconfig].
    #[arg(long, value_name = "NAME")]
    pub member_context: Vec<String>,
}

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A kubeconfig that cannot be read or used.
    #[error("{from}: {}", one_line(source))]
    Kubeconfig {
        /// Which one.
        from: String,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// A file that a kubeconfig names.
    #[error("{from}: certificate-authority {path}: {source}")]
    Authority {
        /// Which kubeconfig.
        from: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Verification is switched off.
    #[error(
        "{from}: cluster {cluster:?} says insecure-skip-tls-verify: TLS is always verified here; put the API server's CA into certificate-authority-data instead"
    )]
    Unverified {
        /// Which kubeconfig.
        from: String,
        /// Its entry.
        cluster: String,
    },
    /// No TLS at all.
    #[error(
        "{from}: server {server:?} is not https: TLS is always verified here; use the API server's own address"
    )]
    ClearText {
        /// Which kubeconfig.
        from: String,
        /// Its server.
        server: String,
    },
    /// Nothing names the member.
    #[error("which cluster is the member? give --member-context, or --member-kubeconfig")]
    NoMember,
    /// A client cannot be made of what it says.
    #[error("{from}: {source}")]
    Client {
        /// Which kubeconfig.
        from: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
    /// The API server does not answer, or not as one.
    #[error("the {role} cluster's API server {server} does not answer ({from}): {reason}")]
    Silent {
        /// Control or member.
        role: Role,
        /// Its address.
        server: String,
        /// Which kubeconfig.
        from: String,
        /// What happened instead.
        reason: String,
    },
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().replace('\n', " ")
}

/// Which part a cluster plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the resources of the whole mesh.
    Control,
    /// It is joined.
    Member,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Control => "control",
            Role::Member => "member",
        })
    }
}

/// A cluster that is spoken to.
#[derive(Clone)]
pub struct Connection {
    /// Its part.
    pub role: Role,
    /// A client for its API server.
    pub client: Client,
    /// The API server's address, as the kubeconfig has it.
    pub server: String,
    /// PEM of the CA that the API server is verified by; none where the system's CAs do.
    pub authority: Option<String>,
    /// The name that the API server's certificate is checked for, where it is not the address's.
    pub tls_server_name: Option<String>,
    /// What was read, for messages.
    pub from: String,
}

impl Connection {
    /// The control cluster.
    pub async fn control(args: &ControlArgs) -> Result<Self, ConnectError> {
        open(Role::Control, args.kubeconfig.as_deref(), args.context.clone()).await
    }

    /// The member cluster: named by its own arguments, at least one of them.
    pub async fn member(args: &MemberArgs, control: &ControlArgs) -> Result<Self, ConnectError> {
        if args.member_kubeconfig.is_none() && args.member_context.is_none() {
            return Err(ConnectError::NoMember);
        }
        let path = args.member_kubeconfig.as_deref().or(control.kubeconfig.as_deref());
        open(Role::Member, path, args.member_context.clone()).await
    }

    /// The member clusters that are named, which may be none.
    pub async fn members(args: &MembersArgs, control: &ControlArgs) -> Result<Vec<Self>, ConnectError> {
        let contexts: Vec<Option<String>> = match (&args.member_context[..], &args.member_kubeconfig) {
            ([], Some(_)) => vec![None],
            (contexts, _) => contexts.iter().cloned().map(Some).collect(),
        };
        let mut members = Vec::new();
        for member_context in contexts {
            let one = MemberArgs { member_kubeconfig: args.member_kubeconfig.clone(), member_context };
            members.push(Self::member(&one, control).await?);
        }
        Ok(members)
    }

    /// Who this cluster is: the uid of its kube-system namespace, the same however it is reached.
    pub async fn identity(&self) -> Result<String, ConnectError> {
        let silent = |reason: String| ConnectError::Silent {
            role: self.role,
            server: self.server.clone(),
            from: self.from.clone(),
            reason,
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace =
            namespaces.get("kube-system").await.map_err(|error| silent(crate::object::said(&error)))?;
        namespace.metadata.uid.ok_or_else(|| silent("its namespace kube-system has no uid".to_owned()))
    }
}

async fn open(role: Role, path: Option<&Path>, context: Option<String>) -> Result<Connection, ConnectError> {
    let from = match (path, &context) {
        (Some(path), Some(context)) => format!("kubeconfig {}, context {context:?}", path.display()),
        (Some(path), None) => format!("kubeconfig {}", path.display()),
        (None, Some(context)) => format!("the default kubeconfig, context {context:?}"),
        (None, None) => "the default kubeconfig".to_owned(),
    };
    let unusable = |source| ConnectError::Kubeconfig { from: from.clone(), source: Box::new(source) };
    let kubeconfig = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = kubeconfig.map_err(unusable)?;
    let cluster = cluster_of(&kubeconfig, context.as_deref());
    let authority = cluster.map(|(name, cluster)| verified(&from, name, cluster)).transpose()?.flatten();
    let tls_server_name = cluster.and_then(|(_, cluster)| cluster.tls_server_name.clone());
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(unusable)?;
    (config.connect_timeout, config.read_timeout) = (Some(CONNECT), Some(ANSWER));
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    if config.cluster_url.scheme_str() != Some("https") {
        return Err(ConnectError::ClearText { from, server });
    }
    let failed = |source| ConnectError::Client { from: from.clone(), source: Box::new(source) };
    let client = Client::try_from(config).map_err(failed)?;
    Ok(Connection { role, client, server, authority, tls_server_name, from })
}

/// The entry that a context, or the current one, leads to; what is missing, building a client complains about.
fn cluster_of<'a>(kubeconfig: &'a Kubeconfig, context: Option<&str>) -> Option<(&'a str, &'a Cluster)> {
    let wanted = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == wanted)?.context.as_ref()?;
    let named = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?;
    Some((&named.name, named.cluster.as_ref()?))
}

/// The CA of an entry that has verification on.
fn verified(from: &str, name: &str, cluster: &Cluster) -> Result<Option<String>, ConnectError> {
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err(ConnectError::Unverified { from: from.to_owned(), cluster: name.to_owned() });
    }
    if let Some(data) = &cluster.certificate_authority_data {
        let pem = BASE64_STANDARD.decode(data.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return Ok(pem);
    }
    let Some(path) = &cluster.certificate_authority else { return Ok(None) };
    let unreadable = |source| ConnectError::Authority { from: from.to_owned(), path: path.clone(), source };
    std::fs::read_to_string(path).map(Some).map_err(unreadable)
}
