//! Compares what was counted at the dump with what a restore brought back.

use crate::archive::{ArchiveSummary, TableDigest};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// One thing that isn't the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The table, or `large objects`, or `definitions`.
    pub item: String,
    /// What kind of difference.
    pub kind: DifferenceKind,
    /// How it was at the dump.
    pub before: String,
    /// How it is after the restore.
    pub after: String,
}

/// The kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// It wasn't restored.
    Missing,
    /// It wasn't dumped.
    Extra,
    /// Another number of rows.
    Rows,
    /// As many rows, but not the same.
    Content,
    /// The columns stand in another order, as inheritance can bring about, so that only the rows' number was compared.
    ColumnOrder,
    /// Definitions differ: compare the schemas' texts.
    Definitions,
}

impl DifferenceKind {
    /// Whether it means that data or definitions weren't restored as they were.
    #[must_use]
    pub fn is_serious(self) -> bool {
        self != Self::ColumnOrder
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item, before, after, .. } = self;
        match self.kind {
            DifferenceKind::Missing => {
                write!(formatter, "{item} is missing after the restore; it had {before}")
            }
            DifferenceKind::Extra => write!(
                formatter,
                "{item} is there after the restore, with {after}, but wasn't dumped"
            ),
            DifferenceKind::Rows => write!(formatter, "{item} had {before} and has {after}"),
            DifferenceKind::Content => {
                write!(formatter, "{item} has other rows: their sum was {before} and is {after}")
            }
            DifferenceKind::ColumnOrder => {
                write!(
                    formatter,
                    "{item} has its columns in another order, so only its number of rows was compared"
                )
            }
            DifferenceKind::Definitions => {
                write!(formatter, "{item} differ: their sum was {before} and is {after}")
            }
        }
    }
}

/// Compares two digests, made under the same key, table by table. No difference means that every row came back.
#[must_use]
pub fn compare(before: &ArchiveSummary, after: &ArchiveSummary) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut add = |item: &str, kind, before: String, after: String| {
        differences.push(Difference { item: item.to_owned(), kind, before, after });
    };
    let (old, new) = (by_name(before), by_name(after));
    for (name, table) in &old {
        let rows = |table: &TableDigest| format!("{} rows", table.set.rows);
        let Some(other) = new.get(name) else {
            add(name, DifferenceKind::Missing, rows(table), String::new());
            continue;
        };
        if table.set.rows != other.set.rows {
            add(name, DifferenceKind::Rows, rows(table), rows(other));
        } else if table.columns != other.columns && names(&table.columns) == names(&other.columns) {
            add(name, DifferenceKind::ColumnOrder, table.columns.clone(), other.columns.clone());
        } else if table.set != other.set {
            add(name, DifferenceKind::Content, table.set.to_hex(), other.set.to_hex());
        }
    }
    for (name, table) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        add(name, DifferenceKind::Extra, String::new(), format!("{} rows", table.set.rows));
    }
    let (old, new) = (&before.large_objects, &after.large_objects);
    if old.set.rows != new.set.rows || old.bytes != new.bytes {
        let count = |count, bytes| format!("{count} objects of {bytes} bytes");
        add(
            "large objects",
            DifferenceKind::Rows,
            count(old.set.rows, old.bytes),
            count(new.set.rows, new.bytes),
        );
    } else if old.set != new.set {
        add("large objects", DifferenceKind::Content, old.set.to_hex(), new.set.to_hex());
    }
    // Another version words definitions differently.
    let same_version = before.dump_version == after.dump_version && major(before) == major(after);
    if same_version && before.definitions != after.definitions {
        add(
            "definitions",
            DifferenceKind::Definitions,
            before.definitions.to_hex(),
            after.definitions.to_hex(),
        );
    }
    differences
}

fn by_name(summary: &ArchiveSummary) -> BTreeMap<String, &TableDigest> {
    summary.tables.iter().map(|table| (table.full_name(), table)).collect()
}

fn major(summary: &ArchiveSummary) -> &str {
    summary.server_version.split(['.', ' ']).next().unwrap_or_default()
}

/// The names in a list of columns. A name with a comma and a space is cut in two, on both sides alike.
fn names(columns: &str) -> BTreeSet<&str> {
    columns.trim_matches(['(', ')']).split(", ").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::RowSet;

    fn summary(tables: &[(&str, &str, &[u8])]) -> ArchiveSummary {
        let table = |(name, columns, rows): &(&str, &str, &[u8])| {
            let mut set = RowSet::default();
            for row in *rows {
                set.add(&[*row; 32]);
            }
            TableDigest {
                schema: "public".to_owned(),
                name: (*name).to_owned(),
                columns: (*columns).to_owned(),
                set,
                ..TableDigest::default()
            }
        };
        ArchiveSummary { tables: tables.iter().map(table).collect(), ..ArchiveSummary::default() }
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let before = summary(&[
            ("a", "(x)", &[1, 2]),
            ("b", "(x)", &[1]),
            ("c", "(x)", &[1]),
            ("d", "(x, y)", &[1]),
            ("e", "(x)", &[5, 6]),
        ]);
        let after = summary(&[
            ("e", "(x)", &[6, 5]),
            ("d", "(y, x)", &[2]),
            ("c", "(x)", &[2]),
            ("b", "(x)", &[]),
            ("f", "(x)", &[]),
        ]);
        let kinds: Vec<_> =
            compare(&before, &after).iter().map(|one| (one.item.clone(), one.kind)).collect();
        let expected = [
            ("public.a", DifferenceKind::Missing),
            ("public.b", DifferenceKind::Rows),
            ("public.c", DifferenceKind::Content),
            ("public.d", DifferenceKind::ColumnOrder),
            ("public.f", DifferenceKind::Extra),
        ];
        assert_eq!(kinds, expected.map(|(item, kind)| (item.to_owned(), kind)));
        assert_eq!(compare(&before, &before), []);
        assert!(compare(&before, &after)[1].to_string().contains("had 1 rows and has 0 rows"));
    }

    #[test]
    fn definitions_count_only_between_equal_versions() {
        let before = ArchiveSummary { dump_version: "15.18".to_owned(), ..summary(&[]) };
        let mut after = before.clone();
        after.definitions.add(&[1; 32]);
        assert_eq!(compare(&before, &after)[0].kind, DifferenceKind::Definitions);
        after.dump_version = "16.1".to_owned();
        assert_eq!(compare(&before, &after), []);
    }
}
