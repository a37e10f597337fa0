//! libpq's `sslmode`, against a real server with a certificate made here. Needs PostgreSQL's programs and `openssl`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that can't go on must fail")]

use keephold_postgres::{
    cluster::{Cluster, ClusterOptions},
    connect::{Connection, Environment},
    dump::{Dump, DumpOptions},
    programs::Programs,
};
use std::{net::TcpListener, os::unix::fs::chown, path::Path, process::Command};

/// An authority, a certificate from it for `localhost`, and another authority that nobody uses.
fn certificates(folder: &Path) {
    let script = "
        set -e
        cd \"$1\"
        for name in ca other; do
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name -keyout $name.key -out $name.crt
        done
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost\\n' > ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=self -addext subjectAltName=DNS:localhost -keyout self.key -out self.crt
        chmod 600 *.key
    ";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    let owner = keephold_postgres::account::Account::named("postgres");
    for entry in std::fs::read_dir(folder).unwrap() {
        if let Some(owner) = &owner
            && rustix::process::geteuid().is_root()
        {
            chown(entry.unwrap().path(), Some(owner.uid), Some(owner.gid)).unwrap();
        }
    }
}

/// A server on TCP that speaks TLS, and its port.
async fn server(folder: &Path, certificate: &str) -> (Cluster, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |ending: &str| folder.join(format!("{certificate}.{ending}")).display().to_string();
    let settings = vec![
        "listen_addresses=localhost".to_owned(),
        format!("port={port}"),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", file("crt")),
        format!("ssl_key_file={}", file("key")),
    ];
    let options = ClusterOptions { settings, ..ClusterOptions::default() };
    (Cluster::start(&Programs::search(None, None), 15, &options).await.unwrap(), port)
}

async fn encrypted(dsn: &str) -> Result<bool, String> {
    let connection =
        Connection::resolve(dsn, &Environment::default()).map_err(|error| error.to_string())?;
    let client = connection.connect("postgres").await.map_err(|error| error.to_string())?;
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(query, &[]).await.map(|row| row.get(0)).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_means_what_libpq_means() {
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    certificates(folder.path());
    let (cluster, port) = server(folder.path(), "server").await;
    let path = folder.path().display();
    let ask = |rest: String| async move {
        encrypted(&format!("host=localhost port={port} user=postgres {rest}")).await
    };
    assert_eq!(ask("sslmode=disable".to_owned()).await, Ok(false));
    assert_eq!(ask("sslmode=allow".to_owned()).await, Ok(false));
    assert_eq!(ask(String::new()).await, Ok(true));
    assert_eq!(ask("sslmode=require".to_owned()).await, Ok(true));
    assert_eq!(ask(format!("sslmode=verify-full sslrootcert={path}/ca.crt")).await, Ok(true));
    // A root certificate makes `require` check it, and another authority isn't trusted.
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused =
            ask(format!("sslmode={mode} sslrootcert={path}/other.crt")).await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
    }
    // Another name for the same host: only verify-full minds.
    let named = |mode: &str| {
        format!("host=127.0.0.1 port={port} user=postgres sslmode={mode} sslrootcert={path}/ca.crt")
    };
    assert_eq!(encrypted(&named("verify-ca")).await, Ok(true));
    assert!(encrypted(&named("verify-full")).await.unwrap_err().contains("not valid for name"));
    let missing = ask("sslmode=verify-full".to_owned()).await.unwrap_err();
    assert!(missing.contains("needs sslrootcert"), "{missing}");

    // pg_dump agrees.
    let program = Programs::search(None, None).client("pg_dump", 15).unwrap();
    for (root, works) in [("ca.crt", true), ("other.crt", false)] {
        let dsn = format!(
            "host=localhost port={port} user=postgres sslmode=verify-full sslrootcert={path}/{root}"
        );
        let connection = Connection::resolve(&dsn, &Environment::default()).unwrap();
        let mut dump =
            Dump::start(&program, &connection, "postgres", &DumpOptions::default()).unwrap();
        let bytes = dump.pieces.collect(usize::MAX).await.unwrap();
        assert_eq!((dump.program.finish().await.is_ok(), !bytes.is_empty()), (works, works));
    }
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_may_be_its_own_root() {
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    certificates(folder.path());
    let (cluster, port) = server(folder.path(), "self").await;
    let dsn = |root: &str| {
        format!(
            "host=localhost port={port} user=postgres sslmode=verify-full sslrootcert={}/{root}",
            folder.path().display()
        )
    };
    assert_eq!(encrypted(&dsn("self.crt")).await, Ok(true));
    assert!(encrypted(&dsn("ca.crt")).await.is_err());
    cluster.stop().await.unwrap();
}
