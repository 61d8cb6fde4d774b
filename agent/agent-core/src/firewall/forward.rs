//! Which chains of others drop what is forwarded, and whether our accept stands in them where it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::Family;
use serde_json::{Value, json};

use super::{COMMENT, TABLE_NAME};

/// Engines of network policy and of services: their chains drop what *they* mean to drop, and an accept before
/// them would lift the policy. Ours stands behind them.
const POLICY_CHAINS: [&str; 3] = ["cali-", "KUBE-ROUTER", "CILIUM_"];
const POLICY_TABLES: [&str; 2] = ["calico", "kube-proxy"];

/// A base chain of somebody else on the forward hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForwardChain {
    /// Chain FORWARD of an iptables table.
    Iptables {
        /// `iptables` or `ip6tables`.
        family: Family,
        /// Which kernel interface holds it.
        legacy: bool,
        /// Its table, `filter` nearly always.
        table: String,
    },
    /// A chain of nftables.
    Nft {
        /// `ip`, `ip6` or `inet`.
        family: String,
        /// Its table.
        table: String,
        /// Its name.
        chain: String,
    },
}

impl fmt::Display for ForwardChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardChain::Iptables { family, legacy, table } => {
                let program = if *family == Family::V4 { "iptables" } else { "ip6tables" };
                let backend = if *legacy { "legacy" } else { "nft" };
                write!(f, "{program}-{backend} chain FORWARD of table {table}")
            }
            ForwardChain::Nft { family, table, chain } => write!(f, "nft chain {family} {table} {chain}"),
        }
    }
}

/// What a chain does to a forwarded packet that nobody accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainState {
    /// It may be dropped, by the policy or by a rule.
    pub drops: bool,
    /// Our accept in it.
    pub accept: Accept,
}

/// Our accept in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// There is none.
    Absent,
    /// One, before every drop, of these mark bits.
    InPlace(u32),
    /// One too many, behind a drop, or not of our making any more.
    Wrong,
}

/// A rule, as far as the question goes.
#[derive(Clone, Debug, Default)]
struct Verdict {
    drops: bool,
    targets: Vec<String>,
    /// Our accept, of these bits (zero where it cannot be read).
    ours: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Chains {
    rules: BTreeMap<String, Vec<Verdict>>,
    dropping_policy: BTreeSet<String>,
}

impl Chains {
    fn state(&self, chain: &str) -> ChainState {
        let rules = self.rules.get(chain).map_or(&[][..], Vec::as_slice);
        let drop_at = rules.iter().position(|rule| self.may_drop(rule));
        let ours: Vec<(usize, u32)> =
            rules.iter().enumerate().filter_map(|(at, rule)| Some((at, rule.ours?))).collect();
        let accept = match ours.as_slice() {
            [] => Accept::Absent,
            [(at, mark)] if *mark != 0 && drop_at.is_none_or(|drop| *at < drop) => Accept::InPlace(*mark),
            _ => Accept::Wrong,
        };
        let drops = self.dropping_policy.contains(chain) || drop_at.is_some();
        ChainState { drops, accept }
    }

    fn may_drop(&self, rule: &Verdict) -> bool {
        rule.drops || rule.targets.iter().any(|target| self.chain_drops(target, &mut BTreeSet::new()))
    }

    fn chain_drops(&self, chain: &str, seen: &mut BTreeSet<String>) -> bool {
        if is_policy_chain(chain) || !seen.insert(chain.to_owned()) {
            return false;
        }
        self.rules
            .get(chain)
            .into_iter()
            .flatten()
            .any(|rule| rule.drops || rule.targets.iter().any(|target| self.chain_drops(target, seen)))
    }
}

fn is_policy_chain(chain: &str) -> bool {
    POLICY_CHAINS.iter().any(|prefix| chain.starts_with(prefix))
}

/// Chain FORWARD in what `iptables -t TABLE -S` printed; `None` where there is no such chain.
pub fn iptables_chain(listing: &str) -> Option<ChainState> {
    let chains = iptables_chains(listing);
    chains.rules.contains_key("FORWARD").then(|| chains.state("FORWARD"))
}

/// Where our accept goes in chain FORWARD, counted from one: to the top, behind the engines of network policy.
pub fn iptables_position(listing: &str) -> i32 {
    let chains = iptables_chains(listing);
    let rules = chains.rules.get("FORWARD").map_or(&[][..], Vec::as_slice);
    let engines = rules.iter().take_while(|rule| rule.targets.iter().any(|target| is_policy_chain(target)));
    i32::try_from(engines.count()).unwrap_or(0) + 1
}

fn iptables_chains(listing: &str) -> Chains {
    let mut chains = Chains::default();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["-P", chain, policy, ..] => {
                chains.rules.entry((*chain).to_owned()).or_default();
                if *policy == "DROP" {
                    chains.dropping_policy.insert((*chain).to_owned());
                }
            }
            ["-A", chain, rule @ ..] => {
                chains.rules.entry((*chain).to_owned()).or_default().push(iptables_rule(rule));
            }
            _ => {}
        }
    }
    chains
}

fn iptables_rule(words: &[&str]) -> Verdict {
    let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1));
    let target = after("-j").or_else(|| after("-g")).copied().unwrap_or_default();
    let comment = after("--comment").map(|text| text.trim_matches('"'));
    let ours = (comment == Some(COMMENT)).then(|| match (words, after("--mark")) {
        (["-m", "mark", ..], Some(mark)) if target == "ACCEPT" => mark_of(mark),
        _ => 0,
    });
    let targets = if target.is_empty() { Vec::new() } else { vec![target.to_owned()] };
    Verdict { drops: matches!(target, "DROP" | "REJECT"), targets, ours }
}

/// `0x20000/0x20000`: the same bits as value and as mask.
fn mark_of(text: &str) -> u32 {
    let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    match text.split_once('/') {
        Some((value, mask)) if number(value) == number(mask) => number(value).unwrap_or(0),
        _ => 0,
    }
}

/// The forward base chains of others in what `nft -j list chains` printed, except those of policy engines.
pub fn nft_forward_chains(listing: &Value) -> Vec<ForwardChain> {
    let chains = listing["nftables"].as_array().into_iter().flatten().map(|object| &object["chain"]);
    let text = |chain: &Value, key: &str| chain[key].as_str().unwrap_or_default().to_owned();
    chains
        .filter(|chain| chain["hook"] == "forward")
        .map(|chain| (text(chain, "family"), text(chain, "table"), text(chain, "name")))
        .filter(|(family, table, _)| {
            matches!(family.as_str(), "ip" | "ip6" | "inet")
                && !POLICY_TABLES.contains(&table.as_str())
                && !(family == "inet" && table == TABLE_NAME)
        })
        .map(|(family, table, chain)| ForwardChain::Nft { family, table, chain })
        .collect()
}

/// A chain in what `nft -j list table FAMILY TABLE` printed.
pub fn nft_chain(listing: &Value, chain: &str) -> ChainState {
    nft_chains(listing).state(chain)
}

/// The accept to insert at the top of a chain.
pub fn nft_accept_rule(family: &str, table: &str, chain: &str, mark: u32) -> Value {
    json!({
        "family": family, "table": table, "chain": chain, "comment": COMMENT,
        "expr": [
            {"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, mark]}, "right": mark}},
            {"accept": null},
        ],
    })
}

/// Handles of the rules of ours in a chain, in their order.
pub fn nft_own_handles(listing: &Value, chain: &str) -> Vec<u64> {
    let rules = listing["nftables"].as_array().into_iter().flatten().map(|object| &object["rule"]);
    rules
        .filter(|rule| rule["chain"] == chain && rule["comment"] == COMMENT)
        .filter_map(|rule| rule["handle"].as_u64())
        .collect()
}

fn nft_chains(listing: &Value) -> Chains {
    let mut chains = Chains::default();
    let mut maps: BTreeMap<String, Value> = BTreeMap::new();
    let objects = || listing["nftables"].as_array().into_iter().flatten();
    for map in objects().filter_map(|object| object.get("map")) {
        maps.insert(format!("@{}", map["name"].as_str().unwrap_or_default()), map["elem"].clone());
    }
    for chain in objects().filter_map(|object| object.get("chain")) {
        let name = chain["name"].as_str().unwrap_or_default().to_owned();
        if chain["policy"] == "drop" {
            chains.dropping_policy.insert(name.clone());
        }
        chains.rules.entry(name).or_default();
    }
    for rule in objects().filter_map(|object| object.get("rule")) {
        let mut verdict = Verdict::default();
        collect_verdicts(&rule["expr"], &maps, &mut verdict);
        if rule["comment"] == COMMENT {
            verdict.ours = Some(nft_mark_of(&rule["expr"]));
        }
        let chain = rule["chain"].as_str().unwrap_or_default().to_owned();
        chains.rules.entry(chain).or_default().push(verdict);
    }
    chains
}

fn collect_verdicts(expression: &Value, maps: &BTreeMap<String, Value>, verdict: &mut Verdict) {
    match expression {
        Value::Array(items) => items.iter().for_each(|item| collect_verdicts(item, maps, verdict)),
        Value::String(text) => {
            if let Some(elements) = maps.get(text) {
                collect_verdicts(elements, &BTreeMap::new(), verdict);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    "drop" | "reject" => verdict.drops = true,
                    // A target of iptables that nft cannot name may drop.
                    "xt" => {
                        verdict.drops |= value.is_null()
                            || (value["type"] == "target"
                                && matches!(value["name"].as_str(), Some("DROP" | "REJECT")));
                    }
                    "jump" | "goto" => verdict.targets.extend(value["target"].as_str().map(str::to_owned)),
                    _ => collect_verdicts(value, maps, verdict),
                }
            }
        }
        _ => {}
    }
}

fn nft_mark_of(expression: &Value) -> u32 {
    let [condition, verdict, ..] = expression.as_array().map_or(&[][..], Vec::as_slice) else { return 0 };
    let condition = &condition["match"];
    let mask = &condition["left"]["&"][1];
    let accepts = verdict.get("accept").is_some();
    if accepts && condition["left"]["&"][0]["meta"]["key"] == "mark" && *mask == condition["right"] {
        return mask.as_u64().and_then(|mask| u32::try_from(mask).ok()).unwrap_or(0);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBE: &str = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-N KUBE-FORWARD\n-N cali-FORWARD\n\
        -A FORWARD -m comment --comment \"cali:x\" -j cali-FORWARD\n\
        -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct -j DROP\n\
        -A cali-FORWARD -j DROP\n";

    #[test]
    fn a_drop_in_a_chain_that_is_jumped_to_counts() {
        let state = iptables_chain(KUBE).unwrap();
        assert_eq!(state, ChainState { drops: true, accept: Accept::Absent });
        // Behind Calico, before kube-proxy.
        assert_eq!(iptables_position(KUBE), 2);
    }

    #[test]
    fn our_accept_counts_before_the_drop_only() {
        let ours = "-A FORWARD -m mark --mark 0x20000/0x20000 -m comment --comment clusterlink -j ACCEPT\n";
        let first = format!("-P FORWARD DROP\n{ours}-A FORWARD -j DROP\n");
        assert_eq!(iptables_chain(&first).unwrap().accept, Accept::InPlace(0x20000));
        let behind = format!("-P FORWARD DROP\n-A FORWARD -j DROP\n{ours}");
        assert_eq!(iptables_chain(&behind).unwrap().accept, Accept::Wrong);
        let twice = format!("-P FORWARD DROP\n{ours}{ours}");
        assert_eq!(iptables_chain(&twice).unwrap().accept, Accept::Wrong);
        let bare = "-P FORWARD ACCEPT\n-A FORWARD -m comment --comment clusterlink -j ACCEPT\n";
        assert_eq!(iptables_chain(bare).unwrap(), ChainState { drops: false, accept: Accept::Wrong });
    }

    #[test]
    fn verdict_maps_and_foreign_targets_of_nft_count() {
        let rule = |expr: Value| json!({"rule": {"chain": "fwd", "expr": [expr]}});
        let chain = json!({"chain": {"name": "fwd", "hook": "forward", "policy": "accept"}});
        let listing = |expr: Value| json!({"nftables": [chain, rule(expr)]});
        let vmap = json!({"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", {"drop": null}]]}}});
        assert!(nft_chain(&listing(vmap), "fwd").drops);
        assert!(nft_chain(&listing(json!({"xt": {"type": "target", "name": "REJECT"}})), "fwd").drops);
        assert!(!nft_chain(&listing(json!({"xt": {"type": "match", "name": "comment"}})), "fwd").drops);
        assert!(!nft_chain(&listing(json!({"accept": null})), "fwd").drops);
    }

    #[test]
    fn our_nft_accept_is_read_back() {
        let mut rule = nft_accept_rule("inet", "fw", "fwd", 0x20000);
        rule["handle"] = json!(7);
        let listing = json!({"nftables": [
            {"chain": {"name": "fwd", "hook": "forward", "policy": "drop"}},
            {"rule": rule},
        ]});
        assert_eq!(nft_chain(&listing, "fwd"), ChainState { drops: true, accept: Accept::InPlace(0x20000) });
        assert_eq!(nft_own_handles(&listing, "fwd"), [7]);
    }
}
