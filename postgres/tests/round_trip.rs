//! From one real server through a dump into another, and everything that must go wrong on the way. Needs PostgreSQL's programs.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that can't go on must fail")]

use keephold_postgres::{
    Error, Result,
    archive::{ArchiveError, ArchiveSummary, Parser},
    cluster::{Cluster, ClusterOptions, DifferenceKind, compare},
    discover::{Databases, Server, SkipReason, databases},
    dump::{Dump, DumpOptions, check_globals},
    programs::Programs,
    snapshot::{Snapshot, TableKind},
};
use std::time::Duration;

const KEY: [u8; 32] = [42; 32];
const LOCK: Duration = Duration::from_secs(5);

/// Many types, odd names, no rows, large objects, partitions, inheritance that reorders columns.
const SAMPLE: &str = r#"
CREATE ROLE app LOGIN PASSWORD 'x; y''z';
CREATE TABLE kinds (id bigserial PRIMARY KEY, j json, jb jsonb, b bytea, t timestamptz, a int[], f float8, n numeric, x text, r int4range, i interval);
INSERT INTO kinds (j, jb, b, t, a, f, n, x, r, i) SELECT '{"a": 1}', '{"b": [1, null]}', '\xdeadbeef00', '2026-02-03 04:05:06.789+02',
    ARRAY[1, NULL, g], CASE WHEN g % 3 = 0 THEN 'NaN'::float8 WHEN g % 3 = 1 THEN '-Infinity' ELSE 1.0 / g END, g / 7.0,
    CASE WHEN g % 5 = 0 THEN NULL WHEN g % 5 = 1 THEN '' WHEN g % 5 = 2 THEN E'\\.' ELSE E'tab\there\nand \\ "größe" 🐘' END,
    int4range(g, g + 5), '1 year 2 days' FROM generate_series(1, 5000) g;
CREATE TABLE twins (x text); INSERT INTO twins VALUES ('same'), ('same'), (''), (NULL);
CREATE TABLE empty (id int);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE SCHEMA "Odd ""schema""";
CREATE TABLE parts (id int, y int) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (1000);
INSERT INTO parts SELECT g, g FROM generate_series(0, 999) g;
CREATE TABLE parent (a int); CREATE TABLE child (c int) INHERITS (parent); ALTER TABLE parent ADD COLUMN b int;
INSERT INTO child VALUES (1, 2, 3), (4, 5, 6);
CREATE VIEW v AS SELECT * FROM kinds; CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM kinds;
CREATE INDEX ON kinds (x); CREATE SEQUENCE s; SELECT setval('s', 77);
GRANT SELECT ON kinds TO app; ALTER TABLE twins OWNER TO app;
SELECT lo_from_bytea(4294967290, repeat('large ', 100000)::bytea), lo_from_bytea(0, '');
"#;

async fn server() -> Cluster {
    let programs = Programs::search(None, None);
    Cluster::start(&programs, 15, &ClusterOptions::default())
        .await
        .expect("PostgreSQL 15 must be installed")
}

async fn run(cluster: &Cluster, database: &str, sql: &str) {
    cluster.connection().connect(database).await.unwrap().batch_execute(sql).await.unwrap();
}

/// A table whose name has a newline, which no command of SQL text above could make.
const ODD: &str =
    "CREATE TABLE \"Odd \"\"schema\"\"\".\"new\nline 'ünï' (a) FROM\" (id int, \"col, umn\" text);
    INSERT INTO \"Odd \"\"schema\"\"\".\"new\nline 'ünï' (a) FROM\" VALUES (1, 'one');";

async fn dump(cluster: &Cluster, database: &str, options: &DumpOptions) -> Result<Vec<u8>> {
    let program = Programs::search(None, None).client("pg_dump", 15)?;
    let mut dump = Dump::start(&program, cluster.connection(), database, options)?;
    let bytes = dump.pieces.collect(usize::MAX).await.unwrap();
    dump.program.finish().await?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> std::result::Result<ArchiveSummary, ArchiveError> {
    let mut parser = Parser::new(&KEY);
    for piece in bytes.chunks(1000) {
        parser.feed(piece)?;
    }
    parser.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dumped_comes_back() {
    let (source, target) = tokio::join!(server(), server());
    run(&source, "postgres", "CREATE DATABASE \"sh op\"").await;
    run(&source, "postgres", "ALTER DATABASE \"sh op\" SET timezone = 'Asia/Tokyo'").await;
    run(&source, "postgres", "CREATE DATABASE closed ALLOW_CONNECTIONS false").await;
    run(&source, "sh op", SAMPLE).await;
    run(&source, "sh op", ODD).await;

    let client = source.connection().connect("postgres").await.unwrap();
    let facts = Server::of(&client).await.unwrap();
    assert_eq!(
        (facts.major(), facts.in_recovery, facts.data_checksums.as_str()),
        (15, false, "off")
    );
    assert!(facts.system_identifier.is_some());
    let all = databases(&client).await.unwrap();
    let selected = Databases { include: Vec::new(), exclude: vec!["keephold*".to_owned()] }
        .select(&all)
        .unwrap();
    assert_eq!(
        selected.taken.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["postgres", "sh op"]
    );
    assert!(selected.taken[1].size.unwrap() > 1_000_000);
    assert!(
        selected
            .skipped
            .iter()
            .any(|one| one.name == "closed" && one.reason == SkipReason::NoConnections)
    );

    // What happens after the snapshot doesn't show: new rows, new tables, and a TRUNCATE that has to wait.
    let snapshot = Snapshot::open(source.connection(), "sh op", LOCK).await.unwrap();
    let partitioned = snapshot.tables().iter().find(|table| table.name == "parts").unwrap();
    assert_eq!(partitioned.kind, TableKind::Partitioned);
    run(
        &source,
        "sh op",
        "INSERT INTO kinds (x) VALUES ('later'); DELETE FROM twins; CREATE TABLE later (id int)",
    )
    .await;
    let blocked = "SET lock_timeout = 100; TRUNCATE kinds";
    let refused = source
        .connection()
        .connect("sh op")
        .await
        .unwrap()
        .batch_execute(blocked)
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55P03");
    let options = DumpOptions {
        snapshot: Some(snapshot.id().to_owned()),
        lock_wait: Some(LOCK),
        ..DumpOptions::default()
    };
    let bytes = dump(&source, "sh op", &options).await.unwrap();
    let count: i64 =
        snapshot.client().query_one("SELECT count(*) FROM public.kinds", &[]).await.unwrap().get(0);
    snapshot.finish().await.unwrap();

    let before = parse(&bytes).unwrap();
    let table = |name: &str| before.tables.iter().find(|table| table.name == name).unwrap();
    assert_eq!((count, table("kinds").set.rows), (5000, 5000));
    assert_eq!(
        (table("twins").set.rows, table("empty").set.rows, table("nothing").set.rows),
        (4, 0, 2)
    );
    assert_eq!((table("parts_low").set.rows, table("parts_high").set.rows), (100, 900));
    assert_eq!(table("new\nline 'ünï' (a) FROM").columns, "(id, \"col, umn\")");
    assert_eq!((before.large_objects.set.rows, before.large_objects.bytes), (2, 600_000));
    assert_eq!((before.database.as_str(), before.encoding.as_deref()), ("sh op", Some("UTF8")));
    assert!(
        before
            .tables
            .iter()
            .all(|table| table.name != "later" && table.name != "v" && table.name != "mv")
    );

    let program = Programs::search(None, None).client("pg_dumpall", 15).unwrap();
    let mut globals = Dump::globals(&program, source.connection(), "postgres", false).unwrap();
    let sql = String::from_utf8(globals.pieces.collect(1 << 20).await.unwrap()).unwrap();
    globals.program.finish().await.unwrap();
    check_globals(&sql).unwrap();
    assert!(check_globals(&sql[..sql.len() - 10]).is_err());
    assert_eq!(target.restore_globals(&sql).await.unwrap(), []);

    let file = target.folder().join("archive");
    std::fs::write(&file, &bytes).unwrap();
    let restored = target.restore_database(&file, "sh op", 2).await.unwrap();
    assert_eq!((restored.messages.as_str(), restored.notes.len()), ("", 0));
    let after = target.digest_database("sh op", &KEY).await.unwrap();
    let differences = compare(&before, &after);
    let kinds: Vec<_> = differences.iter().map(|one| (one.item.as_str(), one.kind)).collect();
    // Inheritance moves a column, which a restore can't help; everything else is equal.
    assert_eq!(
        kinds,
        [("public.child", DifferenceKind::ColumnOrder)],
        "{}",
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    );
    let zone: String = target
        .connection()
        .connect("sh op")
        .await
        .unwrap()
        .query_one("SHOW timezone", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(zone, "Asia/Tokyo");
    assert!(
        target
            .connection_as("app")
            .connect("sh op")
            .await
            .unwrap()
            .query_one("SELECT id FROM kinds LIMIT 1", &[])
            .await
            .is_ok()
    );

    // A row that changes is noticed, and so are its index and another name.
    run(&target, "sh op", "UPDATE parts SET y = y + 1 WHERE id = 7").await;
    let changed = target.digest_database("sh op", &KEY).await.unwrap();
    assert!(
        compare(&before, &changed)
            .iter()
            .any(|one| one.item == "public.parts_low" && one.kind == DifferenceKind::Content)
    );
    let renamed = target.restore_database(&file, "other=name", 1).await.unwrap();
    assert_eq!(renamed.notes.len(), 1);
    let again = target.digest_database("other=name", &KEY).await.unwrap();
    assert!(
        compare(&before, &again).iter().all(|one| !one.kind.is_serious()),
        "{:?}",
        compare(&before, &again)
    );
    assert_eq!(
        target.schema_text("other=name").await.unwrap(),
        target.schema_text("sh op").await.unwrap()
    );
    let checked = target.amcheck("sh op").await.unwrap();
    assert!(
        checked.indexes > 50 && checked.findings.is_empty() && checked.unavailable.is_none(),
        "{checked:?}"
    );

    // A database that every server has already is replaced.
    let bytes = dump(&source, "postgres", &DumpOptions::default()).await.unwrap();
    std::fs::write(&file, &bytes).unwrap();
    target.restore_database(&file, "postgres", 1).await.unwrap();

    // A cut archive is noticed wherever it is cut, also by a restore.
    let folder = target.folder().to_owned();
    std::fs::write(&file, &bytes[..bytes.len() / 3]).unwrap();
    let error = target.restore_database(&file, "postgres", 1).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. } | Error::Archive(_)), "{error}");
    target.stop().await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_lose_rows_is_an_error() {
    let source = server().await;
    run(&source, "postgres", SAMPLE).await;
    let bytes = dump(&source, "postgres", &DumpOptions::default()).await.unwrap();
    let whole = parse(&bytes).unwrap();
    for cut in (0..bytes.len()).step_by(9973).chain([bytes.len() - 1]) {
        let error = parse(&bytes[..cut]).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Truncated { .. } | ArchiveError::Missing { .. }),
            "{cut}: {error}"
        );
    }
    // Offsets point at blocks: type, sign and the dump id.
    for table in &whole.tables {
        let start = usize::try_from(table.start).unwrap();
        assert_eq!(bytes[start], 1);
        assert_eq!(bytes[start + 2..start + 6], table.dump_id.to_le_bytes());
    }

    // The backend dies in the middle.
    run(
        &source,
        "postgres",
        "CREATE TABLE big AS SELECT g, repeat('x', 1000) FROM generate_series(1, 50000) g",
    )
    .await;
    let program = Programs::search(None, None).client("pg_dump", 15).unwrap();
    let mut killed =
        Dump::start(&program, source.connection(), "postgres", &DumpOptions::default()).unwrap();
    let mut parser = Parser::new(&KEY);
    parser.feed(&killed.pieces.next().await.unwrap().unwrap()).unwrap();
    run(&source, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump' OR query LIKE 'COPY%'").await;
    while let Ok(Some(piece)) = killed.pieces.next().await {
        parser.feed(&piece).unwrap();
    }
    let error = killed.program.finish().await.unwrap_err();
    assert!(
        matches!(error, Error::Failed { .. }) && error.to_string().contains("pg_dump failed"),
        "{error}"
    );
    assert!(matches!(
        parser.finish(),
        Err(ArchiveError::Truncated { .. } | ArchiveError::Missing { .. })
    ));

    // A snapshot that ended can't be dumped.
    let snapshot = Snapshot::open(source.connection(), "postgres", LOCK).await.unwrap();
    let options =
        DumpOptions { snapshot: Some(snapshot.id().to_owned()), ..DumpOptions::default() };
    snapshot.finish().await.unwrap();
    assert!(dump(&source, "postgres", &options).await.is_err());

    // A lock that isn't had.
    let holder = source.connection().connect("postgres").await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE kinds IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let error = Snapshot::open(source.connection(), "postgres", Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::LockTimeout { .. }), "{error}");
    drop(holder);

    // Row level security: the superuser sees everything, the backup role doesn't, and with BYPASSRLS it does.
    run(
        &source,
        "postgres",
        "CREATE ROLE backup LOGIN; GRANT pg_read_all_data TO backup;
         CREATE TABLE secret (id int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
    )
    .await;
    Snapshot::open(source.connection(), "postgres", LOCK).await.unwrap().finish().await.unwrap();
    let backup = source.connection_as("backup");
    let error = Snapshot::open(&backup, "postgres", LOCK).await.unwrap_err();
    assert!(
        matches!(&error, Error::HiddenRows { tables, role, .. } if tables == &["public.secret"] && role == "backup"),
        "{error}"
    );
    run(&source, "postgres", "ALTER ROLE backup BYPASSRLS").await;
    Snapshot::open(&backup, "postgres", LOCK).await.unwrap().finish().await.unwrap();

    // No such database.
    let error = Snapshot::open(&backup, "nowhere", LOCK).await.unwrap_err();
    assert!(
        error.to_string().contains("nowhere") && error.to_string().contains("3D000"),
        "{error}"
    );
}

/// The folder and the server go even when nothing can be told to end them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_cluster_leaves_nothing() {
    let cluster = server().await;
    let folder = cluster.folder().to_owned();
    let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let process = std::path::Path::new("/proc").join(pid.lines().next().unwrap());
    assert!(process.exists());
    let panicked = tokio::spawn(async move {
        let _cluster = cluster;
        panic!("on purpose");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(!folder.exists() && !process.exists());
}

/// Names the file in which [`lives_until_killed`] says where its server is. Without it, that test has nothing to do.
const CHILD: &str = "KEEPHOLD_TEST_CHILD";

/// The other half of the next test, in a process of its own.
#[tokio::test]
async fn lives_until_killed() {
    let Some(file) = std::env::var_os(CHILD) else { return };
    let cluster = server().await;
    let part = std::path::Path::new(&file).with_extension("part");
    std::fs::write(&part, cluster.folder().to_str().unwrap()).unwrap();
    std::fs::rename(&part, &file).unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
}

/// No destructor runs after SIGKILL, but the leash does.
#[tokio::test]
async fn a_killed_process_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("where");
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lives_until_killed"])
        .env(CHILD, &file)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let wait = async |done: &dyn Fn() -> bool, what: &str| {
        for _ in 0..600 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}");
    };
    wait(&|| file.exists(), "the server didn't start").await;
    let scratch = std::path::PathBuf::from(std::fs::read_to_string(&file).unwrap());
    let pid = std::fs::read_to_string(scratch.join("data/postmaster.pid")).unwrap();
    let process = std::path::Path::new("/proc").join(pid.lines().next().unwrap());
    child.kill().await.unwrap();
    wait(&|| !process.exists() && !scratch.exists(), "the server or its folder is still there")
        .await;
}
