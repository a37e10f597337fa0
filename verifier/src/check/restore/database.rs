//! One restored database: held against what was counted at its source, and its indexes checked.

use std::path::PathBuf;

use keephold_postgres::archive::ArchiveSummary;
use keephold_postgres::cluster::{Cluster, DifferenceKind, compare};
use keephold_vault::record::DatabaseReport;

use super::postgres::verifier;
use super::{DIFFERENCES_MAX, Failure};
use crate::check::findings::Findings;
use crate::report::catalogue::{self as code, Code};
use crate::report::model::{Check, Finding, Severity, TableResult};
use crate::report::words;

/// Tables that stand in a report.
const TABLES_MAX: usize = 500;

/// What was fetched for one database.
pub(super) struct Fetched {
    pub(super) report: DatabaseReport,
    pub(super) archive: PathBuf,
    pub(super) counted: ArchiveSummary,
}

/// What a test has found so far.
#[derive(Default)]
pub(super) struct Results {
    pub(super) tables: Vec<TableResult>,
    pub(super) tables_more: u64,
    pub(super) differences: Vec<String>,
    pub(super) checks: Vec<Check>,
    pub(super) serious: u64,
    pub(super) failed: Vec<String>,
}

/// Holds what was restored against what was counted as the dump passed at the source.
pub(super) fn compare_database(
    one: &Fetched,
    digest: &ArchiveSummary,
    name: &str,
    results: &mut Results,
    findings: &mut Findings,
) {
    let database = &one.report.name;
    for table in &one.counted.tables {
        let found = digest
            .tables
            .iter()
            .find(|other| (&other.schema, &other.name) == (&table.schema, &table.name));
        if results.tables.len() >= TABLES_MAX {
            results.tables_more += 1;
            continue;
        }
        results.tables.push(TableResult {
            database: database.clone(),
            schema: table.schema.clone(),
            table: table.name.clone(),
            rows_expected: table.set.rows,
            rows_found: found.map(|other| other.set.rows),
            // Columns in another order give every row another hash.
            hash_ok: found
                .filter(|other| other.columns == table.columns)
                .map(|other| other.set == table.set),
        });
    }
    let mut by_code: Vec<(&'static Code, u64, String)> = Vec::new();
    for difference in compare(&one.counted, digest) {
        let text = format!("database '{database}': {difference}");
        if difference.kind.is_serious() {
            results.serious += 1;
            let code: &'static Code = match difference.kind {
                DifferenceKind::Content => &code::ROW_HASH_DIFFERS,
                DifferenceKind::Definitions => &code::SCHEMA_DIFFERS,
                _ => &code::ROWS_DIFFER,
            };
            match by_code.iter_mut().find(|(known, ..)| known.id == code.id) {
                Some((_, count, _)) => *count += 1,
                None => by_code.push((code, 1, difference.to_string())),
            }
        }
        results.differences.push(text);
    }
    for (code, count, first) in by_code {
        let summary = format!(
            "The restored database '{database}' differs from the one that was dumped: {}.",
            words::counted(count, "difference")
        );
        findings.add(code, &format!("{name}: {database}"), summary, Some(first));
    }
    let rows: u64 = one.counted.rows();
    results.checks.push(Check {
        name: format!("rows of database '{database}'"),
        expected: words::count(rows),
        found: words::count(digest.rows()),
        ok: rows == digest.rows(),
    });
}

pub(super) async fn check_indexes(
    server: &Cluster,
    database: &str,
    name: &str,
    results: &mut Results,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let checked = server.amcheck(database).await.map_err(verifier)?;
    let resource = format!("{name}: {database}");
    if let Some(why) = checked.unavailable {
        let summary = "The indexes of the restored database could not be checked.".to_owned();
        let finding = Finding {
            severity: Severity::Warning,
            detail: Some(why.clone()),
            ..code::UNCHECKED_RESTORE.about(&resource, summary)
        };
        findings.push(&code::UNCHECKED_RESTORE, finding);
        results.checks.push(Check {
            name: format!("amcheck of database '{database}'"),
            expected: "sound".to_owned(),
            found: why,
            ok: false,
        });
        return Ok(());
    }
    if let Some(first) = checked.findings.first() {
        let summary = format!(
            "{} of the restored database '{database}' isn't sound.",
            words::counted(checked.findings.len() as u64, "index")
        );
        findings.add(&code::AMCHECK_FAILED, &resource, summary, Some(first.clone()));
        results.serious += checked.findings.len() as u64;
        results.differences.extend(checked.findings.iter().take(DIFFERENCES_MAX).cloned());
    }
    let (all, bad) = (checked.indexes, checked.findings.len() as u64);
    results.checks.push(Check {
        name: format!("amcheck of database '{database}': sound indexes"),
        expected: words::count(all),
        found: words::count(all.saturating_sub(bad)),
        ok: bad == 0,
    });
    Ok(())
}
