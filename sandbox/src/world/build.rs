//! Makes the described namespaces: all at once, one thread each, in three steps that need each other (namespaces,
//! pairs, then addresses, routes and packet filters).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use netlink::netns::NamespaceError;
use netlink::sysctl::{Sysctl, SysctlError};
use netlink::{Address, Hop, LinkChange, Namespace, Netlink, NewLink, NewLinkKind, Op, Scope, VethPeer, Via};

use super::{Device, DeviceKind, Route, Ruleset, Space, UPLINK};
use crate::addressing::ROOT;

/// The main routing table (`RT_TABLE_MAIN`) and the mark of what an administrator wrote (`RTPROT_STATIC`).
const MAIN_TABLE: u32 = 254;
const STATIC: u8 = 4;

/// Why the world could not be made; names the namespace and what was being done in it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A namespace could not be made or entered.
    #[error("namespace {place}: {source}")]
    Namespace {
        /// The namespace.
        place: String,
        /// The reason.
        source: NamespaceError,
    },
    /// A sysctl could not be set.
    #[error("namespace {place}: {source}")]
    Sysctl {
        /// The namespace.
        place: String,
        /// The reason, with the key.
        source: SysctlError,
    },
    /// The conversation with the kernel failed.
    #[error("namespace {place}: {source}")]
    Netlink {
        /// The namespace.
        place: String,
        /// The reason.
        source: netlink::Error,
    },
    /// The kernel refused a change.
    #[error("namespace {place}: {change}: {refusal}")]
    Refused {
        /// The namespace.
        place: String,
        /// What was asked.
        change: String,
        /// What the kernel said.
        refusal: netlink::Refusal,
    },
    /// A device that should be there is not.
    #[error("namespace {place}: there is no device {device}")]
    NoDevice {
        /// The namespace.
        place: String,
        /// The device.
        device: String,
    },
    /// None of the programs that could load a packet filter exists.
    #[error(
        "namespace {place}: none of the programs {programs} is installed; install {package} or choose the other --firewall"
    )]
    NoProgram {
        /// The namespace.
        place: String,
        /// What was looked for.
        programs: String,
        /// The package that has it.
        package: &'static str,
    },
    /// A packet filter was refused.
    #[error("namespace {place}: {program} refused the rules: {message}")]
    Rules {
        /// The namespace.
        place: String,
        /// The program.
        program: String,
        /// Its own words.
        message: String,
    },
}

/// The namespaces of a world, by place.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(BTreeMap<String, Namespace>);

impl Namespaces {
    /// The namespace of a place.
    pub fn get(&self, place: &str) -> Option<&Namespace> {
        self.0.get(place)
    }
}

/// Makes every space but the root one, which is the calling thread's namespace, below `directory`.
pub fn build(spaces: &[Space], directory: &Path) -> Result<Namespaces, BuildError> {
    let namespaces = create(spaces, directory)?;
    on_all(spaces, &namespaces, |space, _| prepare(space))?;
    on_all(spaces, &namespaces, make_devices)?;
    on_all(spaces, &namespaces, |space, _| {
        address(space)?;
        space.rulesets.iter().try_for_each(|ruleset| load(&space.place, ruleset))
    })?;
    Ok(namespaces)
}

fn create(spaces: &[Space], directory: &Path) -> Result<Namespaces, BuildError> {
    let make = |space: &Space| {
        let made = match space.place.as_str() {
            ROOT => Namespace::current(),
            place => Namespace::create_at(directory.join(place)),
        };
        made.map(|namespace| (space.place.clone(), namespace))
            .map_err(|source| BuildError::Namespace { place: space.place.clone(), source })
    };
    Ok(Namespaces(spaces.iter().map(make).collect::<Result<_, _>>()?))
}

/// Does the work in every space, each on a thread inside of it; the first error of the first space counts.
fn on_all(
    spaces: &[Space],
    namespaces: &Namespaces,
    work: impl Fn(&Space, &Namespaces) -> Result<(), BuildError> + Sync,
) -> Result<(), BuildError> {
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> = spaces
            .iter()
            .map(|space| {
                scope.spawn(move || {
                    let namespace =
                        namespaces.get(&space.place).expect("a namespace was made for every space");
                    namespace
                        .run(|| work(space, namespaces))
                        .map_err(|source| BuildError::Namespace { place: space.place.clone(), source })?
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("the worker reports its errors"))
    })
}

fn prepare(space: &Space) -> Result<(), BuildError> {
    let wrong = |source| BuildError::Sysctl { place: space.place.clone(), source };
    for (key, value) in &space.sysctls {
        let pieces: Vec<&str> = key.split('/').collect();
        match Sysctl::net(&pieces).and_then(|key| key.write(value)) {
            // A kernel without IPv6 runs IPv4 scenarios; without br_netfilter there is nothing to switch off.
            Err(SysctlError::Absent { .. }) if !key.starts_with("ipv4/") => {}
            other => other.map_err(wrong)?,
        }
    }
    Ok(())
}

fn make_devices(space: &Space, namespaces: &Namespaces) -> Result<(), BuildError> {
    let links = space.devices.iter().filter_map(|device| new_link(device, namespaces));
    let ops: Vec<Op> = links.map(Op::CreateLink).collect();
    apply(&space.place, &mut open(&space.place)?, &ops)
}

fn new_link(device: &Device, namespaces: &Namespaces) -> Option<NewLink> {
    let kind = match &device.kind {
        DeviceKind::VethEnd => return None,
        DeviceKind::Bridge => NewLinkKind::Bridge,
        DeviceKind::VethTo { place, mtu } => {
            let mut peer = VethPeer::new(UPLINK);
            peer.mtu = Some(*mtu);
            peer.namespace = namespaces.get(place).cloned();
            NewLinkKind::Veth(peer)
        }
    };
    let mut link = NewLink::new(device.name.as_str(), kind);
    link.mtu = Some(device.mtu);
    link.up = true;
    Some(link)
}

/// Ports, addresses and routes, once every device exists.
fn address(space: &Space) -> Result<(), BuildError> {
    let mut netlink = open(&space.place)?;
    let links = netlink.links().map_err(|source| netlink_error(&space.place, source))?;
    let indexes: BTreeMap<&str, u32> = links.iter().map(|link| (link.name.as_str(), link.index)).collect();
    let index = |name: &str| {
        let missing = || BuildError::NoDevice { place: space.place.clone(), device: name.to_owned() };
        indexes.get(name).copied().ok_or_else(missing)
    };
    let mut ops = vec![up(index("lo")?, None)];
    for device in &space.devices {
        let bridge = device.bridge.as_deref().map(index).transpose()?;
        ops.push(up(index(&device.name)?, bridge));
        for &address in &device.addresses {
            let no_prefix_route = address.prefix() == if address.is_ipv4() { 32 } else { 128 };
            let device = index(&device.name)?;
            ops.push(Op::replace(Address {
                device,
                address,
                scope: Scope::Universe,
                no_prefix_route,
                no_dad: true,
            }));
        }
    }
    for route in &space.routes {
        ops.push(Op::replace(kernel_route(route, index(&route.device)?)));
    }
    apply(&space.place, &mut netlink, &ops)
}

fn up(index: u32, master: Option<u32>) -> Op {
    Op::ChangeLink(LinkChange { up: Some(true), master, ..LinkChange::of(index) })
}

fn kernel_route(route: &Route, device: u32) -> netlink::Route {
    let hop = match route.via {
        Some(via) => Hop::onlink(device, via),
        None => Hop::device(device),
    };
    netlink::Route::unicast(route.to, MAIN_TABLE, STATIC, Via::Hop(hop))
}

fn open(place: &str) -> Result<Netlink, BuildError> {
    Netlink::open().map_err(|source| netlink_error(place, source))
}

fn netlink_error(place: &str, source: netlink::Error) -> BuildError {
    BuildError::Netlink { place: place.to_owned(), source }
}

fn apply(place: &str, netlink: &mut Netlink, ops: &[Op]) -> Result<(), BuildError> {
    let results = netlink.apply(ops).map_err(|source| netlink_error(place, source))?;
    for (op, result) in ops.iter().zip(results) {
        result.map_err(|refusal| BuildError::Refused {
            place: place.to_owned(),
            change: op.to_string(),
            refusal,
        })?;
    }
    Ok(())
}

/// Runs a program in the namespace of this thread, which its child inherits.
fn load(place: &str, ruleset: &Ruleset) -> Result<(), BuildError> {
    let program =
        ruleset.programs.iter().find_map(|name| installed(name)).ok_or_else(|| BuildError::NoProgram {
            place: place.to_owned(),
            programs: ruleset.programs.join(", "),
            package: if ruleset.programs.contains(&"nft") { "nftables" } else { "iptables" },
        })?;
    let refused = |message: String| BuildError::Rules {
        place: place.to_owned(),
        program: program.display().to_string(),
        message,
    };
    let mut child = Command::new(&program)
        .args(ruleset.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| refused(error.to_string()))?;
    let mut stdin = child.stdin.take().expect("its standard input is a pipe");
    // A program that refuses its first line stops reading; its own words say more than our broken pipe.
    let written = stdin.write_all(ruleset.text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| refused(error.to_string()))?;
    match (output.status.success(), written) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => Err(refused(error.to_string())),
        (false, _) => Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// The program's path: `/usr/sbin` is where packet filters live, though not in everybody's search path.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join(program)).find(|file| file.is_file())
}
