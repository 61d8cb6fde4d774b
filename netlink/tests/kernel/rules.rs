//! Policy rules.

use netlink::{Family, Op, Rule, RuleAction};

use crate::world::{PROTOCOL, answer, apply, in_new_netns, with_device};

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (family, prefix) in [(Family::V4, "10.0.0.0/8"), (Family::V6, "fd00::/8")] {
        let prefix = prefix.parse().unwrap();
        let rule = |priority| Rule::lookup(family, priority, 100_054, PROTOCOL);
        rules.extend([
            rule(200),
            Rule { to: Some(prefix), ..rule(201) },
            Rule { from: Some(prefix), input: Some("vx-test".to_owned()), ..rule(202) },
            Rule { mark: Some((0x2_0000, 0xff_0000)), output: Some("later0".to_owned()), ..rule(203) },
            Rule { action: RuleAction::Unreachable, ..rule(204) },
            Rule { action: RuleAction::Blackhole, ..rule(205) },
            Rule { action: RuleAction::Prohibit, ..rule(206) },
        ]);
    }
    rules
}

#[test]
fn rules_come_back_as_they_went_in() {
    in_new_netns(|| {
        let (mut netlink, _) = with_device();
        let expected = rules();
        apply(&mut netlink, &expected.iter().cloned().map(Op::add).collect::<Vec<_>>());
        let mut found = Vec::new();
        for family in Family::ALL {
            found.extend(netlink.rules(family).unwrap().into_iter().filter(|rule| rule.protocol == PROTOCOL));
        }
        assert_eq!(found, expected);
        let kernel = netlink.rules(Family::V4).unwrap();
        assert!(kernel.contains(&Rule::lookup(Family::V4, 32_766, 254, 2)), "{kernel:?}");

        apply(&mut netlink, &expected.iter().cloned().map(Op::delete).collect::<Vec<_>>());
        for family in Family::ALL {
            assert!(netlink.rules(family).unwrap().iter().all(|rule| rule.protocol != PROTOCOL));
        }
    });
}

#[test]
fn replacing_a_rule_never_makes_a_second_one() {
    in_new_netns(|| {
        let (mut netlink, _) = with_device();
        let rule = Rule::lookup(Family::V4, 200, 100_054, PROTOCOL);
        apply(&mut netlink, &[Op::replace(rule.clone()), Op::replace(rule.clone())]);
        assert!(answer(&mut netlink, Op::add(rule.clone())).unwrap_err().is_present());
        let found = netlink.rules(Family::V4).unwrap();
        assert_eq!(found.iter().filter(|found| **found == rule).count(), 1);
        apply(&mut netlink, &[Op::delete(rule.clone())]);
        assert!(answer(&mut netlink, Op::delete(rule)).unwrap_err().is_absent());
    });
}
