//! A table in one canonical form, whether we made it or `nft` listed it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::Family;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use super::TABLE_NAME;
use super::networks::{Ranges, number};

/// The content of our table, without what the kernel adds (handles) and without order where none matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Named sets.
    pub sets: BTreeMap<String, Set>,
    /// Chains.
    pub chains: BTreeMap<String, Chain>,
    /// What a listing showed and we never make; a table of ours with any of this is not as it should be.
    pub strange: Vec<Value>,
}

/// A named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// Names of interfaces.
    Names(BTreeSet<String>),
    /// Addresses.
    Addresses(Family, Ranges),
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Type, hook, priority: of a base chain. Its policy is to accept.
    pub base: Option<(String, String, i64)>,
    /// The expressions of each rule.
    pub rules: Vec<Value>,
}

impl Table {
    /// Whether a listing may be this table in the words of another version of `nft`. One that lacks a rule, or has one too many,
    /// is not: somebody else was at it.
    pub fn may_be_listed_as(&self, listed: &Table) -> bool {
        let rules = |table: &Table| -> Vec<(String, usize)> {
            table.chains.iter().map(|(name, chain)| (name.clone(), chain.rules.len())).collect()
        };
        rules(self) == rules(listed) && self.sets.keys().eq(listed.sets.keys())
    }

    /// The transaction that puts this table in the place of whatever bears its name.
    pub fn replacement(&self) -> Value {
        let name = json!({"family": "inet", "name": TABLE_NAME});
        let mut commands = vec![
            // To delete what may not exist: make it first.
            json!({"add": {"table": name}}),
            json!({"delete": {"table": name}}),
            json!({"add": {"table": name}}),
        ];
        commands.extend(self.sets.iter().map(|(name, set)| json!({"add": {"set": set.document(name)}})));
        commands
            .extend(self.chains.iter().map(|(name, chain)| json!({"add": {"chain": chain.document(name)}})));
        commands.extend(self.rules());
        json!({"nftables": commands})
    }

    fn rules(&self) -> impl Iterator<Item = Value> {
        self.chains.iter().flat_map(|(chain, content)| {
            content.rules.iter().map(
                move |expr| json!({"add": {"rule": {"family": "inet", "table": TABLE_NAME, "chain": chain, "expr": expr}}}),
            )
        })
    }

    /// The transaction that makes this table of one that is there and keeps its base chains hooked in: packets that
    /// are on their way through a chain while that is replaced see neither the old rules nor the new ones. `None`
    /// where the two differ in more than rules and elements.
    pub fn change(&self, present: &Table) -> Option<Value> {
        let same_base = |(name, chain): (&String, &Chain)| {
            self.chains.get(name).is_none_or(|wanted| wanted.base == chain.base)
        };
        let same_type =
            |(name, set): (&String, &Set)| self.sets.get(name).is_none_or(|wanted| wanted.same_type(set));
        let alike = present.strange.is_empty()
            && present.chains.iter().all(same_base)
            && present.sets.iter().all(same_type);
        if !alike {
            return None;
        }
        let object = |name: &String| json!({"family": "inet", "table": TABLE_NAME, "name": name});
        let mut commands: Vec<Value> =
            present.chains.keys().map(|name| json!({"flush": {"chain": object(name)}})).collect();
        let extra_chains = present.chains.keys().filter(|name| !self.chains.contains_key(*name));
        commands.extend(extra_chains.map(|name| json!({"delete": {"chain": object(name)}})));
        let extra_sets = present.sets.keys().filter(|name| !self.sets.contains_key(*name));
        commands.extend(extra_sets.map(|name| json!({"delete": {"set": object(name)}})));
        for (name, set) in self.sets.iter().filter(|(name, set)| present.sets.get(*name) != Some(set)) {
            if present.sets.contains_key(name) {
                commands.push(json!({"flush": {"set": object(name)}}));
            } else {
                commands.push(json!({"add": {"set": set.document(name)}}));
                continue;
            }
            let mut elements = object(name);
            elements["elem"] = Value::Array(set.elements());
            if elements["elem"] != json!([]) {
                commands.push(json!({"add": {"element": elements}}));
            }
        }
        let missing = self.chains.iter().filter(|(name, _)| !present.chains.contains_key(*name));
        commands.extend(missing.map(|(name, chain)| json!({"add": {"chain": chain.document(name)}})));
        commands.extend(self.rules());
        Some(json!({"nftables": commands}))
    }

    /// The transaction that deletes it.
    pub fn deletion() -> Value {
        json!({"nftables": [{"delete": {"table": {"family": "inet", "name": TABLE_NAME}}}]})
    }

    /// What `nft -j list table inet clusterlink` printed.
    pub fn from_listing(listing: &Value) -> Self {
        let mut table = Table::default();
        for object in listing["nftables"].as_array().into_iter().flatten() {
            table.take(object);
        }
        table
    }

    fn take(&mut self, object: &Value) {
        let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else {
            return self.strange.push(object.clone());
        };
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "metainfo" | "table" => {}
            "set" => match Set::from_listing(body) {
                Some(set) => drop(self.sets.insert(name, set)),
                None => self.strange.push(object.clone()),
            },
            "chain" => self.chains.entry(name).or_default().base = base_of(body),
            "rule" => {
                let chain = body["chain"].as_str().unwrap_or_default().to_owned();
                self.chains.entry(chain).or_default().rules.push(canonical(&body["expr"]));
            }
            _ => self.strange.push(object.clone()),
        }
    }
}

/// Policies other than accept are not ours: they make the priority unequal to any that we choose.
fn base_of(body: &Value) -> Option<(String, String, i64)> {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let accepts = body["policy"].as_str().is_none_or(|policy| policy == "accept");
    Some((text("type")?, text("hook")?, if accepts { body["prio"].as_i64()? } else { i64::MIN }))
}

impl Set {
    fn document(&self, name: &str) -> Value {
        let mut set = json!({"family": "inet", "table": TABLE_NAME, "name": name});
        match self {
            Set::Names(_) => set["type"] = json!("ifname"),
            Set::Addresses(family, _) => {
                set["type"] = json!(if *family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" });
                set["flags"] = json!(["interval"]);
            }
        }
        let elements = self.elements();
        if !elements.is_empty() {
            set["elem"] = Value::Array(elements);
        }
        set
    }

    fn elements(&self) -> Vec<Value> {
        match self {
            Set::Names(names) => names.iter().map(|name| json!(name)).collect(),
            Set::Addresses(_, ranges) => ranges.iter().map(|(first, last)| element(first, last)).collect(),
        }
    }

    fn same_type(&self, other: &Set) -> bool {
        match (self, other) {
            (Set::Names(_), Set::Names(_)) => true,
            (Set::Addresses(one, _), Set::Addresses(another, _)) => one == another,
            _ => false,
        }
    }

    fn from_listing(body: &Value) -> Option<Self> {
        let elements = body["elem"].as_array().map_or(&[][..], Vec::as_slice);
        let family = match body["type"].as_str()? {
            "ifname" => {
                let names = elements.iter().map(|name| name.as_str().map(str::to_owned));
                return names.collect::<Option<_>>().map(Set::Names);
            }
            "ipv4_addr" => Family::V4,
            "ipv6_addr" => Family::V6,
            _ => return None,
        };
        let ranges = elements.iter().map(range_of).collect::<Option<Vec<_>>>()?;
        Some(Set::Addresses(family, Ranges::merge(ranges)))
    }
}

impl Chain {
    fn document(&self, name: &str) -> Value {
        let mut chain = json!({"family": "inet", "table": TABLE_NAME, "name": name});
        if let Some((kind, hook, priority)) = &self.base {
            chain["type"] = json!(kind);
            chain["hook"] = json!(hook);
            chain["prio"] = json!(priority);
            chain["policy"] = json!("accept");
        }
        chain
    }
}

fn element(first: IpAddr, last: IpAddr) -> Value {
    if first == last {
        return json!(first.to_string());
    }
    let bits = Family::of(first).bits();
    let size = number(last) - number(first);
    // A range is a prefix where its size is a power of two and its start a multiple of that.
    match size.checked_add(1) {
        Some(count) if count.is_power_of_two() && number(first) & size == 0 => {
            let length = u32::from(bits) - count.trailing_zeros();
            json!({"prefix": {"addr": first.to_string(), "len": length}})
        }
        _ => json!({"range": [first.to_string(), last.to_string()]}),
    }
}

fn range_of(element: &Value) -> Option<(IpAddr, IpAddr)> {
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    if let Some(one) = address(element) {
        return Some((one, one));
    }
    if let Some(prefix) = element.get("prefix") {
        let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
        let network = IpNetwork::new(address(&prefix["addr"])?, length).ok()?;
        return Some((network.network(), network.broadcast()));
    }
    match element.get("range")?.as_array()?.as_slice() {
        [first, last] => Some((address(first)?, address(last)?)),
        _ => None,
    }
}

/// A network as nft prints it inside of a rule.
pub(crate) fn literal(network: IpNetwork) -> Value {
    if network.prefix() == Family::of_network(network).bits() {
        json!(network.ip().to_string())
    } else {
        json!({"prefix": {"addr": network.network().to_string(), "len": network.prefix()}})
    }
}

/// Anonymous sets have no order: sorted, wherever they stand.
pub(crate) fn canonical(expression: &Value) -> Value {
    match expression {
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                let mut value = canonical(value);
                if let (true, Value::Array(items)) = (key == "set", &mut value) {
                    items.sort_by_key(Value::to_string);
                }
                (key.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &[Value]) -> Table {
        let chain = Chain { base: None, rules: rules.to_vec() };
        Table { chains: BTreeMap::from([("mesh".to_owned(), chain)]), ..Table::default() }
    }

    #[test]
    fn other_words_are_believed_and_a_chain_that_somebody_was_at_is_not() {
        let written = table(&[json!({"accept": null}), json!({"drop": null})]);
        assert!(written.may_be_listed_as(&table(&[json!({"accept": 0}), json!({"drop": 0})])));
        for others in [&[][..], &[json!({"accept": null})], &[json!(1), json!(2), json!(3)]] {
            assert!(!written.may_be_listed_as(&table(others)), "{others:?}");
        }
        assert!(!written.may_be_listed_as(&Table::default()));
    }
}
