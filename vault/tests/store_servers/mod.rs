//! Real S3 servers for tests: where they are, buckets on them, and a proxy that misbehaves on purpose.

use std::sync::Arc;

use bytes::Bytes;
use keephold_vault::store::{
    LockPolicy, Prune, Secret, StoreError, TargetOptions, TargetUrl, open_prune,
};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector, HttpRequest, ReqwestConnector};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const NO_ENV: &(dyn Fn(&str) -> Option<String> + Send + Sync) = &|_| None;

/// A server that tests may use.
#[derive(Debug, Clone)]
pub struct Server {
    pub endpoint: String,
    pub id: String,
    pub secret: String,
    pub is_ceph: bool,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run tests/run, or start the servers with tests/servers/up and set what it prints")
    })
}

pub fn ceph() -> Server {
    Server {
        endpoint: variable("KEEPHOLD_TEST_CEPH_ENDPOINT"),
        id: variable("KEEPHOLD_TEST_CEPH_ACCESS_KEY_ID"),
        secret: variable("KEEPHOLD_TEST_CEPH_SECRET_ACCESS_KEY"),
        is_ceph: true,
    }
}

pub fn localstack() -> Server {
    Server {
        endpoint: variable("KEEPHOLD_TEST_LOCALSTACK_ENDPOINT"),
        id: "test".into(),
        secret: "test".into(),
        is_ceph: false,
    }
}

pub fn both() -> [Server; 2] {
    [ceph(), localstack()]
}

impl Server {
    /// Options that reach it, quick to give up.
    pub fn options(&self, lock: LockPolicy) -> TargetOptions {
        TargetOptions {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".into()),
            allow_http: true,
            lock,
            access_key_id: Some(self.id.clone()),
            secret_access_key: Some(Secret::new(self.secret.clone())),
            connect_timeout_s: 5,
            retry_s: 30,
            ..Default::default()
        }
    }

    /// Opens `bucket/vault` on it.
    pub fn open(&self, bucket: &str, lock: LockPolicy) -> Arc<dyn Prune> {
        open(bucket, &self.options(lock)).unwrap()
    }

    /// A signed request of a test's own; gives status and body.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> (u16, String) {
        let http = ReqwestConnector::default()
            .connect(&ClientOptions::new().with_allow_http(true))
            .unwrap();
        let credential =
            AwsCredential { key_id: self.id.clone(), secret_key: self.secret.clone(), token: None };
        let mut request = HttpRequest::new(Bytes::copy_from_slice(body.as_bytes()).into());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = format!("{}/{path}", self.endpoint).parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let digest = Sha256::digest(body);
        AwsAuthorizer::new(&credential, "s3", "us-east-1")
            .try_authorize(&mut request, Some(&digest))
            .unwrap();
        let response = http.execute(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// A fresh bucket.
    pub async fn bucket(&self, lock: bool) -> String {
        let name = format!("store-{:016x}", rand::random::<u64>());
        let headers: &[(&str, &str)] =
            if lock { &[("x-amz-bucket-object-lock-enabled", "true")] } else { &[] };
        let (status, body) = self.call("PUT", &name, headers, "").await;
        assert_eq!(status, 200, "the bucket could not be made: {body}");
        name
    }

    /// The same server behind another address.
    pub fn at(&self, endpoint: String) -> Self {
        Self { endpoint, ..self.clone() }
    }
}

pub fn open(bucket: &str, options: &TargetOptions) -> Result<Arc<dyn Prune>, StoreError> {
    open_prune(&TargetUrl::parse(&format!("s3://{bucket}/vault")).unwrap(), options, NO_ENV)
}

/// What a proxy does: change the request's head before, and the answer after; `None` hangs up without an answer.
pub trait Mischief: Send + Sync + 'static {
    fn request(&self, head: String) -> String {
        head
    }
    fn answer(&self, request: &str, answer: Vec<u8>) -> Option<Vec<u8>>;
}

/// Starts a proxy before a server (`host:port`), or a server of its own that only `answer`s where there is none.
pub async fn proxy(upstream: Option<&str>, mischief: impl Mischief) -> String {
    let upstream = upstream.map(|u| u.trim_start_matches("http://").to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mischief = Arc::new(mischief);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (upstream, mischief) = (upstream.clone(), Arc::clone(&mischief));
            tokio::spawn(async move {
                let _ = serve(client, upstream.as_deref(), mischief.as_ref()).await;
            });
        }
    });
    format!("http://{address}")
}

/// One request, one answer, one connection: `Connection: close` keeps both sides to it.
async fn serve(
    mut client: TcpStream,
    upstream: Option<&str>,
    mischief: &dyn Mischief,
) -> std::io::Result<()> {
    let mut received = Vec::new();
    let end = loop {
        if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    while received.len() < end + length {
        client.read_buf(&mut received).await?;
    }
    let changed = mischief.request(head.clone()).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut answer = Vec::new();
    if let Some(upstream) = upstream {
        let mut server = TcpStream::connect(upstream).await?;
        server.write_all(changed.as_bytes()).await?;
        server.write_all(&received[end..]).await?;
        server.read_to_end(&mut answer).await?;
    }
    if let Some(answer) = mischief.answer(&head, answer) {
        client.write_all(&answer).await?;
        client.shutdown().await?;
    }
    Ok(())
}

/// A whole answer with a body.
pub fn answer(status: &str, extra: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
