//! Tests of the rules of precedence, on environments made up here.

use super::*;
use std::{fs, os::unix::fs::PermissionsExt};

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        home: None,
        user: Some("ops".to_owned()),
    }
}

#[test]
fn defaults_are_those_of_libpq() {
    let connection = Connection::resolve("", &environment(&[])).unwrap();
    assert_eq!(connection.host, Host::Socket("/var/run/postgresql".into()));
    assert_eq!(
        (connection.port, connection.user.as_str(), connection.database.as_str()),
        (5432, "ops", "ops")
    );
    assert_eq!(connection.sslmode, SslMode::Prefer);
    assert_eq!(connection.to_string(), "ops@/var/run/postgresql:5432/ops");
}

#[test]
fn string_beats_service_beats_environment() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join(".pg_service.conf"),
        "[main]\nhost=service\nport=6001\nuser=carol\n",
    )
    .unwrap();
    let mut environment = environment(&[
        ("PGHOST", "variable"),
        ("PGPORT", "6002"),
        ("PGDATABASE", "d"),
        ("PGUSER", "dave"),
        ("PGSERVICE", "main"),
    ]);
    environment.home = Some(home.path().to_owned());
    let connection = Connection::resolve("port=6000", &environment).unwrap();
    assert_eq!(connection.to_string(), "carol@service:6000/d");
    environment.variables.insert("PGSYSCONFDIR".to_owned(), home.path().display().to_string());
    let error = Connection::resolve("service=other", &environment).unwrap_err();
    assert!(
        error.to_string().contains("\"other\"") && error.to_string().contains("pg_service.conf"),
        "{error}"
    );
    fs::write(home.path().join("pg_service.conf"), "[other]\nhost=system\n").unwrap();
    assert_eq!(
        Connection::resolve("service=other", &environment).unwrap().to_string(),
        "dave@system:6002/d"
    );
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let refused = |dsn: &str| Connection::resolve(dsn, &environment(&[])).unwrap_err().to_string();
    assert!(refused("host=a,b").contains("several hosts"));
    assert!(refused("postgres://a:1,b:2/d").contains("several hosts"));
    assert!(refused("host=a sslcrl=/x").contains("sslcrl"));
    assert!(refused("host=a sslmode=on").contains("verify-full"));
    assert!(refused("host=a port=x").contains("port"));
    assert!(refused("host=a sslrootcert=system sslmode=require").contains("verify-full"));
    assert!(refused("host=a replication=database").contains("replication"));
    assert!(refused("hostaddr=nowhere").contains("IP address"));
    let crl = Connection::resolve("host=a", &environment(&[("PGSSLCRL", "/x")])).unwrap_err();
    assert!(crl.to_string().contains("sslcrl") && !crl.hint().is_empty());
}

#[test]
fn passwords_stay_hidden() {
    let connection = Connection::resolve("postgres://u:s3cret@h/d", &environment(&[])).unwrap();
    assert_eq!(connection.password.as_ref().unwrap().expose(), "s3cret");
    assert!(!format!("{connection} {connection:?}").contains("s3cret"));
    assert!(!format!("{:?}", connection.command_env("d").unwrap()).contains("s3cret"));
}

#[test]
fn the_password_file_is_asked_for_each_database() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    fs::write(&file, "localhost:5432:a:ops:one\nlocalhost:*:b:*:two\n/other:*:*:*:three\n")
        .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut environment = environment(&[]);
    environment.home = Some(home.path().to_owned());
    let ask = |dsn: &str, database: &str| {
        let connection = Connection::resolve(dsn, &environment).unwrap();
        connection.password_for(database).unwrap().map(|secret| secret.expose().to_owned())
    };
    assert_eq!(ask("", "a").as_deref(), Some("one"));
    assert_eq!(ask("", "b").as_deref(), Some("two"));
    assert_eq!(ask("", "c"), None);
    assert_eq!(ask("host=localhost", "a").as_deref(), Some("one"));
    assert_eq!(ask("host=/other", "c").as_deref(), Some("three"));
    assert_eq!(ask("password=given", "a").as_deref(), Some("given"));
}

#[test]
fn children_get_the_same_and_nothing_else() {
    let dsn = "host=db hostaddr=10.0.0.1 port=6000 user=u password=p sslmode=verify-full sslrootcert=/ca.pem connect_timeout=1";
    let connection = Connection::resolve(dsn, &environment(&[("PGOPTIONS", "-c x.y=1")])).unwrap();
    let set = connection.command_env("sh op").unwrap();
    let get = |key: &str| set.get(key).map(Value::expose);
    assert_eq!(get("PGHOST"), Some("db"));
    assert_eq!(get("PGHOSTADDR"), Some("10.0.0.1"));
    assert_eq!(get("PGPORT"), Some("6000"));
    assert_eq!(get("PGUSER"), Some("u"));
    assert_eq!(get("PGPASSWORD"), Some("p"));
    assert_eq!(get("PGPASSFILE"), Some("/dev/null/none"));
    assert_eq!(get("PGDATABASE"), Some("sh op"));
    assert_eq!(get("PGSSLMODE"), Some("verify-full"));
    assert_eq!(get("PGSSLROOTCERT"), Some("/ca.pem"));
    assert_eq!(get("PGCONNECT_TIMEOUT"), Some("2"));
    assert_eq!(get("PGOPTIONS"), Some("-c x.y=1"));
    assert_eq!(get("PGSERVICE"), None);
}
