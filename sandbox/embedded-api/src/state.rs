//! Everything a server holds, behind one lock: the store, the registry, the service addresses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::kinds::strategy::Strategy;
use crate::kinds::{Registry, Resource, builtin, crd};
use crate::openapi;
use crate::services::Allocations;
use crate::status::{Answer, Status};
use crate::store::{Address, GroupResource, Key, Store, Stored};

pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) services: Allocations,
    identifiers: Identifiers,
    open_api_index: Option<(u64, Value)>,
}

/// Uids and name suffixes: a hash chain from a seed, so that one seed gives one run.
struct Identifiers {
    seed: String,
    issued: u64,
}

impl State {
    pub(crate) fn new(store: Store, services: Allocations, seed: String, service_cidr_api: bool) -> Self {
        let served = |r: &Arc<Resource>| service_cidr_api || r.strategy != Strategy::ServiceCidr;
        let registry = Registry::new(builtin::resources().into_iter().filter(served));
        let mut state = Self {
            store,
            registry,
            services,
            identifiers: Identifiers { seed, issued: 0 },
            open_api_index: None,
        };
        let tables: Vec<GroupResource> = state.registry.iter().map(|r| r.table()).collect();
        tables.into_iter().for_each(|table| state.store.open(table));
        state
    }

    /// Stores an object that is complete, and whatever follows from it at once: a Service's addresses are taken, a
    /// CRD's kinds are served.
    pub(crate) fn commit(&mut self, resource: &Resource, key: &Key, object: Value) -> Arc<Stored> {
        let stored_as = self.registry.get(&resource.table()).map_or(resource, |r| r);
        let version = stored_as.version(&stored_as.storage_version).or_else(|| stored_as.versions.first());
        let fields = version.map(|v| v.index(&object)).unwrap_or_default();
        match resource.strategy {
            Strategy::Service => self.services.record(&object),
            Strategy::Crd => self.serve(&object),
            _ => {}
        }
        self.store.put(&Address { table: resource.table(), key: key.clone() }, object, fields)
    }

    /// Removes an object, and what it stood for.
    pub(crate) fn erase(&mut self, address: &Address) -> Option<Arc<Stored>> {
        let last = self.store.remove(address)?;
        match self.registry.get(&address.table).map(|r| r.strategy) {
            Some(Strategy::Service) => self.services.release(&last.uid),
            Some(Strategy::Crd) => {
                let table = defined_table(&last.decode());
                self.registry.remove(&table);
                self.store.close(&table);
            }
            _ => {}
        }
        Some(last)
    }

    fn serve(&mut self, crd: &Value) {
        // A CRD that does not compile never gets here: it is refused before it is stored.
        let Ok(resource) = crd::resource(crd) else { return };
        self.store.open(resource.table());
        if let Some(version) = resource.version(&resource.storage_version) {
            self.store.reindex(&resource.table(), |object| version.index(object));
        }
        if resource.versions.is_empty() {
            self.registry.remove(&resource.table());
        } else {
            self.registry.insert(Arc::new(resource));
        }
    }

    /// The object at an address in its stored version.
    pub(crate) fn load(&self, address: &Address) -> Option<Value> {
        self.store.get(&address.table, &address.key).map(|s| s.decode())
    }

    pub(crate) fn resource_of(&self, address: &Address) -> Option<Arc<Resource>> {
        self.registry.get(&address.table).cloned()
    }

    /// The OpenAPI index, made anew only when something else is served: it hashes every document.
    pub(crate) fn open_api_index(&mut self) -> Value {
        let generation = self.registry.generation();
        match &self.open_api_index {
            Some((at, index)) if *at == generation => index.clone(),
            _ => {
                let index = openapi::index(&self.registry);
                self.open_api_index = Some((generation, index.clone()));
                index
            }
        }
    }

    pub(crate) fn new_uid(&mut self) -> String {
        let h = self.identifiers.next();
        // Version 4 and the variant of RFC 9562, so that it reads as the random uid it stands for.
        format!(
            "{:02x}{:02x}{:02x}{:02x}-{:02x}{:02x}-4{:x}{:02x}-{:02x}{:02x}-{:02x}{:02x}{:02x}{:02x}{:02x}{:02x}",
            h[0],
            h[1],
            h[2],
            h[3],
            h[4],
            h[5],
            h[6] & 0x0f,
            h[7],
            (h[8] & 0x3f) | 0x80,
            h[9],
            h[10],
            h[11],
            h[12],
            h[13],
            h[14],
            h[15]
        )
    }

    /// Five characters that cannot spell a word, as Kubernetes appends to `generateName`.
    pub(crate) fn name_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let hash = self.identifiers.next();
        hash[..5].iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
    }

    /// Refuses new objects in a namespace that is not there, or is going away.
    pub(crate) fn check_namespace(&self, resource: &Resource, key: &Key) -> Answer<()> {
        if !resource.namespaced {
            return Ok(());
        }
        let address = namespace_address(&key.namespace);
        let subject = crate::status::Subject { group: "", resource: "namespaces", name: &key.namespace };
        let namespace = self.load(&address).ok_or_else(|| Status::not_found(subject))?;
        if namespace["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            key.namespace
        );
        Err(Status::forbidden(resource.subject(&key.name), &why))
    }

    /// Refuses new objects of a kind that is going away.
    pub(crate) fn check_definition(&self, resource: &Resource, name: &str) -> Answer<()> {
        let definition = self.load(&definition_address(&resource.id()));
        if definition.is_some_and(|crd| !crd["metadata"]["deletionTimestamp"].is_null()) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(resource.subject(name), why));
        }
        Ok(())
    }

    /// The objects that every cluster begins with.
    pub(crate) fn populate(&mut self, service_cidrs: &[String], now: Timestamp) {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let mut namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": self.birth(name, now)});
            Strategy::Namespace.prepare(&mut namespace, None);
            let address = namespace_address(name);
            if let Some(resource) = self.resource_of(&address) {
                self.commit(&resource, &address.key, namespace);
            }
        }
        let table =
            GroupResource { group: "networking.k8s.io".to_owned(), resource: "servicecidrs".to_owned() };
        if let (Some(resource), false) = (self.registry.get(&table).cloned(), service_cidrs.is_empty()) {
            let object = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": self.birth("kubernetes", now),
                "spec": {"cidrs": service_cidrs},
                "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": seconds(now),
                    "message": "Kubernetes Service CIDR is ready"}]},
            });
            self.commit(&resource, &Key { namespace: String::new(), name: "kubernetes".to_owned() }, object);
        }
    }

    /// Says where this server is, as every kube-apiserver does.
    pub(crate) fn announce(&mut self, server: SocketAddr, now: Timestamp) {
        let table =
            GroupResource { group: "discovery.k8s.io".to_owned(), resource: "endpointslices".to_owned() };
        let Some(resource) = self.registry.get(&table).cloned() else { return };
        let mut metadata = self.birth("kubernetes", now);
        metadata["namespace"] = json!("default");
        metadata["generation"] = json!(1);
        metadata["labels"] = json!({"kubernetes.io/service-name": "kubernetes"});
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": if server.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [server.ip()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": server.port(), "protocol": "TCP"}],
        });
        self.commit(
            &resource,
            &Key { namespace: "default".to_owned(), name: "kubernetes".to_owned() },
            object,
        );
    }

    fn birth(&mut self, name: &str, now: Timestamp) -> Value {
        json!({"name": name, "uid": self.new_uid(), "creationTimestamp": seconds(now)})
    }
}

impl Identifiers {
    fn next(&mut self) -> [u8; 32] {
        self.issued += 1;
        Sha256::new().chain_update(&self.seed).chain_update(self.issued.to_be_bytes()).finalize().into()
    }
}

/// The table that a CRD's objects lie in.
pub(crate) fn defined_table(crd: &Value) -> GroupResource {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    GroupResource { group: word(&crd["spec"]["group"]), resource: word(&crd["spec"]["names"]["plural"]) }
}

/// Where the CRD of a table lies.
pub(crate) fn definition_address(table: &GroupResource) -> Address {
    let crds = GroupResource {
        group: "apiextensions.k8s.io".to_owned(),
        resource: "customresourcedefinitions".to_owned(),
    };
    let name = format!("{}.{}", table.resource, table.group);
    Address { table: crds, key: Key { namespace: String::new(), name } }
}

pub(crate) fn namespace_address(name: &str) -> Address {
    Address {
        table: GroupResource { group: String::new(), resource: "namespaces".to_owned() },
        key: Key { namespace: String::new(), name: name.to_owned() },
    }
}

/// RFC 3339 to the second, as Kubernetes writes times.
pub(crate) fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An object's finalizers.
pub(crate) fn finalizers(object: &Value) -> BTreeSet<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_is() {
        for (address, family) in [("172.31.0.1:6443", "IPv4"), ("[fc00:31::1]:6443", "IPv6")] {
            let mut state = State::new(Store::new(1, 8), Allocations::default(), "x".to_owned(), true);
            state.announce(address.parse().unwrap(), Timestamp::UNIX_EPOCH);
            let table =
                GroupResource { group: "discovery.k8s.io".to_owned(), resource: "endpointslices".to_owned() };
            let key = Key { namespace: "default".to_owned(), name: "kubernetes".to_owned() };
            let slice = state.load(&Address { table, key }).unwrap();
            let ip = address.parse::<SocketAddr>().unwrap().ip();
            assert_eq!(slice["addressType"], family);
            assert_eq!(slice["endpoints"][0]["addresses"], json!([ip]));
            assert_eq!(slice["ports"][0]["port"], 6443);
        }
    }

    #[test]
    fn one_seed_gives_one_sequence_of_uids() {
        let state = |seed: &str| State::new(Store::new(1, 8), Allocations::default(), seed.to_owned(), true);
        let (mut a, mut b, mut c) = (state("x"), state("x"), state("y"));
        let uid = a.new_uid();
        assert_eq!(uid, b.new_uid());
        assert_ne!(uid, c.new_uid());
        assert_ne!(uid, a.new_uid());
        assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'));
    }
}
