//! Candidates under a simulated clock, over a network and an API server that misbehave.

use std::collections::BTreeMap;

use super::*;

const TICK: Duration = Duration::from_millis(100);
const GIVES_UP: Duration = Duration::from_secs(4);

fn lease_of(holder: &str, renewals: i64, seconds: i32) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(seconds),
        renew_time: Some(MicroTime(Timestamp::from_second(renewals).unwrap())),
        ..LeaseSpec::default()
    };
    Lease { spec: Some(spec), ..Lease::default() }
}

fn elector(name: &str) -> Elector {
    Elector::new(name.to_owned())
}

#[test]
fn anothers_lease_is_waited_out_by_our_own_clock_whatever_its_times_say() {
    let (mut elector, start) = (elector("b"), Instant::now());
    let wall = Timestamp::UNIX_EPOCH;
    let read = |elector: &mut Elector, renewals, after: u64| {
        elector.read(Some(lease_of("a", renewals, 15)), start + Duration::from_secs(after), wall).is_some()
    };
    assert!(!read(&mut elector, 1, 0), "its time is long ago by our wall clock, and it is new to us");
    assert!(!read(&mut elector, 1, 14));
    assert!(!read(&mut elector, 2, 14), "renewed");
    assert!(!read(&mut elector, 2, 28));
    assert!(read(&mut elector, 2, 29));
}

#[test]
fn what_is_taken_counts_a_transition_and_what_is_renewed_does_not() {
    let (mut elector, start, wall) = (elector("b"), Instant::now(), Timestamp::UNIX_EPOCH);
    let Some(Request::Create(lease)) = elector.read(None, start, wall) else { panic!("nobody holds it") };
    assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(0));
    elector.wrote(lease, start);
    assert_eq!(elector.leads_until(), Some(start + RENEW_DEADLINE));
    let Request::Replace(renewed) = elector.begin(start + TICK, wall) else { panic!("a leader renews") };
    assert_eq!(renewed.spec.as_ref().unwrap().lease_transitions, Some(0));
    let mut freed = lease_of("", 1, 1);
    freed.spec.as_mut().unwrap().lease_transitions = Some(4);
    let Some(Request::Replace(taken)) = elector.read(Some(freed), start, wall) else { panic!("it is free") };
    assert_eq!(taken.spec.unwrap().lease_transitions, Some(5));
}

#[test]
fn who_sees_another_holder_leads_no_more() {
    let (mut elector, start, wall) = (elector("b"), Instant::now(), Timestamp::UNIX_EPOCH);
    elector.wrote(lease_of("b", 1, 15), start);
    elector.failed();
    assert_eq!(elector.begin(start, wall), Request::Read);
    assert_eq!(elector.read(Some(lease_of("a", 2, 15)), start, wall), None);
    assert_eq!(elector.leads_until(), None);
}

#[test]
fn who_resigns_leaves_a_lease_that_anybody_may_take() {
    let (mut leader, start, wall) = (elector("a"), Instant::now(), Timestamp::UNIX_EPOCH);
    leader.wrote(lease_of("a", 1, 15), start);
    let Some(Request::Replace(free)) = leader.resign(wall) else { panic!("there is a lease to give back") };
    assert_eq!(leader.leads_until(), None);
    assert!(elector("b").read(Some(free), start, wall).is_some());
    assert_eq!(leader.resign(wall), None);
}

#[test]
fn a_lease_that_somebody_deletes_is_not_taken_from_a_leader_that_still_leads() {
    let (mut elector, start, wall) = (elector("b"), Instant::now(), Timestamp::UNIX_EPOCH);
    elector.read(Some(lease_of("a", 1, 15)), start, wall);
    assert_eq!(elector.read(None, start + Duration::from_secs(14), wall), None);
    assert!(elector.read(None, start + Duration::from_secs(15), wall).is_some());
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

type Answer = Result<Option<Lease>, ()>;

/// A request on its way: when it reaches the API server, if it does, and when its answer is back, if it ever is.
struct Sent {
    by: usize,
    number: u64,
    request: Request,
    arrives: Option<Instant>,
    answered: Option<(Instant, Answer)>,
    way_back: Option<Duration>,
}

struct Replica {
    elector: Elector,
    /// The request that is waited for, since when, and whether it only reads.
    waits: Option<(u64, Instant, bool)>,
    next: Instant,
    paused_until: Instant,
}

struct World {
    dice: Dice,
    now: Instant,
    stored: Option<Lease>,
    version: u64,
    wire: Vec<Sent>,
    replicas: BTreeMap<usize, Replica>,
    requests: u64,
    calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let replica = |number: usize| Replica {
            elector: elector(&format!("replica-{number}")),
            waits: None,
            next: now,
            paused_until: now,
        };
        World {
            dice: Dice(seed),
            now,
            stored: None,
            version: 0,
            wire: Vec::new(),
            replicas: (0..3).map(|number| (number, replica(number))).collect(),
            requests: 0,
            calm: false,
        }
    }

    fn wall(&mut self) -> Timestamp {
        // Nobody's wall clock is right.
        Timestamp::from_second(i64::try_from(self.dice.below(1 << 30)).unwrap()).unwrap()
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |replica: &Replica| replica.elector.leads_until().is_some_and(|until| self.now < until);
        self.replicas.iter().filter(|(_, replica)| leads(replica)).map(|(number, _)| *number).collect()
    }

    fn delay(&mut self) -> Option<Duration> {
        let ticks = match (self.calm, self.dice.below(10)) {
            (true, _) => 1,
            (_, 0) => return None,
            (_, 1) => self.dice.below(400),
            _ => self.dice.below(5),
        };
        Some(TICK * u32::try_from(ticks).unwrap())
    }

    fn send(&mut self, by: usize, request: Request) {
        let is_read = request == Request::Read;
        let (there, back) = (self.delay(), self.delay());
        let number = self.requests;
        self.requests += 1;
        let arrives = there.map(|there| self.now + there);
        self.wire.push(Sent { by, number, request, arrives, answered: None, way_back: back });
        self.replicas.get_mut(&by).unwrap().waits = Some((number, self.now, is_read));
    }

    /// The API server: one writer at a time, each over the version that it read.
    fn serve(&mut self) {
        for sent in &mut self.wire {
            if sent.arrives.is_none_or(|at| at > self.now) {
                continue;
            }
            sent.arrives = None;
            let version = |lease: &Lease| lease.metadata.resource_version.clone();
            let answer = match (&sent.request, &self.stored) {
                (Request::Read, stored) => Ok(stored.clone()),
                (Request::Create(_), Some(_)) | (Request::Replace(_), None) => Err(()),
                (Request::Replace(new), Some(old)) if version(new) != version(old) => Err(()),
                (Request::Create(new) | Request::Replace(new), _) => {
                    self.version += 1;
                    let mut new = new.clone();
                    new.metadata.resource_version = Some(self.version.to_string());
                    self.stored = Some(new.clone());
                    Ok(Some(new))
                }
            };
            sent.answered = sent.way_back.map(|back| (self.now + back, answer));
        }
        let replicas = &self.replicas;
        let is_waited_for =
            |sent: &Sent| replicas[&sent.by].waits.is_some_and(|(number, ..)| number == sent.number);
        self.wire.retain(|sent| sent.arrives.is_some() || (sent.answered.is_some() && is_waited_for(sent)));
    }

    fn turn(&mut self, number: usize) {
        let (now, wall) = (self.now, self.wall());
        let replica = self.replicas.get_mut(&number).unwrap();
        if now < replica.paused_until {
            return;
        }
        let Some((request, since, is_read)) = replica.waits else {
            if now >= replica.next {
                let request = replica.elector.begin(now, wall);
                self.send(number, request);
            }
            return;
        };
        let answer = self.wire.iter().find(|sent| sent.by == number && sent.number == request);
        let answer = answer.and_then(|sent| sent.answered.clone()).filter(|(at, _)| *at <= now);
        match answer {
            Some((_, Ok(live))) if is_read => {
                if let Some(write) = replica.elector.read(live, now, wall) {
                    return self.send(number, write);
                }
            }
            Some((_, Ok(Some(lease)))) => replica.elector.wrote(lease, since),
            Some(_) => replica.elector.failed(),
            None if now < since + GIVES_UP => return,
            None => replica.elector.failed(),
        }
        replica.waits = None;
        replica.next = now + RETRY_PERIOD;
    }

    fn mischief(&mut self) {
        let number = usize::try_from(self.dice.below(3)).unwrap();
        let wall = self.wall();
        match self.dice.below(1500) {
            // Killed with its memory, and started again under its name.
            0..5 => {
                let replica = self.replicas.get_mut(&number).unwrap();
                replica.elector = elector(&format!("replica-{number}"));
                (replica.waits, replica.next) = (None, self.now + TICK * 30);
            }
            5..10 => {
                let pause = TICK * u32::try_from(self.dice.below(300)).unwrap();
                self.replicas.get_mut(&number).unwrap().paused_until = self.now + pause;
            }
            10..12 => {
                let replica = self.replicas.get_mut(&number).unwrap();
                if replica.waits.is_none()
                    && let Some(request) = replica.elector.resign(wall)
                {
                    self.send(number, request);
                    self.replicas.get_mut(&number).unwrap().waits = None;
                    self.replicas.get_mut(&number).unwrap().next = self.now + TICK * 100;
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        if !self.calm {
            self.mischief();
        }
        self.serve();
        for number in 0..3 {
            self.turn(number);
        }
    }
}

#[test]
fn there_is_never_more_than_one_leader_and_in_the_end_there_is_one() {
    let mut terms = 0;
    for seed in 1..300 {
        let mut world = World::new(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut last = None;
        for _ in 0..3000 {
            world.tick();
            let leaders = world.leaders();
            assert!(leaders.len() <= 1, "seed {seed}: {leaders:?} lead at once");
            if leaders.first().is_some_and(|leader| last != Some(*leader)) {
                (last, terms) = (leaders.first().copied(), terms + 1);
            }
        }
        world.calm = true;
        for _ in 0..600 {
            world.tick();
            assert!(world.leaders().len() <= 1, "seed {seed}");
        }
        assert_eq!(world.leaders().len(), 1, "seed {seed}: nobody leads though all is calm");
    }
    assert!(terms > 500, "leadership changed hands {terms} times: too seldom to prove anything");
}
