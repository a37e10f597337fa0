//! The table of contents, which stands in front of all data.
//!
//! An archive lists thousands of things of which only the tables with data matter later, so an entry lives only until it has
//! been looked at. Definitions, which may be large, are hashed as they pass.

use super::{
    ArchiveError, RowSet,
    header::Header,
    primitive::{BadText, Cursor, Fixed, Keep, Strings, Text},
};

/// Names, and the argument lists of functions. What is longer is damage.
const MAX_NAME: u64 = 1 << 20;
/// A COPY command names up to 1,600 columns of up to 63 characters, escaped.
const MAX_COPY: u64 = 1 << 20;
/// Definitions that are looked at: `CREATE DATABASE`, `SET client_encoding`.
const MAX_DEFINITION: u64 = 64 << 10;

/// One entry of the table of contents, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TocEntry {
    /// The archive's number for it.
    pub dump_id: i32,
    /// Whether the archive holds a data block for it.
    pub has_data: bool,
    /// Its kind: `TABLE`, `TABLE DATA`, `INDEX`, `BLOBS`, …
    pub kind: String,
    /// Its schema; empty for what lies in no schema.
    pub schema: String,
    /// Its name; for functions with their arguments.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// The COPY command of a table's data.
    pub copy: String,
    /// The definition, only of kinds `DATABASE` and `ENCODING`.
    pub definition: String,
}

/// The values of an entry, in the order in which they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    DumpId,
    HasData,
    CatalogOid,
    Oid,
    Name,
    Kind,
    Section,
    Definition,
    Drop,
    Copy,
    Schema,
    Tablespace,
    AccessMethod,
    RelationKind,
    Owner,
    WithOids,
    Dependency,
    Offset,
}

/// Reads entries across feeds.
#[derive(Debug, Default)]
pub(super) struct TocReader {
    entry: TocEntry,
    slot: Slot,
    fixed: Fixed,
    strings: Strings,
    definition: Option<blake3::Hasher>,
    /// Number of the entry being read, from 0.
    pub(super) number: u64,
    /// The digest of all definitions, see [`super::ArchiveSummary::definitions`].
    pub(super) definitions: RowSet,
}

impl TocReader {
    /// Whether an entry has begun.
    pub(super) fn is_partial(&self) -> bool {
        self.slot != Slot::DumpId || self.fixed.is_partial() || self.strings.is_partial()
    }

    /// The name of the entry being read, as far as it is known.
    pub(super) fn place(&self) -> String {
        format!("entry {} of its contents {}", self.number, self.entry.name).trim_end().to_owned()
    }

    /// Reads on; `None` while bytes are missing.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        header: &Header,
        key: &[u8; 32],
    ) -> Option<Result<TocEntry, ArchiveError>> {
        loop {
            let outcome = match self.slot {
                Slot::DumpId | Slot::HasData | Slot::Section | Slot::RelationKind => {
                    let number = self.fixed.int(cursor, header.int_width)?;
                    self.number(number)
                }
                Slot::Offset => {
                    self.fixed.fill(cursor, header.offset_width + 1)?;
                    self.number += 1;
                    self.slot = Slot::DumpId;
                    self.digest();
                    return Some(Ok(std::mem::take(&mut self.entry)));
                }
                _ => {
                    let keep = self.keep();
                    let is_definition = self.slot == Slot::Definition;
                    let mut definition = self.definition.as_mut().filter(|_| is_definition);
                    let text = self.strings.read(cursor, header.int_width, keep, |piece| {
                        if let Some(hasher) = &mut definition {
                            hasher.update(piece);
                        }
                    })?;
                    self.text(text)
                }
            };
            match outcome {
                Ok(()) => self.slot = self.next(header, key),
                Err(what) => {
                    return Some(Err(ArchiveError::Toc {
                        entry: self.number,
                        offset: cursor.offset,
                        what,
                    }));
                }
            }
        }
    }

    /// How much of the string in this slot is kept.
    fn keep(&self) -> Keep {
        match self.slot {
            Slot::Name | Slot::Kind | Slot::Schema | Slot::Owner | Slot::WithOids => {
                Keep::AtMost(MAX_NAME)
            }
            Slot::Copy => Keep::AtMost(MAX_COPY),
            Slot::Definition if matches!(self.entry.kind.as_str(), "DATABASE" | "ENCODING") => {
                Keep::AtMost(MAX_DEFINITION)
            }
            _ => Keep::Length,
        }
    }

    fn number(&mut self, number: Option<i64>) -> Result<(), String> {
        let number = number.ok_or("a number of more than 64 bits")?;
        match self.slot {
            Slot::DumpId => {
                let id = i32::try_from(number).ok().filter(|id| *id > 0);
                self.entry.dump_id =
                    id.ok_or_else(|| format!("the impossible dump id {number}"))?;
            }
            Slot::HasData => {
                self.entry.has_data = match number {
                    0 => false,
                    1 => true,
                    other => return Err(format!("{other} where only 0 and 1 can stand")),
                };
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: Result<Text, BadText>) -> Result<(), String> {
        let text = text.map_err(|bad| match bad {
            BadText::Length => "a string of impossible length".to_owned(),
            BadText::TooLong(length) => format!("a string of {length} bytes"),
        })?;
        match self.slot {
            Slot::Name => self.entry.name = text.to_name(),
            Slot::Kind => self.entry.kind = text.to_name(),
            Slot::Definition => self.entry.definition = text.to_name(),
            Slot::Copy => self.entry.copy = text.to_name(),
            Slot::Schema => self.entry.schema = text.to_name(),
            Slot::Owner => self.entry.owner = text.to_name(),
            // The list of dependencies ends with a null.
            Slot::Dependency if text.len.is_none() => self.slot = Slot::Offset,
            _ => {}
        }
        Ok(())
    }

    fn next(&mut self, header: &Header, key: &[u8; 32]) -> Slot {
        match self.slot {
            Slot::DumpId => Slot::HasData,
            Slot::HasData => Slot::CatalogOid,
            Slot::CatalogOid => Slot::Oid,
            Slot::Oid => Slot::Name,
            Slot::Name => Slot::Kind,
            Slot::Kind => Slot::Section,
            Slot::Section => {
                self.definition = is_comparable(&self.entry).then(|| {
                    let mut hasher = blake3::Hasher::new_keyed(key);
                    for part in [&self.entry.kind, &self.entry.name] {
                        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
                    }
                    hasher
                });
                Slot::Definition
            }
            Slot::Definition => Slot::Drop,
            Slot::Drop => Slot::Copy,
            Slot::Copy => Slot::Schema,
            Slot::Schema => Slot::Tablespace,
            Slot::Tablespace if header.at_least(14) => Slot::AccessMethod,
            Slot::Tablespace => Slot::Owner,
            Slot::AccessMethod if header.at_least(16) => Slot::RelationKind,
            Slot::AccessMethod | Slot::RelationKind => Slot::Owner,
            Slot::Owner => Slot::WithOids,
            Slot::WithOids | Slot::Dependency => Slot::Dependency,
            Slot::Offset => Slot::Offset,
        }
    }

    fn digest(&mut self) {
        if let Some(mut hasher) = self.definition.take() {
            // It comes after the definition; its length, of fixed size and last, separates the two.
            hasher
                .update(self.entry.schema.as_bytes())
                .update(&(self.entry.schema.len() as u64).to_le_bytes());
            self.definitions.add(hasher.finalize().as_bytes());
        }
    }
}

/// Whether a restore must bring this definition back unchanged. The database itself may get another name, planner
/// statistics are measured again, and the contents of `BLOB METADATA` are grouped differently.
fn is_comparable(entry: &TocEntry) -> bool {
    let volatile = entry.kind.starts_with("DATABASE")
        || matches!(
            entry.kind.as_str(),
            "STATISTICS DATA" | "BLOB METADATA" | "BLOBS" | "TABLE DATA"
        )
        || entry.name.starts_with("DATABASE ")
        || entry.name.starts_with("LARGE OBJECT");
    !volatile
}
