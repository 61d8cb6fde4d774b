//! One pass of an agent, in whatever container it is started: `one_pass DIRECTORY-OF-/proc/sys/net`. tests/pod.rs starts it.
#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::path::PathBuf;

use agent::{Known, RealKernel, Spec};

/// A P2P node with one peer.
const CONFIG: &str = r#"
devices:
- {type: vxlan, name: vx-bridge, addr: 241.31.3.1/32, mac: "02:54:f1:1f:03:01", bindDev: eth0, id: 54, port: 4876}
routes:
- {cidr: 10.2.0.0/16, gw: 241.31.2.1, dev: vx-bridge}
fdbs:
- {ip: 172.31.2.101, mac: "02:54:f1:1f:02:01", dev: vx-bridge}
arps:
- {ip: 241.31.2.1, mac: "02:54:f1:1f:02:01", dev: vx-bridge}
firewall: {podCIDRs: [10.1.0.0/16], nodePodCIDRs: [10.1.1.0/24], remoteCIDRs: [10.2.0.0/16]}
"#;

fn main() -> anyhow::Result<()> {
    println!("began");
    let settings = PathBuf::from(std::env::args_os().nth(1).expect("one_pass DIRECTORY"));
    let spec = Spec::validate(&agent::config::parse(CONFIG).map_err(anyhow::Error::msg)?);
    let mut kernel = RealKernel::open_with(&settings)?;
    let report = agent::pass(&mut kernel, &spec, &Known::default())?;
    println!("desired: {}", report.desired);
    for difference in report.differing {
        println!("differs: {difference}");
    }
    Ok(())
}
