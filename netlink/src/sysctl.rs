//! Keys below `/proc/sys/net`, in the namespace of the calling thread.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys/net";

/// A sysctl could not be named, read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// A piece that is no file name: it is empty, a dot, or has a slash or a NUL in it.
    #[error("`{piece}` cannot be a part of a sysctl key")]
    Piece {
        /// The piece.
        piece: String,
    },
    /// The kernel has no such key: a device or a feature is missing.
    #[error("there is no sysctl {key}")]
    Absent {
        /// The key.
        key: Sysctl,
    },
    /// The system's own refusal.
    #[error("cannot {doing} sysctl {key}: {source}")]
    Io {
        /// Reading or writing.
        doing: &'static str,
        /// The key.
        key: Sysctl,
        /// The system's reason.
        source: io::Error,
    },
}

/// A key below `net`, in pieces: the name of a device may have dots in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl {
    root: PathBuf,
    pieces: Vec<String>,
}

impl Sysctl {
    /// The key `net/PIECE/PIECE/...`.
    pub fn net(pieces: &[&str]) -> Result<Self, SysctlError> {
        for piece in pieces {
            if matches!(*piece, "" | "." | "..") || piece.contains(['/', '\0']) {
                return Err(SysctlError::Piece { piece: (*piece).to_owned() });
            }
        }
        let root = ROOT.into();
        Ok(Self { root, pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect() })
    }

    /// A setting of one device: `net/FAMILY/conf/DEVICE/NAME`.
    pub fn of_device(family: crate::Family, device: &str, name: &str) -> Result<Self, SysctlError> {
        let family = match family {
            crate::Family::V4 => "ipv4",
            crate::Family::V6 => "ipv6",
        };
        Self::net(&[family, "conf", device, name])
    }

    /// The same key where `net` is mounted elsewhere.
    pub fn below(self, root: &Path) -> Self {
        Self { root: root.to_owned(), ..self }
    }

    /// The value, without the line's end.
    pub fn read(&self) -> Result<String, SysctlError> {
        let value = fs::read_to_string(self.path()).map_err(|error| self.failed("read", error))?;
        Ok(value.trim_end().to_owned())
    }

    /// Sets the value.
    pub fn write(&self, value: &str) -> Result<(), SysctlError> {
        fs::write(self.path(), value).map_err(|error| self.failed("write", error))
    }

    fn path(&self) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(&self.pieces);
        path
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> SysctlError {
        let key = self.clone();
        match source.kind() {
            io::ErrorKind::NotFound => SysctlError::Absent { key },
            _ => SysctlError::Io { doing, key, source },
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net/{}", self.pieces.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_with_dots_is_one_piece() {
        let key = Sysctl::of_device(crate::Family::V4, "eth0.100", "rp_filter").unwrap();
        assert_eq!(key.path(), Path::new("/proc/sys/net/ipv4/conf/eth0.100/rp_filter"));
        assert_eq!(key.to_string(), "net/ipv4/conf/eth0.100/rp_filter");
    }

    #[test]
    fn a_piece_cannot_lead_elsewhere() {
        for piece in ["", ".", "..", "a/b", "../kernel", "a\0b"] {
            let error = Sysctl::net(&["ipv4", piece]).expect_err("not a file name");
            assert!(matches!(error, SysctlError::Piece { piece: named } if named == piece));
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let key = Sysctl::of_device(crate::Family::V4, "no-such-device", "rp_filter").unwrap();
        let error = key.read().expect_err("no such device");
        assert_eq!(error.to_string(), "there is no sysctl net/ipv4/conf/no-such-device/rp_filter");
    }
}
