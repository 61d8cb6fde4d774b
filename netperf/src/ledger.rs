//! What the server remembers of one outage flow, so that loss on the way there can be told from loss on the way back.

use std::collections::BTreeMap;

use crate::wire::{PAGE, PAGE_BYTES, Page, Stamp};

/// Flows that are remembered at the same time; the one unused for longest gives way.
const MAX_FLOWS: usize = 64;
/// Sequence numbers per flow: over four hours at 1 kHz, 2 MiB of memory.
pub const MAX_SEQ: u64 = 1 << 24;

/// The sequence numbers of one flow that were received.
#[derive(Debug, Default)]
pub struct Ledger {
    seen: Vec<u64>,
    end: u64,
    received: u64,
    duplicates: u64,
    reordered: u64,
}

impl Ledger {
    /// Takes note of one packet; `None` if its sequence number is beyond [`MAX_SEQ`].
    pub fn record(&mut self, seq: u64) -> Option<Stamp> {
        let word = usize::try_from(seq / 64).ok().filter(|_| seq < MAX_SEQ)?;
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let bit = 1 << (seq % 64);
        let duplicate = self.seen[word] & bit != 0;
        let reordered = !duplicate && seq < self.end;
        self.seen[word] |= bit;
        self.end = self.end.max(seq + 1);
        self.received += 1;
        self.duplicates += u64::from(duplicate);
        self.reordered += u64::from(reordered);
        Some(Stamp { counter: self.received, duplicate, reordered })
    }

    /// The totals, and which of the [`PAGE`] sequence numbers from `base` were received.
    #[must_use]
    pub fn page(&self, base: u64, epoch: u64) -> Page {
        let mut bitmap = [0; PAGE_BYTES];
        for offset in 0..PAGE {
            if self.saw(base.saturating_add(offset)) {
                bitmap[(offset / 8) as usize] |= 1 << (offset % 8);
            }
        }
        let Self { received, duplicates, reordered, .. } = *self;
        Page { base, epoch, received, duplicates, reordered, bitmap }
    }

    fn saw(&self, seq: u64) -> bool {
        let word = usize::try_from(seq / 64).ok().and_then(|word| self.seen.get(word));
        word.is_some_and(|word| word & (1 << (seq % 64)) != 0)
    }
}

/// The ledgers of all flows that reach one socket, by the number that the asker chose: a flow stays the same when
/// address translation on the way gives it another source port.
#[derive(Debug, Default)]
pub struct Ledgers {
    flows: BTreeMap<u64, (u64, Ledger)>,
    uses: u64,
}

impl Ledgers {
    /// The ledger of a flow, new if the flow is; the one unused for longest is forgotten when there are too many.
    pub fn flow(&mut self, flow: u64) -> &mut Ledger {
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&flow) {
            let oldest = self.flows.iter().min_by_key(|(_, (used, _))| *used).map(|(flow, _)| *flow);
            oldest.map(|oldest| self.flows.remove(&oldest));
        }
        self.uses += 1;
        let (used, ledger) = self.flows.entry(flow).or_default();
        *used = self.uses;
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_late_ones_are_told_apart() {
        let mut ledger = Ledger::default();
        let stamps: Vec<Stamp> = [0, 2, 1, 1, 3].into_iter().map(|seq| ledger.record(seq).unwrap()).collect();
        assert_eq!(stamps.iter().map(|s| s.counter).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(
            stamps.iter().map(|s| s.duplicate).collect::<Vec<_>>(),
            [false, false, false, true, false]
        );
        assert_eq!(
            stamps.iter().map(|s| s.reordered).collect::<Vec<_>>(),
            [false, false, true, false, false]
        );
        let page = ledger.page(0, 9);
        assert_eq!((page.received, page.duplicates, page.reordered, page.epoch), (5, 1, 1, 9));
        assert_eq!(page.received(3), Some(true));
        assert_eq!(page.received(4), Some(false));
        assert_eq!(page.received(PAGE), None);
    }

    #[test]
    fn pages_start_anywhere() {
        let mut ledger = Ledger::default();
        for seq in (0..5000).filter(|seq| seq % 3 != 0) {
            ledger.record(seq);
        }
        for base in [0, 1, 63, 64, 1000, 4900] {
            let page = ledger.page(base, 0);
            for seq in base..base + PAGE {
                assert_eq!(page.received(seq), Some(seq < 5000 && seq % 3 != 0), "base {base} seq {seq}");
            }
        }
    }

    #[test]
    fn memory_is_bounded_per_flow_and_in_flows() {
        let mut ledgers = Ledgers::default();
        assert_eq!(ledgers.flow(0).record(MAX_SEQ), None);
        for flow in 0..200 {
            ledgers.flow(flow).record(0);
            ledgers.flow(0).record(flow);
        }
        assert_eq!(ledgers.flows.len(), MAX_FLOWS);
        assert_eq!(ledgers.flow(0).page(0, 0).received, 201, "the flow in use is kept");
    }
}
