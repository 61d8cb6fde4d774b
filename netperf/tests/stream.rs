//! Connections that are kept up over a relay, which holds them, cuts them, or changes what they carry.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netperf::failure::Failure;
use netperf::serve::{ServeOptions, Server};
use netperf::stream::{self, StreamOptions, StreamReport};
use netperf::target::Target;

const PASS: u8 = 0;
const HOLD: u8 = 1;
const CUT: u8 = 2;
const CHANGE: u8 = 3;

/// Far beyond what anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many pieces are several exchanges.
const SEVERAL: u64 = 40;

/// A server on a free port of the loopback.
fn server() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let bind = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    let options = ServeOptions { bind, port: free.port(), ..ServeOptions::new("far") };
    Server::bind(&options).unwrap().start().unwrap();
    free
}

/// What a relay does to the bytes of its connections.
#[derive(Default)]
struct Doing {
    what: AtomicU8,
    /// How many pieces it has passed on as they were.
    passed: AtomicU64,
    /// How many it has met with something else to do.
    disturbed: AtomicU64,
}

impl Doing {
    /// Does something else, for so long from the first bytes that it meets.
    fn disturb(&self, what: u8, time: Duration) {
        let before = self.disturbed.load(Ordering::Acquire);
        self.what.store(what, Ordering::Release);
        reaches(&self.disturbed, before + 1);
        thread::sleep(time);
        self.what.store(PASS, Ordering::Release);
    }

    /// Waits until several exchanges more have come through.
    fn pass(&self) {
        reaches(&self.passed, self.passed.load(Ordering::Acquire) + SEVERAL);
    }
}

/// Waits until so many are counted; where they never are, the test says what it misses.
fn reaches(count: &AtomicU64, wanted: u64) {
    let end = Instant::now() + PATIENCE;
    while count.load(Ordering::Acquire) < wanted && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
}

/// What stands between the two, and what it does to them.
fn relay(to: SocketAddr) -> (SocketAddr, Arc<Doing>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, doing) = (listener.local_addr().unwrap(), Arc::<Doing>::default());
    let told = Arc::clone(&doing);
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(to).unwrap();
            let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let (there, back) = (Arc::clone(&told), Arc::clone(&told));
            thread::spawn(move || forward(near, far_too, &there));
            thread::spawn(move || forward(far, near_too, &back));
        }
    });
    (address, doing)
}

fn forward(mut from: TcpStream, mut to: TcpStream, doing: &Doing) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let what = doing.what.load(Ordering::Acquire);
        let count = if what == PASS { &doing.passed } else { &doing.disturbed };
        count.fetch_add(1, Ordering::AcqRel);
        while what == HOLD && doing.what.load(Ordering::Acquire) == HOLD {
            thread::sleep(Duration::from_millis(1));
        }
        match what {
            CUT => break,
            CHANGE => bytes[length - 1] ^= 1,
            _ => {}
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// What became of a connection while this was done to it for so long.
fn kept(what: u8, time: Duration) -> StreamReport {
    let (address, doing) = relay(server());
    let target = Target { address, ..Target::new("far", Ipv4Addr::LOCALHOST) };
    let options = StreamOptions { interval: Duration::from_millis(1), ..StreamOptions::new(vec![target]) };
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let reports = stream::keep(&options, &stop, || {
        thread::spawn(move || {
            doing.pass();
            doing.disturb(what, time);
            doing.pass();
            told.store(true, Ordering::Release);
        });
    });
    let report = reports.unwrap().into_iter().next().unwrap();
    assert!(report.exchanges > 1, "{report:?}");
    report
}

#[test]
fn a_connection_that_is_held_stalls_and_survives() {
    let report = kept(HOLD, Duration::from_millis(300));
    assert_eq!(report.breaks, []);
    assert!(report.longest_stall_us >= 290_000, "{report:?}");
}

#[test]
fn one_that_is_cut_is_a_break_and_another_goes_on() {
    let report = kept(CUT, Duration::from_millis(100));
    let first = report.breaks.first().unwrap();
    assert!(matches!(first.failure, Failure::Closed { .. }) && first.local.is_some(), "{report:?}");
    // while it is cut none comes about, which is told once
    assert!(report.breaks.len() <= 2, "{report:?}");
}

#[test]
fn bytes_that_change_on_the_way_are_a_break() {
    let report = kept(CHANGE, Duration::from_millis(100));
    assert!(!report.breaks.is_empty(), "{report:?}");
}

#[test]
fn a_wrong_server_and_none_at_all_are_errors_at_the_beginning() {
    let stop = AtomicBool::new(false);
    let error =
        |target| stream::keep(&StreamOptions::new(vec![target]), &stop, || {}).unwrap_err().to_string();
    let address = server();
    let wrong = error(Target { address, ..Target::new("other", Ipv4Addr::LOCALHOST) });
    assert!(wrong.contains("other") && wrong.contains("`far` answers"), "{wrong}");
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let none = error(Target { address: nobody, ..Target::new("far", Ipv4Addr::LOCALHOST) });
    assert!(none.contains("refused"), "{none}");
}
