//! Listings: pages of blobs and of their versions, fetched as they are asked for.

use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use super::client::Client;
use super::locking;
use super::refusal::Refusal;
use crate::store::http::{self, Call, Node};
use crate::store::{Listed, Lock, ObjectKey, Prefix, StoreError, Version, VersionId};

/// The objects below a prefix.
pub(super) fn objects<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Listed, StoreError>> {
    blobs(client, format!("{root}{}", prefix.as_str()), "")
        .try_filter_map(move |blob| std::future::ready(Ok(listed(&blob, root))))
        .boxed()
}

/// The versions below a prefix, in the service's order: by key, then oldest first.
pub(super) fn versions<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Version, StoreError>> {
    blobs(client, format!("{root}{}", prefix.as_str()), "versions")
        .try_filter_map(move |blob| std::future::ready(Ok(version(&blob, root))))
        .boxed()
}

/// The lock of one version as a listing tells it; `None` if that version isn't listed.
///
/// # Errors
/// [`StoreError`], as listings meet it.
pub(super) async fn lock_of(
    client: &Client,
    path: &str,
    version: Option<&VersionId>,
) -> Result<Option<Option<Lock>>, StoreError> {
    let mut all = blobs(client, path.to_owned(), "immutabilitypolicy,versions");
    while let Some(blob) = all.next().await {
        let blob = blob?;
        let same = blob.text_at(&["Name"]) == Some(path)
            && match version {
                Some(version) => blob.text_at(&["VersionId"]) == Some(version.0.as_str()),
                None => is_current(&blob),
            };
        if same {
            return Ok(Some(locking::lock_in_listing(&blob)));
        }
    }
    Ok(None)
}

/// The `Blob` elements of a listing's pages. `include` may be empty.
fn blobs<'a>(
    client: &'a Client,
    below: String,
    include: &'static str,
) -> BoxStream<'a, Result<Node, StoreError>> {
    let what = if below.is_empty() { "the container".to_owned() } else { below.clone() };
    futures::stream::try_unfold(Some(String::new()), move |marker| {
        let (below, what) = (below.clone(), what.clone());
        async move {
            let Some(marker) = marker else { return Ok(None) };
            let mut call = Call::new("GET", None, "list", &what)
                .query("restype", "container")
                .query("comp", "list")
                .query("prefix", below);
            if !include.is_empty() {
                call = call.query("include", include);
            }
            if !marker.is_empty() {
                call = call.query("marker", &marker);
            }
            let answer = client.send(&call).await?;
            if !answer.is_success() {
                return Err(Refusal::of(&answer).error(&client.target, &call.action, &what));
            }
            let odd = |detail: &str| StoreError::Other {
                target: client.target.clone(),
                action: call.action.clone(),
                detail: detail.to_owned(),
            };
            // Answers may begin with a byte order mark.
            let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
            let Some(doc) = Node::parse(body).filter(|doc| doc.child("Blobs").is_some()) else {
                return Err(odd("the answer isn't a listing"));
            };
            let next = doc.text_at(&["NextMarker"]).filter(|m| !m.is_empty()).map(str::to_owned);
            // A server that repeats itself would keep us here for ever.
            if next.as_ref() == Some(&marker) {
                return Err(odd("the listing is cut short, and doesn't say how it goes on"));
            }
            let page: Vec<_> = doc
                .children
                .into_iter()
                .filter(|node| node.name == "Blobs")
                .flat_map(|blobs| blobs.children)
                .filter(|node| node.name == "Blob")
                .collect();
            Ok(Some((futures::stream::iter(page.into_iter().map(Ok)), next)))
        }
    })
    .try_flatten()
    .boxed()
}

fn is_current(blob: &Node) -> bool {
    // Accounts without versions name neither.
    blob.child("VersionId").is_none() || blob.text_at(&["IsCurrentVersion"]) == Some("true")
}

/// An object in a page; `None` for things that aren't a vault's.
fn listed(blob: &Node, root: &str) -> Option<Listed> {
    Some(Listed {
        key: ObjectKey::parse(blob.text_at(&["Name"])?.strip_prefix(root)?)?,
        size: blob.text_at(&["Properties", "Content-Length"])?.parse().ok()?,
        modified: http::parse_date(blob.text_at(&["Properties", "Last-Modified"])?)?,
    })
}

fn version(blob: &Node, root: &str) -> Option<Version> {
    let Listed { key, size, modified } = listed(blob, root)?;
    let id = blob.text_at(&["VersionId"]).filter(|id| !id.is_empty());
    Some(Version {
        key,
        version: id.map(|id| VersionId(id.to_owned())),
        size,
        modified,
        latest: is_current(blob),
        delete_marker: false,
    })
}
