//! Probes: asked from the node's namespace, as kubelets do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use netlink::Namespace;
use tokio::task::JoinHandle;

/// What a probe says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// It has not succeeded or failed often enough yet.
    #[default]
    Unknown,
    /// It succeeds.
    Good,
    /// It fails.
    Bad(String),
}

/// A probe that is asked until this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    health: Arc<Mutex<Health>>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    /// Begins to ask; an error names what of the probe is not supported.
    pub(super) fn start(
        probe: &Probe,
        container: &Container,
        pod_ip: &str,
        namespace: Namespace,
    ) -> Result<Self, String> {
        let target = Target::new(probe, container, pod_ip)?;
        let health = Arc::new(Mutex::new(Health::default()));
        let rhythm = Rhythm {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            failures: probe.failure_threshold.unwrap_or(3),
            successes: probe.success_threshold.unwrap_or(1),
        };
        let task = tokio::spawn(ask(target, rhythm, namespace, Arc::clone(&health)));
        Ok(Watched { health, task })
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

struct Rhythm {
    delay: Duration,
    period: Duration,
    failures: i32,
    successes: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    address: String,
    path: String,
    timeout: Duration,
}

impl Target {
    fn new(probe: &Probe, container: &Container, pod_ip: &str) -> Result<Self, String> {
        let unsupported = || {
            format!(
                "container {}: only httpGet probes are supported by the sandbox's kubelet",
                container.name
            )
        };
        let get = probe.http_get.as_ref().ok_or_else(unsupported)?;
        let port = match &get.port {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
            }
        };
        let port = port.ok_or_else(|| format!("container {}: no port {:?}", container.name, get.port))?;
        let host = get.host.clone().unwrap_or_else(|| pod_ip.to_owned());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(Target {
            address: format!("{host}:{port}"),
            path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
            timeout: seconds(probe.timeout_seconds, 1),
        })
    }

    fn get(&self) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("GET http://{}{}: {error}", self.address, self.path);
        let address: SocketAddr = self
            .address
            .to_socket_addrs()
            .map_err(wrong)?
            .next()
            .ok_or_else(|| format!("{} is no address", self.address))?;
        let mut stream = TcpStream::connect_timeout(&address, self.timeout).map_err(wrong)?;
        stream.set_read_timeout(Some(self.timeout)).map_err(wrong)?;
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.address);
        stream.write_all(request.as_bytes()).map_err(wrong)?;
        let mut answer = Vec::new();
        // It may close without ceremony once it has answered.
        let read = stream.take(4096).read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let code = text.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        match (code, read) {
            (Some(200..400), _) => Ok(()),
            (Some(code), _) => Err(format!(
                "GET http://{}{}: {code}: {}",
                self.address,
                self.path,
                text.rsplit("\r\n").next().unwrap_or_default().trim()
            )),
            (None, Err(error)) => Err(wrong(error)),
            (None, Ok(_)) => Err(format!("GET http://{}{}: no answer", self.address, self.path)),
        }
    }
}

async fn ask(target: Target, rhythm: Rhythm, namespace: Namespace, health: Arc<Mutex<Health>>) {
    tokio::time::sleep(rhythm.delay).await;
    let (mut good, mut bad) = (0, 0);
    loop {
        let (target, namespace) = (target.clone(), namespace.clone());
        let asked = tokio::task::spawn_blocking(move || {
            namespace.run(|| target.get()).unwrap_or_else(|error| Err(error.to_string()))
        });
        let answer = asked.await.unwrap_or_else(|error| Err(error.to_string()));
        let verdict = match answer {
            Ok(()) => {
                (good, bad) = (good + 1, 0);
                (good >= rhythm.successes).then_some(Health::Good)
            }
            Err(problem) => {
                (good, bad) = (0, bad + 1);
                (bad >= rhythm.failures).then_some(Health::Bad(problem))
            }
        };
        let known = verdict.is_some();
        if let Some(verdict) = verdict {
            *health.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
        }
        // A kubelet asks at once until a container is ready; ours asks often.
        let pause = if known { rhythm.period } else { rhythm.period.min(Duration::from_millis(500)) };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(probe: serde_json::Value) -> Result<Target, String> {
        let container = json!({"name": "m", "ports": [{"name": "http", "containerPort": 9871}]});
        let container: Container = serde_json::from_value(container).unwrap();
        Target::new(&serde_json::from_value(probe).unwrap(), &container, "fd00::2")
    }

    #[test]
    fn a_port_may_have_a_name_and_an_address_six_bytes_more() {
        let named = target(json!({"httpGet": {"path": "/readyz", "port": "http"}})).unwrap();
        assert_eq!((named.address.as_str(), named.path.as_str()), ("[fd00::2]:9871", "/readyz"));
        let local =
            target(json!({"httpGet": {"host": "127.0.0.1", "port": 9870}, "timeoutSeconds": 5})).unwrap();
        assert_eq!((local.address.as_str(), local.timeout), ("127.0.0.1:9870", Duration::from_secs(5)));
        assert!(target(json!({"httpGet": {"port": "metrics"}})).unwrap_err().contains("metrics"));
        assert!(target(json!({"exec": {"command": ["x"]}})).unwrap_err().contains("httpGet"));
    }

    #[test]
    fn an_answer_counts_by_its_code() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            for answer in ["200 OK\r\n\r\nok", "503 Service Unavailable\r\n\r\nno leader yet"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _ = stream.read(&mut request).unwrap();
                write!(stream, "HTTP/1.1 {answer}").unwrap();
            }
        });
        let target = Target { address, path: "/readyz".to_owned(), timeout: Duration::from_secs(5) };
        assert_eq!(target.get(), Ok(()));
        let problem = target.get().unwrap_err();
        assert!(problem.contains("503") && problem.contains("no leader yet"), "{problem}");
        server.join().unwrap();
        assert!(target.get().is_err(), "nobody listens any more");
    }
}
