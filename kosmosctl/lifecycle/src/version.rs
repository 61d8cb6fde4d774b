//! Which version is installed, and whether it may be replaced by this program's.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use semver::Version;

use crate::{
    connect::{Connection, Role},
    manifest::{NAMESPACE, VERSION, VERSION_LABEL},
    object::absent_as_none,
};

/// A step between versions that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It would go back.
    #[error(
        "the {role} cluster runs {installed}, which is newer than this kosmosctl ({new}): going back is not tested; use kosmosctl {installed}, or --force"
    )]
    Downgrade {
        /// Which cluster.
        role: Role,
        /// What runs there.
        installed: Version,
        /// What this program installs.
        new: Version,
    },
    /// It would leave a version out.
    #[error(
        "the {role} cluster runs {installed} and this kosmosctl is {new}: only one minor version is gone at a time, because components of neighbouring versions run side by side meanwhile; upgrade to the versions between first, or use --force"
    )]
    Skips {
        /// Which cluster.
        role: Role,
        /// What runs there.
        installed: Version,
        /// What this program installs.
        new: Version,
    },
}

/// What runs in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its version, where it says one.
    pub version: Option<Version>,
    /// The image of its components.
    pub image: Option<String>,
    /// The Secret that it is pulled with.
    pub image_pull_secret: Option<String>,
}

impl Installed {
    /// This program's version of what is installed, from the same place; none where its tag says nothing of a version.
    pub fn successor(&self) -> Option<String> {
        let (image, version) = (self.image.as_ref()?, self.version.as_ref()?);
        let (place, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
        let bare = tag.strip_prefix('v').unwrap_or(tag);
        (bare == version.to_string()).then(|| format!("{place}:{}{VERSION}", &tag[..tag.len() - bare.len()]))
    }
}

/// This program's version.
pub fn own() -> Version {
    // The manifest of this crate has been read by cargo.
    Version::parse(VERSION).unwrap_or(Version::new(0, 0, 0))
}

/// The Deployment that speaks for a side.
pub fn speaker(role: Role) -> &'static str {
    match role {
        Role::Control => "clusterlink-network-manager",
        Role::Member => "clusterlink-controller-manager",
    }
}

/// What runs in a cluster; nothing where nothing was installed.
pub async fn installed(connection: &Connection, role: Role) -> Result<Option<Installed>, kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(connection.client.clone(), NAMESPACE);
    let deployment = absent_as_none(deployments.get(speaker(role)).await)?;
    Ok(deployment.map(|deployment| read(&deployment)))
}

fn read(deployment: &Deployment) -> Installed {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let image = template.and_then(|spec| spec.containers.first()?.image.clone());
    let secrets = template.and_then(|spec| spec.image_pull_secrets.as_ref());
    let image_pull_secret = secrets.and_then(|secrets| secrets.first()).map(|secret| secret.name.clone());
    let tag = image.as_ref().and_then(|image| image.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag));
    let said = deployment.labels().get(VERSION_LABEL).map(String::as_str).or(tag);
    let version = said.and_then(|text| Version::parse(text.trim_start_matches('v')).ok());
    Installed { version, image, image_pull_secret }
}

/// Whether this version may take the place of what is installed.
pub fn may_replace(role: Role, installed: Option<&Version>, force: bool) -> Result<(), VersionError> {
    let (Some(installed), false) = (installed.cloned(), force) else { return Ok(()) };
    let new = own();
    if installed > new {
        return Err(VersionError::Downgrade { role, installed, new });
    }
    if skew(&installed, &new) > 1 {
        return Err(VersionError::Skips { role, installed, new });
    }
    Ok(())
}

/// Minor versions between two; another major version is as far as can be.
pub fn skew(one: &Version, other: &Version) -> u64 {
    if one.major == other.major { one.minor.abs_diff(other.minor) } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn deployment(labels: serde_json::Value, image: &str) -> Deployment {
        serde_json::from_value(
            serde_json::json!({"metadata": {"labels": labels}, "spec": {"selector": {}, "template":
            {"spec": {"containers": [{"name": "c", "image": image}]}}}}),
        )
        .unwrap()
    }

    #[test]
    fn the_label_says_the_version_and_else_the_image() {
        let version = |deployment| read(&deployment).version.map(|version| version.to_string());
        let label = serde_json::json!({VERSION_LABEL: "0.3.1"});
        assert_eq!(version(deployment(label, "clusterlink:latest")).as_deref(), Some("0.3.1"));
        let none = serde_json::json!({});
        assert_eq!(version(deployment(none.clone(), "r.example:5000/cl:v0.2.0")).as_deref(), Some("0.2.0"));
        assert_eq!(version(deployment(none, "r.example:5000/cl")), None);
    }

    #[test]
    fn an_upgrade_stays_in_its_registry() {
        let successor = |image: &str| {
            let version = Some(Version::new(0, 0, 9));
            Installed { version, image: Some(image.to_owned()), image_pull_secret: None }.successor()
        };
        assert_eq!(successor("r.example:5000/cl:0.0.9"), Some(format!("r.example:5000/cl:{VERSION}")));
        assert_eq!(successor("r.example:5000/cl:v0.0.9"), Some(format!("r.example:5000/cl:v{VERSION}")));
        assert_eq!(successor("r.example:5000/cl:mine"), None);
        assert_eq!(successor("r.example:5000/cl"), None);
    }

    #[test]
    fn neither_back_nor_over_a_version() {
        let new = own();
        let far = Version::new(new.major, new.minor + 1, 0);
        let message = may_replace(Role::Control, Some(&far), false).unwrap_err().to_string();
        assert!(message.contains("newer than this kosmosctl"), "{message}");
        let message = may_replace(Role::Member, Some(&Version::new(new.major + 1, 0, 0)), false).unwrap_err();
        assert!(matches!(message, VersionError::Downgrade { .. }));
        assert_eq!(may_replace(Role::Control, Some(&far), true), Ok(()));
        assert_eq!(may_replace(Role::Control, Some(&new), false), Ok(()));
        assert_eq!(may_replace(Role::Control, None, false), Ok(()));
        assert_eq!(skew(&Version::new(0, 1, 0), &Version::new(0, 3, 9)), 2);
    }
}
