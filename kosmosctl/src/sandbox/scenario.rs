//! The scenario as flags.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use sandbox::scenario::{ClusterScenario, ControlPlane, Firewall, Proxy, Scenario, ScenarioError};

/// Flags that make a scenario; what a file says is overridden by flags.
#[derive(Args)]
pub(crate) struct ScenarioArgs {
    /// A YAML file to begin with; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Clusters: `NAME[:gateway|p2p[:NODES[:GATEWAYS]]]`, separated by commas; default `a:gateway:3:2,b:gateway:3:1,c:p2p:2`.
    #[arg(long, value_delimiter = ',', value_name = "CLUSTER")]
    clusters: Vec<ClusterScenario>,
    /// Families of pods, services and the underlay [default: ipv4,ipv6].
    #[arg(long, value_delimiter = ',', value_name = "FAMILY", value_parser = family)]
    families: Vec<api::Family>,
    /// A cluster's pod CIDR; one for each family.
    #[arg(long, value_name = "CLUSTER=CIDR", value_parser = assignment)]
    pod_cidr: Vec<(String, String)>,
    /// A cluster's service CIDR; one for each family.
    #[arg(long, value_name = "CLUSTER=CIDR", value_parser = assignment)]
    service_cidr: Vec<(String, String)>,
    /// Gateways of every cluster in gateway mode [default: 2].
    #[arg(long)]
    gateways: Option<u16>,
    /// Pods on each node [default: 1].
    #[arg(long)]
    pods_per_node: Option<u16>,
    /// MTU of the underlay, in bytes [default: 1500].
    #[arg(long)]
    mtu: Option<u32>,
    /// What the nodes' CNI and kube-proxy speak to [default: iptables].
    #[arg(long, value_enum)]
    firewall: Option<Firewall>,
    /// Whose API servers, and with them whose kube-proxy, CNI and kubelet [default: embedded].
    #[arg(long, value_enum)]
    control_plane: Option<ControlPlane>,
    /// Mode of a real kube-proxy [default: iptables].
    #[arg(long, value_enum)]
    proxy: Option<Proxy>,
    /// kube-proxy is not told the pods' CIDR.
    #[arg(long)]
    without_proxy_cluster_cidr: bool,
}

fn family(text: &str) -> Result<api::Family, String> {
    match text {
        "ipv4" => Ok(api::Family::V4),
        "ipv6" => Ok(api::Family::V6),
        _ => Err("write ipv4 or ipv6".to_owned()),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (cluster, cidr) = text.split_once('=').ok_or("write CLUSTER=CIDR, for instance a=10.1.0.0/16")?;
    Ok((cluster.to_owned(), cidr.to_owned()))
}

impl ScenarioArgs {
    /// The scenario, valid or with the first field that is not.
    pub(crate) fn scenario(&self) -> Result<Scenario> {
        let mut scenario = self.file()?.unwrap_or_default();
        self.apply(&mut scenario)?;
        scenario.layout()?;
        Ok(scenario)
    }

    fn file(&self) -> Result<Option<Scenario>> {
        let Some(path) = &self.scenario else { return Ok(None) };
        let text = match path.as_os_str().to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()).context("standard input")?,
            _ => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        };
        Ok(Some(Scenario::from_yaml(&text).with_context(|| path.display().to_string())?))
    }

    fn apply(&self, scenario: &mut Scenario) -> Result<(), ScenarioError> {
        if !self.clusters.is_empty() {
            scenario.clusters.clone_from(&self.clusters);
        }
        if !self.families.is_empty() {
            scenario.families.clone_from(&self.families);
        }
        scenario.pods_per_node = self.pods_per_node.unwrap_or(scenario.pods_per_node);
        scenario.mtu = self.mtu.unwrap_or(scenario.mtu);
        scenario.firewall = self.firewall.unwrap_or(scenario.firewall);
        scenario.control_plane = self.control_plane.unwrap_or(scenario.control_plane);
        scenario.proxy = self.proxy.unwrap_or(scenario.proxy);
        scenario.proxy_cluster_cidr &= !self.without_proxy_cluster_cidr;
        if let Some(gateways) = self.gateways {
            let gateway_mode = |cluster: &&mut ClusterScenario| cluster.mode == api::NetworkType::Gateway;
            scenario
                .clusters
                .iter_mut()
                .filter(gateway_mode)
                .for_each(|cluster| cluster.gateways = Some(gateways));
        }
        for (cluster, cidr) in &self.pod_cidr {
            scenario.cluster_mut(cluster, "--pod-cidr")?.pod_cidrs.push(cidr.clone());
        }
        for (cluster, cidr) in &self.service_cidr {
            scenario.cluster_mut(cluster, "--service-cidr")?.service_cidrs.push(cidr.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        scenario: ScenarioArgs,
    }

    fn scenario(args: &str) -> Result<Scenario> {
        let args = std::iter::once("x").chain(args.split(' ').filter(|arg| !arg.is_empty()));
        Cli::try_parse_from(args)?.scenario.scenario()
    }

    #[test]
    fn no_flags_are_the_default() {
        assert_eq!(scenario("").unwrap(), Scenario::default());
    }

    #[test]
    fn flags_change_what_they_name() {
        let scenario = scenario(
            "--clusters a:gateway:3,b --families ipv4 --pod-cidr b=10.1.0.0/16 --gateways 1 --firewall nft --mtu 9000",
        )
        .unwrap();
        assert_eq!((scenario.clusters[0].gateways, scenario.clusters[1].gateways), (Some(1), None));
        assert_eq!(scenario.clusters[1].pod_cidrs, ["10.1.0.0/16"]);
        assert_eq!((scenario.families.len(), scenario.firewall, scenario.mtu), (1, Firewall::Nft, 9000));
    }

    #[test]
    fn flags_override_a_file() {
        let directory = std::env::temp_dir().join(format!("kosmosctl-scenario-{}", std::process::id()));
        std::fs::write(&directory, "mtu: 4000\npodsPerNode: 2\nclusters:\n- name: z\n").unwrap();
        let scenario = scenario(&format!("--scenario {} --mtu 5000", directory.display())).unwrap();
        std::fs::remove_file(&directory).unwrap();
        assert_eq!((scenario.mtu, scenario.pods_per_node), (5000, 2));
        assert_eq!(scenario.clusters[0].name, "z");
    }

    #[test]
    fn a_wrong_flag_says_what_to_write() {
        for (args, words) in [
            ("--families ipx", "write ipv4 or ipv6"),
            ("--pod-cidr 10.0.0.0/8", "write CLUSTER=CIDR"),
            ("--pod-cidr z=10.0.0.0/8", "there are a, b, c"),
            ("--clusters a:ring", "\"ring\" is not a mode"),
            ("--gateways 9", "from 1 to 3"),
        ] {
            let message = format!("{:#}", scenario(args).unwrap_err());
            assert!(message.contains(words), "{message}");
        }
    }
}
