//! A digest of a table's rows that doesn't depend on their order.
//!
//! Rows come out of a table in no promised order, and in another order after a restore. So each row is hashed by itself,
//! and the hashes are added up modulo 2^256. A sum, never an exclusive or: there, a pair of equal rows would vanish.

use serde::{Deserialize, Serialize};

/// How many rows, and the sum of their keyed BLAKE3 hashes modulo 2^256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSet {
    /// The number of rows that were added.
    pub rows: u64,
    /// The sum, least significant byte first.
    #[serde(with = "hex::serde")]
    pub sum: [u8; 32],
}

impl RowSet {
    /// Adds one row by its hash.
    pub fn add(&mut self, hash: &[u8; 32]) {
        self.rows = self.rows.wrapping_add(1);
        self.add_sum(hash);
    }

    /// Adds all rows of another set, as if they had been added one by one.
    pub fn merge(&mut self, other: &Self) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.add_sum(&other.sum);
    }

    /// The sum as 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.sum)
    }

    fn add_sum(&mut self, other: &[u8; 32]) {
        let (mine, _) = self.sum.as_chunks_mut::<8>();
        let (theirs, _) = other.as_chunks::<8>();
        let mut carry = false;
        for (mine, theirs) in mine.iter_mut().zip(theirs) {
            let (sum, first) =
                u64::from_le_bytes(*mine).overflowing_add(u64::from_le_bytes(*theirs));
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *mine = sum.to_le_bytes();
            carry = first || second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(hashes: &[[u8; 32]]) -> RowSet {
        let mut set = RowSet::default();
        for hash in hashes {
            set.add(hash);
        }
        set
    }

    #[test]
    fn carries_run_through_and_fall_off_at_the_end() {
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(set(&[[0xff; 32], one]), RowSet { rows: 2, sum: [0; 32] });
    }

    #[test]
    fn equal_pairs_do_not_vanish() {
        assert_ne!(set(&[[7; 32], [7; 32]]).sum, [0; 32]);
    }

    #[test]
    fn json_is_readable() {
        let json = serde_json::to_string(&set(&[[0xab; 32]])).unwrap();
        assert_eq!(json, format!(r#"{{"rows":1,"sum":"{}"}}"#, "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<RowSet>(&json).unwrap(), set(&[[0xab; 32]]));
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(mut hashes: Vec<[u8; 32]>, at: prop::sample::Index) {
            let all = set(&hashes);
            let middle = at.index(hashes.len() + 1);
            let (left, right) = hashes.split_at(middle);
            let mut merged = set(right);
            merged.merge(&set(left));
            prop_assert_eq!(merged, all);
            hashes.reverse();
            prop_assert_eq!(set(&hashes), all);
        }
    }
}
