//! Two real control planes, shared by all tests here, which take their turns.

use std::{
    io::Write,
    path::Path,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ServiceAccount};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use kubernetes::{Binaries, ControlPlane, Options};
use lifecycle::{
    connect::{Connection, ControlArgs, MemberArgs},
    install::{self, InstallArgs},
    join::{self, JoinArgs},
    preflight::{Check, PreflightArgs},
    say::Say,
    uninstall::{self, UninstallArgs},
    unjoin::{self, UnjoinArgs},
    wait::WaitArgs,
};
use serde_json::json;

/// Namespaces end by it, and have their default service account.
const CONTROLLERS: &str = "--controllers=namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,garbage-collector-controller";

static PLANES: LazyLock<Option<(ControlPlane, ControlPlane)>> = LazyLock::new(|| {
    let binaries = Binaries::find_or_skip()?;
    let start = |name: &str, services: &str| {
        let options = Options {
            service_cidrs: vec![services.parse().unwrap()],
            ..Options::named(name, binaries.clone())
        };
        let plane = ControlPlane::start(&options).unwrap();
        plane.start_controller_manager(&[CONTROLLERS]).unwrap();
        plane
    };
    let (control, member) = (start("control", "10.96.0.0/16"), start("east", "10.112.0.0/16"));
    wait(async { ready(&control).await.and(ready(&member).await) }).unwrap();
    Some((control, member))
});

static TURN: Mutex<()> = Mutex::new(());

/// Runs a future of a test. The planes' own methods block, so they are called outside.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What every namespace gets has come to all of them, and the member has its nodes.
async fn ready(plane: &ControlPlane) -> Result<(), kube::Error> {
    let client = plane.client().await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    for number in 1..=2 {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": format!("n{number}")},
            "spec": {"podCIDR": format!("10.1.{number}.0/24"), "podCIDRs": [format!("10.1.{number}.0/24")]}}))
        .unwrap();
        if plane.name() != "control" {
            nodes.create(&PostParams::default(), &node).await?;
            let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.1.{number}")}],
                "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "6.1.0",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}});
            nodes
                .patch_status(&format!("n{number}"), &Default::default(), &kube::api::Patch::Merge(status))
                .await?;
        }
    }
    for _ in 0..1800 {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let all = namespaces.list(&ListParams::default()).await?.items.len();
        let maps: Api<ConfigMap> = Api::all(client.clone());
        let roots =
            maps.list(&ListParams::default().fields("metadata.name=kube-root-ca.crt")).await?.items.len();
        let accounts: Api<ServiceAccount> = Api::all(client.clone());
        let defaults =
            accounts.list(&ListParams::default().fields("metadata.name=default")).await?.items.len();
        if all >= 4 && roots == all && defaults == all {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} does not come up", plane.name());
}

/// A test's turn.
pub(crate) struct World {
    pub(crate) control: &'static ControlPlane,
    pub(crate) member: &'static ControlPlane,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// None, where it was said that there is no Kubernetes.
    pub(crate) fn take() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (control, member) = PLANES.as_ref()?;
        Some(World { control, member, _turn: turn })
    }

    pub(crate) fn control_args(&self) -> ControlArgs {
        ControlArgs { kubeconfig: Some(self.control.admin_kubeconfig()), context: None }
    }

    pub(crate) async fn connect(&self) -> (Connection, Connection) {
        let control = Connection::control(&self.control_args()).await.unwrap();
        let args =
            MemberArgs { member_kubeconfig: Some(self.member.admin_kubeconfig()), member_context: None };
        let member = Connection::member(&args, &self.control_args()).await.unwrap();
        (control, member)
    }

    /// Both, with ClusterLink in the control cluster and the member joined as `east`.
    pub(crate) async fn joined(&self) -> (Connection, Connection) {
        let (control, member) = self.installed().await;
        join(&control, &member, &join_args("east")).await.unwrap();
        (control, member)
    }

    /// Both, with ClusterLink in the control cluster.
    pub(crate) async fn installed(&self) -> (Connection, Connection) {
        let (control, member) = self.clean().await;
        install(&control, &install_args()).await.unwrap();
        (control, member)
    }

    /// Both, with nothing of ours, however a test before has ended.
    pub(crate) async fn clean(&self) -> (Connection, Connection) {
        let (control, member) = self.connect().await;
        for at in [&control, &member] {
            let configs = Api::<api::NodeConfig>::all(at.client.clone());
            for config in
                configs.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default()
            {
                let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
                configs.patch(&config.name_any(), &Default::default(), &patch).await.unwrap();
                let _ = configs.delete(&config.name_any(), &Default::default()).await;
            }
        }
        let clusters = Api::<api::Cluster>::all(control.client.clone()).list(&ListParams::default()).await;
        for cluster in clusters.map(|list| list.items).unwrap_or_default() {
            let args = UnjoinArgs { force: true, ..unjoin_args(&cluster.name_any()) };
            unjoin::unjoin(&control, None, &args, &mut Heard::default().say()).await.unwrap();
        }
        let told = Api::<ConfigMap>::namespaced(member.client.clone(), "clusterlink-system")
            .get("clusterlink")
            .await;
        if let Some(name) = told.ok().and_then(|map| map.data?.get("cluster").cloned()) {
            let heard = Heard::default();
            unjoin::unjoin(&control, Some(&member), &unjoin_args(&name), &mut heard.say()).await.unwrap();
        }
        uninstall::uninstall(
            &control,
            &UninstallArgs { wait: patient(), ..Default::default() },
            &mut Heard::default().say(),
        )
        .await
        .unwrap();
        (control, member)
    }
}

/// For what ends by itself, on a machine that has much else to do.
pub(crate) fn patient() -> WaitArgs {
    WaitArgs { wait: true, timeout: Duration::from_secs(120) }
}

/// For what never comes.
pub(crate) fn brief() -> WaitArgs {
    WaitArgs { wait: true, timeout: Duration::from_secs(1) }
}

/// No pod ever runs here.
pub(crate) fn no_pods() -> WaitArgs {
    WaitArgs { wait: false, ..patient() }
}

pub(crate) fn install_args() -> InstallArgs {
    InstallArgs { wait: no_pods(), ..Default::default() }
}

pub(crate) fn join_args(name: &str) -> JoinArgs {
    JoinArgs {
        name: name.to_owned(),
        wait: no_pods(),
        // Both API servers are on the loopback of one machine.
        preflight: PreflightArgs { ignore_preflight: vec![Check::ControlServer] },
        ..Default::default()
    }
}

pub(crate) fn unjoin_args(name: &str) -> UnjoinArgs {
    UnjoinArgs { name: name.to_owned(), wait: patient(), ..Default::default() }
}

/// What a command said.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    out: Buffer,
    remarks: Buffer,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Heard {
    pub(crate) fn say(&self) -> Say {
        Say::into(Box::new(self.out.clone()), Box::new(self.remarks.clone()))
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.out.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn remarks(&self) -> String {
        String::from_utf8(self.remarks.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs commands and returns what they said.
pub(crate) async fn install(control: &Connection, args: &InstallArgs) -> anyhow::Result<String> {
    let heard = Heard::default();
    install::install(control, args, &mut heard.say()).await.map(|()| heard.out())
}

pub(crate) async fn join(
    control: &Connection,
    member: &Connection,
    args: &JoinArgs,
) -> anyhow::Result<String> {
    let heard = Heard::default();
    join::join(control, member, args, &mut heard.say()).await.map(|()| heard.out())
}

pub(crate) async fn unjoin(
    control: &Connection,
    member: Option<&Connection>,
    args: &UnjoinArgs,
) -> anyhow::Result<String> {
    let heard = Heard::default();
    unjoin::unjoin(control, member, args, &mut heard.say()).await.map(|()| heard.out() + &heard.remarks())
}

pub(crate) async fn uninstall(control: &Connection) -> anyhow::Result<String> {
    let heard = Heard::default();
    let args = UninstallArgs { wait: patient(), ..Default::default() };
    uninstall::uninstall(control, &args, &mut heard.say()).await.map(|()| heard.out())
}

/// A client of a kubeconfig's text.
pub(crate) async fn client_of(text: &str) -> Client {
    let (kubeconfig, options) = (Kubeconfig::from_yaml(text).unwrap(), KubeConfigOptions::default());
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A kubeconfig beside another one, changed.
pub(crate) fn changed(
    kubeconfig: &Path,
    name: &str,
    change: impl FnOnce(String) -> String,
) -> std::path::PathBuf {
    let path = kubeconfig.with_file_name(name);
    std::fs::write(&path, change(std::fs::read_to_string(kubeconfig).unwrap())).unwrap();
    path
}
