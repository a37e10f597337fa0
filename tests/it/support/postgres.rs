//! Throw-away PostgreSQL servers with something in them.

use std::path::Path;
use std::sync::OnceLock;

use keephold_postgres::cluster::{Cluster, ClusterOptions};
use keephold_postgres::connect::Connection;
use keephold_postgres::programs::Programs;
use tokio::runtime::Runtime;

/// Several types, odd names, a partitioned table, a large object, and rows enough for several frames.
const SHOP: &str = r#"
CREATE TABLE customers (id bigserial PRIMARY KEY, name text NOT NULL, joined timestamptz, notes jsonb, tags text[]);
INSERT INTO customers (name, joined, notes, tags) SELECT 'customer ' || g, '2026-01-01Z'::timestamptz + g * interval '1 minute',
    jsonb_build_object('n', g, 'x', null), CASE WHEN g % 3 = 0 THEN NULL ELSE ARRAY['a', NULL, E'tab\there'] END FROM generate_series(1, 4000) g;
CREATE TABLE orders (id int, customer bigint REFERENCES customers, amount numeric, weight float8, scan bytea, placed date) PARTITION BY RANGE (id);
CREATE TABLE orders_low PARTITION OF orders FOR VALUES FROM (0) TO (5000);
CREATE TABLE orders_high PARTITION OF orders FOR VALUES FROM (5000) TO (100000);
INSERT INTO orders SELECT g, 1 + g % 4000, g / 7.0, CASE g % 100 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE 1.0 / (g + 1) END,
    decode(md5(g::text), 'hex'), '2026-02-03' FROM generate_series(0, 9999) g;
CREATE TABLE "Odd ""name"", größe" ("col, umn" text); INSERT INTO "Odd ""name"", größe" VALUES (E'a\\b\n\t'), (NULL), (''), ('');
CREATE TABLE empty (id int); CREATE INDEX ON customers (name); CREATE VIEW big AS SELECT * FROM orders WHERE amount > 500;
CREATE FUNCTION double(i int) RETURNS int LANGUAGE sql AS 'SELECT i * 2';
SELECT lo_from_bytea(0, repeat('large object ', 5000)::bytea);
"#;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

/// A running server; gone when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Cluster,
}

impl Server {
    /// A server with the database `shop` in it.
    pub(crate) fn with_shop() -> Self {
        let programs = Programs::search(None, None);
        let major = programs.all("postgres").first().map(|program| program.major);
        let major = major.expect(
            "PostgreSQL's server is installed: run tests/run, or `apt-get install postgresql`",
        );
        let cluster = runtime()
            .block_on(Cluster::start(&programs, major, &ClusterOptions::default()))
            .unwrap();
        let server = Self { cluster };
        server.sql("postgres", "DROP DATABASE keephold_maintenance");
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'secret'");
        server.sql("shop", SHOP);
        server
    }

    /// How to connect, for libpq; the database is the one for maintenance.
    pub(crate) fn dsn(&self) -> String {
        self.dsn_of("postgres")
    }

    pub(crate) fn dsn_of(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.folder().display())
    }

    /// The folder with its socket.
    pub(crate) fn folder(&self) -> &Path {
        self.cluster.folder()
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) {
        runtime().block_on(async {
            let client = self.cluster.connection().connect(database).await.unwrap();
            client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{e:?}: {sql}"));
        });
    }

    /// A session that has run this in a transaction, and keeps it open until it is dropped.
    pub(crate) fn hold(&self, database: &str, sql: &str) -> tokio_postgres::Client {
        let connection = Connection {
            application_name: "test holder".into(),
            ..self.cluster.connection().clone()
        };
        runtime().block_on(async {
            let client = connection.connect(database).await.unwrap();
            client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
            client
        })
    }

    /// One text value.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        runtime().block_on(async {
            let client = self.cluster.connection().connect(database).await.unwrap();
            client.query_one(sql, &[]).await.unwrap().get(0)
        })
    }

    /// A hash of all rows of the shop's tables.
    pub(crate) fn contents(&self, database: &str) -> String {
        let tables = ["customers", "orders", "\"Odd \"\"name\"\", größe\"", "empty"];
        let one = |table| {
            format!(
                "(SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') || count(*) FROM {table} t)"
            )
        };
        let all = tables.map(one).join(" || ");
        self.ask(database, &format!("SELECT {all} || (SELECT md5(string_agg(data, '' ORDER BY pageno)) FROM pg_largeobject)"))
    }
}
