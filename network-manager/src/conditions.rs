//! Rejections as conditions.

use api::condition::{CIDRS_UNIQUE, OPTIONS_SUPPORTED, PLANNED, State};
use network_plan::{Effect, Problem, Rejection};

/// How many sentences a condition holds before it counts the rest.
const SENTENCES: usize = 8;

/// The conditions of a Cluster.
pub(crate) fn of_cluster(rejections: &[&Rejection]) -> Vec<State> {
    let of = |effects: &[Effect]| -> Vec<&Problem> {
        let problems = rejections.iter().map(|rejection| &rejection.problem);
        problems.filter(|problem| effects.contains(&problem.effect())).collect()
    };
    let out = of(&[Effect::Leaves, Effect::Unplanned]);
    let mut unsupported = of(&[Effect::Unsupported]);
    unsupported.extend(out.iter().filter(|problem| matches!(problem, Problem::IpsecUnsupported)));
    let mut states = vec![
        planned(&out, &of(&[Effect::Partial]), "its nodes are planned"),
        state(OPTIONS_SUPPORTED, &unsupported, ("Supported", "every option that is set is acted on")),
    ];
    if out.is_empty() {
        let fine =
            ("Unique", "no CIDR of it overlaps another cluster's, an overlay pool or an underlay address");
        states.push(state(CIDRS_UNIQUE, &of(&[Effect::Overlap]), fine));
    }
    states
}

/// The condition of a ClusterNode.
pub(crate) fn of_node(rejections: &[&Rejection], stale: bool) -> State {
    let problems = || rejections.iter().map(|rejection| &rejection.problem);
    let leaves_or_cannot =
        |problem: &&Problem| matches!(problem.effect(), Effect::Leaves | Effect::Unplanned);
    let out: Vec<&Problem> = problems().filter(leaves_or_cannot).collect();
    let part: Vec<&Problem> = problems().filter(|problem| !leaves_or_cannot(problem)).collect();
    let mut state = planned(&out, &part, "it is in the plan");
    if stale {
        state.message += ". Its last good NodeConfig stays as it is until this is put right";
    }
    state
}

/// The condition of a ClusterNode whose Cluster exists and does not fit its type.
pub(crate) fn of_node_of_unreadable(cluster: &str) -> State {
    State {
        kind: PLANNED,
        status: false,
        reason: "ClusterUnreadable".to_owned(),
        message: format!(
            "spec.clusterName {cluster:?}: that Cluster does not fit its type (its condition Planned says why): correct it. Until then other nodes plan without this one, and its last NodeConfig stays as it is"
        ),
    }
}

/// The condition of an object that does not fit its type.
pub(crate) fn of_unreadable(error: &str) -> State {
    State {
        kind: PLANNED,
        status: false,
        reason: "Unreadable".to_owned(),
        message: format!(
            "it does not fit its type: {error}. Correct it, or upgrade the network-manager (version {}) to the version of who wrote it. Until then it takes no part in new plans, and what was planned with it stays as it is",
            env!("CARGO_PKG_VERSION")
        ),
    }
}

fn planned(out: &[&Problem], part: &[&Problem], fine: &str) -> State {
    if !out.is_empty() {
        return state(PLANNED, out, ("", ""));
    }
    let (reason, message) = match part {
        [] => ("Planned".to_owned(), fine.to_owned()),
        part => ("PlannedInPart".to_owned(), sentences(part)),
    };
    State { kind: PLANNED, status: true, reason, message }
}

fn state(kind: &'static str, problems: &[&Problem], (reason, message): (&str, &str)) -> State {
    match problems.first() {
        None => State { kind, status: true, reason: reason.to_owned(), message: message.to_owned() },
        Some(first) => {
            State { kind, status: false, reason: first.reason().to_owned(), message: sentences(problems) }
        }
    }
}

fn sentences(problems: &[&Problem]) -> String {
    let said: Vec<String> = problems.iter().take(SENTENCES).map(ToString::to_string).collect();
    let more = problems.len().saturating_sub(SENTENCES);
    let more = if more == 0 { String::new() } else { format!(". And {more} more") };
    said.join(". ") + &more
}
