//! A container between its starts.

use std::process::Child;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::RETRY;
use crate::machines::kubelet::probe::{Health, Watched};
use crate::machines::kubelet::status::{ContainerReport, State};

const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// One container between starts.
pub(super) struct Running {
    pub(super) spec: Container,
    pub(super) log_name: String,
    pub(super) child: Option<Child>,
    pub(super) state: State,
    pub(super) restarts: u32,
    pub(super) not_before: Instant,
    pub(super) readiness: Option<Watched>,
    pub(super) liveness: Option<Watched>,
}

impl Running {
    pub(super) fn ended(&mut self, status: std::process::ExitStatus, policy: &str) {
        let code = status.code().unwrap_or(137);
        self.child = None;
        self.readiness = None;
        self.liveness = None;
        let again = policy == "Always" || (policy == "OnFailure" && code != 0);
        if !again {
            self.state = State::Terminated { code };
            return;
        }
        self.restarts += 1;
        let backoff = Duration::from_secs(1 << self.restarts.min(4)).min(LONGEST_BACKOFF) - RETRY;
        self.not_before = Instant::now() + backoff;
        self.state = State::Waiting { reason: "CrashLoopBackOff", message: format!("ended with {status}") };
    }

    pub(super) fn check_life(&mut self) {
        if let Some(Health::Bad(problem)) = self.liveness.as_ref().map(Watched::health) {
            tracing::warn!(container = self.spec.name, problem, "the container is not alive and is killed");
            self.liveness = None;
            self.signal(Signal::SIGTERM);
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if let Some(child) = &self.child {
            // That it has just ended is as well.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub(super) fn report(&self) -> ContainerReport {
        let runs = matches!(self.state, State::Running { .. });
        let probed = self.readiness.as_ref().is_none_or(|probe| probe.health() == Health::Good);
        ContainerReport {
            name: self.spec.name.clone(),
            image: self.spec.image.clone().unwrap_or_default(),
            state: self.state.clone(),
            ready: runs && probed,
            restarts: self.restarts,
        }
    }
}
