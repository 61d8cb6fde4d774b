//! Chance that can be had again: the same seed makes the same decisions.

use std::time::Duration;

use netperf::statistics::SplitMix64;

/// A source of decisions.
#[derive(Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// The decisions of this seed for this purpose: scenarios do not depend on which others ran before.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Random(SplitMix64::new(seed ^ netperf::wire::checksum(purpose.as_bytes())))
    }

    /// A number below `end`; zero where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next().checked_rem(end).unwrap_or(0)
    }

    /// A time below `end`.
    pub fn within(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(end.as_micros()).unwrap_or(u64::MAX)))
    }

    /// One of them.
    ///
    /// # Panics
    /// There is nothing to choose from.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_decide_everything() {
        let decisions = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            (0..20).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(decisions(7, "kill"), decisions(7, "kill"));
        assert_ne!(decisions(7, "kill"), decisions(8, "kill"));
        assert_ne!(decisions(7, "kill"), decisions(7, "upgrade"));
        assert!(Random::new(1, "x").within(Duration::from_millis(5)) < Duration::from_millis(5));
        assert_eq!(Random::new(1, "x").below(0), 0);
    }
}
