//! The archive: a compressed tar, readable for its owner alone, with a list of what could not be had.

use std::{
    fmt::Display,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

pub(super) struct Bundle {
    tar: Builder<GzEncoder<File>>,
    root: String,
    missed: Vec<String>,
    files: usize,
}

impl Bundle {
    /// A new file; one that is there is never overwritten.
    pub(super) fn create(path: &Path, root: &str) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("--file {}", path.display()))?;
        let tar = Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Bundle { tar, root: root.to_owned(), missed: Vec::new(), files: 0 })
    }

    pub(super) fn add(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(u64::try_from(text.len())?);
        self.tar.append_data(&mut header, format!("{}/{path}", self.root), text.as_bytes())?;
        self.files += 1;
        Ok(())
    }

    /// What should be in it and is not, and why.
    pub(super) fn missed(&mut self, what: &str, why: &impl Display) {
        self.missed.push(format!("{what}: {why}"));
    }

    pub(super) fn missed_so_far(&self) -> &[String] {
        &self.missed
    }

    /// Ends the archive; says how many files are in it.
    pub(super) fn finish(mut self) -> anyhow::Result<usize> {
        if !self.missed.is_empty() {
            let text = self.missed.join("\n") + "\n";
            self.add("missing.txt", &text)?;
        }
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()?;
        file.sync_all()?;
        Ok(self.files)
    }
}
