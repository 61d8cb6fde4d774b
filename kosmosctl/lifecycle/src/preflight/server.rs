//! Versions and features of an API server.

use semver::Version;

use super::{Check, Findings};
use crate::{connect::Connection, object::said};

/// What the objects of ours need at least.
const OLDEST: (u64, u64) = (1, 29);
/// Where ValidatingAdmissionPolicies stand in `admissionregistration.k8s.io/v1`.
const POLICIES: (u64, u64) = (1, 30);

pub(super) async fn check(connection: &Connection, findings: &mut Findings) -> anyhow::Result<()> {
    let who = format!("the {} cluster ({})", connection.role, connection.server);
    let info = match connection.client.apiserver_version().await {
        Ok(info) => info,
        Err(error) => anyhow::bail!("{who} does not answer ({}): {}", connection.from, said(&error)),
    };
    judge(&who, &info.git_version, findings);
    Ok(())
}

fn judge(who: &str, git_version: &str, findings: &mut Findings) {
    let Ok(version) = Version::parse(git_version.trim_start_matches('v')) else {
        let message = format!(
            "{who} says that its version is {git_version:?}, which is none: Kubernetes 1.30 or newer is needed"
        );
        return findings.warn(Check::Version, message);
    };
    let minor = (version.major, version.minor);
    if minor < OLDEST {
        findings.fail(
            Check::Version,
            format!("{who} runs Kubernetes {git_version}: 1.29 is the oldest that ClusterLink runs on, 1.30 the oldest with the admission policies that keep clusters apart; upgrade it"),
        );
    } else if minor < POLICIES {
        findings.fail(
            Check::Version,
            format!("{who} runs Kubernetes {git_version}: ValidatingAdmissionPolicy needs 1.30, and without it a stolen credential could speak for other nodes and clusters; upgrade it"),
        );
    } else {
        findings.ok(Check::Version, format!("{who} runs Kubernetes {git_version}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn judged(version: &str) -> (Level, String) {
        let mut findings = Findings::default();
        judge("the member cluster (https://m:6443)", version, &mut findings);
        let finding = findings.0.remove(0);
        (finding.level, finding.message)
    }

    #[test]
    fn old_servers_are_refused_with_the_reason() {
        assert_eq!(judged("v1.36.3").0, Level::Ok);
        assert_eq!(judged("v1.30.0-eks-abc+1").0, Level::Ok);
        let (level, message) = judged("v1.29.9");
        assert_eq!(level, Level::Failure);
        assert!(message.contains("ValidatingAdmissionPolicy needs 1.30"), "{message}");
        let (level, message) = judged("v1.28.4+k3s1");
        assert_eq!(level, Level::Failure);
        assert!(message.contains("1.29 is the oldest"), "{message}");
        assert_eq!(judged("fake").0, Level::Warning);
    }
}
