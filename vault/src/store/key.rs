//! Keys: where each kind of object lies below a vault's root.

use std::fmt;

use crate::ids::{PackId, SegmentId};

/// The place of one object below the vault's root, for example `packs/ab/ab12…`.
///
/// Made only from typed names or by [`ObjectKey::parse`], so it is always relative, without `..`, and holds no
/// character that any target would read in another way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Longest key in bytes that Keephold writes or believes (S3 allows 1,024 with the prefix before it).
pub const KEY_LEN_MAX: usize = 600;

impl ObjectKey {
    /// The key of `vault.json`.
    pub fn vault_config() -> Self {
        Self("vault.json".into())
    }

    /// The key of a pack: `packs/<2 hex>/<64 hex>`.
    pub fn pack(id: &PackId) -> Self {
        let hex = id.to_string();
        Self(format!("packs/{}/{hex}", &hex[..2]))
    }

    /// The key of an index segment: `index/<64 hex>`.
    pub fn segment(id: &SegmentId) -> Self {
        Self(format!("index/{id}"))
    }

    /// Takes a key as a listing gives it. `None` if it isn't one that Keephold could have written: empty
    /// components, dots, characters outside `[A-Za-z0-9._-]`, or more than [`KEY_LEN_MAX`] bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let sound = !text.is_empty()
            && text.len() <= KEY_LEN_MAX
            && text
                .split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain));
        sound.then(|| Self(text.to_owned()))
    }

    /// The key as text, without a slash in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pack that this key names, if it names one in its right place.
    pub fn as_pack(&self) -> Option<PackId> {
        let (shard, hex) = self.0.strip_prefix("packs/")?.split_once('/')?;
        (hex.starts_with(shard) && shard.len() == 2).then(|| hex.parse().ok())?
    }

    /// The index segment that this key names, if it names one.
    pub fn as_segment(&self) -> Option<SegmentId> {
        self.0.strip_prefix("index/")?.parse().ok()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder of keys to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The whole vault.
    pub fn all() -> Self {
        Self(String::new())
    }

    /// All packs.
    pub fn packs() -> Self {
        Self("packs/".into())
    }

    /// All index segments.
    pub fn index() -> Self {
        Self("index/".into())
    }

    /// All run records.
    pub fn runs() -> Self {
        Self("runs/".into())
    }

    /// One object alone, to list its versions.
    pub fn exact(key: &ObjectKey) -> Self {
        Self(key.0.clone())
    }

    /// A folder by its components, for example `["runs", "db1"]`; each must be a sound key component.
    pub fn folder(parts: &[&str]) -> Option<Self> {
        let key = ObjectKey::parse(&parts.join("/"))?;
        Some(Self(format!("{}/", key.0)))
    }

    /// The prefix as text: empty, ending in a slash, or one whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_escape_or_mislead_are_refused() {
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a b", "a\\b", "a/", ".hidden", "ü"]
        {
            assert_eq!(ObjectKey::parse(bad), None, "{bad:?}");
        }
        assert!(ObjectKey::parse("runs/db1/etc/20260101T000000Z-1-ab").is_some());
    }

    #[test]
    fn a_pack_is_recognised_only_in_its_place() {
        let id = PackId::from_bytes([0xcd; 32]);
        assert_eq!(ObjectKey::pack(&id).as_pack(), Some(id));
        assert_eq!(ObjectKey::parse(&format!("packs/ab/{id}")).and_then(|k| k.as_pack()), None);
    }
}
