//! Short neighbours become one piece: a content of many small parts would otherwise be hashed and written in as many calls.

use bytes::{Bytes, BytesMut};

use crate::content::Extent;
use crate::error::Error;
use crate::read::Piece;
use crate::read::fetch::Fetched;

/// What is longer is handed on as it is.
const SHORT: usize = 32 << 10;
/// Joined pieces are no longer.
const JOINED_MAX: usize = 256 << 10;

/// Hands the pieces of consecutive extents on, in order.
///
/// # Errors
/// What kept a blob from being read, as [`Fetched::extent`]; whatever `take` fails with.
pub(crate) fn join<'a, E: From<Error>>(
    extents: impl Iterator<Item = &'a Extent>,
    fetched: &Fetched,
    mut take: impl FnMut(Piece) -> Result<(), E>,
) -> Result<(), E> {
    let mut joined = BytesMut::new();
    // One short piece alone isn't copied.
    let mut single: Option<Bytes> = None;
    for extent in extents {
        let data = fetched.extent(extent)?;
        let short = data.as_ref().filter(|bytes| bytes.len() < SHORT);
        let held = joined.len() + single.as_ref().map_or(0, Bytes::len);
        if let Some(bytes) = short.filter(|bytes| held + bytes.len() <= JOINED_MAX) {
            if held == 0 {
                single = Some(bytes.clone());
                continue;
            }
            if let Some(first) = single.take() {
                joined.reserve(JOINED_MAX);
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(bytes);
            continue;
        }
        for before in single.take().into_iter().chain(flush(&mut joined)) {
            take(Piece::Data(before))?;
        }
        match data {
            None => take(Piece::Hole(extent.length()))?,
            Some(bytes) if bytes.len() < SHORT => single = Some(bytes),
            Some(bytes) => take(Piece::Data(bytes))?,
        }
    }
    single.into_iter().chain(flush(&mut joined)).try_for_each(|last| take(Piece::Data(last)))
}

fn flush(joined: &mut BytesMut) -> Option<Bytes> {
    (!joined.is_empty()).then(|| joined.split().freeze())
}
