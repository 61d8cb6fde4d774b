//! The control plane away: API servers that do not answer, and controllers that die.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::processes::running;
use crate::world::World;

/// No API server answers anybody while everything that asks them is killed and started again.
pub(super) const APIS_GONE: Scenario = Scenario {
    name: "apis-gone",
    what: "no API server answers, silent or refusing, while agents and controllers are killed twice",
    few: 1,
    full: 10,
    run: apis_gone,
};

/// Both kinds of controllers are killed.
pub(super) const CONTROLLERS_KILLED: Scenario = Scenario {
    name: "controllers-killed",
    what: "network-manager and controller-managers are killed and started again",
    few: 1,
    full: 30,
    run: controllers_killed,
};

/// How long nobody answers after the last kill.
const AWAY: Duration = Duration::from_secs(2);

fn apis_gone(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    drill.lossless(|drill, round| {
        let how = if round % 2 == 0 { "drop" } else { "reject with tcp reset" };
        drill.mark(format!("round {round}: API servers go away ({how}), everybody is killed"));
        block(drill.world, how)?;
        let killed = killed_twice(drill.world);
        drill.mark(format!("round {round}: API servers come back"));
        unblock(drill.world)?;
        killed?;
        drill.world.settle()
    })
}

fn killed_twice(world: &World) -> Result<()> {
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut all = running(&world.sandbox, "agent-")?;
        all.extend(running(&world.sandbox, "controller-manager-")?);
        all.extend(running(&world.sandbox, "network-manager")?);
        all.iter().for_each(|process| process.signal(signal));
        all.iter().try_for_each(|process| process.wait_restarted(&world.sandbox))?;
        thread::sleep(AWAY);
    }
    Ok(())
}

/// The API servers listen in the root namespace, beside the controllers: both ways to them pass its input chain.
pub(super) fn block(world: &World, verdict: &str) -> Result<()> {
    let rules = format!(
        "nft -f - <<'END'
table inet drill {{
    chain input {{
        type filter hook input priority -300; policy accept;
        tcp dport 6443-6499 {verdict}
    }}
}}
END"
    );
    world.sh("root", &rules).map(drop)
}

pub(super) fn unblock(world: &World) -> Result<()> {
    world.sh("root", "nft delete table inet drill").map(drop)
}

fn controllers_killed(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    drill.lossless(|drill, round| {
        let world = drill.world;
        let mut all = running(&world.sandbox, "controller-manager-")?;
        all.extend(running(&world.sandbox, "network-manager")?);
        drill.mark(format!("round {round}: kill -9 of every controller"));
        for controller in &all {
            thread::sleep(drill.random.within(Duration::from_millis(50)));
            controller.signal(Signal::SIGKILL);
        }
        all.iter().try_for_each(|controller| controller.wait_restarted(&world.sandbox))?;
        world.settle()
    })
}
