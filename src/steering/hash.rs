//! The frozen hash of stickiness: no release may ever change what these functions return, for clients would move.
//!
//! A key (service and client prefix) is hashed once with xxh3; then each candidate's own hash is mixed in by a 32-bit
//! finaliser (MurmurHash3's), which costs about a nanosecond. The highest score wins among equal weights; between
//! weights -ln(u)/weight decides, the lowest wins (weighted rendezvous hashing). The logarithm is `libm`'s, the same
//! everywhere.

use std::net::IpAddr;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::client::mask;

/// The hash of a name (service, instance path, region), case folded.
#[must_use]
pub fn of_name(name: &str) -> u64 {
    xxh3_64(name.to_ascii_lowercase().as_bytes())
}

/// The key of a client of a service: its prefix of `bits`, seeded with the service's hash.
#[must_use]
pub fn client_key(service: u64, address: IpAddr, bits: u8) -> u64 {
    match mask(address, bits) {
        IpAddr::V4(v4) => xxh3_64_with_seed(&v4.octets(), service),
        IpAddr::V6(v6) => xxh3_64_with_seed(&v6.octets(), service),
    }
}

/// The hash of a label, case folded.
#[must_use]
pub fn of_label(label: &[u8]) -> u64 {
    let mut lower = [0; 63];
    let lower = &mut lower[..label.len().min(63)];
    lower.copy_from_slice(&label[..lower.len()]);
    lower.make_ascii_lowercase();
    xxh3_64(lower)
}

/// The key of a label of a service, by [`of_label`]; seeded with the service's hash.
#[must_use]
pub fn label_key(service: u64, label: u64) -> u64 {
    xxh3_64_with_seed(&label.to_be_bytes(), service)
}

/// A candidate's score for a key, uniform over all 32-bit numbers.
#[must_use]
#[inline(always)]
pub fn score(key: u64, candidate: u32) -> u32 {
    // Both halves of the key take part, so that two keys alike in 32 bits still differ.
    let mut mixed = (key as u32 ^ candidate).wrapping_mul(0x9e37_79b1) ^ (key >> 32) as u32;
    mixed ^= mixed >> 16;
    mixed = mixed.wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

/// The rank of a candidate by score and weight: the lowest wins. `weight` is above 0.
#[must_use]
pub fn rank(score: u32, weight: u64) -> f64 {
    -libm::log(uniform(score)) / weight as f64
}

/// A score as a number between 0 and 1, neither of them.
#[must_use]
pub fn uniform(score: u32) -> f64 {
    (f64::from(score) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: these numbers never change.
    #[test]
    fn is_frozen() {
        assert_eq!(of_name("web/EU-1"), of_name("web/eu-1"));
        let service = of_name("near.gslb.example.com");
        let key = client_key(service, "203.0.113.77".parse().expect("ip"), 24);
        assert_eq!(key, client_key(service, "203.0.113.0".parse().expect("ip"), 24));
        let scores: Vec<u32> = ["web/eu-1", "web/eu-2"].map(|name| score(key, of_name(name) as u32)).into();
        let key6 = client_key(service, "2001:db8:1::5".parse().expect("ip"), 56);
        assert_eq!((service, key, key6), (0x6130_1279_97a3_553e, 0xa50d_0899_3303_705d, 0x0f87_20f4_c682_f4e1));
        assert_eq!(scores, [0x6aa9_2c43, 0x840d_1145]);
        assert_eq!(rank(scores[0], 3).to_bits(), 4_598_928_962_647_657_439);
    }

    #[test]
    fn scores_are_uniform_and_independent() {
        let candidates: Vec<u32> = (0..8).map(|i| of_name(&format!("web/{i}")) as u32).collect();
        let mut wins = [0u32; 8];
        for client in 0..80_000u32 {
            let key = client_key(1, IpAddr::from(client.to_be_bytes()), 32);
            let best = (0..8).max_by_key(|&i| score(key, candidates[i])).expect("one wins");
            wins[best] += 1;
        }
        assert!(wins.iter().all(|&won| (9_500..10_500).contains(&won)), "{wins:?}");
    }
}
