//! Listings: pages of objects and of versions, fetched as they are asked for.

use std::collections::VecDeque;

use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use super::client::Client;
use super::refusal::Refusal;
use crate::store::http::{Call, Node, decode};
use crate::store::{Listed, ObjectKey, Prefix, StoreError, Version, VersionId};

/// How a listing goes on: the query of its next page.
type Next = Vec<(&'static str, String)>;

/// The objects below a prefix.
pub(super) fn objects<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Listed, StoreError>> {
    let first = vec![("list-type", "2".to_owned())];
    pages(client, root, prefix, first, |doc| {
        let token = doc.text_at(&["NextContinuationToken"])?;
        Some(vec![("list-type", "2".to_owned()), ("continuation-token", token.to_owned())])
    })
    .map(move |page| {
        let items = page?.children.iter().filter_map(|node| listed(node, root)).collect::<Vec<_>>();
        Ok(futures::stream::iter(items.into_iter().map(Ok)))
    })
    .try_flatten()
    .boxed()
}

/// The versions below a prefix.
pub(super) fn versions<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Version, StoreError>> {
    let first = vec![("versions", String::new())];
    pages(client, root, prefix, first, |doc| {
        let key = decode(doc.text_at(&["NextKeyMarker"])?)?;
        let mut next = vec![("versions", String::new()), ("key-marker", key)];
        if let Some(version) = doc.text_at(&["NextVersionIdMarker"]).filter(|v| !v.is_empty()) {
            next.push(("version-id-marker", version.to_owned()));
        }
        Some(next)
    })
    .map(move |page| {
        let items =
            page?.children.iter().filter_map(|node| version(node, root)).collect::<Vec<_>>();
        Ok(futures::stream::iter(together(items).into_iter().map(Ok)))
    })
    .try_flatten()
    .boxed()
}

/// Puts the versions of each key together, newest first. Amazon sends them so; others (LocalStack) send the delete
/// markers of a page apart from its versions.
fn together(mut versions: Vec<Version>) -> Vec<Version> {
    versions.sort_by(|a, b| {
        a.key.cmp(&b.key).then(b.latest.cmp(&a.latest)).then(b.modified.cmp(&a.modified))
    });
    versions
}

/// The pages of a listing, as documents. `next` reads from a page how to ask for the one after it.
fn pages<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
    first: Next,
    next: fn(&Node) -> Option<Next>,
) -> BoxStream<'a, Result<Node, StoreError>> {
    let below = format!("{root}{}", prefix.as_str());
    let what = if below.is_empty() { "the bucket".to_owned() } else { below.clone() };
    let queue = VecDeque::from([first]);
    futures::stream::try_unfold(queue, move |mut queue| {
        let (below, what) = (below.clone(), what.clone());
        async move {
            let Some(query) = queue.pop_front() else { return Ok(None) };
            let mut call = Call::new("GET", None, "list", &what)
                .query("encoding-type", "url")
                .query("prefix", below);
            call.query.extend(query.iter().cloned());
            let answer = client.send(&call).await?;
            if !answer.is_success() {
                return Err(Refusal::of(&answer).error(&client.target, &call.action, &what));
            }
            let odd = |detail: &str| StoreError::Other {
                target: client.target.clone(),
                action: call.action.clone(),
                detail: detail.to_owned(),
            };
            let Some(doc) = Node::parse(&answer.body) else {
                return Err(odd("the answer isn't XML"));
            };
            if doc.text_at(&["IsTruncated"]) == Some("true") {
                match next(&doc) {
                    // A server that repeats itself would keep us here for ever.
                    Some(more) if more != query => queue.push_back(more),
                    _ => {
                        return Err(odd(
                            "the listing is cut short, and doesn't say how it goes on",
                        ));
                    }
                }
            }
            Ok(Some((doc, queue)))
        }
    })
    .boxed()
}

/// An object in a page; `None` for other elements and for things that aren't a vault's.
fn listed(node: &Node, root: &str) -> Option<Listed> {
    if node.name != "Contents" {
        return None;
    }
    Some(Listed {
        key: key_of(node, root)?,
        size: node.text_at(&["Size"])?.parse().ok()?,
        modified: node.text_at(&["LastModified"])?.parse().ok()?,
    })
}

/// A version or delete marker in a page.
fn version(node: &Node, root: &str) -> Option<Version> {
    let delete_marker = match node.name.as_str() {
        "Version" => false,
        "DeleteMarker" => true,
        _ => return None,
    };
    // `null` is the version of objects in buckets that keep none.
    let id = node.text_at(&["VersionId"]).filter(|id| !matches!(*id, "" | "null"));
    Some(Version {
        key: key_of(node, root)?,
        version: id.map(|id| VersionId(id.to_owned())),
        size: if delete_marker { 0 } else { node.text_at(&["Size"])?.parse().ok()? },
        modified: node.text_at(&["LastModified"])?.parse().ok()?,
        latest: node.text_at(&["IsLatest"]) == Some("true"),
        delete_marker,
    })
}

fn key_of(node: &Node, root: &str) -> Option<ObjectKey> {
    ObjectKey::parse(decode(node.text_at(&["Key"])?)?.strip_prefix(root)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_key_come_together_newest_first() {
        let version = |key: &str, second, latest, delete_marker| Version {
            key: ObjectKey::parse(key).unwrap(),
            version: Some(VersionId(format!("{key}{second}"))),
            size: 1,
            modified: jiff::Timestamp::from_second(second).unwrap(),
            latest,
            delete_marker,
        };
        let page = vec![
            version("a", 1, false, false),
            version("b", 3, true, false),
            version("b", 1, false, false),
            version("a", 2, true, true),
            version("b", 2, false, true),
        ];
        let order: Vec<_> = together(page).into_iter().map(|v| v.version.unwrap().0).collect();
        assert_eq!(order, ["a2", "a1", "b3", "b2", "b1"]);
    }
}
