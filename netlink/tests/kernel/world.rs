//! A fresh namespace for a test, with the device that most of them need.

use std::process::Command;

use netlink::{Link, LinkKind, Mac, Namespace, Netlink, NewLink, NewLinkKind, Op, OpResult, Vxlan};

pub(crate) const PROTOCOL: u8 = 158;

/// Runs a test on a thread inside a new namespace, or says why that cannot be. Nothing happens there by itself: no device gets
/// a link-local address, which the kernel tells of seconds later.
pub(crate) fn in_new_netns(test: impl FnOnce() + Send) {
    let run = || {
        // A kernel without IPv6 has no such file, and makes no such addresses.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1");
        test();
    };
    match Namespace::create() {
        Ok(namespace) => namespace.run(run).expect("a namespace of ours can be entered"),
        Err(error) => skip::skip(error),
    }
}

pub(crate) fn mac(last: u16) -> Mac {
    let [high, low] = last.to_be_bytes();
    Mac([0x02, 0x00, 0x5e, 0x00, high, low])
}

pub(crate) fn vxlan(name: &str, vni: u32) -> NewLink {
    let settings = Vxlan { vni, port: 4876, local: None, parent: None, learning: false };
    NewLink { up: true, ..NewLink::new(name, NewLinkKind::Vxlan(settings)) }
}

/// Applies and insists on every success.
pub(crate) fn apply(netlink: &mut Netlink, ops: &[Op]) {
    let results = netlink.apply(ops).expect("the kernel answers");
    assert_eq!(results.len(), ops.len());
    for (op, result) in ops.iter().zip(results) {
        result.unwrap_or_else(|refusal| panic!("{op}: {refusal}"));
    }
}

/// The answer to one change.
pub(crate) fn answer(netlink: &mut Netlink, op: Op) -> OpResult {
    netlink.apply(&[op]).expect("the kernel answers").remove(0)
}

pub(crate) fn link(netlink: &mut Netlink, name: &str) -> Link {
    netlink.link(name).expect("the kernel answers").unwrap_or_else(|| panic!("there is a device {name}"))
}

/// A connection, and the index of a VXLAN device that is up. Loopback is up too.
pub(crate) fn with_device() -> (Netlink, u32) {
    let mut netlink = Netlink::open().expect("a socket in our namespace");
    let loopback = link(&mut netlink, "lo");
    assert_eq!(loopback.kind, LinkKind::Other(String::new()));
    apply(
        &mut netlink,
        &[
            Op::ChangeLink(netlink::LinkChange { up: Some(true), ..netlink::LinkChange::of(loopback.index) }),
            Op::CreateLink(vxlan("vx-test", 54)),
        ],
    );
    let device = link(&mut netlink, "vx-test").index;
    (netlink, device)
}

/// What another program says; it runs in the namespace of the calling thread.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).expect("it prints text"))
}
