//! The reach matrix: every cell by a payload that comes back and by the source address that the far side saw, while the
//! CNI masquerades, FORWARD drops by policy, services are translated with an INVALID drop, and rp_filter is strict.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use e2e::{joined, scenario};
use sandbox::matrix::{MatrixOptions, Scope};
use sandbox::scenario::Firewall;

fn everybody_reaches_everybody(name: &str, firewall: Firewall, clusters: &[&str]) {
    let Some(sandbox) = joined(name, &scenario(firewall, clusters)) else { return };
    let scope = Scope { remote: true, own: true };
    let matrix = sandbox.matrix(&MatrixOptions { scope, flows: 2, ..MatrixOptions::default() }).unwrap();
    assert!(matrix.all_ok(), "{}\n{:?}", matrix.failures(), matrix.missing);
    assert!(matrix.skipped.is_empty(), "{:?}", matrix.skipped);
}

#[test]
fn p2p_with_p2p_iptables() {
    everybody_reaches_everybody("pp-ipt", Firewall::Iptables, &["a:p2p:2", "b:p2p:2"]);
}

#[test]
fn p2p_with_p2p_nft() {
    everybody_reaches_everybody("pp-nft", Firewall::Nft, &["a:p2p:2", "b:p2p:2"]);
}

#[test]
fn one_gateway_each_iptables() {
    everybody_reaches_everybody("g1-ipt", Firewall::Iptables, &["a:gateway:2:1", "b:gateway:2:1"]);
}

#[test]
fn one_gateway_each_nft() {
    everybody_reaches_everybody("g1-nft", Firewall::Nft, &["a:gateway:2:1", "b:gateway:2:1"]);
}

#[test]
fn two_gateways_each_iptables() {
    everybody_reaches_everybody("g2-ipt", Firewall::Iptables, &["a:gateway:4:2", "b:gateway:3:2"]);
}

#[test]
fn two_gateways_each_nft() {
    everybody_reaches_everybody("g2-nft", Firewall::Nft, &["a:gateway:4:2", "b:gateway:3:2"]);
}

#[test]
fn p2p_with_two_gateways_iptables() {
    everybody_reaches_everybody("pg-ipt", Firewall::Iptables, &["a:gateway:3:2", "c:p2p:2"]);
}

#[test]
fn p2p_with_two_gateways_nft() {
    everybody_reaches_everybody("pg-nft", Firewall::Nft, &["a:gateway:3:2", "c:p2p:2"]);
}
