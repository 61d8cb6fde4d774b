//! The rules of our table, from the sets of a NodeConfig.
//!
//! | chain | priority | what, and why |
//! |---|---|---|
//! | `prerouting` | raw | on gateways, transit is not tracked: two active gateways make paths asymmetric, and what conntrack calls INVALID others drop |
//! | `forward` | filter − 10 | refuses pairs that cannot be answered, and to pass on outside of the tunnels what came in by one and is for nobody here; clamps MSS, marks what is ours |
//! | `output` | filter − 10 | refuses the same pairs for the host itself |
//! | `postrouting` | srcnat − 10 | identity SNAT: the source survives every later masquerade; masquerade of what was translated to an own service, so that its answer comes back here |

use std::collections::BTreeMap;

use api::Family;
use api::vtep::{Plane, Vtep};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::networks::{Ranges, disjoint};
use super::table::{Chain, Set, Table, canonical, literal};
use crate::spec::FirewallSpec;

/// Before the filters of others.
const FILTER: i64 = -10;
/// Before connection tracking.
const RAW: i64 = -300;
/// Before the masquerades of others: the first nat chain that binds a source wins.
const SRCNAT: i64 = 90;
/// The chain that a gateway alone has.
pub(super) const TRANSIT: &str = "prerouting";

/// A device as far as rules are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Which one.
    pub device: Vtep,
    /// Its MTU.
    pub mtu: u32,
}

/// Our table. `own_addresses` are this node's overlay addresses.
pub fn table(spec: &FirewallSpec, tunnels: &[Tunnel], own_addresses: &[IpNetwork]) -> Table {
    let mut chains = BTreeMap::from([
        ("forward".to_owned(), forward(spec, tunnels)),
        ("mesh".to_owned(), mesh(spec.mark)),
        ("output".to_owned(), base("filter", "output", FILTER, refusals(spec))),
        ("postrouting".to_owned(), postrouting(spec)),
        ("strays".to_owned(), strays()),
    ]);
    if spec.transit {
        chains.insert(TRANSIT.to_owned(), prerouting());
    }
    let chains = chains.into_iter().map(|(name, chain)| (name, in_canonical_form(chain))).collect();
    Table { sets: sets(spec, own_addresses), chains, strange: Vec::new() }
}

/// The chain by which transit is not tracked, as a table holds it.
pub(super) fn untracked() -> Chain {
    in_canonical_form(prerouting())
}

fn in_canonical_form(mut chain: Chain) -> Chain {
    for rule in &mut chain.rules {
        *rule = canonical(rule);
    }
    chain
}

fn sets(spec: &FirewallSpec, own_addresses: &[IpNetwork]) -> BTreeMap<String, Set> {
    let names = |plane: Option<Plane>| {
        let devices = Vtep::ALL.into_iter().filter(|vtep| plane.is_none_or(|plane| vtep.plane() == plane));
        Set::Names(devices.map(|vtep| vtep.name().to_owned()).collect())
    };
    let own: Vec<IpNetwork> = [&spec.pods[..], &spec.overlay].concat();
    let here: Vec<IpNetwork> = [&spec.node_pods[..], own_addresses].concat();
    let mut sets = BTreeMap::from([
        ("tunnels".to_owned(), names(None)),
        ("bridge-tunnels".to_owned(), names(Some(Plane::Bridge))),
        ("local-tunnels".to_owned(), names(Some(Plane::Local))),
    ]);
    for family in Family::ALL {
        let lists = [
            ("own", &own),
            ("here", &here),
            ("pods", &spec.pods),
            ("services", &spec.services),
            ("remote", &spec.remote),
        ];
        for (name, networks) in lists {
            let of_family = networks.iter().filter(|network| Family::of_network(**network) == family);
            sets.insert(set_name(name, family), Set::Addresses(family, Ranges::of(of_family)));
        }
    }
    sets
}

/// Transit, both ways: between remote addresses and own ones of *other* nodes. What is of this node passes here in
/// both directions and stays tracked, and so does what is for a service. What comes *from* a service was translated back
/// by a node that sends by this one now: tracked here, it would pass for a connection of that service's own, and the
/// packets to the service, should they come here too, for its answers.
fn prerouting() -> Chain {
    let mut rules = Vec::new();
    for family in Family::ALL {
        rules.push(json!([
            interface("iifname", "bridge-tunnels"),
            within(family, "saddr", "remote"),
            within(family, "daddr", "own"),
            outside(family, "daddr", "here"),
            {"notrack": null},
        ]));
        rules.push(json!([
            interface("iifname", "local-tunnels"),
            within(family, "saddr", "own"),
            outside(family, "saddr", "here"),
            within(family, "daddr", "remote"),
            {"notrack": null},
        ]));
        rules.push(json!([
            interface("iifname", "local-tunnels"),
            within(family, "saddr", "services"),
            within(family, "daddr", "remote"),
            {"notrack": null},
        ]));
    }
    base("filter", TRANSIT, RAW, rules)
}

fn forward(spec: &FirewallSpec, tunnels: &[Tunnel]) -> Chain {
    let mut rules = refusals(spec);
    rules.push(json!([
        interface("iifname", "tunnels"),
        differs(json!({"meta": {"key": "oifname"}}), "tunnels"),
        {"jump": {"target": "strays"}},
    ]));
    rules.push(json!([interface("oifname", "tunnels"), syn(), clamp(json!({"rt": {"key": "mtu"}}))]));
    // What comes in goes on by a device with a larger MTU; the kernel only ever lowers an MSS.
    for tunnel in tunnels {
        for (family, headers) in [("ipv4", 40), ("ipv6", 60)] {
            rules.push(json!([
                matches(json!({"meta": {"key": "iifname"}}), json!(tunnel.device.name())),
                matches(json!({"meta": {"key": "nfproto"}}), json!(family)),
                syn(),
                clamp(json!(tunnel.mtu.saturating_sub(headers))),
            ]));
        }
    }
    for direction in ["iifname", "oifname"] {
        rules.push(json!([interface(direction, "tunnels"), {"goto": {"target": "mesh"}}]));
    }
    base("filter", "forward", FILTER, rules)
}

/// What came in by a tunnel for somebody whom this node does not know (yet, or any more) is not left to its default route. A
/// service may have its backend anywhere, and an answer goes where the question came from. What is not tracked is neither.
fn strays() -> Chain {
    let reject = json!({"reject": {"type": "icmpx", "expr": "no-route"}});
    let rules = Family::ALL.into_iter().flat_map(|family| {
        let tracked = json!([
            outside(family, "daddr", "own"),
            outside(family, "daddr", "services"),
            matches(json!({"ct": {"key": "direction"}}), json!("original")),
            {"match": {"op": "!=", "left": {"&": [{"ct": {"key": "status"}}, "dnat"]}, "right": "dnat"}},
            reject,
        ]);
        let untracked = json!([
            outside(family, "daddr", "own"),
            {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "untracked"}},
            reject,
        ]);
        [tracked, untracked]
    });
    Chain { base: None, rules: rules.collect() }
}

fn mesh(mark: u32) -> Chain {
    let mut rules = Vec::new();
    for family in Family::ALL {
        for (from, to) in [("own", "own"), ("own", "remote"), ("remote", "own"), ("services", "remote")] {
            rules.push(json!([
                within(family, "saddr", from),
                within(family, "daddr", to),
                {"mangle": {
                    "key": {"meta": {"key": "mark"}},
                    "value": {"|": [{"meta": {"key": "mark"}}, mark]},
                }},
            ]));
        }
    }
    Chain { base: None, rules }
}

/// What a refused pair's source would open. An answer may go the same way, to somebody who asked for a service: the
/// address that was asked for is put back only after the filter.
fn refusals(spec: &FirewallSpec) -> Vec<Value> {
    let refuse = |(from, to): &(IpNetwork, IpNetwork)| {
        json!([
            matches(json!({"ct": {"key": "direction"}}), json!("original")),
            matches(address(Family::of_network(*from), "saddr"), literal(*from)),
            matches(address(Family::of_network(*to), "daddr"), literal(*to)),
            {"reject": {"type": "icmpx", "expr": "admin-prohibited"}},
        ])
    };
    spec.refused.iter().map(refuse).collect()
}

fn postrouting(spec: &FirewallSpec) -> Chain {
    let mut rules = Vec::new();
    for family in Family::ALL {
        rules.push(json!([
            interface("iifname", "bridge-tunnels"),
            matches(json!({"&": [{"ct": {"key": "status"}}, "dnat"]}), json!("dnat")),
            matches(
                json!({"ct": {"key": format!("{} daddr", protocol(family)), "dir": "original"}}),
                json!(format!("@{}", set_name("services", family))),
            ),
            {"masquerade": null},
        ]));
    }
    for family in Family::ALL {
        let pods = disjoint(&spec.pods, family);
        if pods.is_empty() {
            continue;
        }
        let pairs: Vec<Value> = pods.iter().map(|pod| json!([literal(*pod), literal(*pod)])).collect();
        rules.push(json!([
            interface("oifname", "tunnels"),
            within(family, "saddr", "pods"),
            within(family, "daddr", "remote"),
            {"snat": {
                "family": protocol(family),
                "addr": {"map": {"key": address(family, "saddr"), "data": {"set": pairs}}},
                "flags": "netmap",
                "type_flags": "prefix",
            }},
        ]));
    }
    base("nat", "postrouting", SRCNAT, rules)
}

fn base(kind: &str, hook: &str, priority: i64, rules: Vec<Value>) -> Chain {
    Chain { base: Some((kind.to_owned(), hook.to_owned(), priority)), rules }
}

fn set_name(name: &str, family: Family) -> String {
    format!("{name}{}", if family == Family::V4 { 4 } else { 6 })
}

fn protocol(family: Family) -> &'static str {
    if family == Family::V4 { "ip" } else { "ip6" }
}

fn address(family: Family, field: &str) -> Value {
    json!({"payload": {"protocol": protocol(family), "field": field}})
}

fn matches(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn interface(direction: &str, set: &str) -> Value {
    matches(json!({"meta": {"key": direction}}), json!(format!("@{set}")))
}

fn within(family: Family, field: &str, set: &str) -> Value {
    matches(address(family, field), json!(format!("@{}", set_name(set, family))))
}

fn outside(family: Family, field: &str, set: &str) -> Value {
    differs(address(family, field), &set_name(set, family))
}

fn differs(left: Value, set: &str) -> Value {
    json!({"match": {"op": "!=", "left": left, "right": format!("@{set}")}})
}

fn syn() -> Value {
    json!({"match": {"op": "in", "left": {"payload": {"protocol": "tcp", "field": "flags"}}, "right": "syn"}})
}

fn clamp(size: Value) -> Value {
    json!({"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": size}})
}
