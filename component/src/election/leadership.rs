//! What the rest of a program knows of an election: whether it leads, and until when.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// One uninterrupted time of leading; the next is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub(super) u64);

/// As an election stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) term: Term,
    /// Until when the term lasts unless it is renewed; `None` where there is no end to it.
    pub(super) until: Option<Instant>,
    /// Why the lease can be neither read nor written.
    pub(super) trouble: Option<String>,
}

impl Standing {
    fn term(&self) -> Option<Term> {
        self.until.is_none_or(|until| Instant::now() < until).then_some(self.term)
    }
}

/// Whether this process leads. It does for as long as its lease was renewed for, and not a moment longer, whatever the
/// task does that renews it: the end comes by the clock.
#[derive(Clone, Debug)]
pub struct Leadership(pub(super) watch::Receiver<Standing>);

impl Leadership {
    /// Of a process that has no rivals.
    pub fn unrivalled() -> Self {
        let standing = Standing { term: Term(1), until: None, trouble: None };
        Leadership(watch::channel(standing).1)
    }

    /// The term in which this process leads now, if it does.
    pub fn term(&self) -> Option<Term> {
        self.0.borrow().term()
    }

    /// Why the election does not work, where it does not.
    pub fn trouble(&self) -> Option<String> {
        self.0.borrow().trouble.clone()
    }

    /// Waits until the term is another than `known`: it ended, or one began.
    pub async fn turns(&mut self, known: Option<Term>) {
        loop {
            let standing = self.0.borrow_and_update().clone();
            if standing.term() != known {
                return;
            }
            let lapse = async {
                match standing.until.filter(|_| known.is_some()) {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let news = async {
                if self.0.changed().await.is_err() {
                    // Nobody stands for election any more: what is left is to wait for the end of the term.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = lapse => {}
                () = news => {}
            }
        }
    }

    /// Does `work` within a term; nothing, and nothing more of it, once that has ended.
    pub async fn within<T>(mut self, term: Term, work: impl Future<Output = T>) -> Option<T> {
        if self.term() != Some(term) {
            return None;
        }
        tokio::select! {
            biased;
            () = self.turns(Some(term)) => None,
            done = work => Some(done),
        }
    }
}

/// The metric `leader`, as it stands when somebody asks.
impl Collector for Leadership {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let leader = ConstGauge::new(i64::from(self.term().is_some()));
        let help = "1 where this replica leads, and writes.";
        leader.encode(encoder.encode_descriptor("leader", help, None, leader.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn election(until: Duration) -> (watch::Sender<Standing>, Leadership) {
        let standing = Standing { term: Term(1), until: Some(Instant::now() + until), trouble: None };
        let (sender, receiver) = watch::channel(standing);
        (sender, Leadership(receiver))
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_by_the_clock_though_whoever_renews_it_is_stuck() {
        let (_sender, mut leadership) = election(Duration::from_secs(10));
        let start = Instant::now();
        let term = leadership.term();
        assert_eq!(term, Some(Term(1)));
        leadership.turns(term).await;
        assert_eq!((leadership.term(), start.elapsed()), (None, Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_metric_knows_when_the_term_is_over() {
        let (_sender, leadership) = election(Duration::from_secs(10));
        let mut registry = Registry::with_prefix("clusterlink_test");
        registry.register_collector(Box::new(leadership));
        let says = |line: &str| {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            assert!(text.lines().any(|said| said == line), "{text}");
        };
        says("clusterlink_test_leader 1");
        tokio::time::advance(Duration::from_secs(10)).await;
        says("clusterlink_test_leader 0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_no_turn_and_a_new_term_is_one() {
        let (sender, mut leadership) = election(Duration::from_secs(10));
        let start = Instant::now();
        let first = leadership.term();
        let renews = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            sender.send_modify(|standing| standing.until = Some(start + Duration::from_secs(19)));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = renews => {}
            () = leadership.turns(first) => assert_eq!(start.elapsed(), Duration::from_secs(19)),
        }
        let again = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send_modify(|standing| {
                (standing.term, standing.until) = (Term(2), Some(start + Duration::from_secs(60)));
            });
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = again => {}
            () = leadership.turns(None) => assert_eq!(leadership.term(), Some(Term(2))),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_with_the_term_that_it_was_begun_in() {
        let (_sender, leadership) = election(Duration::from_secs(10));
        let long = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(leadership.clone().within(Term(1), long(9)).await, Some(()));
        assert_eq!(leadership.clone().within(Term(1), long(2)).await, None);
        assert_eq!(leadership.within(Term(1), async {}).await, None, "it is over");
        assert_eq!(Leadership::unrivalled().within(Term(1), long(1_000_000)).await, Some(()));
    }
}
