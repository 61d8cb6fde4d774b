//! Which nodes carry a gateway-mode cluster's traffic: a pure choice that changes as little as it can.
//!
//! Nodes labelled `kosmos.io/gateway=true` come first, all of them, and alone where there are as many as wanted;
//! the rest is filled from the other nodes. A gateway that turns NotReady keeps its role for [`HYSTERESIS`]: its
//! kubelet is silent, which says little about its data plane. One that stays NotReady yields to a ready node, but never to nobody.

use std::{collections::BTreeSet, time::Duration};

use api::{Cluster, ClusterNode, GATEWAY_LABEL, GATEWAY_ROLE, NetworkType};

/// How long a gateway may be NotReady before another node takes its place. Kubernetes itself waits 40 s or more
/// before it says NotReady, so this only rides out a flapping kubelet.
pub const HYSTERESIS: Duration = Duration::from_secs(20);

/// A node that could be a gateway: not excluded, not virtual, with an underlay address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the Node.
    pub name: String,
    /// Whether it is labelled `kosmos.io/gateway=true`.
    pub labelled: bool,
    /// For how long it has been NotReady; `None` while it is ready.
    pub not_ready_for: Option<Duration>,
    /// Whether it bears the role now.
    pub gateway: bool,
}

impl Candidate {
    fn usable(&self) -> bool {
        match self.not_ready_for {
            None => true,
            Some(silence) => self.gateway && silence < HYSTERESIS,
        }
    }
}

/// The gateways of a cluster: `wanted` of them where there are as many usable nodes, more where more are labelled.
///
/// The choice depends on the set of candidates only, not on their order, and is stable: choosing again with
/// the chosen as gateways chooses the same.
pub fn choose(candidates: &[Candidate], wanted: usize) -> BTreeSet<String> {
    let usable = || candidates.iter().filter(|candidate| candidate.usable());
    let mut chosen: BTreeSet<String> =
        usable().filter(|candidate| candidate.labelled).map(|candidate| candidate.name.clone()).collect();
    let mut others: Vec<&Candidate> = usable().filter(|candidate| !candidate.labelled).collect();
    others.sort_by_key(|candidate| (!candidate.gateway, candidate.name.as_str()));
    let missing = wanted.max(1).saturating_sub(chosen.len());
    chosen.extend(others.into_iter().take(missing).map(|candidate| candidate.name.clone()));
    if chosen.is_empty() {
        // Nobody is ready. Taking the role away would cut what may still be forwarding.
        chosen.extend(candidates.iter().filter(|candidate| candidate.gateway).map(|c| c.name.clone()));
    }
    chosen
}

/// When to choose again though nothing happens: the moment at which the next silent gateway may lose its role.
pub fn next_choice_in(candidates: &[Candidate]) -> Option<Duration> {
    let silent = candidates.iter().filter(|candidate| candidate.gateway).filter_map(|c| c.not_ready_for);
    silent.filter_map(|silence| HYSTERESIS.checked_sub(silence)).filter(|left| !left.is_zero()).min()
}

/// Gives gateway-mode clusters without any gateway the gateways that their controller-manager would choose, so that
/// a plan can be made from files alone. Returns the clusters and what was chosen for them.
pub fn fill_roles(clusters: &[Cluster], nodes: &mut [ClusterNode]) -> Vec<(String, BTreeSet<String>)> {
    let mut filled = Vec::new();
    for cluster in clusters {
        let Some(options) = &cluster.spec.cluster_link_options else { continue };
        let Some(name) = &cluster.metadata.name else { continue };
        if !options.enable || options.network_type != NetworkType::Gateway {
            continue;
        }
        let mut own: Vec<&mut ClusterNode> =
            nodes.iter_mut().filter(|node| node.spec.cluster_name.as_ref() == Some(name)).collect();
        if own.is_empty() || own.iter().any(|node| node.spec.is_gateway()) {
            continue;
        }
        let candidates: Vec<Candidate> = own.iter().filter_map(|node| offline_candidate(node)).collect();
        let chosen = choose(&candidates, usize::from(options.gateways));
        for node in &mut own {
            if node.spec.node_name.as_ref().is_some_and(|name| chosen.contains(name)) {
                node.spec.roles.push(GATEWAY_ROLE.to_owned());
            }
        }
        if !chosen.is_empty() {
            filled.push((name.clone(), chosen));
        }
    }
    filled
}

/// A ClusterNode as a candidate where nothing is known of its readiness: one with an address counts as ready.
fn offline_candidate(node: &ClusterNode) -> Option<Candidate> {
    if node.spec.ip.is_none() && node.spec.ip6.is_none() {
        return None;
    }
    let labels = node.metadata.labels.as_ref();
    let labelled = labels.and_then(|labels| labels.get(GATEWAY_LABEL)).is_some_and(|value| value == "true");
    Some(Candidate { name: node.spec.node_name.clone()?, labelled, not_ready_for: None, gateway: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(name: &str) -> Candidate {
        Candidate { name: name.to_owned(), labelled: false, not_ready_for: None, gateway: false }
    }

    fn labelled(name: &str) -> Candidate {
        Candidate { labelled: true, ..ready(name) }
    }

    fn gateway(name: &str, silent: Option<u64>) -> Candidate {
        Candidate { gateway: true, not_ready_for: silent.map(Duration::from_secs), ..ready(name) }
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn labelled_nodes_come_first_and_alone_where_there_are_enough() {
        assert_eq!(choose(&[ready("a"), labelled("y"), labelled("z")], 2), names(["y", "z"]));
        assert_eq!(choose(&[ready("b"), labelled("z"), ready("a")], 2), names(["a", "z"]));
        assert_eq!(choose(&[labelled("x"), labelled("y"), labelled("z")], 2), names(["x", "y", "z"]));
    }

    #[test]
    fn a_gateway_stays_one_when_a_better_name_joins() {
        assert_eq!(choose(&[ready("a"), gateway("m", None), gateway("n", None)], 2), names(["m", "n"]));
    }

    #[test]
    fn the_choice_is_stable_and_does_not_depend_on_order() {
        let mut candidates = vec![ready("c"), ready("a"), labelled("d"), ready("b")];
        let first = choose(&candidates, 3);
        candidates.reverse();
        for candidate in &mut candidates {
            candidate.gateway = first.contains(&candidate.name);
        }
        assert_eq!(choose(&candidates, 3), first);
    }

    #[test]
    fn a_short_silence_costs_no_gateway_its_role_and_a_long_one_does() {
        let silence = HYSTERESIS.as_secs();
        assert_eq!(choose(&[ready("a"), gateway("g", Some(silence - 1))], 1), names(["g"]));
        assert_eq!(choose(&[ready("a"), gateway("g", Some(silence))], 1), names(["a"]));
        assert_eq!(
            next_choice_in(&[gateway("g", Some(silence - 5)), gateway("h", None)]),
            Some(Duration::from_secs(5))
        );
        assert_eq!(next_choice_in(&[gateway("g", Some(silence)), ready("a")]), None);
    }

    #[test]
    fn a_silent_node_never_becomes_a_gateway_and_the_last_gateways_stay() {
        let silent = Candidate { not_ready_for: Some(Duration::ZERO), ..ready("a") };
        assert_eq!(choose(std::slice::from_ref(&silent), 2), names([]));
        assert_eq!(choose(&[silent, gateway("g", Some(3600))], 2), names(["g"]));
    }
}
