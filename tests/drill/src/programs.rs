//! The programs under test in a directory of the drill's own, so that one of them can be replaced while it runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sandbox::components::Binaries;
use tempfile::TempDir;

/// The agent's program.
pub const AGENT: &str = "clusterlink-agent";
const PROGRAMS: [&str; 5] = [
    "kosmosctl",
    AGENT,
    "clusterlink-controller-manager",
    "clusterlink-network-manager",
    "clusterlink-netperf",
];
/// Directories of drills begin with this and the drill's process id.
const PREFIX: &str = "clusterlink-drill-";

/// A directory with links to every program.
#[derive(Debug)]
pub struct Programs(TempDir);

impl Programs {
    /// Links to what is built beside this program, or in `CLUSTERLINK_BIN_DIR`.
    ///
    /// # Errors
    /// One of them is not built, or cannot be linked.
    pub fn link() -> Result<Self> {
        remove_leftovers();
        let directory =
            tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
        let built = Binaries::find();
        for program in PROGRAMS {
            place(&built.program(program)?, &directory.path().join(program))?;
        }
        Ok(Programs(directory))
    }

    /// The file of a program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.0.path().join(program)
    }

    /// Puts another file in the place of a program; what runs goes on running the old one.
    ///
    /// # Errors
    /// The file cannot be linked or copied there.
    pub fn replace(&self, program: &str, by: &Path) -> Result<()> {
        let new = self.path(&format!(".{program}.new"));
        place(by, &new)?;
        fs::rename(&new, self.path(program)).with_context(|| format!("cannot replace {program}"))
    }
}

/// The drill's own program: this one, or what was built beside this test.
///
/// # Errors
/// It is not built.
pub fn own() -> Result<PathBuf> {
    Ok(Binaries::find().program("clusterlink-drill")?)
}

/// A link, or a copy where the file system is another one.
fn place(file: &Path, at: &Path) -> Result<()> {
    let _ = fs::remove_file(at);
    fs::hard_link(file, at)
        .or_else(|_| fs::copy(file, at).map(drop))
        .with_context(|| format!("cannot link {} to {}", file.display(), at.display()))
}

/// A drill that was killed could not remove its own.
fn remove_leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
