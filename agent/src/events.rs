//! What tells that the kernel changed: netlink notifications, and what `nft monitor` prints.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::{INBOUND_TABLE, NEXTHOP_IDS, TABLE};
use api::Vtep;
use netlink::{Changed, Event, Monitor, SettingsMonitor};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use tokio::sync::mpsc::UnboundedSender;

use crate::kernel::parts::{Doubts, Parts};

/// A silent socket is asked again, to notice that nobody listens any more.
const SILENCE: Duration = Duration::from_secs(60);
/// Before a program that ended, or a socket that failed, is started anew.
const RESTART: Duration = Duration::from_secs(10);
/// Until `nft monitor` has subscribed it tells of nothing, and it does not say when that is: what it missed is looked at then.
const BEGINS: Duration = Duration::from_secs(1);
/// Before a program that did not even begin to work is tried again: it may be installed one day.
const ABSENCE: Duration = Duration::from_secs(60);

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// An object, by netlink.
    Netlink(Event),
    /// The packet filter.
    Filter,
    /// Settings, by their own notifications. Every pass reads them.
    Settings(Changed),
}

/// How soon a pass should follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Nothing that concerns us.
    None,
    /// Of the host: our decisions may depend on it. Every pod that comes or goes is such a change.
    Later,
    /// A chain of the packet filter: a dozen changes make one.
    Soon,
    /// Ours, or it may be.
    Now,
}

impl Urgency {
    /// What comes within this time is one change: a device that goes takes a hundred objects along.
    pub(crate) fn delay(self) -> Duration {
        match self {
            Urgency::Now => Duration::from_millis(20),
            Urgency::Soon => Duration::from_millis(200),
            Urgency::Later | Urgency::None => Duration::from_secs(1),
        }
    }
}

impl Wake {
    /// How soon a pass should follow, given the indexes of our devices.
    pub(crate) fn urgency(&self, is_ours: impl Fn(u32) -> bool) -> Urgency {
        match self {
            Wake::Filter => Urgency::Soon,
            Wake::Settings(Changed::Device(device)) if !is_ours(*device) => Urgency::None,
            Wake::Settings(_) => Urgency::Now,
            Wake::Netlink(Event::Link { index, name }) if is_ours(*index) || Vtep::named(name).is_some() => {
                Urgency::Now
            }
            Wake::Netlink(Event::Address { device }) if is_ours(*device) => Urgency::Now,
            Wake::Netlink(Event::Link { .. } | Event::Address { .. }) => Urgency::Later,
            Wake::Netlink(Event::Neighbour { device, .. } | Event::Fdb { device, .. })
                if is_ours(*device) =>
            {
                Urgency::Now
            }
            Wake::Netlink(Event::Route { table: TABLE | INBOUND_TABLE, .. }) => Urgency::Now,
            Wake::Netlink(Event::Nexthop { id }) if NEXTHOP_IDS.contains(id) => Urgency::Now,
            Wake::Netlink(Event::Rule { .. } | Event::Overrun) => Urgency::Now,
            Wake::Netlink(_) => Urgency::None,
        }
    }
}

/// Listens in the caller's namespace for what others than the socket `own` change, and brings it into doubt before anybody
/// is woken. What netlink tells of is heard from the moment of this call on: a reading that begins later misses nothing.
/// Without notifications there is still the periodic pass, so a failure here is said and tried again.
pub(crate) fn listen(own: u32, doubts: Doubts, wakes: UnboundedSender<Wake>) -> std::io::Result<()> {
    let (filter_doubts, filter_wakes) = (doubts.clone(), wakes.clone());
    let (settings_doubts, settings_wakes) = (doubts.clone(), wakes.clone());
    let mut opened = Some(SettingsMonitor::open());
    thread::Builder::new().name("settings-events".to_owned()).spawn(move || {
        while !settings_wakes.is_closed() {
            let monitor = opened.take().unwrap_or_else(SettingsMonitor::open);
            let heard =
                monitor.and_then(|monitor| settings_events(monitor, &settings_doubts, &settings_wakes));
            if let Err(error) = heard {
                tracing::warn!(%error, "notifications of settings failed, listening anew");
                thread::sleep(RESTART);
                // Who does not listen any more is found out above.
                let _ = tell_settings(Changed::Overrun, &settings_doubts, &settings_wakes);
            }
        }
    })?;
    let mut opened = Some(open_monitor(own, &doubts));
    thread::Builder::new().name("netlink-events".to_owned()).spawn(move || {
        let mut missed = None;
        while !wakes.is_closed() {
            let monitor = opened.take().unwrap_or_else(|| open_monitor(own, &doubts));
            let heard = monitor.and_then(|monitor| netlink_events(monitor, missed.take(), &doubts, &wakes));
            if let Err(error) = heard {
                tracing::warn!(%error, "kernel notifications failed, listening anew");
                thread::sleep(RESTART);
                missed = Some(Event::Overrun);
            }
        }
    })?;
    thread::Builder::new().name("nft-events".to_owned()).spawn(move || {
        while !filter_wakes.is_closed() {
            let started = Instant::now();
            if let Err(error) = filter_events(&filter_doubts, &filter_wakes) {
                tracing::debug!(%error, "no nft monitor: the packet filter is looked at once a minute");
            }
            let listened = started.elapsed() > RESTART;
            thread::sleep(if listened { RESTART } else { ABSENCE });
        }
    })?;
    Ok(())
}

fn open_monitor(own: u32, doubts: &Doubts) -> Result<Monitor, netlink::Error> {
    let mut monitor = Monitor::open()?;
    monitor.ignore(own);
    doubts.listen();
    Ok(monitor)
}

/// `next` is what there is to say before anything is heard.
fn netlink_events(
    mut monitor: Monitor,
    mut next: Option<Event>,
    doubts: &Doubts,
    wakes: &UnboundedSender<Wake>,
) -> Result<(), netlink::Error> {
    loop {
        let heard = match next {
            // A host's routing daemon may change a million routes: what is nobody's concern is not queued.
            Some(event) => {
                let news = doubts.hear(&event);
                let wake = Wake::Netlink(event);
                !news || wake.urgency(|_| true) == Urgency::None || wakes.send(wake).is_ok()
            }
            None => !wakes.is_closed(),
        };
        if !heard {
            return Ok(());
        }
        next = monitor.next(SILENCE)?;
    }
}

fn settings_events(
    mut monitor: SettingsMonitor,
    doubts: &Doubts,
    wakes: &UnboundedSender<Wake>,
) -> Result<(), netlink::Error> {
    while !wakes.is_closed() {
        if let Some(changed) = monitor.next(SILENCE)?
            && !tell_settings(changed, doubts, wakes)
        {
            break;
        }
    }
    Ok(())
}

/// A setting changed. Whether anybody still listens.
fn tell_settings(changed: Changed, doubts: &Doubts, wakes: &UnboundedSender<Wake>) -> bool {
    doubts.hear_settings(&changed);
    wakes.send(Wake::Settings(changed)).is_ok()
}

/// The packet filter changed. Whether anybody still listens.
fn tell(doubts: &Doubts, wakes: &UnboundedSender<Wake>) -> bool {
    doubts.add(Parts::FIREWALL);
    wakes.send(Wake::Filter).is_ok()
}

/// Ends with its parent's interest in it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // A program that has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn filter_events(doubts: &Doubts, wakes: &UnboundedSender<Wake>) -> std::io::Result<()> {
    let mut child = Ended(monitor_program().spawn()?);
    let Some(output) = child.0.stdout.take() else { return Ok(()) };
    let begun = (doubts.clone(), wakes.clone());
    thread::Builder::new().name("nft-begins".to_owned()).spawn(move || {
        thread::sleep(BEGINS);
        // Who does not listen any more is found out with the next line.
        let _ = tell(&begun.0, &begun.1);
    })?;
    // By bytes: a comment in somebody's rule may be anything.
    for line in BufReader::new(output).split(b'\n') {
        let concerns = concerns_us(&String::from_utf8_lossy(&line?));
        if concerns && !tell(doubts, wakes) {
            return Ok(());
        }
    }
    Ok(())
}

/// `nft monitor`, which goes when we go, however that comes: it would notice our end with its next line only.
#[expect(unsafe_code, reason = "between fork and exec there is no safe way to ask for a signal")]
fn monitor_program() -> Command {
    let mut program = Command::new("nft");
    program.arg("monitor").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        program.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
    program
}

/// Our table, or a chain that may be on the forward hook: kube-proxy alone changes thousands of other rules.
fn concerns_us(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.contains("inet clusterlink") || lower.contains("forward") || lower.contains("delete table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_urgent_and_strangers_pods_are_not() {
        let ours = |index: u32| index == 7;
        let urgency = |event: Event| Wake::Netlink(event).urgency(ours);
        assert_eq!(urgency(Event::Link { index: 9, name: "vx-bridge".to_owned() }), Urgency::Now);
        assert_eq!(urgency(Event::Link { index: 9, name: "veth12".to_owned() }), Urgency::Later);
        assert_eq!(urgency(Event::Neighbour { device: 9, entry: None, present: true }), Urgency::None);
        assert_eq!(urgency(Event::Fdb { device: 7, entry: None, present: true }), Urgency::Now);
        let route = |table| Event::Route { family: netlink::Family::V4, table, protocol: 4 };
        assert_eq!(urgency(route(200)), Urgency::Now);
        assert_eq!(urgency(route(254)), Urgency::None);
        assert_eq!(urgency(Event::Overrun), Urgency::Now);
        let settings = |changed| Wake::Settings(changed).urgency(ours);
        assert_eq!(settings(Changed::Device(7)), Urgency::Now);
        assert_eq!(settings(Changed::Device(9)), Urgency::None);
        assert_eq!(settings(Changed::Overrun), Urgency::Now);
    }

    #[test]
    fn of_the_packet_filter_our_table_and_forward_chains_count() {
        assert!(concerns_us("delete rule inet clusterlink mesh handle 4"));
        assert!(concerns_us("add rule ip filter FORWARD counter drop"));
        assert!(!concerns_us("add rule ip nat KUBE-SVC-X jump KUBE-SEP-Y"));
    }
}
