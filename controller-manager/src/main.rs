//! The binary: reads flags, connects, lives.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use component::{
    Daemon, Liveness, LogOptions, Readiness, Registry, asked_to_end, connect, election::ElectionOptions,
};
use controller_manager::{
    Config, FIELD_MANAGER, Metrics, Surroundings, TURNS_WITHIN, Uplink, run_among, uplink,
};
use jiff::Timestamp;

/// Publishes one member cluster to the mesh, and mirrors the mesh's plan for its nodes into it.
#[derive(Parser)]
#[command(name = "clusterlink-controller-manager", version)]
struct Arguments {
    /// Name of this member's Cluster object.
    #[arg(long, env = "CLUSTER_NAME")]
    cluster: String,
    /// Kubeconfig of the member; the service account of the pod where none is given.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the control cluster; read again whenever it changes. Where none is given the member is the control
    /// cluster.
    #[arg(long, env = "CONTROL_KUBECONFIG")]
    control_kubeconfig: Option<PathBuf>,
    /// Secret that --control-kubeconfig is mounted from (key kubeconfig): renewed tokens are kept there.
    #[arg(long, value_name = "NAME", env = "CONTROL_SECRET", default_value = "clusterlink-control")]
    control_secret: String,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", env = "LISTEN", default_value = "0.0.0.0:9871")]
    listen: SocketAddr,
    #[command(flatten)]
    election: ElectionOptions,
    #[command(flatten)]
    log: LogOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    arguments.log.start()?;
    let member = connect(arguments.kubeconfig.as_deref()).await?;
    let (candidate, leadership) = arguments.election.stand(&member, FIELD_MANAGER)?;
    let mut registry = Registry::with_prefix("clusterlink_controller_manager");
    registry.register_collector(Box::new(leadership.clone()));
    let metrics = Metrics::register(&mut registry);
    if arguments.control_kubeconfig.is_some() {
        metrics.register_uplink(&mut registry);
    }
    let (liveness, readiness) = (Liveness::within(TURNS_WITHIN), Readiness::waiting_for("its first turn"));
    let daemon = Daemon {
        listen: arguments.listen,
        registry,
        liveness: liveness.clone(),
        readiness: readiness.clone(),
        candidate,
    };
    let surroundings = Surroundings { leadership, metrics, liveness, readiness };
    let (control, uplink) = match arguments.control_kubeconfig {
        None => (member.clone(), None),
        Some(kubeconfig) => {
            let (namespace, secret) = (arguments.election.namespace().to_owned(), arguments.control_secret);
            let now = Timestamp::now;
            let (cluster, member) = (arguments.cluster.clone(), member.clone());
            let options = uplink::Options { kubeconfig, member, cluster, namespace, secret, now };
            let (leadership, metrics) = (surroundings.leadership.clone(), surroundings.metrics.clone());
            let (uplink, control) = Uplink::open(options, leadership, metrics).await;
            (control, Some(uplink))
        }
    };
    let config = Config { cluster: arguments.cluster, member, control };
    let work = async {
        tokio::select! {
            never = Uplink::keep_if_any(uplink) => never,
            never = run_among(config, surroundings) => never,
        }
    };
    daemon.live(work, asked_to_end()?).await;
    Ok(())
}
