//! Rendezvous hashing: which of several instances owns a key, so that all agree without asking each other.
//!
//! *Invariant:* when an instance leaves, only its own keys move; when one comes, keys move to it alone.

use xxhash_rust::xxh3::xxh3_64;

use crate::Member;

/// The owner of a key among instances; `None` where there is none.
pub fn owner<'a>(key: &str, members: &'a [Member]) -> Option<&'a Member> {
    members
        .iter()
        .max_by_key(|member| weight(key, &member.instance))
}

/// Instances in the order in which they would own a key if those before were gone.
pub fn order<'a>(key: &str, members: &'a [Member]) -> Vec<&'a Member> {
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by_cached_key(|member| std::cmp::Reverse(weight(key, &member.instance)));
    order
}

/// The heaviest owns; of equals, which 64 bits nearly exclude, the last name.
fn weight<'a>(key: &str, instance: &'a str) -> (u64, &'a str) {
    (xxh3_64(format!("{key}\0{instance}").as_bytes()), instance)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn members(names: &[String]) -> Vec<Member> {
        let member = |name: &String| Member {
            instance: name.clone(),
            addresses: std::collections::BTreeMap::new(),
            since: model::Revision::default(),
        };
        names.iter().map(member).collect()
    }

    fn names(members: &[&Member]) -> Vec<String> {
        members.iter().map(|m| m.instance.clone()).collect()
    }

    proptest! {
        /// Whoever leaves, the order of the others stays; so only the keys of the departed move, and to their successors.
        #[test]
        fn the_order_of_those_who_stay_stays(
            key in ".{0,40}",
            all in proptest::collection::btree_set("[a-z]{1,8}", 1..9),
            gone in any::<prop::sample::Index>(),
            turn in any::<prop::sample::Index>(),
        ) {
            let mut all: Vec<String> = all.into_iter().collect();
            let turn = turn.index(all.len());
            all.rotate_left(turn);
            let of_all = members(&all);
            let order_of_all = names(&order(&key, &of_all));
            prop_assert_eq!(&owner(&key, &of_all).unwrap().instance, &order_of_all[0]);
            let gone = all.remove(gone.index(all.len()));
            let fewer = members(&all);
            let expected: Vec<String> = order_of_all.into_iter().filter(|name| *name != gone).collect();
            prop_assert_eq!(names(&order(&key, &fewer)), expected.clone());
            prop_assert_eq!(owner(&key, &fewer).map(|m| &m.instance), expected.first());
        }
    }

    #[test]
    fn everybody_owns_a_fair_share() {
        let all = members(&["a", "b", "c", "d"].map(str::to_owned));
        let mut owned = std::collections::BTreeMap::new();
        for key in (0..1000).map(|i| format!("sidecar~shop~w{i}")) {
            *owned
                .entry(owner(&key, &all).unwrap().instance.clone())
                .or_insert(0) += 1;
        }
        assert!(
            owned.len() == 4 && owned.values().all(|n| (200..300).contains(n)),
            "{owned:?}"
        );
    }
}
