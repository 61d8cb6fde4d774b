//! The way from the member to the control cluster: what stands in the kubeconfig that the member gets.

use std::net::IpAddr;

use super::{Check, Findings};

/// How the member reaches the control cluster's API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its address.
    pub server: String,
    /// PEM of the CA that it is verified by; none where the system's CAs do.
    pub authority: Option<String>,
    /// The name that its certificate is checked for, where it is not the address's.
    pub tls_server_name: Option<String>,
    /// Whether the address was given for this purpose, and not taken from a person's kubeconfig.
    pub given: bool,
    /// Whether both are one cluster.
    pub same_cluster: bool,
}

impl Way {
    pub(super) fn check(&self, findings: &mut Findings) {
        let server = &self.server;
        let host = server.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        let Some(host) = host.filter(|_| server.starts_with("https://")) else {
            let message = format!(
                "{server:?} is no https address of an API server: write --control-server https://HOST:PORT"
            );
            return findings.fail(Check::ControlServer, message);
        };
        if is_loopback(&host) && !self.same_cluster {
            findings.fail(
                Check::ControlServer,
                format!("the member would look for the control cluster at {server}, which is the member's own loopback: name an address that the member's nodes reach with --control-server https://HOST:PORT (and its CA with --control-ca, where it is another one)"),
            );
        } else if is_loopback(&host) {
            findings.warn(
                Check::ControlServer,
                format!("the member looks for the control cluster at {server}: that works only for pods in the host's network on the API server's node; name an address that pods reach with --control-server"),
            );
        } else if self.given {
            findings.ok(Check::ControlServer, format!("the member reaches the control cluster at {server}"));
        } else {
            findings.ok(
                Check::ControlServer,
                format!("the member reaches the control cluster at {server}, as you do; --control-server names another address"),
            );
        }
        if self.authority.is_none() {
            findings.warn(
                Check::ControlServer,
                format!("no CA is known for {server}: the member verifies it by the CAs of its image; give --control-ca where that is not enough"),
            );
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let unusable = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    bare == "localhost" || bare.ends_with(".localhost") || bare.parse().is_ok_and(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn levels(server: &str, same_cluster: bool) -> Vec<(Level, String)> {
        let way = Way {
            server: server.to_owned(),
            authority: Some("pem".to_owned()),
            tls_server_name: None,
            given: false,
            same_cluster,
        };
        let mut findings = Findings::default();
        way.check(&mut findings);
        findings.0.into_iter().map(|finding| (finding.level, finding.message)).collect()
    }

    #[test]
    fn a_loopback_address_is_useless_inside_the_member() {
        for server in
            ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443", "https://0.0.0.0:1"]
        {
            let found = levels(server, false);
            assert_eq!(found[0].0, Level::Failure, "{server}");
            assert!(found[0].1.contains("--control-server https://HOST:PORT"), "{found:?}");
            assert_eq!(levels(server, true)[0].0, Level::Warning);
        }
        assert_eq!(levels("https://10.0.0.1:6443", false)[0].0, Level::Ok);
        assert_eq!(levels("10.0.0.1:6443", false)[0].0, Level::Failure);
    }
}
