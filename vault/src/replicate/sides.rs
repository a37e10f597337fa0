//! Two listings side by side, both in the order of keys.

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::store::{ObjectKey, StoreError, Version};

/// Most versions of one key that are kept: who can write may have put many over it, the true one is the oldest.
const VERSIONS_MAX: usize = 1_000;

type Listing<'a> = BoxStream<'a, Result<Version, StoreError>>;

/// The versions of one key that hold data, oldest first.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: ObjectKey,
    pub(super) versions: Vec<Version>,
}

/// Gathers the versions of each key.
struct Groups<'a> {
    listing: Listing<'a>,
    ahead: Option<Version>,
}

impl Groups<'_> {
    async fn next(&mut self) -> Result<Option<Group>, StoreError> {
        let first = match self.ahead.take() {
            Some(version) => version,
            None => match self.listing.next().await.transpose()? {
                Some(version) => version,
                None => return Ok(None),
            },
        };
        let mut group = Group { key: first.key.clone(), versions: Vec::new() };
        let mut version = first;
        loop {
            if !version.delete_marker {
                if group.versions.len() == VERSIONS_MAX {
                    group.versions.remove(0);
                }
                group.versions.push(version);
            }
            match self.listing.next().await.transpose()? {
                Some(next) if next.key == group.key => version = next,
                next => {
                    self.ahead = next;
                    break;
                }
            }
        }
        group.versions.reverse();
        Ok(Some(group))
    }
}

/// Each key of the source, with the same key of the copy where that has it.
pub(super) struct Pairs<'a> {
    source: Groups<'a>,
    copy: Groups<'a>,
    /// The first of the copy's that isn't behind the source's.
    held: Option<Group>,
    ended: bool,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(source: Listing<'a>, copy: Listing<'a>) -> Self {
        let groups = |listing| Groups { listing, ahead: None };
        Self { source: groups(source), copy: groups(copy), held: None, ended: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<(Group, Option<Group>)>, StoreError> {
        let Some(group) = self.source.next().await? else { return Ok(None) };
        while !self.ended && self.held.as_ref().is_none_or(|held| held.key < group.key) {
            self.held = self.copy.next().await?;
            self.ended = self.held.is_none();
        }
        let copy = self.held.take_if(|held| held.key == group.key);
        Ok(Some((group, copy)))
    }
}
