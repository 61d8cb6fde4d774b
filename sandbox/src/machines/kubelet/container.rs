//! A container: how it is started, from its spec.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::{Container, Pod};
use netlink::Namespace;

use super::root::{Mount, Root, capabilities};

/// Everything that starting it takes.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    user: Option<u32>,
    group: Option<u32>,
    root: Root,
    pub(super) log: PathBuf,
}

/// What the machine adds to a container's spec.
pub(super) struct Provided<'a> {
    pub(super) environment: BTreeMap<String, String>,
    /// Where the pod's volumes are, by name.
    pub(super) volumes: &'a BTreeMap<String, PathBuf>,
    /// A directory for the container's root.
    pub(super) root: &'a Path,
    pub(super) programs: &'a Path,
    pub(super) log: PathBuf,
}

impl Plan {
    /// How to start a container, or what of its spec the sandbox's kubelet cannot do.
    pub(super) fn new(pod: &Pod, container: &Container, provided: Provided<'_>) -> Result<Self, String> {
        let of_container = |problem: String| format!("container {}: {problem}", container.name);
        if pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).is_some_and(|all| !all.is_empty())
        {
            return Err("init containers are not supported by the sandbox's kubelet".to_owned());
        }
        let command: Vec<String> =
            container.command.iter().chain(&container.args).flatten().cloned().collect();
        if container.command.as_ref().is_none_or(Vec::is_empty) {
            return Err(of_container("it has no command, and there is no image to ask for one".to_owned()));
        }
        let own = container.security_context.clone().unwrap_or_default();
        if own.privileged == Some(true) {
            return Err(of_container("privileged is not supported by the sandbox's kubelet".to_owned()));
        }
        let whole = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let id = |own: Option<i64>, whole: Option<i64>| own.or(whole).and_then(|id| u32::try_from(id).ok());
        let user = id(own.run_as_user, whole.run_as_user);
        if own.run_as_non_root.or(whole.run_as_non_root) == Some(true) && user.is_none_or(|user| user == 0) {
            return Err(of_container("runAsNonRoot, but it would run as root".to_owned()));
        }
        let asked = own.capabilities.unwrap_or_default();
        let (drop, add) = (asked.drop.unwrap_or_default(), asked.add.unwrap_or_default());
        Ok(Plan {
            name: container.name.clone(),
            command,
            environment: provided.environment,
            user,
            group: id(own.run_as_group, whole.run_as_group),
            root: Root {
                directory: provided.root.to_owned(),
                programs: provided.programs.to_owned(),
                mounts: mounts(container, provided.volumes).map_err(of_container)?,
                read_only: own.read_only_root_filesystem == Some(true),
                capabilities: capabilities(&drop, &add).map_err(of_container)?,
                no_new_privileges: own.allow_privilege_escalation == Some(false),
            },
            log: provided.log,
        })
    }

    /// Starts it in the pod's network namespace.
    pub(super) fn start(&self, namespace: &Namespace) -> io::Result<Child> {
        namespace.run(|| self.spawn()).map_err(io::Error::other)?
    }

    /// On a thread that ends afterwards: what it has become, the process inherits.
    fn spawn(&self) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        self.root.enter()?;
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.environment).env("NO_COLOR", "1").current_dir("/");
        if let Some(group) = self.group {
            command.gid(group);
        }
        if let Some(user) = self.user {
            command.uid(user);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    }
}

fn mounts(container: &Container, volumes: &BTreeMap<String, PathBuf>) -> Result<Vec<Mount>, String> {
    let mount = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let volume =
            volumes.get(&mount.name).ok_or_else(|| format!("there is no volume {:?}", mount.name))?;
        let source = mount.sub_path.as_ref().map_or_else(|| volume.clone(), |path| volume.join(path));
        Ok(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true),
        })
    };
    container.volume_mounts.iter().flatten().map(mount).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(container: Value) -> Result<Plan, String> {
        plan_in(
            json!({"securityContext": {"runAsUser": 65532, "runAsGroup": 65532}, "containers": [container]}),
        )
    }

    fn plan_in(spec: Value) -> Result<Plan, String> {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let volumes = BTreeMap::from([("state".to_owned(), PathBuf::from("/machine/var/lib/clusterlink"))]);
        let provided = Provided {
            environment: BTreeMap::new(),
            volumes: &volumes,
            root: Path::new("/root"),
            programs: Path::new("/programs"),
            log: "/log".into(),
        };
        Plan::new(&pod, &pod.spec.as_ref().unwrap().containers[0], provided)
    }

    #[test]
    fn a_container_overrides_its_pod() {
        let plan = plan(json!({
            "name": "agent", "command": ["agent"], "args": ["--x"],
            "securityContext": {"runAsUser": 0, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false},
            "volumeMounts": [{"name": "state", "mountPath": "/var/lib/clusterlink", "readOnly": true}],
        }))
        .unwrap();
        assert_eq!((plan.user, plan.group), (Some(0), Some(65532)));
        assert_eq!(plan.command, ["agent", "--x"]);
        assert!(plan.root.read_only && plan.root.no_new_privileges && plan.root.mounts[0].read_only);
    }

    #[test]
    fn what_it_cannot_do_is_refused_by_name() {
        for (container, word) in [
            (json!({"name": "c"}), "no command"),
            (json!({"name": "c", "command": ["c"], "securityContext": {"privileged": true}}), "privileged"),
            (
                json!({"name": "c", "command": ["c"], "securityContext": {"runAsUser": 0, "runAsNonRoot": true}}),
                "runAsNonRoot",
            ),
            (
                json!({"name": "c", "command": ["c"], "volumeMounts": [{"name": "x", "mountPath": "/x"}]}),
                "\"x\"",
            ),
        ] {
            let problem = plan(container).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
        let container = json!({"name": "c", "command": ["c"]});
        let first = json!({"containers": [container], "initContainers": [container]});
        assert!(plan_in(first).unwrap_err().contains("init containers"));
    }

    /// On a real kernel: the user, its capabilities, what can be written, and that nothing else of the host is there.
    #[test]
    fn a_container_can_do_what_its_spec_says_and_no_more() {
        if !nix::unistd::geteuid().is_root() || Namespace::create().is_err() {
            return skip::skip("containers need root and namespaces");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        std::fs::write(path("secret").join("key"), "word").unwrap();
        std::fs::write(path("programs").join("program"), "").unwrap();
        let script = "grep -E '^(Uid|Gid|CapEff|CapBnd|NoNewPrivs)' /proc/self/status; cat /etc/secret/key; echo; \
            touch /state/x && echo written; touch /x /etc/secret/x /proc/sys/net/ipv4/ip_forward 2>&1 | grep -c 'Read-only'; \
            ls /usr/local/bin; ls /home /root /mnt | grep -v :; cat /proc/net/dev | grep -c eth";
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{
                "name": "c", "command": ["sh", "-c", script],
                "securityContext": {
                    "runAsUser": 0, "runAsGroup": 7, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
                },
                "volumeMounts": [
                    {"name": "secret", "mountPath": "/etc/secret", "readOnly": true},
                    {"name": "state", "mountPath": "/state"},
                ],
            }]},
        }))
        .unwrap();
        let volumes = BTreeMap::from(["secret", "state"].map(|name| (name.to_owned(), path(name))));
        let provided = Provided {
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            volumes: &volumes,
            root: &path("root"),
            programs: &path("programs"),
            log: directory.path().join("log"),
        };
        let plan = Plan::new(&pod, &pod.spec.as_ref().unwrap().containers[0], provided).unwrap();
        plan.start(&Namespace::create().unwrap()).unwrap().wait().unwrap();
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
        let words: Vec<&str> = log.split_whitespace().collect();
        let net_admin = "0000000000001000";
        let expected = [
            "Uid:",
            "0",
            "0",
            "0",
            "0",
            "Gid:",
            "7",
            "7",
            "7",
            "7",
            "CapEff:",
            net_admin,
            "CapBnd:",
            net_admin,
            "NoNewPrivs:",
            "1",
            "word",
            "written",
            "3",
            "program",
            "0",
        ];
        assert_eq!(words, expected, "{log}");
        assert!(directory.path().join("state/x").exists() && !Path::new("/x").exists());
        assert!(std::fs::read_dir(path("root")).unwrap().next().is_none(), "its root is nobody else's");
    }
}
