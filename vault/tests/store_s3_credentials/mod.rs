//! Where credentials come from.

use std::time::{Duration, Instant};

use keephold_vault::store::{StoreError, Strength, TargetOptions, TargetUrl, open_prune};

use crate::store_servers::{Mischief, NO_ENV, answer, ceph, localstack, proxy};

#[tokio::test]
async fn having_no_credential_is_told_soon() {
    let begun = Instant::now();
    let url = TargetUrl::parse("s3://some-bucket").unwrap();
    let store = open_prune(&url, &TargetOptions::default(), NO_ENV).unwrap();
    let error = store.protection().await.unwrap_err();
    assert!(matches!(error, StoreError::NoCredential { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let env = |name: &str| (name == "AWS_EC2_METADATA_DISABLED").then(|| "true".to_owned());
    let error = open_prune(&url, &TargetOptions::default(), &env).unwrap_err();
    assert!(matches!(error, StoreError::NoCredential { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_come_from_everywhere() {
    let server = ceph();
    let bucket = server.bucket(true).await;
    let url = TargetUrl::parse(&format!("s3://{bucket}/vault")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (id, secret, endpoint) = (&server.id, &server.secret, &server.endpoint);
    let keys = file(
        "keys",
        &format!("[backup]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
    );
    let config = file(
        "config",
        &format!("[profile backup]\nendpoint_url = {endpoint}\nregion = us-east-1\n"),
    );
    let json = format!(r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"{secret}"}}"#);
    let json = file("json", &json);
    let process = file(
        "process",
        &format!("[default]\nendpoint_url = {endpoint}\ncredential_process = cat {json}\n"),
    );
    let secret_file = file("secret", &format!("{secret}\n"));
    let plain = TargetOptions { allow_http: true, ..Default::default() };
    let cases: Vec<(TargetOptions, Vec<(&str, String)>)> = vec![
        (
            plain.clone(),
            vec![
                ("AWS_ACCESS_KEY_ID", id.clone()),
                ("AWS_SECRET_ACCESS_KEY", secret.clone()),
                ("AWS_ENDPOINT_URL_S3", endpoint.clone()),
            ],
        ),
        (
            plain.clone(),
            vec![
                ("AWS_PROFILE", "backup".into()),
                ("AWS_CONFIG_FILE", config),
                ("AWS_SHARED_CREDENTIALS_FILE", keys),
            ],
        ),
        (plain.clone(), vec![("AWS_CONFIG_FILE", process)]),
        (
            TargetOptions {
                endpoint: Some(endpoint.clone()),
                access_key_id: Some(id.clone()),
                secret_file: Some(secret_file.into()),
                ..plain.clone()
            },
            vec![("AWS_ACCESS_KEY_ID", "other".into()), ("AWS_SECRET_ACCESS_KEY", "other".into())],
        ),
    ];
    for (options, variables) in cases {
        let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        let store = open_prune(&url, &options, &env).unwrap();
        assert_eq!(
            store.protection().await.unwrap().strength,
            Strength::Compliance,
            "{variables:?}"
        );
    }
    let failing =
        file("failing", "[default]\ncredential_process = echo hunter2; echo no card >&2; exit 3\n");
    let env = |name: &str| (name == "AWS_CONFIG_FILE").then(|| failing.clone());
    let options = TargetOptions { endpoint: Some(endpoint.clone()), ..plain.clone() };
    let error = open_prune(&url, &options, &env).unwrap().protection().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::NoCredential { .. }) && text.contains("no card"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// An instance metadata service, and a container's.
struct Metadata;

impl Mischief for Metadata {
    fn answer(&self, request: &str, _answer: Vec<u8>) -> Option<Vec<u8>> {
        let credential = r#"{"AccessKeyId":"test","SecretAccessKey":"test","Token":"t","Code":"Success",
            "Expiration":"2099-01-01T00:00:00Z"}"#;
        let body = match request.split(' ').nth(1).unwrap() {
            "/latest/api/token" => "token",
            "/latest/meta-data/iam/security-credentials/" => "role",
            _ => credential,
        };
        Some(answer("200 OK", "", body))
    }
}

#[tokio::test]
async fn roles_of_machines_and_containers_work() {
    let server = localstack();
    let bucket = server.bucket(true).await;
    let url = TargetUrl::parse(&format!("s3://{bucket}/vault")).unwrap();
    let metadata = proxy(None, Metadata).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let token = token.display().to_string();
    let options = TargetOptions {
        endpoint: Some(server.endpoint.clone()),
        allow_http: true,
        ..Default::default()
    };
    for variables in [
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.clone())],
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{metadata}/creds")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.clone()),
        ],
    ] {
        let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        let store = open_prune(&url, &options, &env).unwrap();
        assert_eq!(
            store.protection().await.unwrap().strength,
            Strength::Compliance,
            "{variables:?}"
        );
    }
}
