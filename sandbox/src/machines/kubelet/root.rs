//! The file system that a container sees: the host's programs and libraries as its image, ClusterLink's in `/usr/local/bin`,
//! nothing else of the host, and the pod's volumes.
//!
//! All of it is done by the thread that starts the container, in a mount namespace of its own, which the container inherits;
//! so are the bounding set of its capabilities and `no_new_privs`.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs};

/// Of the host's `/etc`: what programs and the resolver need.
const ETC: [&str; 13] = [
    "alternatives",
    "ethertypes",
    "group",
    "hosts",
    "iproute2",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "nsswitch.conf",
    "passwd",
    "protocols",
    "resolv.conf",
    "services",
];
/// Directories of the host that are the image: where `/bin` and such are links, links they stay.
const IMAGE: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];
/// Empty directories that an image has.
const EMPTY: [&str; 8] = ["etc", "home", "mnt", "root", "run", "tmp", "var", "opt"];

/// Something of the outside at a path inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) read_only: bool,
}

/// What a container may see and do.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// An empty directory, over which it is built.
    pub(super) directory: PathBuf,
    /// ClusterLink's programs.
    pub(super) programs: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) read_only: bool,
    /// What it keeps of root's capabilities.
    pub(super) capabilities: CapabilitySet,
    pub(super) no_new_privileges: bool,
}

impl Root {
    /// Moves the calling thread into it; there is no way back.
    pub(super) fn enter(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        std::fs::create_dir_all(&self.directory)?;
        mount(Some("tmpfs"), &self.directory, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
        self.image()?;
        for mount in &self.mounts {
            self.attach(mount).map_err(|error| {
                io::Error::new(error.kind(), format!("mount {}: {error}", mount.target.display()))
            })?;
        }
        if self.read_only {
            read_only(&self.directory)?;
        }
        chroot(&self.directory)?;
        chdir("/")?;
        self.give_up_capabilities()
    }

    fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.directory.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn image(&self) -> io::Result<()> {
        for name in IMAGE {
            let host = Path::new("/").join(name);
            match std::fs::read_link(&host) {
                Ok(target) => symlink(target, self.inside(name))?,
                Err(_) if host.is_dir() => bind(&host, &self.inside(name), true)?,
                Err(_) => {}
            }
        }
        EMPTY.iter().try_for_each(|name| std::fs::create_dir_all(self.inside(name)))?;
        bind(&self.programs, &self.inside("usr/local/bin"), true)?;
        for name in ETC {
            let host = Path::new("/etc").join(name);
            if host.exists() {
                bind(&host, &self.inside(Path::new("etc").join(name)), true)?;
            }
        }
        for name in ["sys", "dev"] {
            bind(&Path::new("/").join(name), &self.inside(name), false)?;
        }
        read_only(&self.inside("sys"))?;
        let proc = self.inside("proc");
        std::fs::create_dir_all(&proc)?;
        mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), None::<&str>)?;
        // As container runtimes do for whoever is not privileged.
        let sys = proc.join("sys");
        bind(&sys, &sys, true)
    }

    fn attach(&self, mount: &Mount) -> io::Result<()> {
        bind(&mount.source, &self.inside(&mount.target), mount.read_only)
    }

    fn give_up_capabilities(&self) -> io::Result<()> {
        for capability in CapabilitySet::all().iter() {
            if !self.capabilities.contains(capability) {
                match remove_capability_from_bounding_set(capability) {
                    // A bit that this kernel has not.
                    Err(rustix::io::Errno::INVAL) => {}
                    other => other?,
                }
            }
        }
        if self.no_new_privileges {
            set_no_new_privs(true)?;
        }
        Ok(())
    }
}

/// Makes the target, a directory or a file as the source is one, and mounts the source there with all below it.
fn bind(source: &Path, target: &Path, is_read_only: bool) -> io::Result<()> {
    if source.is_dir() {
        std::fs::create_dir_all(target)?;
    } else if !target.exists() {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::File::create(target)?;
    }
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    if is_read_only { read_only(target) } else { Ok(()) }
}

/// mount(2): a bind mount is made read-only by a second call.
fn read_only(target: &Path) -> io::Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    Ok(mount(none, target, none, flags, none)?)
}

/// What container runtimes leave to root unless a spec says otherwise.
pub(super) const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The default without what is dropped and with what is added; the first name that is none.
pub(super) fn capabilities(drop: &[String], add: &[String]) -> Result<CapabilitySet, String> {
    let parse = |name: &String| {
        let plain = name.strip_prefix("CAP_").unwrap_or(name);
        match plain {
            "ALL" => Ok(CapabilitySet::all()),
            plain => CapabilitySet::from_name(plain).ok_or_else(|| format!("there is no capability {name}")),
        }
    };
    let mut set = DEFAULT;
    for name in drop {
        set.remove(parse(name)?);
    }
    for name in add {
        set.insert(parse(name)?);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_the_two_that_it_asks_for() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let kept = capabilities(&list(&["ALL"]), &list(&["NET_ADMIN", "CAP_NET_RAW"])).unwrap();
        assert_eq!(kept, CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
        assert_eq!(capabilities(&[], &[]).unwrap(), DEFAULT);
        assert!(capabilities(&[], &list(&["NET_MAGIC"])).unwrap_err().contains("NET_MAGIC"));
    }
}
