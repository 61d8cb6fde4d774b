//! Where the programs of Kubernetes are: `$KUBEBUILDER_ASSETS`, else the cache that `build/kubernetes` fills.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The Kubernetes version that `tests/kubernetes/go.mod` names; it is part of the cache directory's name.
pub const VERSION: &str = "v1.36.3";

/// What a control plane cannot do without.
const REQUIRED: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/// A directory that holds the programs of a control plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binaries {
    directory: PathBuf,
}

/// A program that is not there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{program} is not built: make kubernetes (it was looked for in {})", directory.display())]
pub struct MissingBinaries {
    /// The first one that is missing.
    pub program: String,
    /// Where it was looked for.
    pub directory: PathBuf,
}

impl Binaries {
    /// The programs in `$KUBEBUILDER_ASSETS` if that is set, else those in the cache.
    pub fn find() -> Result<Self, MissingBinaries> {
        Self::in_directory(directory(&|name| env::var_os(name).filter(|value| !value.is_empty())))
    }

    /// The programs in this directory.
    pub fn in_directory(directory: PathBuf) -> Result<Self, MissingBinaries> {
        match REQUIRED.iter().find(|program| !directory.join(program).is_file()) {
            Some(program) => Err(MissingBinaries { program: (*program).to_owned(), directory }),
            None => Ok(Self { directory }),
        }
    }

    /// What a test asks: the programs, or a line that says why it is skipped. With `CI=true` nothing may be skipped.
    ///
    /// # Panics
    ///
    /// If they are missing and the environment says `CI=true`.
    #[expect(clippy::print_stdout, reason = "a test says on standard output why it does nothing")]
    pub fn find_or_skip() -> Option<Self> {
        match Self::find() {
            Ok(binaries) => Some(binaries),
            Err(missing) => {
                assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}");
                println!("skipped: {missing}");
                None
            }
        }
    }

    /// The directory that they are in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of `etcd`, `kube-apiserver`, `kube-controller-manager` or `kubectl`, which are there; others need
    /// [`Binaries::optional`].
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// The file of a program that not every directory holds: `kube-proxy`, `flanneld`.
    pub fn optional(&self, program: &str) -> Result<PathBuf, MissingBinaries> {
        let path = self.path(program);
        if path.is_file() {
            return Ok(path);
        }
        Err(MissingBinaries { program: program.to_owned(), directory: self.directory.clone() })
    }
}

/// The same rule as in `build/kubernetes`.
fn directory(variable: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    if let Some(assets) = variable("KUBEBUILDER_ASSETS") {
        return assets.into();
    }
    let cache = variable("CLUSTERLINK_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/".into())).join(".cache");
        variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("clusterlink")
    });
    cache.join(format!("kubernetes-{VERSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> PathBuf {
        directory(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn what_a_person_says_comes_before_the_cache() {
        let home = ("HOME", "/home/j");
        assert_eq!(found(&[home]), Path::new("/home/j/.cache/clusterlink/kubernetes-v1.36.3"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(found(&[home, xdg]), Path::new("/x/clusterlink/kubernetes-v1.36.3"));
        let ours = ("CLUSTERLINK_CACHE", "/c");
        assert_eq!(found(&[home, xdg, ours]), Path::new("/c/kubernetes-v1.36.3"));
        assert_eq!(found(&[home, xdg, ours, ("KUBEBUILDER_ASSETS", "/a")]), Path::new("/a"));
    }

    #[test]
    fn the_version_is_the_one_that_is_built() {
        let module = include_str!("../../../tests/kubernetes/go.mod");
        assert!(module.contains(&format!("k8s.io/kubernetes {VERSION} ")), "{VERSION}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("etcd"), "").unwrap();
        let missing = Binaries::in_directory(directory.path().to_owned()).unwrap_err();
        assert!(missing.to_string().starts_with("kube-apiserver is not built: make kubernetes"), "{missing}");
    }
}
