//! The control plane's directory: keys and certificates, kubeconfigs, logs.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::identity::{Authority, IdentityError, Pair, issuer_keys};
use crate::options::Options;
use crate::plane::Error;

/// Paths in the directory, relative to it: every process runs there.
pub(crate) const CA: &str = "ca.crt";
pub(crate) const CA_KEY: &str = "ca.key";
pub(crate) const SERVER: &str = "apiserver.crt";
pub(crate) const SERVER_KEY: &str = "apiserver.key";
pub(crate) const ISSUER_KEY: &str = "sa.key";
pub(crate) const ISSUER_PUBLIC: &str = "sa.pub";
pub(crate) const ADMIN: &str = "admin.kubeconfig";
/// The name of a Unix socket; etcd wants even that to look like a host and a port.
pub(crate) const ETCD_SOCKET: &str = "clients:0";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    /// Makes the directory, which must not be there: it is removed at the end with all that it holds.
    pub(crate) fn create(options: &Options) -> Result<Self, Error> {
        let directory = match &options.directory {
            Some(directory) => directory.clone(),
            None => std::env::temp_dir().join(free_name(&options.name)),
        };
        let made = directory.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            DirBuilder::new().mode(0o700).create(&directory)?;
            directory.canonicalize()
        });
        made.map(|directory| Self { directory })
            .map_err(|source| Error::File { path: directory.clone(), source })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The certificates and keys that the processes read.
    pub(crate) fn write_identities(&self, authority: &Authority, names: &[String]) -> Result<(), Error> {
        let Pair { certificate, key } = authority.server(names)?;
        let (private, public) = issuer_keys()?;
        let files = [
            (CA, &authority.pair.certificate),
            (CA_KEY, &authority.pair.key),
            (SERVER, &certificate),
            (SERVER_KEY, &key),
            (ISSUER_KEY, &private),
            (ISSUER_PUBLIC, &public),
        ];
        files.into_iter().try_for_each(|(name, text)| self.write(name, text).map(drop))
    }

    /// A kubeconfig of this name for whoever `user` (the `user` part of a kubeconfig) is.
    pub(crate) fn write_kubeconfig(
        &self,
        file: &str,
        cluster: &Cluster,
        user: (&str, Value),
    ) -> Result<PathBuf, Error> {
        let (name, credentials) = user;
        let context = format!("{name}@{}", cluster.name);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": context,
            "clusters": [{"name": cluster.name, "cluster": {
                "server": cluster.url, "certificate-authority-data": base64(&cluster.ca),
            }}],
            "users": [{"name": name, "user": credentials}],
            "contexts": [{"name": context, "context": {"cluster": cluster.name, "user": name}}],
        });
        self.write(file, &format!("{config:#}\n"))
    }

    /// Whole or not at all: another test may read a file of the same name just now.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        use io::Write as _;
        let path = self.path(name);
        let written = NamedTempFile::new_in(path.parent().unwrap_or(&path)).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            Ok(file.persist(&path)?)
        });
        match written {
            Ok(_) => Ok(path),
            Err(source) => Err(Error::File { path, source }),
        }
    }
}

/// What a kubeconfig says of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) ca: String,
}

/// The user part of a kubeconfig with a client certificate.
pub(crate) fn certificate_user(pair: &Pair) -> Value {
    json!({"client-certificate-data": base64(&pair.certificate), "client-key-data": base64(&pair.key)})
}

/// Client certificate of a user, as part of a kubeconfig.
pub(crate) fn user(authority: &Authority, user: &str, groups: &[&str]) -> Result<Value, IdentityError> {
    authority.client(user, groups).map(|pair| certificate_user(&pair))
}

pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A file name made of a user's name: `system:node:a1` becomes `system-node-a1`.
pub(crate) fn file_name(user: &str) -> String {
    user.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Not used in this process before, nor by another one that runs.
fn free_name(cluster: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("kubernetes-{}-{}-{count}", file_name(cluster), std::process::id())
}
