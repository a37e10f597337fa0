//! A PostgreSQL server: roles and each database restored into a throw-away server of the same major version, dumped again
//! and compared table by table with what was counted at the source, indexes checked, everything removed.

use std::path::Path;
use std::time::Instant;

use keephold_postgres::Error as PgError;
use keephold_postgres::cluster::{Cluster, ClusterOptions};
use keephold_postgres::programs::Programs;
use keephold_vault::record::{DatabaseReport, PgReport};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::database::{Fetched, Results, check_indexes, compare_database};
use super::remove::remove;
use super::{DIFFERENCES_MAX, Failure, bounded, seconds};
use crate::check::content::counts;
use crate::check::context::Context;
use crate::check::findings::Findings;
use crate::check::snapshot::{self, Snapshot};
use crate::report::catalogue as code;
use crate::report::model::{
    Bounded, Check, Cleanup, Finding, RestoreResult, RestoreTest, Severity, Tier,
};
use crate::report::words;

/// Name of PostgreSQL's first superuser unless someone chose another.
const SUPERUSER: &str = "postgres";

/// Restores and compares a server's snapshot.
pub(super) async fn test(
    context: &Context<'_>,
    snapshot: &Snapshot,
    test: &mut RestoreTest,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let scratch = &context.settings.scratch;
    test.environment.place = "a throw-away server on the verifier".to_owned();
    let pg = snapshot
        .postgres()
        .cloned()
        .ok_or_else(|| Failure::Backup("its record says nothing of a server".to_owned()))?;
    test.environment.source_version = Some(pg.server_version.clone());
    let major = major(&pg.server_version).ok_or_else(|| {
        Failure::Backup(format!("'{}' is no version of PostgreSQL", pg.server_version))
    })?;
    let folder = tempfile::Builder::new().prefix("keephold-restore-").tempdir_in(scratch);
    let folder = folder.map_err(|e| {
        Failure::Verifier(format!("no folder can be made in {}: {e}", scratch.display()))
    })?;
    let programs = Programs::search(
        context.settings.pg_bin_dir.as_deref(),
        std::env::var_os("PATH").as_deref(),
    );

    let mut results = Results::default();
    let mut cluster = None;
    let work = work(
        context,
        snapshot,
        &pg,
        (&programs, major),
        &folder,
        &mut cluster,
        test,
        &mut results,
        findings,
    );
    let tested = match context.stop.unless_set(work).await {
        Ok(tested) => tested,
        Err(stopped) => Err(Failure::Stopped(stopped)),
    };
    teardown(cluster, folder, test).await;
    let total = results.differences.len() as u64;
    test.differences = bounded(results.differences, total);
    test.tables = Bounded { shown: results.tables, more: results.tables_more };
    test.checks = results.checks;
    tested?;
    if let Some(first) = results.failed.first() {
        return Err(Failure::Backup(first.clone()));
    }
    test.tier = Some(Tier::Compared);
    test.result =
        if results.serious == 0 { RestoreResult::Passed } else { RestoreResult::Different };
    Ok(())
}

/// Stops the server and removes everything, whatever came before.
async fn teardown(cluster: Option<Cluster>, folder: TempDir, test: &mut RestoreTest) {
    let start = Instant::now();
    let mut left = Vec::new();
    if let Some(cluster) = cluster {
        let place = cluster.folder().display().to_string();
        if let Err(error) = cluster.stop().await {
            left.push(format!("{place}: {error}"));
        }
    }
    let path = folder.path().display().to_string();
    match tokio::task::spawn_blocking(move || remove(folder)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => left.push(format!("{path}: {error}")),
        Err(error) => left.push(format!("{path}: {error}")),
    }
    test.durations.teardown_s = seconds(start);
    test.cleanup = if left.is_empty() {
        Cleanup {
            done: true,
            detail: Some(
                "the server was stopped, its folder and the dumps were removed".to_owned(),
            ),
        }
    } else {
        Cleanup { done: false, detail: Some(left.join("; ")) }
    };
}

#[expect(
    clippy::too_many_arguments,
    reason = "what is torn down and reported belongs to the caller"
)]
async fn work(
    context: &Context<'_>,
    snapshot: &Snapshot,
    pg: &PgReport,
    (programs, major): (&Programs, u32),
    folder: &TempDir,
    cluster: &mut Option<Cluster>,
    test: &mut RestoreTest,
    results: &mut Results,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let name = format!("{}/{} #{}", test.host, test.job, test.seq);
    // First what is missing here: nobody wants to wait for a download to be told so.
    programs.server(major).map_err(verifier)?;
    let start = Instant::now();
    let globals = snapshot.small("globals.sql").await.map_err(from_vault)?;
    let globals = String::from_utf8_lossy(&globals).into_owned();
    let mut fetched = Vec::new();
    for (number, report) in pg.databases.iter().enumerate() {
        context.progress.at(format!("fetching {name}: {}", report.name));
        let archive = folder.path().join(format!("{number}.pgdump"));
        fetch(snapshot, report, &archive).await?;
        let counted = counts(snapshot, report).await.map_err(from_vault)?;
        fetched.push(Fetched { report: report.clone(), archive, counted });
    }
    test.durations.download_s = seconds(start);
    test.tier = Some(Tier::Decrypted);
    test.bytes_restored = Some(pg.databases.iter().map(|database| database.dump_bytes).sum());

    let start = Instant::now();
    context.progress.at(format!("starting PostgreSQL {major} for {name}"));
    let server =
        cluster.insert(start_server(context, pg, programs, major, &globals, results).await?);
    test.environment.server_version = Some(server.version().to_owned());
    test.environment.role = Some(superuser(&globals));
    restore_globals(server, &globals, &name, results, findings).await?;
    let mut restored = Vec::new();
    for one in &fetched {
        context.progress.at(format!("restoring {name}: {}", one.report.name));
        let jobs = u32::try_from(context.settings.concurrency).unwrap_or(1);
        match server.restore_database(&one.archive, &one.report.name, jobs).await {
            Ok(done) => {
                let notes =
                    done.notes.iter().map(|note| format!("database '{}': {note}", one.report.name));
                results.differences.extend(notes);
                restored.push(one);
            }
            // The others are tried all the same, so that one look tells of all.
            Err(error) => results.failed.push(format!("database '{}': {error}", one.report.name)),
        }
    }
    test.durations.restore_s = seconds(start);
    results.checks.push(Check {
        name: "databases restored".to_owned(),
        expected: words::count(pg.databases.len() as u64),
        found: words::count(restored.len() as u64),
        ok: restored.len() == pg.databases.len(),
    });

    let start = Instant::now();
    let key = snapshot.secret.row_set_key();
    for one in restored {
        context.progress.at(format!("comparing {name}: {}", one.report.name));
        let digest = server.digest_database(&one.report.name, &key).await.map_err(verifier)?;
        compare_database(one, &digest, &name, results, findings);
        check_indexes(server, &one.report.name, &name, results, findings).await?;
    }
    test.durations.checks_s = seconds(start);
    Ok(())
}

/// Writes a dump to the scratch folder, since a parallel restore needs a file.
async fn fetch(snapshot: &Snapshot, database: &DatabaseReport, to: &Path) -> Result<(), Failure> {
    let content = snapshot.file(&database.dump).await?;
    let failed = |error: std::io::Error| {
        Failure::Verifier(format!("{} can't be written: {error}", to.display()))
    };
    let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
    let mut reader = snapshot.reader.content(&content);
    while let Some(piece) = snapshot::next(&mut reader).await {
        file.write_all(&piece?).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}

/// Starts a server whose money looks as it did at the source, if this machine knows that locale.
async fn start_server(
    context: &Context<'_>,
    pg: &PgReport,
    programs: &Programs,
    major: u32,
    globals: &str,
    results: &mut Results,
) -> Result<Cluster, Failure> {
    let plain = ClusterOptions {
        folder: context.settings.scratch.clone(),
        superuser: superuser(globals),
        ..ClusterOptions::default()
    };
    if !pg.lc_monetary.is_empty() && pg.lc_monetary != "C" {
        let settings = vec![format!("lc_monetary={}", pg.lc_monetary)];
        match Cluster::start(programs, major, &ClusterOptions { settings, ..plain.clone() }).await {
            Err(error) if error.to_string().contains("lc_monetary") => results.differences.push(format!(
                "the locale {} isn't on this machine, so columns of type money may look different",
                pg.lc_monetary
            )),
            other => return other.map_err(verifier),
        }
    }
    Cluster::start(programs, major, &plain).await.map_err(verifier)
}

async fn restore_globals(
    server: &Cluster,
    globals: &str,
    name: &str,
    results: &mut Results,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let wrong = server.restore_globals(globals).await.map_err(verifier)?;
    results.checks.push(Check {
        name: "statements for roles and tablespaces that failed".to_owned(),
        expected: "0".to_owned(),
        found: words::count(wrong.len() as u64),
        ok: wrong.is_empty(),
    });
    if let Some(first) = wrong.first() {
        let summary = format!(
            "{} for roles and tablespaces could not be restored.",
            words::counted(wrong.len() as u64, "statement")
        );
        let detail = Some(format!("{}: {}", first.statement, first.error));
        let resource = format!("{name}: globals.sql");
        let finding = Finding {
            severity: Severity::Warning,
            detail,
            ..code::SCHEMA_DIFFERS.about(&resource, summary)
        };
        findings.push(&code::SCHEMA_DIFFERS, finding);
    }
    let told = wrong.iter().map(|one| format!("globals.sql: {}: {}", one.statement, one.error));
    results.differences.extend(told.take(DIFFERENCES_MAX));
    Ok(())
}

/// What the throw-away server or its programs fail with says nothing about the backup.
#[expect(clippy::needless_pass_by_value, reason = "taken by map_err")]
pub(super) fn verifier(error: PgError) -> Failure {
    let hint = error.hint();
    Failure::Verifier(if hint.is_empty() { error.to_string() } else { format!("{error}; {hint}") })
}

fn from_vault(error: anyhow::Error) -> Failure {
    match error.downcast::<keephold_vault::Error>() {
        Ok(error) => error.into(),
        Err(error) => Failure::Backup(format!("{error:#}")),
    }
}

/// The major version: 15 of `15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The name of the source's first superuser, so that owners match: `postgres` if it is among the roles, else the first
/// role that is made a superuser.
fn superuser(globals: &str) -> String {
    let role = |line: &str| {
        let rest = line.strip_prefix("ALTER ROLE ")?;
        let (name, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\" ")?,
            None => rest.split_once(' ')?,
        };
        rest.starts_with("WITH SUPERUSER ").then(|| name.replace("\"\"", "\""))
    };
    let supers: Vec<String> = globals.lines().filter_map(role).collect();
    if supers.iter().any(|name| name == SUPERUSER) {
        return SUPERUSER.to_owned();
    }
    supers.into_iter().next().unwrap_or_else(|| SUPERUSER.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_superuser_is_found() {
        let sql = "CREATE ROLE app;\nALTER ROLE app WITH NOSUPERUSER INHERIT;\nCREATE ROLE \"big \"\"boss\";\n\
                   ALTER ROLE \"big \"\"boss\" WITH SUPERUSER INHERIT;\n";
        assert_eq!(superuser(sql), "big \"boss");
        assert_eq!(superuser(&format!("{sql}ALTER ROLE postgres WITH SUPERUSER X;\n")), "postgres");
        assert_eq!(superuser(""), "postgres");
        assert_eq!(
            (major("15.18 (Debian)"), major("16beta1"), major("x")),
            (Some(15), Some(16), None)
        );
    }
}
