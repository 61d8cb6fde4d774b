//! One full computation, from objects to every node's plan, without rendering or writing.
#![allow(missing_docs, reason = "a benchmark")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering},
};

use api::{
    Cluster, ClusterLinkOptions, ClusterNode, ClusterNodeSpec, ClusterSpec, NetworkType,
    cluster::{ClusterLinkStatus, ClusterStatus},
};
use network_plan::{Plan, Snapshot, plan, topology};

/// Counts what is allocated beside the input.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "the allocator's trait is unsafe; every call goes to the system's allocator unchanged"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Mesh {
    clusters: Vec<Cluster>,
    nodes: Vec<ClusterNode>,
}

/// Clusters 10.<n>.0.0/11-like, each node a block of its own.
fn mesh(mode: NetworkType, clusters: usize, nodes: usize) -> Mesh {
    let mut mesh = Mesh { clusters: Vec::new(), nodes: Vec::new() };
    for c in 0..clusters {
        let name = format!("cluster-{c:02}");
        let mut object = Cluster::new(&name, ClusterSpec::default());
        object.spec.cluster_link_options =
            Some(ClusterLinkOptions { network_type: mode, ..Default::default() });
        // 5,000 blocks of 64 addresses take 20 bits at most: each cluster has a /12 of its own in 16.0.0.0/4.
        let first = (16 + c as u32) << 24;
        let cidr = |address: u32, width: u8| format!("{}/{width}", std::net::Ipv4Addr::from(address));
        let status = ClusterLinkStatus {
            pod_cidrs: vec![cidr(first, 12)],
            service_cidrs: vec![cidr(first | 0x80_0000, 16)],
            ..ClusterLinkStatus::default()
        };
        object.status = Some(ClusterStatus { cluster_link_status: Some(status), ..Default::default() });
        mesh.clusters.push(object);
        for n in 0..nodes {
            let spec = ClusterNodeSpec {
                cluster_name: Some(name.clone()),
                node_name: Some(format!("node-{n:05}")),
                pod_cidrs: vec![cidr(first + (n as u32) * 64, 26)],
                ip: Some(format!("10.{c}.{}.{}", n / 250, n % 250 + 1)),
                interface_name: Some("eth0".to_owned()),
                roles: if n < 2 { vec!["gateway".to_owned()] } else { Vec::new() },
                ..ClusterNodeSpec::default()
            };
            mesh.nodes.push(ClusterNode::new(&format!("{name}-node-{n:05}"), spec));
        }
    }
    mesh
}

fn compute(mesh: &Mesh) -> Plan {
    let (topology, rejections) = topology(&Snapshot::new(&mesh.clusters, &mesh.nodes));
    assert!(rejections.is_empty(), "{rejections:?}");
    plan(&topology)
}

#[divan::bench]
fn p2p_2_clusters_of_500_nodes(bencher: divan::Bencher<'_, '_>) {
    let mesh = mesh(NetworkType::P2p, 2, 500);
    bencher.bench(|| black_box(compute(&mesh)));
}

#[divan::bench(sample_count = 5)]
fn gateway_20_clusters_of_5000_nodes(bencher: divan::Bencher<'_, '_>) {
    let mesh = mesh(NetworkType::Gateway, 20, 5_000);
    bencher.bench(|| black_box(compute(&mesh)));
}

/// The resident set, as the kernel counts it.
fn peak_rss() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().to_owned()
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn report(name: &str, mesh: &Mesh) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let plan = compute(mesh);
    let (peak, kept) = (PEAK.load(Ordering::Relaxed) - before, NOW.load(Ordering::Relaxed) - before);
    let mib = |bytes: usize| bytes as f64 / (1024.0 * 1024.0);
    println!(
        "{name}: {} nodes, at most {:.1} MiB beside the input ({:.1} MiB of it the plan), peak RSS of the process {}",
        plan.len(),
        mib(peak),
        mib(kept),
        peak_rss(),
    );
}

fn main() {
    report("p2p 2 x 500", &mesh(NetworkType::P2p, 2, 500));
    report("gateway 20 x 5000", &mesh(NetworkType::Gateway, 20, 5_000));
    divan::main();
}
