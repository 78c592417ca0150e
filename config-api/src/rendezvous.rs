//! Rendezvous hashing: which of several instances owns a key, so that all agree without asking each other.
//!
//! *Invariant:* when an instance leaves, only its own keys move.

use xxhash_rust::xxh3::xxh3_64;

/// The instances' indices, the owner of `key` first, its successors after it.
pub(crate) fn order(key: &str, instances: &[&str]) -> Vec<usize> {
    let weight = |i: &usize| {
        let text = format!("{key}\0{}", instances[*i]);
        (xxh3_64(text.as_bytes()), instances[*i])
    };
    let mut order: Vec<usize> = (0..instances.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(weight(i)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_of_the_departed_move() {
        let (all, fewer) = (["a", "b", "c", "d"], ["a", "b", "d"]);
        let mut owned = [0; 4];
        for key in (0..1000).map(|i| format!("shop/w{i}")) {
            let owner = order(&key, &all)[0];
            owned[owner] += 1;
            if all[owner] != "c" {
                assert_eq!(fewer[order(&key, &fewer)[0]], all[owner]);
            }
        }
        assert!(owned.iter().all(|n| *n > 150), "{owned:?}");
    }
}
