//! Hosts on which others live: what is not ours is the same after install, repair, a reload of theirs, restart and cleanup.

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::processes::{Running, running};
use crate::programs::AGENT;
use crate::world::World;

/// Strangers of every kind on a gateway and on a P2P node.
pub(super) const FOREIGN_KEPT: Scenario = Scenario {
    name: "foreign-kept",
    what: "routes, rules, nexthops, VXLAN devices and packet filters of others, through install, repair, restart and cleanup",
    few: 1,
    full: 5,
    run: foreign_kept,
};

const NODES: [(&str, &str, &str); 2] = [("a1", "gateway", "dev vx-bridge"), ("c1", "p2p", "dev vx-bridge")];

/// A host with flannel, Calico, three packet filters that drop what is forwarded, and routes, rules and nexthops beside ours.
const STRANGERS: &str = "set -e
ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0 nolearning
ip link set flannel.1 addrgenmode none; ip addr add 10.250.1.0/32 dev flannel.1; ip link set flannel.1 up
bridge fdb append 02:aa:00:00:00:01 dev flannel.1 dst 172.31.9.9 self permanent
ip neigh add 10.250.9.0 lladdr 02:aa:00:00:00:01 dev flannel.1 nud permanent
ip route add 10.250.9.0/24 via 10.250.9.0 dev flannel.1 onlink
ip link add vxlan.calico type vxlan id 4096 dstport 4789 dev eth0 nolearning
ip link set vxlan.calico addrgenmode none; ip link set vxlan.calico up
for table in 199 200 201 202; do ip route add 198.51.100.0/24 via 172.31.0.1 table $table proto static; done
ip -6 route add 2001:db8:77::/48 via fd00:ac1f::1 table 200 proto static
ip rule add pref 198 from 198.51.100.0/24 lookup 202
ip rule add pref 201 to 203.0.113.0/24 lookup main
ip -6 rule add pref 201 to 2001:db8:77::/48 lookup main
ip nexthop add id 5 via 172.31.0.1 dev eth0
ip nexthop add id 193000003 via 172.31.0.1 dev eth0
nft -f - <<'END'
table inet strangers {
  set theirs { type ipv4_addr; elements = { 192.0.2.9 } }
  chain forward { type filter hook forward priority 5; policy accept; ip daddr @theirs counter drop; }
}
END
iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -s 192.0.2.0/24 -j DROP
ip6tables-legacy -P FORWARD DROP; ip6tables-legacy -A FORWARD -j DROP
iptables-nft -A FORWARD -s 192.0.2.0/24 -j REJECT
# where the kernel has it
ip xfrm policy add src 192.0.2.1/32 dst 192.0.2.2/32 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 77 mode tunnel 2>/dev/null || true
";
/// As firewalld does it: the whole table in one transaction, and a rejection at the end of its chain.
const FIREWALLD: &str = "nft -f - <<'END'
table inet firewalld { }
delete table inet firewalld
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state established,related accept
    iifname \"lo\" accept
    reject with icmpx admin-prohibited
  }
}
END
";
/// Of each of them what the dump must show: what it does not show is not compared.
const SHOWN: [&str; 18] = [
    "flannel.1: <",
    "vxlan id 4096",
    "10.250.1.0/32",
    "dst 172.31.9.9",
    "10.250.9.0 dev flannel.1 lladdr",
    "198.51.100.0/24 via 172.31.0.1 dev eth0 table 199",
    "198.51.100.0/24 via 172.31.0.1 dev eth0 table 200",
    "2001:db8:77::/48 via",
    "198:",
    "to 203.0.113.0/24",
    "to 2001:db8:77::/48",
    "id 5 via",
    "id 193000003 via",
    "table inet strangers",
    "table inet firewalld",
    "-A FORWARD -s 192.0.2.0/24 -j DROP",
    "-A FORWARD -j DROP",
    "eth0 rp_filter",
];
/// As it was before they came.
const STRANGERS_GONE: &str = "ip link del flannel.1; ip link del vxlan.calico
for table in 199 200 201 202; do ip route del 198.51.100.0/24 table $table proto static; done
ip -6 route del 2001:db8:77::/48 table 200
ip rule del pref 198; ip rule del pref 201; ip -6 rule del pref 201; ip nexthop del id 5; ip nexthop del id 193000003
nft delete table inet strangers; nft delete table inet firewalld
iptables-legacy -F FORWARD; iptables-legacy -P FORWARD ACCEPT; ip6tables-legacy -F FORWARD; ip6tables-legacy -P FORWARD ACCEPT
iptables-nft -D FORWARD -s 192.0.2.0/24 -j REJECT; ip xfrm policy flush 2>/dev/null; true";
/// Everything of a host, without counters, handles and indexes; what ages is nobody's.
const DUMP: &str = "ip -o -d link | sed 's/^[0-9]*: //; s/ state [A-Z]* / /; s/@if[0-9]*//; s/link-netnsid [0-9]*//; s/bridge forward_delay.*//; s/bridge_slave.*//; s/numtxqueues.*//'
ip -o address | sed 's/^[0-9]*: //' | grep -v 'valid_lft [0-9]'
for f in -4 -6; do ip $f route show table all; ip $f rule; done | grep -v expires
ip nexthop; ip neigh show nud permanent; bridge fdb | grep -v 33:33 | grep -v '01:00:5e'
nft -s list ruleset; iptables-legacy-save | grep -v '^#' | sed 's/\\[.*\\]//'; ip6tables-legacy-save | grep -v '^#' | sed 's/\\[.*\\]//'
ip xfrm policy 2>/dev/null; ip xfrm state 2>/dev/null
for d in all default eth0 cni0; do for s in rp_filter forwarding; do echo $d $s $(cat /proc/sys/net/ipv4/conf/$d/$s); done; done";

fn foreign_kept(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let (world, name, rounds) = (drill.world, drill.name, drill.rounds);
    let rows = std::thread::scope(|scope| {
        let rows = NODES.map(|(place, mode, ours)| {
            scope.spawn(move || {
                let mut row = Row::of(name, mode, rounds);
                let host = Host { world, place, ours };
                for _ in 0..rounds {
                    let lived = host.life(&mut row);
                    world.sh(place, STRANGERS_GONE)?;
                    // an agent that was held goes on, whatever became of the round
                    host.agent()?.signal(Signal::SIGCONT);
                    lived?;
                }
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
    ours: &'static str,
}

impl Host<'_> {
    fn agent(&self) -> Result<Running> {
        let found = running(&self.world.sandbox, &format!("agent-{}", self.place))?;
        found.into_iter().next().with_context(|| format!("there is no agent on {}", self.place))
    }

    fn dump(&self) -> Result<Vec<String>> {
        Ok(self.world.sh(self.place, DUMP)?.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Takes everything of ours away, while the agent is held so that it does not repair it.
    fn cleanup(&self) -> Result<()> {
        self.agent()?.signal(Signal::SIGSTOP);
        let program = self.world.programs.path(AGENT).display().to_string();
        let state = self.world.sandbox.state().agent_directory(self.place).display().to_string();
        self.world.sh(self.place, &format!("{program} cleanup --state-directory {state}")).map(drop)
    }

    /// From a host with nothing of ours to a host with nothing of ours.
    fn life(&self, row: &mut Row) -> Result<()> {
        self.cleanup()?;
        self.world.sh(self.place, &format!("{STRANGERS}{FIREWALLD}"))?;
        let before = self.dump()?;
        if let Some(missing) = SHOWN.iter().find(|words| !before.iter().any(|line| line.contains(*words))) {
            bail!("{}: the dump does not show {missing:?} of the strangers", self.place);
        }

        self.agent()?.signal(Signal::SIGCONT);
        self.installed()?;
        self.nothing_is_gone("install", &before, row)?;

        self.world.sh(
            self.place,
            "ip link del vx-bridge; ip route flush table 200 proto 193; nft delete table inet clusterlink",
        )?;
        self.installed()?;
        self.nothing_is_gone("repair", &before, row)?;

        self.world.sh(self.place, FIREWALLD)?;
        self.installed()?;
        self.nothing_is_gone("reload of firewalld", &before, row)?;

        let agent = self.agent()?;
        agent.signal(Signal::SIGTERM);
        agent.wait_restarted(&self.world.sandbox)?;
        self.installed()?;
        self.nothing_is_gone("restart", &before, row)?;

        self.cleanup()?;
        self.nothing_is_gone("cleanup", &before, row)?;
        let after = self.dump()?;
        let left: Vec<&String> = after.iter().filter(|line| !before.contains(line)).take(5).collect();
        if !left.is_empty() {
            row.problems.push(format!("{}: cleanup leaves {left:?}", self.place));
        }
        Ok(())
    }

    /// Waits until the overlay is there, with an accept in every chain that drops.
    fn installed(&self) -> Result<()> {
        self.world.eventually(|| {
            let routes = self.world.sh(self.place, "ip route show table 200 proto 193")?;
            let table = self.world.sh(self.place, "nft list table inet clusterlink")?;
            let accepts = [
                "nft list table inet firewalld",
                "iptables-legacy -S FORWARD",
                "ip6tables-legacy -S FORWARD",
                "iptables-nft -S FORWARD",
                "ip6tables-nft -S FORWARD",
            ];
            for chain in accepts {
                if !self.world.sh(self.place, chain)?.contains("clusterlink") {
                    bail!("{}: `{chain}` shows no accept of ours", self.place);
                }
            }
            if routes.contains(self.ours) && table.contains("mesh") {
                Ok(())
            } else {
                bail!("{}: the overlay is not there: {routes}", self.place)
            }
        })
    }

    fn nothing_is_gone(&self, after: &str, before: &[String], row: &mut Row) -> Result<()> {
        let now = self.dump()?;
        let gone: Vec<&String> = before.iter().filter(|line| !now.contains(line)).take(5).collect();
        if !gone.is_empty() {
            row.problems.push(format!("{}: after {after} these are gone: {gone:?}", self.place));
        }
        Ok(())
    }
}
