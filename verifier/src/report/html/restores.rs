//! The evidence of one test restore.

use super::facts::{Fact, classed, fact, or_unknown};
use super::rto::RtoChart;
use crate::report::model::{RestoreResult, RestoreTest, TableResult};
use crate::report::words;

/// One test restore.
pub(super) struct RestoreView {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) result: &'static str,
    pub(super) class: &'static str,
    pub(super) failure: Option<String>,
    pub(super) facts: Vec<Fact>,
    pub(super) chart: RtoChart,
    pub(super) checks: Vec<CheckRow>,
    pub(super) tables: Vec<TableRow>,
    pub(super) tables_more: u64,
    pub(super) differences: Vec<String>,
    pub(super) differences_more: u64,
}

/// One comparison.
pub(super) struct CheckRow {
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) class: &'static str,
    pub(super) word: &'static str,
}

/// One table, at the source and restored.
pub(super) struct TableRow {
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) hash: &'static str,
    pub(super) class: &'static str,
    pub(super) word: &'static str,
}

impl RestoreView {
    pub(super) fn of(test: &RestoreTest) -> Self {
        Self {
            name: format!("{}/{} #{}", test.host, test.job, test.seq),
            kind: words::job_kind(test.kind),
            result: words::restore_result(test.result),
            class: if test.result == RestoreResult::Passed { "ok" } else { "bad" },
            failure: test.failure.clone(),
            facts: facts(test),
            chart: RtoChart::of(test),
            checks: test
                .checks
                .iter()
                .map(|check| CheckRow {
                    name: check.name.clone(),
                    expected: check.expected.clone(),
                    found: check.found.clone(),
                    class: if check.ok { "ok" } else { "bad" },
                    word: if check.ok { "as expected" } else { "differs" },
                })
                .collect(),
            tables: test.tables.shown.iter().map(table).collect(),
            tables_more: test.tables.more,
            differences: test.differences.shown.clone(),
            differences_more: test.differences.more,
        }
    }
}

fn table(table: &TableResult) -> TableRow {
    let (class, word) = match (table.rows_found, table.ok()) {
        (None, _) => ("bad", "missing"),
        (Some(_), false) => ("bad", "differs"),
        (Some(_), true) if table.hash_ok.is_none() => ("warn", "rows only"),
        (Some(_), true) => ("ok", "equal"),
    };
    TableRow {
        name: format!("{}.{}.{}", table.database, table.schema, table.table),
        expected: words::count(table.rows_expected),
        found: table.rows_found.map_or_else(|| "—".to_owned(), words::count),
        hash: match table.hash_ok {
            Some(true) => "equal",
            Some(false) => "differs",
            None => "not compared",
        },
        class,
        word,
    }
}

fn facts(test: &RestoreTest) -> Vec<Fact> {
    let environment = &test.environment;
    let rto = match (test.rto_target_s, test.rto_met) {
        (None, _) => classed("RTO", "none set", "warn"),
        (Some(target), Some(true)) => {
            classed("RTO", format!("{}, met", words::whole_seconds(target)), "ok")
        }
        (Some(target), Some(false)) => {
            classed("RTO", format!("{}, missed", words::whole_seconds(target)), "bad")
        }
        (Some(target), None) => classed(
            "RTO",
            format!("{}, not known: the restore did not end", words::whole_seconds(target)),
            "bad",
        ),
    };
    let mut facts = vec![
        fact("Snapshot taken", words::minute(test.snapshot_time)),
        fact("Chosen", &test.chosen),
        fact("Restored", words::minute(test.started)),
        fact("By", &test.performed_by),
        rto,
        fact("Depth reached", test.tier.map_or("none", words::tier)),
        fact("Where", &environment.place),
    ];
    if environment.server_version.is_some() || environment.source_version.is_some() {
        facts.push(fact(
            "Server version",
            format!(
                "{}; source {}",
                or_unknown(environment.server_version.clone()),
                or_unknown(environment.source_version.clone())
            ),
        ));
    }
    if let Some(role) = &environment.role {
        facts.push(fact("Queries ran as", role));
    }
    if let Some(entries) = test.entries_compared {
        facts.push(fact("Entries compared", words::count(entries)));
    }
    if let Some(bytes) = test.bytes_restored {
        facts.push(fact("Restored size", words::bytes(bytes)));
    }
    let cleanup = &test.cleanup;
    let detail = cleanup.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    facts.push(if cleanup.done {
        fact("Clean-up", format!("done{detail}"))
    } else {
        classed("Clean-up", format!("NOT done{detail}"), "bad")
    });
    facts
}
