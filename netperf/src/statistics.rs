//! Quantiles of samples, and how far a ratio of medians can be trusted. Pure: no clock, no entropy.

use serde::{Deserialize, Serialize};

/// Resamplings behind a confidence interval.
const RESAMPLINGS: usize = 1000;
/// Half of what a 95 % interval leaves out.
const TAIL: f64 = 0.025;

/// A small generator with a seed (Steele, Lea, Flood 2014), so that results can be repeated.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose whole sequence depends on `seed` only.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    fn below(&mut self, bound: usize) -> usize {
        // the bias of the remainder is below bound / 2^64
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}

/// Exact quantiles of a set of round-trip times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The fastest.
    pub min_us: f64,
    /// The median.
    pub p50_us: f64,
    /// Nine of ten are at most this.
    pub p90_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// The arithmetic mean.
    pub mean_us: f64,
}

impl Quantiles {
    /// Quantiles of samples in nanoseconds; `None` if there is no sample.
    #[must_use]
    pub fn of(samples: &[u64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let sum: u128 = sorted.iter().map(|sample| u128::from(*sample)).sum();
        Some(Self {
            min_us: micros(min),
            p50_us: micros(nearest_rank(&sorted, 50)),
            p90_us: micros(nearest_rank(&sorted, 90)),
            p99_us: micros(nearest_rank(&sorted, 99)),
            max_us: micros(max),
            mean_us: sum as f64 / sorted.len() as f64 / 1000.0,
        })
    }
}

/// The sample of which `percent` of all samples are no larger (nearest-rank definition).
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// A ratio with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioOfMedians {
    /// Median of the one over median of the other.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The ratio of the median of `rounds[_].1` to that of `rounds[_].0`.
///
/// The interval is a percentile bootstrap over whole rounds: both samples of a round were taken right after each other
/// and share what disturbed the machine then, so they are drawn together. `None` without rounds or with a median of 0.
#[must_use]
pub fn ratio_of_medians(rounds: &[(u64, u64)], seed: u64) -> Option<RatioOfMedians> {
    let mut first: Vec<u64> = rounds.iter().map(|round| round.0).collect();
    let mut second: Vec<u64> = rounds.iter().map(|round| round.1).collect();
    let ratio = divide(median(&mut second)?, median(&mut first)?)?;
    let mut random = SplitMix64::new(seed);
    let mut ratios = Vec::with_capacity(RESAMPLINGS);
    for _ in 0..RESAMPLINGS {
        for slot in 0..rounds.len() {
            (first[slot], second[slot]) = rounds[random.below(rounds.len())];
        }
        ratios.extend(divide(median(&mut second)?, median(&mut first)?));
    }
    ratios.sort_by(f64::total_cmp);
    let last = ratios.len().checked_sub(1)?;
    let at = |share: f64| ratios[(last as f64 * share).round() as usize];
    Some(RatioOfMedians { ratio, low: at(TAIL), high: at(1.0 - TAIL) })
}

fn divide(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator != 0).then(|| numerator as f64 / denominator as f64)
}

fn median(samples: &mut [u64]) -> Option<u64> {
    let middle = samples.len().checked_sub(1)? / 2;
    Some(*samples.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_one_to_a_hundred_microseconds() {
        let samples: Vec<u64> = (1..=100).rev().map(|us| us * 1000).collect();
        let quantiles = Quantiles::of(&samples).unwrap();
        let expected =
            Quantiles { min_us: 1.0, p50_us: 50.0, p90_us: 90.0, p99_us: 99.0, max_us: 100.0, mean_us: 50.5 };
        assert_eq!(quantiles, expected);
    }

    #[test]
    fn no_sample_has_no_quantile_and_no_ratio() {
        assert_eq!(Quantiles::of(&[]), None);
        assert_eq!(ratio_of_medians(&[], 1), None);
        assert_eq!(ratio_of_medians(&[(0, 5)], 1), None);
    }

    #[test]
    fn the_interval_of_a_constant_ratio_is_a_point() {
        let rounds: Vec<(u64, u64)> = vec![(100, 150); 50];
        let ratio = ratio_of_medians(&rounds, 1).unwrap();
        assert_eq!(ratio, RatioOfMedians { ratio: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn noise_of_twenty_percent_still_gives_two_within_two_percent() {
        let mut random = SplitMix64::new(3);
        let mut noisy = |middle: u64| middle * 8 / 10 + random.next() % (middle * 4 / 10);
        let rounds: Vec<(u64, u64)> = (0..4000).map(|_| (noisy(10_000), noisy(20_000))).collect();
        let RatioOfMedians { ratio, low, high } = ratio_of_medians(&rounds, 1).unwrap();
        assert!(low <= ratio && ratio <= high && low <= 2.0 && 2.0 <= high, "{low} {ratio} {high}");
        assert!(high - low < 0.04, "{low} {high}");
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_are_samples(samples in proptest::collection::vec(0u64..1 << 40, 1..200)) {
            let q = Quantiles::of(&samples).unwrap();
            prop_assert!(q.min_us <= q.p50_us && q.p50_us <= q.p90_us && q.p90_us <= q.p99_us && q.p99_us <= q.max_us);
            prop_assert!(q.min_us <= q.mean_us + 1e-3 && q.mean_us <= q.max_us + 1e-3);
            prop_assert!(samples.iter().any(|sample| micros(*sample) == q.p50_us));
            let below = samples.iter().filter(|sample| micros(**sample) <= q.p90_us).count();
            prop_assert!(below * 10 >= samples.len() * 9);
        }

        #[test]
        fn the_ratio_lies_in_its_interval(rounds in proptest::collection::vec((1u64..1000, 1u64..1000), 30..80), seed: u64) {
            let first = ratio_of_medians(&rounds, seed).unwrap();
            prop_assert!(first.low <= first.high);
            prop_assert_eq!(ratio_of_medians(&rounds, seed).unwrap(), first, "a seed gives one result");
        }
    }
}
