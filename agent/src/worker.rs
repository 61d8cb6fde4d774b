//! The thread that owns the kernel: netlink answers, settings and programs all belong to one thread's namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use agent_core::{Authority, Host, Kernel, KernelError, Known, Pass, Reading, Report, Spec};
use tokio::sync::oneshot;

use crate::RealKernel;
use crate::kernel::parts::Doubts;

/// What a pass found, and which devices are ours now.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) report: Report,
    pub(crate) devices: BTreeSet<u32>,
}

/// What of the host a ClusterNode is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) host: Host,
    /// The source address of packets to the address that was asked for.
    pub(crate) reached_from: Option<IpAddr>,
    pub(crate) capabilities: BTreeSet<String>,
}

/// A pass to make.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) spec: Arc<Spec>,
    pub(crate) known: Known,
    pub(crate) reading: Reading,
    pub(crate) authority: Authority,
    pub(crate) resting: BTreeSet<String>,
}

type Answer<T> = oneshot::Sender<Result<T, KernelError>>;

enum Job {
    Pass(Order, Answer<Passed>),
    Cleanup(Answer<Passed>),
    Facts(Option<IpAddr>, Answer<Facts>),
}

/// The way to the kernel's thread. The thread ends with the last of its callers.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    port: u32,
    doubts: Doubts,
    thread: Arc<thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread in the caller's namespace.
    pub(crate) fn start(proc_sys_net: &Path) -> Result<Self, KernelError> {
        let proc_sys_net = proc_sys_net.to_owned();
        let (jobs, queue) = mpsc::channel();
        let (opened, port) = mpsc::channel();
        let work = move || match RealKernel::open_with(&proc_sys_net) {
            Ok(mut kernel) => {
                // The starter waits for this answer.
                let _ = opened.send(Ok((kernel.port(), kernel.doubts())));
                queue.into_iter().for_each(|job| do_job(&mut kernel, job));
            }
            Err(error) => drop(opened.send(Err(error.to_string()))),
        };
        let failed = |reason: String| KernelError::Read { what: "the kernel", reason };
        let thread = thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(work)
            .map_err(|error| failed(error.to_string()))?;
        let (port, doubts) =
            port.recv().map_err(|_| failed("its thread ended".to_owned()))?.map_err(failed)?;
        Ok(Worker { jobs, port, doubts, thread: Arc::new(thread) })
    }

    /// Whether there is anybody to do what is asked.
    pub(crate) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// The netlink address of its changes.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Where to say what others changed.
    pub(crate) fn doubts(&self) -> Doubts {
        self.doubts.clone()
    }

    /// Whether anything was heard that no reading has looked at.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubts.any()
    }

    pub(crate) async fn pass(&self, order: Order) -> Result<Passed, KernelError> {
        self.ask(|answer| Job::Pass(order, answer)).await
    }

    pub(crate) async fn cleanup(&self) -> Result<Passed, KernelError> {
        self.ask(Job::Cleanup).await
    }

    pub(crate) async fn facts(&self, reach: Option<IpAddr>) -> Result<Facts, KernelError> {
        self.ask(|answer| Job::Facts(reach, answer)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, KernelError> {
        let (answer, answered) = oneshot::channel();
        let ended = || KernelError::Read { what: "the kernel", reason: "its thread ended".to_owned() };
        self.jobs.send(job(answer)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

#[cfg(test)]
impl Worker {
    /// One with a kernel in memory.
    pub(crate) fn over(mut kernel: agent_core::fake::FakeKernel) -> Self {
        let (jobs, queue) = mpsc::channel();
        let work = move || {
            for job in queue {
                let (report, answer) = match job {
                    Job::Pass(order, answer) => (order.run(&mut kernel), answer),
                    Job::Cleanup(answer) => (agent_core::cleanup(&mut kernel), answer),
                    Job::Facts(..) => continue,
                };
                let _ = answer.send(report.map(|report| Passed { report, devices: BTreeSet::new() }));
            }
        };
        let thread = Arc::new(thread::spawn(work));
        Worker { jobs, port: 0, doubts: Doubts::default(), thread }
    }
}

impl Order {
    fn run(&self, kernel: &mut impl Kernel) -> Result<Report, KernelError> {
        let Order { spec, known, reading, authority, resting } = self;
        Pass { spec, known, reading: *reading, authority, resting }.run(kernel)
    }
}

/// Who asked may have gone meanwhile; what was done is done.
fn do_job(kernel: &mut RealKernel, job: Job) {
    match job {
        Job::Pass(order, answer) => {
            let report = order.run(kernel);
            let _ = answer.send(report.map(|report| Passed { report, devices: kernel.devices() }));
        }
        Job::Cleanup(answer) => {
            let report = agent_core::cleanup(kernel);
            let _ = answer.send(report.map(|report| Passed { report, devices: kernel.devices() }));
        }
        Job::Facts(reach, answer) => {
            let facts = kernel.host().map(|host| Facts {
                host,
                reached_from: reach.and_then(source_towards),
                capabilities: kernel.capabilities(),
            });
            let _ = answer.send(facts);
        }
    }
}

/// The address that the kernel would send from: connecting a UDP socket looks the route up and sends nothing.
fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    // The port is never used; discard (RFC 863).
    socket.connect(SocketAddr::new(address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
