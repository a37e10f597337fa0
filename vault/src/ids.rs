//! Names of things in a vault. Each kind is a type of its own, so that a pack's name can't be taken for a blob's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A name in hexadecimal that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {what}: {length} hexadecimal digits are expected")]
pub struct BadId {
    text: String,
    what: &'static str,
    length: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:expr, $what:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Length of this name in bytes.
            pub const LEN: usize = $bytes;

            /// Takes raw bytes as this name.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes of this name.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        // The order of the bytes, by eights: nearly always the first tell, and names are sorted by the ten thousand.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                const { assert!($bytes % 8 == 0) };
                let (mine, others) = (self.0.as_chunks().0.iter(), other.0.as_chunks().0.iter());
                mine.map(|eight| u64::from_be_bytes(*eight))
                    .cmp(others.map(|eight| u64::from_be_bytes(*eight)))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let mut bytes = [0; $bytes];
                match hex::decode_to_slice(text, &mut bytes) {
                    // Only one spelling of a name is right, so that two keys can't mean one object.
                    Ok(()) if !text.bytes().any(|c| c.is_ascii_uppercase()) => Ok(Self(bytes)),
                    _ => Err(BadId { text: text.chars().take(80).collect(), what: $what, length: $bytes * 2 }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    Ok(Self(<[u8; $bytes]>::deserialize(deserializer)?))
                }
            }
        }
    };
}

id_type!(
    /// Names a blob: the first 24 bytes of the keyed BLAKE3 of its plaintext. 192 bits keep accidental and
    /// wilful collisions out of reach (2^96 work) and a quarter of the index's bytes away.
    BlobId, 24, "a blob's id"
);
id_type!(
    /// Names a pack: the BLAKE3 of its stored bytes, so that anyone can check it without a key.
    PackId, 32, "a pack's id"
);
id_type!(
    /// Names an index segment: the BLAKE3 of its stored bytes.
    SegmentId, 32, "an index segment's id"
);
id_type!(
    /// The BLAKE3 of a run record's stored bytes; its first 16 bytes stand in the record's key, and the next
    /// record of the same host and job carries all of it.
    RecordHash, 32, "a record's hash"
);
id_type!(
    /// The BLAKE3 of `vault.json`: what a host pins, so that another vault can't be put in this one's place.
    Fingerprint, 32, "a vault's fingerprint"
);
id_type!(
    /// A vault's random name, which every sealed message is bound to.
    VaultId, 16, "a vault's id"
);
id_type!(
    /// BLAKE3 of a whole content's bytes (holes left out), as `b3sum` prints it for a file without holes.
    ContentHash, 32, "a content hash"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_bytes() {
        let mut bytes = [[0; 24]; 40];
        for (n, bytes) in bytes.iter_mut().enumerate() {
            // Alike but for one byte, early or late, or wholly different.
            bytes[n % 24] = (n * 37) as u8;
        }
        for a in bytes {
            for b in bytes {
                assert_eq!(BlobId::from_bytes(a).cmp(&BlobId::from_bytes(b)), a.cmp(&b));
            }
        }
    }

    #[test]
    fn hexadecimal_is_read_back_and_only_in_lower_case() {
        let id = BlobId::from_bytes([0xab; 24]);
        assert_eq!(id.to_string().parse::<BlobId>(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<BlobId>().is_err());
        assert!("abcd".parse::<BlobId>().is_err());
    }
}
