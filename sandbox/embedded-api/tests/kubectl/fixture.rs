//! A served cluster, and a kubectl with a home of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use embedded_api::{Config, MASTERS, Server, Token};

const CRD: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status', priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A widget.
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How big.}
              mode: {type: string, default: fast, enum: [fast, slow]}
          status:
            type: object
            properties:
              phase: {type: string}
              conditions:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items: {type: object, required: [type], properties: {type: {type: string}, status: {type: string}}}
"#;

/// The kubectl of the Kubernetes version that is built here, and any version from 1.29 on that lies beside the one in
/// the path; none, if a line has said that there is none.
pub(crate) fn binaries() -> Vec<PathBuf> {
    let Some(built) = kubernetes::Binaries::find_or_skip() else { return Vec::new() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.is_file());
    let home = first.and_then(|file| Some(file.canonicalize().ok()?.parent()?.to_owned()));
    let beside = home.and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let minor = |path: &Path| path.file_name()?.to_str()?.strip_prefix("kubectl.1.")?.parse::<u32>().ok();
    let mut others: Vec<PathBuf> =
        beside.map(|e| e.path()).filter(|p| minor(p).is_some_and(|m| m >= 29)).collect();
    others.sort();
    std::iter::once(built.path("kubectl")).chain(others).collect()
}

/// A served cluster and the kubectl that looks at it.
pub(crate) struct Cluster {
    binary: PathBuf,
    home: tempfile::TempDir,
    server: Arc<Server>,
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    pub(crate) fn start(binary: &Path) -> Self {
        let token =
            Token { token: "admin".to_owned(), user: "admin".to_owned(), groups: vec![MASTERS.to_owned()] };
        let server =
            Arc::new(Server::new(Config { tokens: vec![token], ..Config::named("kubectl") }).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("kubeconfig"), server.kubeconfig(&url, "admin")).unwrap();
        std::fs::write(home.path().join("crd.yaml"), CRD).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let serve = Arc::clone(&server).serve(vec![listener], std::future::pending());
        runtime.spawn(async move { serve.await.unwrap() });
        Self { binary: binary.to_owned(), home, server, _runtime: runtime }
    }

    pub(crate) fn crd(&self) -> String {
        self.home.path().join("crd.yaml").display().to_string()
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"));
        command.env("KUBECACHEDIR", self.home.path().join("cache")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str], expected: i32) -> Said {
        let output = self.command(arguments).output().unwrap();
        let said = Said::of(&self.binary, arguments, &output);
        assert_eq!(output.status.code(), Some(expected), "{}\n{}", said.command, said.text);
        said
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> Said {
        self.run(arguments, 0)
    }

    pub(crate) fn fails(&self, arguments: &[&str]) -> Said {
        self.run(arguments, 1)
    }

    /// `kubectl diff` ends with 1 when something differs, as `diff` does.
    pub(crate) fn differs(&self, arguments: &[&str]) -> Said {
        self.run(arguments, 1)
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let log = self.home.path().join(format!("{}.log", arguments.join("-").replace('/', "_")));
        let file = std::fs::File::create(&log).unwrap();
        let child = self.command(arguments).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Running { child, log }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.close();
    }
}

/// What a kubectl said.
pub(crate) struct Said {
    command: String,
    pub(crate) text: String,
}

impl Said {
    fn of(binary: &Path, arguments: &[&str], output: &Output) -> Self {
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let command = format!("{} {}", binary.display(), arguments.join(" "));
        Self { command, text: String::from_utf8_lossy(&text).into_owned() }
    }

    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.text.contains(part), "{}\nshould say: {part}\nbut says:\n{}", self.command, self.text);
        self
    }

    pub(crate) fn is(self, whole: &str) -> Self {
        assert_eq!(self.text.trim(), whole, "{}", self.command);
        self
    }
}

/// A kubectl that is still at it; it ends with the test.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Waits until it has said `part` so many times.
    pub(crate) fn until(&self, part: &str, times: usize) {
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            if text.matches(part).count() >= times {
                return;
            }
            assert!(Instant::now() < patience, "waiting for {times} times {part:?} in:\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn done(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
