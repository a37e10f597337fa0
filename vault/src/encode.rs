//! Writing values in postcard's encoding behind what a buffer holds already.

use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Where postcard writes to. Its own way of extending a buffer takes iterators, and goes byte by byte.
struct Behind<'a>(&'a mut Vec<u8>);

impl Flavor for Behind<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Writes `value` at the end of `bytes`, as [postcard](https://postcard.jamesmunns.com/wire-format) does.
///
/// # Errors
/// postcard's, if the value has no such encoding (a sequence of unknown length). Some of it may have been written then.
pub fn append(value: &impl Serialize, bytes: &mut Vec<u8>) -> postcard::Result<()> {
    postcard::serialize_with_flavor(value, Behind(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_what_postcard_writes() {
        let value = ("a path", vec![1_u64, 300, u64::MAX], Some(b"bytes".as_slice()));
        let mut bytes = b"before".to_vec();
        append(&value, &mut bytes).unwrap();
        assert_eq!(bytes, [b"before", &postcard::to_stdvec(&value).unwrap()[..]].concat());
    }
}
