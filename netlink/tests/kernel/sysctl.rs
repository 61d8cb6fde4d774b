//! Sysctls of the namespace that the thread is in.

use netlink::sysctl::{Sysctl, SysctlError};
use netlink::{Family, Namespace, Op};

use crate::world::{apply, in_new_netns, vxlan};

#[test]
fn a_setting_of_a_device_with_dots_is_written_here_only() {
    in_new_netns(|| {
        let other = Namespace::create().unwrap();
        for namespace in [&Namespace::current().unwrap(), &other] {
            apply(&mut namespace.netlink().unwrap(), &[Op::CreateLink(vxlan("vx.54.a", 54))]);
        }
        let key = Sysctl::of_device(Family::V4, "vx.54.a", "rp_filter").unwrap();
        let before = other.run(|| key.read().unwrap()).unwrap();
        key.write("2").unwrap();
        assert_eq!(key.read().unwrap(), "2");
        assert_eq!(other.run(|| key.read().unwrap()).unwrap(), before);
        assert_ne!(before, "2");
    });
}

#[test]
fn a_value_that_the_kernel_refuses_is_an_error() {
    in_new_netns(|| {
        let key = Sysctl::net(&["ipv4", "ip_forward"]).unwrap();
        let error = key.write("perhaps").unwrap_err();
        assert!(matches!(&error, SysctlError::Io { doing: "write", .. }), "{error}");
        assert!(error.to_string().starts_with("cannot write sysctl net/ipv4/ip_forward: "));
    });
}
