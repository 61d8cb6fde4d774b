//! Two ordered lists, read side by side: each key once, with what either list has of it.

use std::cmp::Ordering;
use std::iter::Peekable;

/// Reads two lists whose keys ascend. A look-up of each key in the other list costs many times as much.
pub(crate) fn side_by_side<K: Ord, L, R>(
    left: impl IntoIterator<Item = (K, L)>,
    right: impl IntoIterator<Item = (K, R)>,
) -> impl Iterator<Item = (K, Option<L>, Option<R>)> {
    SideBySide { left: left.into_iter().peekable(), right: right.into_iter().peekable() }
}

struct SideBySide<L: Iterator, R: Iterator> {
    left: Peekable<L>,
    right: Peekable<R>,
}

impl<K: Ord, A, B, L, R> Iterator for SideBySide<L, R>
where
    L: Iterator<Item = (K, A)>,
    R: Iterator<Item = (K, B)>,
{
    type Item = (K, Option<A>, Option<B>);

    fn next(&mut self) -> Option<Self::Item> {
        let next = match (self.left.peek(), self.right.peek()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let of_left = if next.is_le() { self.left.next() } else { None };
        let of_right = if next.is_ge() { self.right.next() } else { None };
        match (of_left, of_right) {
            (Some((key, left)), right) => Some((key, Some(left), right.map(|(_, right)| right))),
            (None, right) => right.map(|(key, right)| (key, None, Some(right))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_finds_what_look_ups_find(
            left in prop::collection::btree_map(0u8..40, any::<bool>(), 0..20),
            right in prop::collection::btree_map(0u8..40, any::<char>(), 0..20),
        ) {
            let keys: BTreeSet<u8> = left.keys().chain(right.keys()).copied().collect();
            let by_look_up: Vec<_> = keys.iter().map(|key| (key, left.get(key), right.get(key))).collect();
            prop_assert_eq!(side_by_side(&left, &right).collect::<Vec<_>>(), by_look_up);
        }
    }

    #[test]
    fn two_empty_lists_have_nothing() {
        let empty: BTreeMap<u8, ()> = BTreeMap::new();
        assert_eq!(side_by_side(&empty, &empty).count(), 0);
    }
}
