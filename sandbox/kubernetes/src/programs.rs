//! How the programs are called. They run in the control plane's directory, so their paths are short: a Unix socket's may
//! have 107 bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use crate::files::{ADMIN, CA, CA_KEY, ETCD_SOCKET, Files, ISSUER_KEY, ISSUER_PUBLIC, SERVER, SERVER_KEY};
use crate::options::Options;

/// The issuer in service-account tokens; it is their audience too.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A program and how it is called.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
}

impl Program {
    fn new(name: &'static str, options: &Options, files: &Files, arguments: Vec<String>) -> Self {
        Self {
            name,
            path: options.binaries.path(name),
            arguments,
            environment: Vec::new(),
            directory: files.directory().to_owned(),
            log: files.path(&format!("{name}.log")),
        }
    }
}

/// etcd, which forgets all when the machine does: nothing is flushed to the disk.
pub(crate) fn etcd(options: &Options, files: &Files) -> Program {
    let client = format!("unix://{ETCD_SOCKET}");
    let peer = "unix://peers:0";
    let arguments = [
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Program::new("etcd", options, files, arguments.into())
}

/// kube-apiserver on this port.
pub(crate) fn api_server(options: &Options, files: &Files, port: u16) -> Program {
    let cidrs: Vec<String> = options.service_cidrs.iter().map(ToString::to_string).collect();
    let mut arguments = vec![
        format!("--etcd-servers=unix://{ETCD_SOCKET}"),
        format!("--bind-address={}", options.listen),
        format!("--advertise-address={}", options.advertise),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={SERVER}"),
        format!("--tls-private-key-file={SERVER_KEY}"),
        format!("--client-ca-file={CA}"),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-signing-key-file={ISSUER_KEY}"),
        format!("--service-account-key-file={ISSUER_PUBLIC}"),
        format!("--service-cluster-ip-range={}", cidrs.join(",")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    if options.advertise.is_loopback() {
        // The Endpoints of the Service `kubernetes` may not be on loopback.
        arguments.push("--endpoint-reconciler-type=none".to_owned());
    }
    if !options.disabled_admission.is_empty() {
        arguments.push(format!("--disable-admission-plugins={}", options.disabled_admission.join(",")));
    }
    arguments.extend_from_slice(&options.api_server_flags);
    Program {
        environment: options.environment.clone(),
        ..Program::new("kube-apiserver", options, files, arguments)
    }
}

/// kube-controller-manager with all its controllers, as the administrator. It serves nothing.
pub(crate) fn controller_manager(options: &Options, files: &Files, flags: &[&str]) -> Program {
    let mut arguments = vec![
        format!("--kubeconfig={ADMIN}"),
        format!("--service-account-private-key-file={ISSUER_KEY}"),
        format!("--root-ca-file={CA}"),
        format!("--cluster-signing-cert-file={CA}"),
        format!("--cluster-signing-key-file={CA_KEY}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--profiling=false".to_owned(),
    ];
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    Program {
        environment: options.environment.clone(),
        ..Program::new("kube-controller-manager", options, files, arguments)
    }
}

/// The names and addresses in the API server's certificate.
pub(crate) fn server_names(options: &Options) -> Vec<String> {
    let service = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
    let mut names: Vec<String> = service.iter().map(|suffix| format!("kubernetes{suffix}")).collect();
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(
        [options.advertise, options.listen].iter().filter(|a| !a.is_unspecified()).map(ToString::to_string),
    );
    names.extend(options.service_cidrs.iter().filter_map(first_service).map(|address| address.to_string()));
    names.extend(options.names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// The address of the Service `kubernetes`.
fn first_service(cidr: &IpNetwork) -> Option<IpAddr> {
    match cidr {
        IpNetwork::V4(cidr) => cidr.nth(1).map(IpAddr::V4),
        IpNetwork::V6(cidr) => cidr.nth(1).map(IpAddr::V6),
    }
}

/// What kubeconfigs name.
pub(crate) fn url(options: &Options, port: u16) -> String {
    format!("https://{}", SocketAddr::new(options.advertise, port))
}
