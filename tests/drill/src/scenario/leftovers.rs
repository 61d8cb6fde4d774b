//! An agent that knows nothing, on a host on which somebody before it was not careful.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::world::World;

/// A fresh agent on hosts with leftovers of older versions, of a teardown that was cut off, and of Kosmos.
pub(super) const LEFTOVERS: Scenario = Scenario {
    name: "leftovers",
    what: "an agent without memory starts among leftovers: of older versions, of half a teardown, of Kosmos",
    few: 3,
    full: 12,
    run: leftovers,
};

const NODES: [(&str, &str); 2] = [("a1", "gateway"), ("c1", "p2p")];

/// What somebody left: marked as ours, and not as this version makes it.
const LEFT: [(&str, &str); 3] =
    [("an older version", OLDER), ("half a teardown", HALF), ("Kosmos's agent", KOSMOS)];

/// Devices with another VNI, port and MTU, everything on and behind them for peers that have gone, a table with other chains.
const OLDER: &str = "
ip link add vx-bridge type vxlan id 99 dstport 4999 local $LOCAL dev eth0
ip link set vx-bridge alias clusterlink mtu 1300 address 02:00:00:00:00:99 up
ip link add vx-local-6 type vxlan id 98 dstport 4998 local $LOCAL dev eth0 nolearning
ip link set vx-local-6 alias clusterlink up
ip addr add 241.9.9.9/32 dev vx-bridge
bridge fdb append 02:00:00:00:09:01 dev vx-bridge dst 172.31.77.1 self permanent
ip neigh add 241.9.9.1 lladdr 02:00:00:00:09:01 dev vx-bridge nud permanent
ip nexthop add id 193000000 via 241.9.9.1 dev vx-bridge onlink proto 193
ip nexthop add id 193000001 via 241.9.9.2 dev vx-bridge onlink proto 193
ip nexthop add id 193000002 group 193000000/193000001 type resilient buckets 64 proto 193
ip route add 10.99.0.0/16 nhid 193000002 table 200 proto 193 metric 1024
ip route add 10.2.1.0/24 nhid 193000000 table 200 proto 193 metric 1024
ip route add 10.98.0.0/16 via 172.31.0.1 table 201 proto 193 metric 7
ip route add unreachable 10.97.0.0/16 table 200 proto 193 metric 1048576
ip rule add pref 150 lookup 200 protocol 193
ip rule add pref 199 iif vx-bridge lookup 201 protocol 193
ip -6 rule add pref 151 lookup 200 protocol 193
nft add table inet clusterlink
nft add set inet clusterlink remote '{ type ipv4_addr; elements = { 192.0.2.1 } }'
nft add map inet clusterlink old '{ type ipv4_addr : ipv4_addr; }'
nft add chain inet clusterlink old_forward '{ type filter hook forward priority 3; policy accept; }'
nft add rule inet clusterlink old_forward ip daddr @remote counter drop
nft add chain inet clusterlink mesh
nft add rule inet clusterlink mesh ip saddr 10.0.0.0/8 accept
iptables-nft -I FORWARD -m mark --mark 0x99 -m comment --comment clusterlink -j ACCEPT
";

/// Routes by a gateway and a device, as agents without nexthop objects made them; devices that are down.
const HALF: &str = "
ip link add vx-bridge type vxlan id $BRIDGE local $LOCAL dev eth0 nolearning
ip link set vx-bridge alias clusterlink
ip link add vx-local type vxlan id 77 dstport 4777 local $LOCAL dev eth0 nolearning
ip link set vx-local alias clusterlink up
ip route add 10.2.1.0/24 via 241.9.9.1 dev vx-local onlink table 200 proto 193 metric 1024
ip route add blackhole 10.4.1.0/24 table 200 proto 193 metric 1024
ip -6 route add blackhole fd00:10:4:1::/64 table 200 proto 193 metric 1024
ip nexthop add id 193000007 via 172.31.0.1 dev eth0 proto 193
ip rule add pref 200 lookup 200 protocol 193
ip rule add pref 200 lookup 201 protocol 193
nft add table inet clusterlink
";

/// Its agent leaves devices without an alias, an address with a connected route, and floods.
const KOSMOS: &str = "
ip link add vx-bridge type vxlan id $BRIDGE local $LOCAL dev eth0 nolearning
ip link set vx-bridge address 02:00:00:00:00:01 mtu 1400 up
ip addr add 220.31.1.1/8 dev vx-bridge
bridge fdb append 00:00:00:00:00:00 dev vx-bridge dst 172.31.2.1 self permanent
bridge fdb append 02:00:00:00:00:02 dev vx-bridge dst 172.31.2.1 self permanent
ip neigh add 220.31.2.1 lladdr 02:00:00:00:00:02 dev vx-bridge nud permanent
";

/// What is not ours, though it looks like it, and how each is shown.
const STRANGERS: &str = "
ip route add 198.51.100.0/24 via 172.31.0.1 table 200 proto static
ip nexthop add id 193000003 via 172.31.0.1 dev eth0
ip rule add pref 198 from 198.51.100.0/24 lookup 202
ip link add othervx type vxlan id 4242 dstport 4242 dev eth0 nolearning
iptables-nft -t nat -N CLUSTERLINK-POSTROUTING
nft add table inet clusterlink-old
";
const SHOWN: &str = "ip route show table 200 proto static; ip nexthop show id 193000003; ip rule show pref 198; \
    ip -d -o link show othervx | grep -o 'vxlan id 4242 .*dstport 4242'; iptables-nft -t nat -S | grep -e -POSTROUTING$; \
    nft list table inet clusterlink-old; ip route show table main";
const STRANGERS_GONE: &str = "
ip route del 198.51.100.0/24 table 200 proto static; ip nexthop del id 193000003; ip rule del pref 198
ip link del othervx; iptables-nft -t nat -X CLUSTERLINK-POSTROUTING; nft delete table inet clusterlink-old; true";
/// The one line of ours that shows it: the strangers' route is in our table.
const STRANGE: &str = "route 198.51.100.0/24 ";

fn leftovers(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let (world, name, rounds) = (drill.world, drill.name, drill.rounds);
    let rows = std::thread::scope(|scope| {
        let rows = NODES.map(|(place, mode)| {
            scope.spawn(move || {
                let mut row = Row::of(name, mode, rounds);
                Host { world, place }.rounds(rounds as usize, &mut row)?;
                Ok(row)
            })
        });
        rows.map(|row| row.join().expect("it returns what fails")).into_iter().collect::<Result<Vec<_>>>()
    })?;
    world.settle()?;
    Ok(rows)
}

struct Host<'a> {
    world: &'a World,
    place: &'static str,
}

impl Host<'_> {
    fn rounds(&self, rounds: usize, row: &mut Row) -> Result<()> {
        // the device as this version makes it, for those that are to be adopted
        let bridge = self.bridge()?;
        let fresh = self.fresh()?;
        for round in 0..rounds {
            let (whose, left) = LEFT[round % LEFT.len()];
            let lived = self.among(left, &bridge, &fresh);
            self.world.sh(self.place, STRANGERS_GONE)?;
            if let Err(error) = lived {
                row.problems.push(format!("{}: leftovers of {whose}: {error:#}", self.place));
                // the next round begins with a host that is whole in any case
                self.fresh()?;
            }
        }
        Ok(())
    }

    fn bridge(&self) -> Result<String> {
        let script = "ip -d -o link show vx-bridge | sed -E 's/.*vxlan id ([0-9]+) .*dstport ([0-9]+) .*/\\1 dstport \\2/'";
        Ok(self.world.sh(self.place, script)?.trim().to_owned())
    }

    /// What an agent without memory makes of a host with nothing of ours.
    fn fresh(&self) -> Result<BTreeSet<String>> {
        self.world.cleanup(self.place)?;
        self.start_anew()?;
        self.ready()?;
        self.shown()
    }

    fn shown(&self) -> Result<BTreeSet<String>> {
        let lines = self.world.shown(self.place)?.into_iter();
        Ok(lines.filter(|line| !line.starts_with(STRANGE)).collect())
    }

    /// The agent is held, and has no memory.
    fn start_anew(&self) -> Result<()> {
        let agent = self.world.agent(self.place)?;
        agent.signal(Signal::SIGKILL);
        agent.wait_restarted(&self.world.sandbox)
    }

    fn ready(&self) -> Result<()> {
        let script = "curl -sf -o /dev/null http://127.0.0.1:9870/readyz && nft list table inet clusterlink";
        self.world.eventually(|| self.world.sh(self.place, script)).map(drop)
    }

    fn among(&self, left: &str, bridge: &str, fresh: &BTreeSet<String>) -> Result<()> {
        self.world.cleanup(self.place)?;
        let local = "$(ip -4 -o addr show dev eth0 | awk '{print $4; exit}' | cut -d/ -f1)";
        let seed = format!("set -e; LOCAL={local}; BRIDGE='{bridge}'\n{STRANGERS}{left}");
        let seeded = self.world.sh(self.place, &seed).and_then(|_| self.strangers());
        // whatever was left, the agent goes on
        self.start_anew()?;
        let strangers = seeded?;
        self.world.eventually(|| {
            let now = self.shown()?;
            let wrong: Vec<&String> = now.symmetric_difference(fresh).collect();
            match wrong.len() {
                0 => Ok(()),
                more => bail!("{more} differences from a fresh node: {:?}", &wrong[..more.min(6)]),
            }
        })?;
        self.ready()?;
        let now = self.strangers()?;
        if now != strangers {
            bail!("what is not ours was {strangers}, and is {now}");
        }
        Ok(())
    }

    /// What is not ours, without what the kernel had made for an address of Kosmos's.
    fn strangers(&self) -> Result<String> {
        let shown = self.world.sh(self.place, SHOWN)?;
        Ok(shown.lines().filter(|line| !line.starts_with("220.0.0.0/8")).collect::<Vec<_>>().join("\n"))
    }
}
