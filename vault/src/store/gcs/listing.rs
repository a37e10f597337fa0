//! Listings: pages of objects and of their generations, fetched as they are asked for.

use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use super::client::Client;
use super::object::Object;
use super::refusal::Refusal;
use crate::store::http::Call;
use crate::store::{Listed, ObjectKey, Prefix, StoreError, Version, VersionId};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    kind: String,
    /// Left out where there are none.
    #[serde(default)]
    items: Vec<Object>,
    next_page_token: Option<String>,
}

/// The objects below a prefix.
pub(super) fn objects<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Listed, StoreError>> {
    pages(client, format!("{root}{}", prefix.as_str()), false)
        .try_filter_map(move |object| std::future::ready(Ok(listed(&object, root))))
        .boxed()
}

/// The generations below a prefix, in the service's order: by key, then oldest first.
pub(super) fn versions<'a>(
    client: &'a Client,
    root: &'a str,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Version, StoreError>> {
    pages(client, format!("{root}{}", prefix.as_str()), true)
        .try_filter_map(move |object| {
            std::future::ready(Ok(listed(&object, root).map(|Listed { key, size, modified }| {
                Version {
                    key,
                    version: Some(object.version()),
                    size,
                    modified,
                    latest: object.time_deleted.is_none(),
                    delete_marker: false,
                }
            })))
        })
        .boxed()
}

/// One generation (`None`: the live one) as a listing tells it, if it is listed.
///
/// # Errors
/// [`StoreError`], as listings meet it.
pub(super) async fn find(
    client: &Client,
    path: &str,
    version: Option<&VersionId>,
) -> Result<Option<Object>, StoreError> {
    let mut all = pages(client, path.to_owned(), version.is_some());
    while let Some(object) = all.next().await {
        let object = object?;
        // It comes before all those whose names only begin with it.
        if object.name != path {
            break;
        }
        if version.is_none_or(|version| object.version() == *version) {
            return Ok(Some(object));
        }
    }
    Ok(None)
}

fn pages(
    client: &Client,
    below: String,
    versions: bool,
) -> BoxStream<'_, Result<Object, StoreError>> {
    let what = if below.is_empty() { "the bucket".to_owned() } else { below.clone() };
    futures::stream::try_unfold(Some(String::new()), move |token| {
        let (below, what) = (below.clone(), what.clone());
        async move {
            let Some(token) = token else { return Ok(None) };
            let mut call = Call::new("GET", None, "list", &what).query("prefix", below);
            if versions {
                call = call.query("versions", "true");
            }
            if !token.is_empty() {
                call = call.query("pageToken", &token);
            }
            let answer = client.send(&call).await?;
            if !answer.is_success() {
                let refusal = Refusal::of(&answer);
                if refusal.is_missing() {
                    return Err(StoreError::NoTarget { target: client.target.clone() });
                }
                return Err(refusal.error(&client.target, &call.action, &what));
            }
            let odd = |detail: String| StoreError::Other {
                target: client.target.clone(),
                action: call.action.clone(),
                detail,
            };
            // The parser's words may repeat parts of the answer, but those are no secrets.
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|e| odd(format!("the answer isn't a listing: {e}")))?;
            if page.kind != "storage#objects" {
                return Err(odd("the answer isn't a listing".into()));
            }
            let next = page.next_page_token.filter(|next| !next.is_empty());
            // A server that repeats itself would keep us here for ever.
            if next.as_ref() == Some(&token) {
                return Err(odd("the listing doesn't go on where it should".into()));
            }
            Ok(Some((futures::stream::iter(page.items.into_iter().map(Ok)), next)))
        }
    })
    .try_flatten()
    .boxed()
}

/// An object in a page; `None` for things that aren't a vault's.
fn listed(object: &Object, root: &str) -> Option<Listed> {
    Some(Listed {
        key: ObjectKey::parse(object.name.strip_prefix(root)?)?,
        size: object.size,
        modified: object.time_created,
    })
}
