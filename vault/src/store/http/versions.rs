//! The versions of a key in order, for services whose listings have no delete markers and another order than S3's.

use std::collections::VecDeque;

use futures::stream::{BoxStream, StreamExt as _};

use crate::store::{StoreError, Version, VersionId};

/// Stands for the state of a key that has versions, none of which is current: what a delete marker says on S3.
/// Nothing is stored under this name, and it goes with the last version.
pub(in crate::store) const HIDDEN: &str = "hidden";

/// Most versions of one key that are put in order: more than anything but an attack makes.
const VERSIONS_MAX: usize = 100_000;

/// A listing on its way.
struct Group<'a> {
    listing: BoxStream<'a, Result<Version, StoreError>>,
    /// The versions of the key that is being read.
    open: Vec<Version>,
    ready: VecDeque<Version>,
    ended: bool,
    target: String,
}

/// Puts the versions of each key of a listing by keys newest first, below a [`HIDDEN`] marker where none is current.
pub(in crate::store) fn by_key<'a>(
    listing: BoxStream<'a, Result<Version, StoreError>>,
    target: &str,
) -> BoxStream<'a, Result<Version, StoreError>> {
    let group = Group {
        listing,
        open: Vec::new(),
        ready: VecDeque::new(),
        ended: false,
        target: target.to_owned(),
    };
    futures::stream::try_unfold(group, |mut group| async move {
        loop {
            if let Some(version) = group.ready.pop_front() {
                return Ok(Some((version, group)));
            }
            if group.ended {
                return Ok(None);
            }
            match group.listing.next().await.transpose()? {
                Some(version) => {
                    if group.open.first().is_some_and(|first| first.key != version.key) {
                        group.close();
                    }
                    group.open.push(version);
                    if group.open.len() > VERSIONS_MAX {
                        return Err(StoreError::Other {
                            target: group.target,
                            action: format!("list the versions of {}", group.open[0].key),
                            detail: format!("there are more than {VERSIONS_MAX}"),
                        });
                    }
                }
                None => {
                    group.close();
                    group.ended = true;
                }
            }
        }
    })
    .boxed()
}

impl Group<'_> {
    /// The key's versions are all there.
    fn close(&mut self) {
        let mut versions = std::mem::take(&mut self.open);
        // Both services' version names grow with time.
        versions.sort_by(|a, b| b.latest.cmp(&a.latest).then(b.version.cmp(&a.version)));
        if let Some(newest) = versions.first().filter(|newest| !newest.latest) {
            self.ready.push_back(Version {
                key: newest.key.clone(),
                version: Some(VersionId(HIDDEN.into())),
                size: 0,
                modified: newest.modified,
                latest: true,
                delete_marker: true,
            });
        }
        self.ready.extend(versions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ObjectKey;

    #[tokio::test]
    async fn versions_come_newest_first_and_hidden_keys_say_so() {
        let version = |key: &str, second: i64, latest| {
            Ok(Version {
                key: ObjectKey::parse(key).unwrap(),
                version: Some(VersionId(second.to_string())),
                size: 1,
                modified: jiff::Timestamp::from_second(second).unwrap(),
                latest,
                delete_marker: false,
            })
        };
        let listing = vec![
            version("a", 1, false),
            version("a", 2, true),
            version("b", 1, false),
            version("b", 3, false),
            version("c", 1, true),
        ];
        let all: Vec<_> = by_key(futures::stream::iter(listing).boxed(), "t")
            .map(|v| v.map(|v| (v.key.to_string(), v.version.unwrap().0, v.delete_marker)).unwrap())
            .collect()
            .await;
        let all: Vec<_> = all.iter().map(|(k, v, m)| (k.as_str(), v.as_str(), *m)).collect();
        assert_eq!(
            all,
            [
                ("a", "2", false),
                ("a", "1", false),
                ("b", HIDDEN, true),
                ("b", "3", false),
                ("b", "1", false),
                ("c", "1", false)
            ]
        );
    }
}
