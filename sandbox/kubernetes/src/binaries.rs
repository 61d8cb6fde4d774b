//! Where the programs of Kubernetes are: `$KUBEBUILDER_ASSETS`, else the cache that `build/kubernetes` fills. flannel's are
//! in that cache in any case.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The Kubernetes version that `tests/kubernetes/go.mod` names; it is part of the cache directory's name.
pub const VERSION: &str = "v1.36.3";

/// The flannel version that `tests/flannel/go.mod` names; it is part of its cache directory's name.
const FLANNEL: &str = "v0.28.10";

/// What a control plane cannot do without.
const REQUIRED: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/// A directory that holds the programs of a control plane, and where flannel is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binaries {
    directory: PathBuf,
    flannel: PathBuf,
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
        Self::places(&|name| env::var_os(name).filter(|value| !value.is_empty())).complete()
    }

    /// The same rule as in `build/kubernetes`.
    fn places(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let cache = variable("CLUSTERLINK_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/".into())).join(".cache");
            variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("clusterlink")
        });
        let built = || cache.join(format!("kubernetes-{VERSION}"));
        Self {
            directory: variable("KUBEBUILDER_ASSETS").map_or_else(built, PathBuf::from),
            flannel: cache.join(format!("flannel-{FLANNEL}")),
        }
    }

    fn complete(self) -> Result<Self, MissingBinaries> {
        match REQUIRED.into_iter().find(|program| !self.path(program).is_file()) {
            Some(program) => Err(MissingBinaries { program: program.to_owned(), directory: self.directory }),
            None => Ok(self),
        }
    }

    /// What a test asks: the programs, or a line that says why it is skipped.
    ///
    /// # Panics
    ///
    /// As [`skip::skip`], if they are missing.
    pub fn find_or_skip() -> Option<Self> {
        Self::find().inspect_err(|missing| skip::skip(missing)).ok()
    }

    /// The file of `etcd`, `kube-apiserver`, `kube-controller-manager` or `kubectl`, which are there; others need
    /// [`Binaries::optional`].
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// The file of a program that not every directory holds: `kube-proxy`, `kube-scheduler`.
    pub fn optional(&self, program: &str) -> Result<PathBuf, MissingBinaries> {
        in_directory(&self.directory, program)
    }

    /// flannel's daemon: beside the others, or where `build/kubernetes` puts it.
    pub fn flanneld(&self) -> Result<PathBuf, MissingBinaries> {
        self.optional("flanneld").or_else(|_| in_directory(&self.flannel, "flanneld"))
    }
}

fn in_directory(directory: &Path, program: &str) -> Result<PathBuf, MissingBinaries> {
    let path = directory.join(program);
    if path.is_file() {
        return Ok(path);
    }
    Err(MissingBinaries { program: program.to_owned(), directory: directory.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Binaries {
        Binaries::places(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn what_a_person_says_comes_before_the_cache() {
        let in_cache = |cache: &str| Binaries {
            directory: Path::new(cache).join("kubernetes-v1.36.3"),
            flannel: Path::new(cache).join("flannel-v0.28.10"),
        };
        let home = ("HOME", "/h");
        assert_eq!(found(&[home]), in_cache("/h/.cache/clusterlink"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(found(&[home, xdg]), in_cache("/x/clusterlink"));
        let ours = ("CLUSTERLINK_CACHE", "/c");
        assert_eq!(found(&[home, xdg, ours]), in_cache("/c"));
        // Whoever names the programs of Kubernetes has flannel built all the same.
        let named = found(&[home, xdg, ours, ("KUBEBUILDER_ASSETS", "/a")]);
        assert_eq!(named, Binaries { directory: "/a".into(), ..in_cache("/c") });
    }

    #[test]
    fn the_versions_are_the_ones_that_are_built() {
        let module = include_str!("../../../tests/kubernetes/go.mod");
        assert!(module.contains(&format!("k8s.io/kubernetes {VERSION} ")), "{VERSION}");
        let module = include_str!("../../../tests/flannel/go.mod");
        assert!(module.contains(&format!("github.com/flannel-io/flannel {FLANNEL}")), "{FLANNEL}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let binaries = Binaries { directory: at("kubernetes"), flannel: at("flannel") };
        std::fs::create_dir_all(&binaries.directory).unwrap();
        std::fs::write(binaries.path("etcd"), "").unwrap();
        let missing = binaries.clone().complete().unwrap_err();
        assert!(missing.to_string().starts_with("kube-apiserver is not built: make kubernetes"), "{missing}");
        assert_eq!(binaries.flanneld().unwrap_err().directory, at("flannel"));
    }

    #[test]
    fn flannel_is_beside_the_others_or_in_its_own_directory() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let binaries = Binaries { directory: at("kubernetes"), flannel: at("flannel") };
        for directory in [&binaries.flannel, &binaries.directory] {
            std::fs::create_dir_all(directory).unwrap();
            std::fs::write(directory.join("flanneld"), "").unwrap();
            assert_eq!(binaries.flanneld().unwrap(), directory.join("flanneld"));
        }
    }
}
