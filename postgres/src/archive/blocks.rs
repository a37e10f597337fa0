//! The insides of data blocks, as far as they need nothing of the parser's state.

use super::{
    ArchiveError, LargeObjects,
    primitive::{Cursor, Fixed},
};

/// A large object of which the end hasn't come yet.
#[derive(Debug)]
pub(super) struct LargeObject {
    pub(super) oid: u32,
    pub(super) hasher: blake3::Hasher,
    pub(super) bytes: u64,
    pub(super) chunk: u64,
}

/// Reads on in a large object: whether it came to its end.
pub(super) fn large_object(
    object: &mut LargeObject,
    cursor: &mut Cursor<'_>,
    fixed: &mut Fixed,
    width: usize,
    all: &mut LargeObjects,
) -> Result<bool, ArchiveError> {
    loop {
        if object.chunk == 0 {
            let Some(length) = fixed.int(cursor, width) else { return Ok(false) };
            let at = start_of_int(cursor, width);
            let Some(length) = length.and_then(|length| u64::try_from(length).ok()) else {
                return Err(damaged_data(
                    &format!("large object {}", object.oid),
                    at,
                    "an impossible chunk length",
                ));
            };
            if length == 0 {
                all.set.add(object.hasher.finalize().as_bytes());
                all.bytes += object.bytes;
                return Ok(true);
            }
            object.chunk = length;
        }
        let piece = cursor.take(object.chunk);
        if piece.is_empty() {
            return Ok(false);
        }
        object.hasher.update(piece);
        object.bytes += piece.len() as u64;
        object.chunk -= piece.len() as u64;
    }
}

/// Where the integer that was just read began, however many feeds it came in.
pub(super) fn start_of_int(cursor: &Cursor<'_>, width: usize) -> u64 {
    cursor.offset.saturating_sub(width as u64 + 1)
}

/// Damage at a place in an item's data.
pub(super) fn damaged_data(item: &str, offset: u64, what: &str) -> ArchiveError {
    ArchiveError::Data { item: item.to_owned(), offset, what: what.to_owned() }
}

/// The column list of `COPY schema.name (a, b) FROM stdin;`; empty for a table without columns.
pub(super) fn columns(copy: &str, schema: &str, name: &str) -> String {
    // Schema and name may hold parentheses and quotes themselves, so skip them by their length at least.
    let from = "COPY ".len() + schema.len() + name.len();
    let list = copy.get(from..).and_then(|rest| Some(&rest[rest.find(" (")? + 1..]));
    let end = list.and_then(|list| list.rfind(" FROM stdin"));
    list.zip(end).and_then(|(list, end)| list.get(..end)).unwrap_or_default().to_owned()
}
