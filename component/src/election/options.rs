//! Flags of the election.

use clap::Args;
use kube::Client;

use super::{Candidate, Leadership};

/// Whether there are rivals, and under which name to stand.
#[derive(Args, Clone, Debug)]
pub struct ElectionOptions {
    /// Whether several replicas agree through a Lease on one that writes; without the flag, where --pod-name is given.
    #[arg(
        long,
        value_name = "BOOL",
        env = "LEADER_ELECTION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    leader_election: Option<bool>,
    /// Name of this pod: what this replica is called in the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pod_name: Option<String>,
    /// Namespace of the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "clusterlink-system")]
    lease_namespace: String,
}

/// An election without a name to stand under.
#[derive(Debug, thiserror::Error)]
#[error(
    "--leader-election needs --pod-name (POD_NAME): a name that no other replica has, under which the Lease is held"
)]
pub struct ElectionError;

impl ElectionOptions {
    /// The namespace that this runs in, as far as it is known.
    pub fn namespace(&self) -> &str {
        &self.lease_namespace
    }

    /// A candidate for the Lease `name`, where there are rivals; and whether this process leads.
    pub fn stand(
        &self,
        client: &Client,
        name: &str,
    ) -> Result<(Option<Candidate>, Leadership), ElectionError> {
        let pod = self.pod_name.as_deref().filter(|pod| !pod.is_empty());
        match (self.leader_election.unwrap_or(pod.is_some()), pod) {
            (false, _) => Ok((None, Leadership::unrivalled())),
            (true, None) => Err(ElectionError),
            (true, Some(pod)) => {
                let (candidate, leadership) =
                    Candidate::new(client.clone(), &self.lease_namespace, name, pod);
                Ok((Some(candidate), leadership))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kube::client::Body;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        election: ElectionOptions,
    }

    fn stands(arguments: &[&str]) -> Result<bool, String> {
        let service = tower::service_fn(async |_: axum::http::Request<Body>| {
            Err::<axum::http::Response<Body>, _>(std::io::Error::other("nobody is asked"))
        });
        let client = Client::new(service, "default");
        let program =
            Program::try_parse_from(["program"].iter().chain(arguments)).map_err(|e| e.to_string())?;
        let stood = program.election.stand(&client, "lease");
        stood.map(|(candidate, _)| candidate.is_some()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_pod_stands_and_a_process_outside_of_one_leads_by_itself() {
        assert_eq!(stands(&[]), Ok(false));
        assert_eq!(stands(&["--pod-name", "a"]), Ok(true));
        assert_eq!(stands(&["--pod-name", "a", "--leader-election=false"]), Ok(false));
        assert!(stands(&["--leader-election"]).unwrap_err().contains("--pod-name (POD_NAME)"));
    }
}
