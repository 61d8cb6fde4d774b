//! A hash that is the same on every machine and in every release: addresses and MACs are made of it.

/// FNV-1a over the parts, a zero byte between them, with the finaliser of SplitMix64 so that every bit counts.
pub(crate) fn stable(parts: &[&[u8]]) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(std::iter::once(&0)) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(state)
}

/// The finaliser of SplitMix64: a bijection that spreads every input bit over the whole output.
pub(crate) fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_fixed_for_all_time() {
        // A change here renumbers every mesh: addresses that were not yet written, and every IPv6 device's MAC.
        assert_eq!(stable(&[b"a", b"b"]), stable(&[b"a", b"b"]));
        assert_ne!(stable(&[b"ab", b""]), stable(&[b"a", b"b"]));
        assert_eq!(stable(&[]), 0xf52a_15e9_a9b5_e89b);
    }
}
