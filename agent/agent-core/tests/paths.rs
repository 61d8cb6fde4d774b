//! Make before break: what leads somewhere before and after a change leads there after every single step of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod walk;
mod world;

use std::collections::BTreeSet;

use agent_core::fake::FakeKernel;
use agent_core::{Known, Pass, Refusal, Spec, Step, TABLE, pass};
use proptest::prelude::*;
use walk::{Way, all_that_hold, all_ways, any_living_config, by_its_object, common, made_anew, ways};
use world::host;

/// A network that is cut anew, into broader or narrower routes, while the way to its new gateway cannot be made.
#[test]
fn a_route_that_works_is_not_given_up_for_a_broken_one_of_another_length() {
    for (before, after) in [("10.2.0.0/24", "10.2.0.0/20"), ("10.2.0.0/20", "10.2.0.0/24")] {
        let config = |network, gateway| {
            let routes = vec![world::route(network, "vx-bridge", &[gateway])];
            let mut config = api::NodeConfigSpec {
                routes,
                unreachable: Vec::new(),
                inbound_routes: Vec::new(),
                ..world::gateway()
            };
            (config.fdbs, config.arps) = (Vec::new(), Vec::new());
            world::complete(&mut config);
            config
        };
        let (first, second) = (config(before, "241.31.2.1"), config(after, "241.31.2.2"));
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&first), &Known::default()).unwrap();
        let to_it = (TABLE, None, "10.2.0.9".parse().unwrap());
        let way = ways(&kernel.state, &to_it);
        assert!(way.is_some());
        kernel.log.clear();
        let mut straight = kernel.clone();
        pass(&mut straight, &Spec::validate(&second), &Known::default()).unwrap();
        let is_neighbour = |step: &Step| matches!(step, Step::SetNeighbour(..));
        let (_, neighbour) = straight.log.iter().find(|(_, step)| is_neighbour(step)).unwrap();
        kernel
            .refuses
            .insert(neighbour.object(), Refusal { errno: Some(105), message: "ENOBUFS".to_owned() });
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        assert_eq!(ways(&kernel.state, &to_it), way, "{before} to {after}");
    }
}

/// What has no route of its own is not cut off from that of a broader one because its own was refused.
#[test]
fn an_unreachable_route_does_not_come_where_the_one_before_it_was_refused() {
    let config = |network: &str| api::NodeConfigSpec {
        routes: vec![world::route(network, "vx-bridge", &["241.31.2.1"])],
        unreachable: vec![network.to_owned()],
        inbound_routes: Vec::new(),
        ..world::gateway()
    };
    let mut kernel = FakeKernel::new(host());
    pass(&mut kernel, &Spec::validate(&config("10.2.0.0/16")), &Known::default()).unwrap();
    let to_it = (TABLE, None, "10.2.0.9".parse().unwrap());
    let way = ways(&kernel.state, &to_it);
    assert!(way.is_some());
    let narrower = Spec::validate(&config("10.2.0.0/24"));
    let refusal = Refusal { errno: Some(105), message: "ENOBUFS".to_owned() };
    kernel.refuses.insert("route 10.2.0.0/24 in table 200 metric 1024".to_owned(), refusal);
    let report = pass(&mut kernel, &narrower, &Known::default()).unwrap();
    assert!(report.differing.iter().any(|other| other.problem.contains("ENOBUFS")), "{:?}", report.differing);
    assert_eq!(ways(&kernel.state, &to_it), way);
}

/// A gateway that gets another MAC, while no FDB entry for it can be made.
#[test]
fn a_neighbour_keeps_a_mac_that_leads_somewhere() {
    let second = {
        let mut config = world::gateway();
        config.fdbs[0].mac = "02:54:ac:1f:02:99".to_owned();
        config.arps[0].mac = config.fdbs[0].mac.clone();
        Spec::validate(&config)
    };
    let mut kernel = FakeKernel::new(host());
    pass(&mut kernel, &Spec::validate(&world::gateway()), &Known::default()).unwrap();
    let (neighbours, fdb) = (kernel.state.neighbours.clone(), kernel.state.fdb.clone());
    let refused =
        Step::SetFdb(api::Vtep::Bridge, "02:54:ac:1f:02:99".parse().unwrap(), "172.31.2.1".parse().unwrap());
    kernel.refuses.insert(refused.object(), Refusal { errno: Some(105), message: "ENOBUFS".to_owned() });
    pass(&mut kernel, &second, &Known::default()).unwrap();
    assert_eq!((&kernel.state.neighbours, &kernel.state.fdb), (&neighbours, &fdb));
    kernel.refuses.clear();
    assert!(pass(&mut kernel, &second, &Known::default()).unwrap().is_applied());
    assert_ne!(kernel.state.neighbours, neighbours);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_step_loses_what_leads_somewhere_before_and_after(
        first in any_living_config(), second in any_living_config()
    ) {
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&first), &Known::default()).unwrap();
        let old = kernel.state.clone();
        let before = all_ways(&old);
        kernel.log.clear();
        kernel.watch = Some(Vec::new());
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        let watched = kernel.watch.take().unwrap();
        for key in common(&before, &kernel.state, &made_anew(&kernel.log)) {
            for (place, state) in watched.iter().enumerate() {
                let now = ways(state, &key);
                prop_assert!(now.is_some(), "{key:?} is lost after {:?}", kernel.log[place]);
                // A broader route may be right before the one that takes its packets is there, and a group before the route
                // that leaves it.
                let later = [all_that_hold(&kernel.state, &key), by_its_object(&old, &kernel.state, &key)];
                let known: BTreeSet<Way> = later.iter().flatten().chain(&before[&key]).copied().collect();
                // A neighbour or an FDB entry that changes in place makes ways that neither end has, for a moment.
                let same_gateways = now.unwrap().iter().all(|(device, gateway, ..)| {
                    known.iter().any(|(on, by, ..)| (on, by) == (device, gateway))
                });
                prop_assert!(same_gateways, "{key:?} goes elsewhere after {:?}", kernel.log[place]);
            }
        }
    }

    #[test]
    fn nor_does_a_step_that_fails_or_rests(
        first in any_living_config(), second in any_living_config(), which in any::<prop::sample::Index>(),
        rests in any::<bool>()
    ) {
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&first), &Known::default()).unwrap();
        let before = all_ways(&kernel.state);
        let mut straight = kernel.clone();
        kernel.log.clear();
        straight.log.clear();
        pass(&mut straight, &Spec::validate(&second), &Known::default()).unwrap();
        prop_assume!(!straight.log.is_empty());
        let after = all_ways(&straight.state);
        let place = which.index(straight.log.len());
        let failing = straight.log[place].1.clone();
        // What a device is or has is not made twice: there is nothing else to use meanwhile.
        prop_assume!(!matches!(failing, Step::CreateDevice(..) | Step::ChangeDevice(..) | Step::ClearDevice(_)));
        let refusal = Refusal { errno: Some(105), message: "ENOBUFS".to_owned() };
        kernel.refuses.extend((!rests).then(|| (failing.object(), refusal)));
        let resting: BTreeSet<String> = rests.then(|| failing.object()).into_iter().collect();
        kernel.watch = Some(Vec::new());
        let (spec, known) = (Spec::validate(&second), Known::default());
        Pass { resting: &resting, ..Pass::new(&spec, &known) }.run(&mut kernel).unwrap();
        let watched = kernel.watch.take().unwrap();
        for key in common(&before, &straight.state, &made_anew(&straight.log)) {
            for (place, state) in watched.iter().enumerate() {
                prop_assert!(
                    ways(state, &key).is_some(),
                    "{key:?} is lost after {:?} because of {failing}, which {}",
                    kernel.log[place], if rests { "rests" } else { "failed" }
                );
            }
        }
        // And once it works, the end is the same.
        kernel.refuses.clear();
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        prop_assert_eq!(all_ways(&kernel.state), after);
    }
}
