//! Service addresses: which cluster IPs and node ports are taken, and who gets the next one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::kinds::strategy::immutable;
use crate::status::Cause;

const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// A CIDR for service addresses that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "service CIDR {0:?} is not an address and a prefix length, such as 10.96.0.0/12 (at most one for each IP family)"
)]
pub struct BadServiceCidr(String);

/// A range of service addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cidr {
    text: String,
    base: IpAddr,
    host_bits: u32,
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (base, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
        let width: u32 = if base.is_ipv4() { 32 } else { 128 };
        let host_bits = width.checked_sub(length)?;
        (number(base) & mask(host_bits) == 0).then(|| Self { text: text.to_owned(), base, host_bits })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.base.is_ipv4() && number(ip) & !mask(self.host_bits) == number(self.base)
    }

    /// The usable offsets, in the order of allocation: as in Kubernetes the lower part comes last, so that people may
    /// choose addresses there. Neither the network's own address nor an IPv4 broadcast address is among them.
    fn offsets(&self) -> impl Iterator<Item = u128> {
        let size = mask(self.host_bits.min(16)) + 1;
        let last = if self.base.is_ipv4() { size - 1 } else { size };
        let reserved = (size / 16).clamp(16.min(size / 2), 256);
        (reserved.max(1)..last).chain(1..reserved)
    }

    fn at(&self, offset: u128) -> IpAddr {
        let value = number(self.base) + offset;
        match self.base {
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(value).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from(value).into(),
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn mask(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

/// Which addresses and node ports belong to which Service (by uid).
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    cidrs: Vec<Cidr>,
    addresses: BTreeMap<IpAddr, String>,
    node_ports: BTreeMap<u16, String>,
}

impl Allocations {
    pub(crate) fn new(cidrs: &[String]) -> Result<Self, BadServiceCidr> {
        let mut parsed: Vec<Cidr> = Vec::new();
        for text in cidrs {
            let cidr = Cidr::parse(text).ok_or_else(|| BadServiceCidr(text.clone()))?;
            if parsed.iter().any(|c| c.base.is_ipv4() == cidr.base.is_ipv4()) {
                return Err(BadServiceCidr(text.clone()));
            }
            parsed.push(cidr);
        }
        Ok(Self { cidrs: parsed, ..Self::default() })
    }

    /// Takes note of a stored Service.
    pub(crate) fn record(&mut self, service: &Value) {
        let uid = service["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        self.release(&uid);
        for ip in cluster_ips(service).iter().filter_map(|ip| ip.parse().ok()) {
            self.addresses.insert(ip, uid.clone());
        }
        for port in ports(service).filter_map(node_port) {
            self.node_ports.insert(port, uid.clone());
        }
    }

    /// Forgets a Service.
    pub(crate) fn release(&mut self, uid: &str) {
        self.addresses.retain(|_, owner| owner != uid);
        self.node_ports.retain(|_, owner| owner != uid);
    }

    /// Completes a Service before it is stored: families, addresses, node ports, target ports.
    pub(crate) fn complete(&self, service: &mut Value, old: Option<&Value>) -> Result<(), Vec<Cause>> {
        default_ports(service);
        if service["spec"]["type"] == "ExternalName" {
            return Ok(());
        }
        if let Some(old) = old.filter(|o| o["spec"]["type"] != "ExternalName") {
            keep_addresses(service, old)?;
        }
        let external = matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"));
        let before = old.map(|old| &old["spec"]["externalTrafficPolicy"]);
        if external && service["spec"]["externalTrafficPolicy"].is_null() {
            service["spec"]["externalTrafficPolicy"] = json!("Cluster");
        } else if !external && before == Some(&service["spec"]["externalTrafficPolicy"]) {
            // It went with the type that it was for.
            service["spec"].as_object_mut().and_then(|spec| spec.remove("externalTrafficPolicy"));
        }
        if service["spec"]["internalTrafficPolicy"].is_null() {
            service["spec"]["internalTrafficPolicy"] = json!("Cluster");
        }
        self.complete_addresses(service).map_err(|cause| vec![cause])?;
        self.complete_node_ports(service).map_err(|cause| vec![cause])
    }

    fn complete_addresses(&self, service: &mut Value) -> Result<(), Cause> {
        let uid = service["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let mut asked = cluster_ips(service);
        if asked.first().is_some_and(|ip| ip == "None") {
            service["spec"]["clusterIPs"] = json!(["None"]);
            service["spec"]["clusterIP"] = json!("None");
            let families = self.families(service, &[])?;
            set_families(service, &families);
            return Ok(());
        }
        if self.cidrs.is_empty() && asked.is_empty() {
            return Ok(());
        }
        for ip in &asked {
            self.check(ip, &asked, &uid)?;
        }
        let families = self.families(service, &asked)?;
        for cidr in families.iter().skip(asked.len()) {
            asked.push(self.next(cidr)?.to_string());
        }
        service["spec"]["clusterIP"] = json!(asked.first());
        service["spec"]["clusterIPs"] = json!(asked);
        set_families(service, &families);
        Ok(())
    }

    fn check(&self, ip: &str, asked: &[String], uid: &str) -> Result<(), Cause> {
        let refused = |why: String| Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {}: {why}", json!(asked)),
            field: "spec.clusterIPs".to_owned(),
        };
        let parsed: IpAddr =
            ip.parse().map_err(|_| refused(format!("{ip:?} must be a valid IP address, or None")))?;
        let same_family = self.cidrs.iter().filter(|c| c.base.is_ipv4() == parsed.is_ipv4());
        let Some(range) = same_family.clone().next().or(self.cidrs.first()) else {
            return Err(refused("no service CIDR is configured for this cluster".to_owned()));
        };
        if !same_family.clone().any(|c| c.contains(parsed)) {
            // These words are what CNI detectors look for to learn the service range of a cluster.
            let range = &range.text;
            return Err(refused(format!(
                "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
            )));
        }
        match self.addresses.get(&parsed) {
            Some(owner) if owner != uid => {
                Err(refused(format!("failed to allocate IP {ip}: provided IP is already allocated")))
            }
            _ => Ok(()),
        }
    }

    /// The ranges the Service takes addresses from, in order.
    fn families(&self, service: &Value, asked: &[String]) -> Result<Vec<&Cidr>, Cause> {
        let by_family = |v4: bool| self.cidrs.iter().find(|c| c.base.is_ipv4() == v4);
        let named = service["spec"]["ipFamilies"].as_array().into_iter().flatten();
        let mut chosen: Vec<&Cidr> = named.filter_map(|f| by_family(f == "IPv4")).collect();
        if chosen.is_empty() {
            chosen = asked.iter().filter_map(|ip| by_family(ip.parse::<IpAddr>().ok()?.is_ipv4())).collect();
        }
        if chosen.is_empty() {
            chosen.extend(self.cidrs.first());
        }
        let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or("SingleStack");
        if policy != "SingleStack" {
            let missing: Vec<&Cidr> = self.cidrs.iter().filter(|c| !chosen.contains(c)).collect();
            chosen.extend(missing);
        }
        if policy == "RequireDualStack" && chosen.len() < 2 {
            let message =
                "Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
                    .to_owned();
            return Err(Cause {
                reason: "FieldValueInvalid".to_owned(),
                message,
                field: "spec.ipFamilyPolicy".to_owned(),
            });
        }
        Ok(chosen)
    }

    fn next(&self, cidr: &Cidr) -> Result<IpAddr, Cause> {
        let free = cidr.offsets().map(|o| cidr.at(o)).find(|ip| !self.addresses.contains_key(ip));
        free.ok_or_else(|| Cause {
            reason: "InternalError".to_owned(),
            message: format!("failed to allocate a serviceIP: range {} is full", cidr.text),
            field: "spec.clusterIPs".to_owned(),
        })
    }

    fn complete_node_ports(&self, service: &mut Value) -> Result<(), Cause> {
        let uid = service["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let wanted = matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"));
        let mut given: Vec<u16> = ports(service).filter_map(node_port).collect();
        let ports = service["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate();
        for (i, port) in ports.filter(|_| wanted) {
            if let Some(asked) = node_port(port) {
                self.check_node_port(i, asked, &uid)?;
                continue;
            }
            let free =
                NODE_PORTS.into_iter().find(|p| !self.node_ports.contains_key(p) && !given.contains(p));
            let free = free.ok_or_else(|| bad_node_port(i, 0, "range 30000-32767 is full"))?;
            given.push(free);
            port["nodePort"] = json!(free);
        }
        Ok(())
    }

    fn check_node_port(&self, i: usize, asked: u16, uid: &str) -> Result<(), Cause> {
        if !NODE_PORTS.contains(&asked) {
            return Err(bad_node_port(
                i,
                asked,
                "provided port is not in the valid range. The range of valid ports is 30000-32767",
            ));
        }
        match self.node_ports.get(&asked) {
            Some(owner) if owner != uid => Err(bad_node_port(i, asked, "provided port is already allocated")),
            _ => Ok(()),
        }
    }
}

fn bad_node_port(i: usize, port: u16, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {port}: {why}"),
        field: format!("spec.ports[{i}].nodePort"),
    }
}

fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    service["spec"]["ports"].as_array().into_iter().flatten()
}

fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)
}

/// The addresses a Service names, whichever of the two fields it uses.
fn cluster_ips(service: &Value) -> Vec<String> {
    let list = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let mut ips: Vec<String> =
        list.filter_map(|ip| ip.as_str().map(str::to_owned)).filter(|ip| !ip.is_empty()).collect();
    if let Some(single) = service["spec"]["clusterIP"].as_str().filter(|ip| !ip.is_empty())
        && ips.is_empty()
    {
        ips.push(single.to_owned());
    }
    ips
}

fn set_families(service: &mut Value, families: &[&Cidr]) {
    let names: Vec<&str> = families.iter().map(|c| if c.base.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    if service["spec"]["ipFamilyPolicy"].is_null() {
        service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    }
    service["spec"]["ipFamilies"] = json!(names);
}

fn default_ports(service: &mut Value) {
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["targetPort"].is_null() {
            port["targetPort"] = port["port"].clone();
        }
    }
}

/// An update that is silent about the addresses keeps them; one that changes them is refused.
fn keep_addresses(service: &mut Value, old: &Value) -> Result<(), Vec<Cause>> {
    let (before, after) = (cluster_ips(old), cluster_ips(service));
    let single = service["spec"]["clusterIP"].as_str().filter(|ip| !ip.is_empty());
    let changed = single.is_some_and(|ip| before.first().is_some_and(|first| first != ip));
    if !before.is_empty() && (changed || (!after.is_empty() && after[0] != before[0])) {
        // The list follows the first address where only that was changed.
        let mut asked = after;
        if let (Some(single), true) = (single, changed) {
            asked.splice(..asked.len().min(1), [single.to_owned()]);
        }
        return Err(vec![immutable("spec.clusterIPs[0]", &json!(asked), "may not change once set")]);
    }
    if after.is_empty() {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if service["spec"][field].is_null() {
                service["spec"][field] = old["spec"][field].clone();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "s", "uid": "u1"}, "spec": spec})
    }

    fn allocations() -> Allocations {
        Allocations::new(&["10.96.0.0/12".into(), "fd00:10::/108".into()]).unwrap()
    }

    #[test]
    fn an_address_comes_from_the_first_range_and_is_given_once() {
        let mut all = allocations();
        let mut one = service(json!({"ports": [{"port": 80}]}));
        all.complete(&mut one, None).unwrap();
        assert_eq!(one["spec"]["clusterIP"], "10.96.1.0");
        assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
        assert_eq!(one["spec"]["ports"][0]["targetPort"], 80);
        all.record(&one);
        let mut two = json!({"metadata": {"uid": "u2"}, "spec": {}});
        all.complete(&mut two, None).unwrap();
        assert_eq!(two["spec"]["clusterIP"], "10.96.1.1");
        all.release("u1");
        let mut three = json!({"metadata": {"uid": "u3"}, "spec": {}});
        all.complete(&mut three, None).unwrap();
        assert_eq!(three["spec"]["clusterIP"], "10.96.1.0");
    }

    #[test]
    fn an_address_out_of_range_is_refused_in_the_words_detectors_know() {
        let causes = allocations().complete(&mut service(json!({"clusterIP": "1.1.1.1"})), None).unwrap_err();
        assert!(causes[0].message.ends_with(
            "the provided IP (1.1.1.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12"
        ));
    }

    #[test]
    fn dual_stack_and_headless_services() {
        let mut dual = service(json!({"ipFamilyPolicy": "PreferDualStack"}));
        allocations().complete(&mut dual, None).unwrap();
        assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert_eq!(dual["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
        let mut headless = service(json!({"clusterIP": "None"}));
        allocations().complete(&mut headless, None).unwrap();
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    }

    #[test]
    fn an_update_keeps_the_address_and_may_not_change_it() {
        let all = allocations();
        let mut old = service(json!({}));
        all.complete(&mut old, None).unwrap();
        let mut silent = service(json!({}));
        all.complete(&mut silent, Some(&old)).unwrap();
        assert_eq!(silent["spec"]["clusterIP"], old["spec"]["clusterIP"]);
        let causes = all.complete(&mut service(json!({"clusterIP": "10.96.9.9"})), Some(&old)).unwrap_err();
        assert_eq!(causes[0].field, "spec.clusterIPs[0]");
    }

    #[test]
    fn node_ports_are_allocated_and_checked() {
        let mut all = allocations();
        let mut one = service(json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}));
        all.complete(&mut one, None).unwrap();
        assert_eq!(one["spec"]["ports"][1]["nodePort"], 30001);
        all.record(&one);
        let mut taken = json!({"metadata": {"uid": "u2"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}});
        assert!(all.complete(&mut taken, None).unwrap_err()[0].message.contains("already allocated"));
    }

    #[test]
    fn a_bad_range_is_named() {
        for text in ["10.96.0.0", "10.96.0.1/12", "x/8", "10.0.0.0/40"] {
            assert_eq!(Allocations::new(&[text.into()]).unwrap_err(), BadServiceCidr(text.into()));
        }
    }
}
