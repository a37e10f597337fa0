//! The archive's header: versions, widths, the moment, and whose data it is.

use super::{
    ArchiveError,
    primitive::{BadText, Cursor, Fixed, Keep, MAX_WIDTH, Strings, Text},
};

/// Names and versions are short; what is longer is damage.
const MAX_TEXT: u64 = 64 << 10;

/// Magic, three version numbers, width of integers, width of offsets, format.
const FIXED_PART: usize = 11;

/// Custom format, as against tar and directory.
const FORMAT_CUSTOM: u8 = 1;

/// What the header says.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// Major, minor and revision of the archive format.
    pub(super) version: (u8, u8, u8),
    /// Bytes of an integer, without its sign.
    pub(super) int_width: usize,
    /// Bytes of an offset, without its flag.
    pub(super) offset_width: usize,
    /// Local time at the dump, without a zone: `2026-11-23T18:30:00`.
    pub(super) created: Option<String>,
    /// The database's name.
    pub(super) database: String,
    /// The server's version, as it calls itself.
    pub(super) server_version: String,
    /// The version of `pg_dump`.
    pub(super) dump_version: String,
}

impl Header {
    /// Whether the archive has what came with format 1.`minor`.
    pub(super) fn at_least(&self, minor: u8) -> bool {
        self.version.1 >= minor
    }
}

/// Reads the header across feeds.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    header: Header,
    step: usize,
    fixed: Fixed,
    strings: Strings,
    clock: [i64; 7],
}

impl HeaderReader {
    /// Reads on; `None` while bytes are missing.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Header, ArchiveError>> {
        loop {
            // The steps: fixed part, compression, seven numbers of the clock, three strings.
            let done = match self.step {
                0 => self.fixed.fill(cursor, FIXED_PART).map(|bytes| self.fixed_part(&bytes))?,
                1 => self.compression(cursor)?,
                2..=8 => match self.fixed.int(cursor, self.header.int_width)? {
                    Some(number) => {
                        self.clock[self.step - 2] = number;
                        Ok(())
                    }
                    None => Err(damaged("its time")),
                },
                _ => {
                    let text = self.strings.read(
                        cursor,
                        self.header.int_width,
                        Keep::AtMost(MAX_TEXT),
                        |_| (),
                    )?;
                    self.text(text)
                }
            };
            if let Err(error) = done {
                return Some(Err(error));
            }
            self.step += 1;
            if self.step == 12 {
                self.header.created = moment(&self.clock);
                return Some(Ok(std::mem::take(&mut self.header)));
            }
        }
    }

    fn fixed_part(&mut self, bytes: &[u8; 16]) -> Result<(), ArchiveError> {
        let [b'P', b'G', b'D', b'M', b'P', major, minor, revision, ints, offsets, format, ..] =
            *bytes
        else {
            return Err(ArchiveError::NotAnArchive);
        };
        if major != 1 || !(12..=16).contains(&minor) {
            return Err(ArchiveError::Version { major, minor });
        }
        let (ints, offsets) = (usize::from(ints), usize::from(offsets));
        if !(1..=MAX_WIDTH).contains(&ints) || !(1..=MAX_WIDTH).contains(&offsets) {
            return Err(damaged(&format!("integers of {ints} bytes, offsets of {offsets} bytes")));
        }
        if format != FORMAT_CUSTOM {
            return Err(damaged(&format!("format {format}, where 1 is custom")));
        }
        self.header.version = (major, minor, revision);
        self.header.int_width = ints;
        self.header.offset_width = offsets;
        Ok(())
    }

    /// Since 1.15 a byte for the algorithm, before that an integer for zlib's level; zero is "none" in both.
    fn compression(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<(), ArchiveError>> {
        let compression = if self.header.at_least(15) {
            Some(i64::from(self.fixed.fill(cursor, 1)?[0]))
        } else {
            self.fixed.int(cursor, self.header.int_width)?
        };
        Some(match compression {
            Some(0) => Ok(()),
            Some(_) => Err(ArchiveError::Compressed),
            None => Err(damaged("its compression")),
        })
    }

    fn text(&mut self, text: Result<Text, BadText>) -> Result<(), ArchiveError> {
        let name = text.map_err(|_| damaged("a name or version of impossible length"))?.to_name();
        match self.step {
            9 => self.header.database = name,
            10 => self.header.server_version = name,
            _ => self.header.dump_version = name,
        }
        Ok(())
    }
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::Header { what: what.to_owned() }
}

/// The numbers are those of C's `struct tm`: second to year, months from 0, years from 1900.
fn moment(clock: &[i64; 7]) -> Option<String> {
    let [second, minute, hour, day, month, year, _summer] = *clock;
    let small = |number: i64| i8::try_from(number).ok();
    let year = i16::try_from(year.checked_add(1900)?).ok()?;
    let month = small(month.checked_add(1)?)?;
    // A leap second is written as 60.
    let second = small(second.min(59))?;
    let moment = jiff::civil::DateTime::new(
        year,
        month,
        small(day)?,
        small(hour)?,
        small(minute)?,
        second,
        0,
    )
    .ok()?;
    Some(moment.to_string())
}
