//! Threads bound to one CPU.
//!
//! Whether asker and server share a CPU, and whether a sleeping CPU has to be woken, changes a round trip by more than what
//! one path differs from another, and the scheduler's choice lasts as long as a connection. With all of them on one CPU, a
//! ratio compares paths. ICMP is answered within the kernel, without a server to wake, and needs none of this.

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Binds the calling thread, and threads that it starts later, to one CPU.
///
/// # Errors
/// There is no such CPU, or this process may not use it.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
