//! The answering side: one process per network namespace, TCP and UDP, IPv4 and IPv6.
//!
//! Each family has a socket of its own (`IPV6_V6ONLY`), so that an IPv4 asker is never reported as `::ffff:a.b.c.d`, and a
//! kernel without IPv6 costs only the IPv6 sockets.

pub(crate) mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::PORT;
use crate::affinity;
use crate::wire::{self, MAX_NAME};

pub use udp::Responder;

/// Where to answer, and as whom.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// TCP and UDP port.
    pub port: u16,
    /// Addresses to bind; empty: all IPv4 and, where the kernel has it, all IPv6 addresses.
    pub bind: Vec<IpAddr>,
    /// Who answers.
    pub name: String,
    /// Answer on this CPU only (see [`crate::rtt::RttOptions::cpu`]).
    pub cpu: Option<usize>,
}

impl ServeOptions {
    /// Answers as `name` on all addresses and on [`PORT`].
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { port: PORT, bind: Vec::new(), name: name.into(), cpu: None }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// One address cannot be bound.
    #[error(
        "cannot listen on {address} ({transport}): {error}; is another server running in this namespace? see --bind, --port"
    )]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// TCP or UDP.
        transport: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// Neither family is usable.
    #[error("cannot listen: this kernel has neither IPv4 nor IPv6")]
    NoFamily,
    /// The name does not fit into an answer.
    #[error("--name has {0} bytes; give one of 1 to {MAX_NAME} bytes")]
    Name(usize),
}

/// Bound sockets that do not answer yet.
#[derive(Debug)]
pub struct Server {
    name: String,
    epoch: u64,
    cpu: Option<usize>,
    sockets: Vec<(SocketAddr, UdpSocket, TcpListener)>,
}

impl Server {
    /// Binds all sockets, so that whoever waits for this can ask at once.
    ///
    /// # Errors
    /// An address that was asked for cannot be bound. Without such a wish a missing IPv6 is not an error.
    pub fn bind(options: &ServeOptions) -> Result<Self, ServeError> {
        if !(1..=MAX_NAME).contains(&options.name.len()) {
            return Err(ServeError::Name(options.name.len()));
        }
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let optional = options.bind.is_empty();
        let mut sockets = Vec::new();
        for ip in if optional { &every[..] } else { &options.bind[..] } {
            let address = SocketAddr::new(*ip, options.port);
            match bind_both(address) {
                Ok((udp, tcp)) => sockets.push((address, udp, tcp)),
                Err(ServeError::Bind { error, .. }) if optional && family_is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if sockets.is_empty() {
            return Err(ServeError::NoFamily);
        }
        Ok(Self { name: options.name.clone(), epoch: wire::fresh_nonce(), cpu: options.cpu, sockets })
    }

    /// The addresses that are bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, ..)| *address).collect()
    }

    /// Answers on threads of their own until the process ends.
    ///
    /// # Errors
    /// A thread cannot be started, or the CPU cannot be used.
    pub fn start(self) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for (address, udp, tcp) in self.sockets {
            let responder = Responder::new(self.name.clone(), self.epoch);
            let name = self.name.clone();
            threads.push(start_thread(format!("udp {address}"), self.cpu, move || {
                udp::answer(&udp, responder)
            })?);
            threads.push(start_thread(format!("tcp {address}"), self.cpu, move || tcp::answer(&tcp, &name))?);
        }
        Ok(threads)
    }
}

/// Returns once the thread is bound to its CPU.
fn start_thread(
    name: String,
    cpu: Option<usize>,
    answer: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (ready, is_ready) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(name).spawn(move || {
        let bound = cpu.map_or(Ok(()), affinity::pin);
        let usable = bound.is_ok();
        if ready.send(bound).is_ok() && usable {
            answer();
        }
    })?;
    is_ready.recv().map_err(|_| io::Error::other("the thread ended early"))??;
    Ok(thread)
}

/// A kernel built or started without IPv6 has no such family; with `disable_ipv6` the family is there without addresses.
fn family_is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_both(address: SocketAddr) -> Result<(UdpSocket, TcpListener), ServeError> {
    let udp = bind_one(address, Type::DGRAM).and_then(|socket| udp::prepare(socket, address));
    let udp = udp.map_err(|error| ServeError::Bind { address, transport: "UDP", error })?;
    let tcp = bind_one(address, Type::STREAM).and_then(|socket| socket.listen(1024).map(|()| socket.into()));
    let tcp = tcp.map_err(|error| ServeError::Bind { address, transport: "TCP", error })?;
    Ok((udp, tcp))
}

fn bind_one(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // a restarted server must not wait for the TIME_WAIT of the former one; on UDP it would let two servers share
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
