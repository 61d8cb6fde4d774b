//! The status of a pod, from how its containers are. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does not run yet, or will again.
    Waiting {
        /// A word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when (RFC 3339).
        since: String,
    },
    /// It has ended for good.
    Terminated {
        /// Its exit status.
        code: i32,
    },
}

/// A container and what its probes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerReport {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: State,
    pub(super) ready: bool,
    pub(super) restarts: u32,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) started: String,
    pub(super) host: Vec<IpAddr>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) containers: Vec<ContainerReport>,
}

impl Report {
    fn phase(&self) -> &'static str {
        let ended = |container: &ContainerReport| matches!(container.state, State::Terminated { .. });
        let well = |container: &ContainerReport| container.state == State::Terminated { code: 0 };
        let running = |container: &ContainerReport| {
            matches!(container.state, State::Running { .. }) || container.restarts > 0
        };
        if self.containers.iter().all(ended) {
            return if self.containers.iter().all(well) { "Succeeded" } else { "Failed" };
        }
        if self.containers.iter().all(running) { "Running" } else { "Pending" }
    }

    /// As the API has it; `now` is when a condition changed that did.
    pub(super) fn status(&self, now: &str) -> Value {
        let ready = self.containers.iter().all(|container| container.ready);
        let condition = |kind: &str, met: bool| json!({"type": kind, "status": if met { "True" } else { "False" }, "lastTransitionTime": now});
        let list = |addresses: &[IpAddr]| addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
        let mut status = json!({
            "phase": self.phase(),
            "startTime": self.started,
            "hostIP": self.host.first(), "hostIPs": list(&self.host),
            "conditions": [
                condition("Initialized", true),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": self.containers.iter().map(ContainerReport::status).collect::<Vec<_>>(),
        });
        if let Some(first) = self.addresses.first() {
            status["podIP"] = json!(first);
            status["podIPs"] = json!(list(&self.addresses));
        }
        status
    }
}

impl ContainerReport {
    fn status(&self) -> Value {
        let state = match &self.state {
            State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            State::Running { since } => json!({"running": {"startedAt": since}}),
            State::Terminated { code } => json!({"terminated": {"exitCode": code}}),
        };
        json!({
            "name": self.name, "image": self.image, "imageID": "", "restartCount": self.restarts,
            "ready": self.ready, "started": matches!(self.state, State::Running { .. }), "state": state,
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;

    use super::*;

    fn report(state: State, ready: bool) -> Report {
        Report {
            started: "2026-01-01T00:00:00Z".to_owned(),
            host: vec!["172.31.1.1".parse().unwrap()],
            addresses: vec!["10.1.1.3".parse().unwrap()],
            containers: vec![ContainerReport {
                name: "agent".to_owned(),
                image: "clusterlink:0.1.0".to_owned(),
                state,
                ready,
                restarts: 0,
            }],
        }
    }

    #[test]
    fn a_pod_runs_when_its_containers_do_and_is_ready_when_they_are() {
        let running = State::Running { since: "2026-01-01T00:00:01Z".to_owned() };
        let waiting =
            State::Waiting { reason: "ContainerCreating", message: "Secret is not there".to_owned() };
        for (state, ready, phase) in [
            (waiting, false, "Pending"),
            (running.clone(), false, "Running"),
            (running, true, "Running"),
            (State::Terminated { code: 0 }, false, "Succeeded"),
            (State::Terminated { code: 1 }, false, "Failed"),
        ] {
            let value = report(state, ready).status("2026-01-01T00:00:02Z");
            let status: PodStatus = serde_json::from_value(value).unwrap();
            assert_eq!(status.phase.as_deref(), Some(phase));
            let conditions = status.conditions.unwrap();
            let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind).unwrap().status == "True";
            assert_eq!((of("Ready"), of("ContainersReady")), (ready, ready));
        }
    }
}
