//! A target's settings as it tells them: recorded in reports, so that a change between two of them shows.

/// The settings that a target was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketSettings {
    /// Each setting, in a fixed order; empty for targets that have none.
    pub settings: Vec<Setting>,
    /// Lifecycle rules that expire or remove objects of the vault, each in one sentence.
    pub expiring: Vec<String>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its stable name: `versioning`, `object_lock`, `lifecycle`, `policy`, `public_access_block`, `acl`; on Google
    /// `retention_policy` and `soft_delete` too.
    pub name: &'static str,
    /// What the target answered.
    pub state: SettingState,
}

/// What a target answered when it was asked for a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingState {
    /// It is set: the same settings always give the same text.
    Set(String),
    /// There is none.
    NotSet,
    /// This credential may not read it, or the server doesn't know it. The server's own words.
    NotReadable(String),
}
