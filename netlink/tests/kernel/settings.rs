//! Changed settings of a device are told.

use std::time::Duration;

use netlink::{Changed, SettingsMonitor};

use crate::world::{in_new_netns, with_device};

const SOON: Duration = Duration::from_millis(200);

#[test]
fn settings_of_a_device_are_told_and_those_of_new_ones_are_not() {
    in_new_netns(|| {
        let (_netlink, device) = with_device();
        let mut monitor = SettingsMonitor::open().unwrap();
        for file in
            ["ipv4/conf/vx-test/rp_filter", "ipv4/conf/vx-test/forwarding", "ipv6/conf/vx-test/forwarding"]
        {
            let path = format!("/proc/sys/net/{file}");
            let value = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, if value.trim() == "0" { "1" } else { "0" }).unwrap();
            assert_eq!(monitor.next(SOON).unwrap(), Some(Changed::Device(device)), "{file}");
            assert_eq!(monitor.next(SOON).unwrap(), None, "{file}");
        }
        std::fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "2").unwrap();
        assert_eq!(monitor.next(SOON).unwrap(), None);
    });
}
