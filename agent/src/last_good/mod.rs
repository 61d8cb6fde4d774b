//! The last good NodeConfig on disk: what a node applies that boots while no API answers.
//!
//! *Good* is a NodeConfig that was applied, and found in the kernel afterwards. The file is replaced as a whole
//! (written beside it, synced, renamed, the directory synced), so that a power cut leaves the old one or the new one. What
//! cannot be trusted is renamed, said, and never applied.

mod format;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use api::NodeId;

pub use format::{LastGood, Unfit};

const FILE: &str = "last-good.json";
/// No NodeConfig that an API server stores is nearly as large.
const LARGEST: u64 = 64 << 20;
const MODE: u32 = 0o600;

/// The directory cannot be used as it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct StoreError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What there is on disk.
#[derive(Debug)]
pub enum Found {
    /// No file: a new node.
    Nothing,
    /// A NodeConfig to begin with.
    Good(Box<LastGood>),
    /// A file that must not be applied; where it is now.
    SetAside(Unfit, PathBuf),
    /// A file that must not be applied, and that cannot be renamed either.
    Unfit(Unfit, StoreError),
    /// It cannot be read at all.
    Unreadable(StoreError),
}

/// The directory that holds the file.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// A directory, which is made when something is to be kept.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Store { directory: directory.into() }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// What this node may begin with. What is unfit is set aside.
    pub fn load(&self, here: &NodeId) -> Found {
        let unfit = match self.bytes() {
            Ok(None) => return Found::Nothing,
            Ok(Some(Ok(bytes))) => match format::decode_for(here, &bytes) {
                Ok(found) => return Found::Good(Box::new(found)),
                Err(unfit) => unfit,
            },
            Ok(Some(Err(unfit))) => unfit,
            Err(error) => return Found::Unreadable(error),
        };
        let aside = self.directory.join(format!("{FILE}.{}", unfit.word()));
        match fs::rename(self.path(), &aside) {
            Ok(()) => Found::SetAside(unfit, aside),
            Err(source) => Found::Unfit(unfit, StoreError { doing: "rename", path: self.path(), source }),
        }
    }

    /// What is there, of whichever node, and left where it is.
    pub fn look(&self) -> Result<Option<Result<LastGood, Unfit>>, StoreError> {
        Ok(self.bytes()?.map(|bytes| bytes.and_then(|bytes| format::decode(&bytes))))
    }

    /// Replaces the file.
    pub fn keep(&self, last_good: &LastGood) -> Result<(), StoreError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError { doing, path, source }
        };
        let bytes = format::encode(last_good)
            .map_err(|error| failed("encode", &self.path())(io::Error::other(error)))?;
        let mut directory = DirBuilder::new();
        directory.recursive(true).mode(0o700);
        directory.create(&self.directory).map_err(failed("create directory", &self.directory))?;
        let draft = self.directory.join(format!("{FILE}.draft"));
        self.write(&draft, &bytes).inspect_err(|_| {
            // A half of it helps nobody; where it cannot be removed either, the next attempt overwrites it.
            let _ = fs::remove_file(&draft);
        })?;
        fs::rename(&draft, self.path()).map_err(failed("replace", &self.path()))?;
        let opened = File::open(&self.directory).and_then(|directory| directory.sync_all());
        opened.map_err(failed("sync", &self.directory))
    }

    fn write(&self, draft: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |doing| {
            let path = draft.to_owned();
            move |source| StoreError { doing, path, source }
        };
        // What an attempt that was cut off left may have any mode.
        match fs::remove_file(draft) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(source)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE).custom_flags(nix::libc::O_NOFOLLOW);
        let mut file = options.open(draft).map_err(failed("create"))?;
        file.write_all(bytes).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))
    }

    /// Removes everything that was ever kept here.
    pub fn forget(&self) -> Result<(), StoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries,
        };
        let failed = |source| StoreError { doing: "read", path: self.directory.clone(), source };
        for entry in entries.map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(FILE) {
                let removed = fs::remove_file(entry.path());
                removed.map_err(|source| StoreError { doing: "remove", path: entry.path(), source })?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> Result<Option<Result<Vec<u8>, Unfit>>, StoreError> {
        let failed = |source| StoreError { doing: "read", path: self.path(), source };
        let mut options = OpenOptions::new();
        // Never a link, and never a device or a pipe that would make us wait.
        options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        let file = match options.open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
                return Ok(Some(Err(Unfit::Unsafe("it is a symbolic link".to_owned()))));
            }
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if let Some(problem) = distrust(&metadata) {
            return Ok(Some(Err(problem)));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(Ok(bytes)))
    }
}

fn distrust(metadata: &fs::Metadata) -> Option<Unfit> {
    let own = nix::unistd::geteuid().as_raw();
    if !metadata.is_file() {
        return Some(Unfit::Unsafe("it is not a file".to_owned()));
    }
    if metadata.uid() != own {
        return Some(Unfit::Unsafe(format!("it belongs to user {}, not {own}", metadata.uid())));
    }
    if metadata.mode() & 0o7777 != MODE {
        return Some(Unfit::Unsafe(format!("its mode is {:04o}", metadata.mode() & 0o7777)));
    }
    (metadata.len() > LARGEST).then(|| Unfit::Corrupt(format!("it has {} bytes", metadata.len())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::format::tests::{here, last_good};
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("state"));
        (directory, store)
    }

    fn good(found: Found) -> LastGood {
        match found {
            Found::Good(found) => *found,
            other => panic!("{other:?}"),
        }
    }

    fn set_aside(found: Found) -> (Unfit, PathBuf) {
        match found {
            Found::SetAside(unfit, path) => (unfit, path),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_kept_is_found_by_nobody_else_and_forgotten_whole() {
        let (_directory, store) = store();
        assert!(matches!(store.load(&here()), Found::Nothing));
        store.keep(&last_good()).unwrap();
        let newer = LastGood { generation: Some(8), ..last_good() };
        store.keep(&newer).unwrap();
        assert_eq!(good(store.load(&here())), newer);
        assert_eq!(fs::metadata(store.path()).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 1, "no draft is left");
        fs::write(store.directory.join("last-good.json.corrupt"), "").unwrap();
        fs::write(store.directory.join("somebody-elses"), "").unwrap();
        store.forget().unwrap();
        assert!(matches!(store.load(&here()), Found::Nothing));
        let left: Vec<_> = fs::read_dir(&store.directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["somebody-elses"]);
    }

    #[test]
    fn a_file_that_others_may_write_or_read_is_set_aside() {
        let (_directory, store) = store();
        for mode in [0o644, 0o660, 0o666, 0o400] {
            store.keep(&last_good()).unwrap();
            fs::set_permissions(store.path(), fs::Permissions::from_mode(mode)).unwrap();
            let (unfit, aside) = set_aside(store.load(&here()));
            assert!(unfit.to_string().contains(&format!("its mode is {mode:04o}")), "{unfit}");
            assert!(aside.ends_with("last-good.json.unsafe") && aside.exists());
            assert!(matches!(store.load(&here()), Found::Nothing));
        }
        fs::write(store.directory.join("elsewhere"), "").unwrap();
        std::os::unix::fs::symlink("elsewhere", store.path()).unwrap();
        assert!(matches!(set_aside(store.load(&here())).0, Unfit::Unsafe(_)));
    }

    #[test]
    fn a_cut_file_is_set_aside_and_looking_leaves_it_where_it_is() {
        let (_directory, store) = store();
        store.keep(&last_good()).unwrap();
        let bytes = fs::read(store.path()).unwrap();
        File::options().write(true).open(store.path()).unwrap().set_len(bytes.len() as u64 - 9).unwrap();
        assert!(matches!(store.look().unwrap(), Some(Err(Unfit::Corrupt(_)))));
        let (unfit, aside) = set_aside(store.load(&here()));
        assert!(unfit.to_string().contains("checksum"), "{unfit}");
        assert!(aside.ends_with("last-good.json.corrupt"));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_and_the_old_file_stays() {
        let (_directory, store) = store();
        store.keep(&last_good()).unwrap();
        // A draft that cannot be removed stands for a disk that takes nothing.
        fs::create_dir(store.directory.join("last-good.json.draft")).unwrap();
        let error = store.keep(&LastGood { generation: Some(9), ..last_good() }).unwrap_err();
        assert!(error.to_string().contains("last-good.json.draft"), "{error}");
        assert_eq!(good(store.load(&here())), last_good());
        let nowhere = Store::new("/proc/clusterlink");
        assert!(nowhere.keep(&last_good()).unwrap_err().to_string().contains("/proc/clusterlink"));
        assert!(matches!(nowhere.load(&here()), Found::Nothing));
    }
}
