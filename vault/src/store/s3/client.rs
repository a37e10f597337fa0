//! The one way by which every request goes out: signed afresh at each attempt, timed, tried again where that can
//! help, and its answer's date noted.
//!
//! `object_store` supplies the credentials, the signature and the HTTP client. Its own object calls are not used:
//! they know no lock headers, and re-signing their requests from below would leave their timeouts, their retries
//! (which send the first signature again) and their reading of conflicts in the way.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use jiff::Timestamp;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpClient, HttpConnector as _, HttpRequest, ReqwestConnector};
use object_store::{Certificate, ClientOptions, HeaderMap};

use super::clock::Clock;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::refusal::Refusal;
use super::sums::Sums;
use crate::store::StoreError;
use crate::store::calls::{CallCounter, CallKind};
use crate::store::target::TargetOptions;

/// The slowest line that an upload or download is still waited for, in bytes a second.
const BANDWIDTH_MIN: u64 = 64 * 1024;

/// How long a server may think about a request, beside the time that its bytes take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The same, and how long to go on trying, while the server has never answered.
const FIRST_CONTACT: Duration = Duration::from_secs(20);

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Largest answer to anything but a read: a listing of 1,000 versions has well below 1 MB.
pub(super) const DOCUMENT_LEN_MAX: u64 = 16 << 20;

/// Most bytes of a read that its time limit grows with: a caller's bound may be no more than a safeguard.
const READ_LEN_TIMED: u64 = 256 << 20;

/// A request, before it is signed.
pub(super) struct Call<'a> {
    pub(super) method: &'static str,
    /// The key with the vault's prefix; `None` for the bucket itself.
    pub(super) key: Option<&'a str>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// The body's checksums, if it has a body.
    pub(super) sums: Option<&'a Sums>,
    /// Longest answer to accept.
    pub(super) answer_max: u64,
    /// How many bytes of answer to allow time for; 0 for documents.
    pub(super) expected: u64,
    /// What is done, reading on from 'refused to'.
    pub(super) action: String,
    /// The object, for messages.
    pub(super) what: String,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        method: &'static str,
        key: Option<&'a str>,
        action: &str,
        what: &str,
    ) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            sums: None,
            answer_max: DOCUMENT_LEN_MAX,
            expected: 0,
            action: format!("{action} {what}").trim_end().to_owned(),
            what: what.to_owned(),
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Lets the answer have up to `max` bytes, and time for as many (within reason).
    pub(super) fn reads(mut self, max: u64) -> Self {
        self.answer_max = max;
        self.expected = max.min(READ_LEN_TIMED);
        self
    }

    /// Gives it a body, with the two checksums that locked writes need: some servers know only one of them.
    pub(super) fn body(mut self, body: Bytes, sums: &'a Sums) -> Self {
        self.body = body;
        self.sums = Some(sums);
        self.header("content-md5", sums.md5_base64())
            .header("x-amz-checksum-sha256", sums.sha256_base64())
    }

    /// What a provider charges it as.
    fn kind(&self) -> CallKind {
        let asks = |name: &str| self.query.iter().any(|(n, _)| *n == name);
        match self.method {
            "PUT" if asks("retention") => CallKind::Extend,
            "PUT" => CallKind::Put,
            "GET" if asks("list-type") || asks("versions") => CallKind::List,
            "GET" if self.key.is_some() && !asks("retention") => CallKind::Get,
            "GET" | "HEAD" => CallKind::Head,
            _ => CallKind::Free,
        }
    }

    /// How long one attempt may take.
    fn timeout(&self, reached: bool, connect: Duration) -> Duration {
        let bytes = self.body.len() as u64 + self.expected;
        let thinking = if reached { ANSWER_TIMEOUT } else { FIRST_CONTACT };
        connect + thinking + Duration::from_secs(bytes / BANDWIDTH_MIN)
    }
}

/// A server's answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What went wrong in one attempt.
enum Failure {
    /// Another attempt may help.
    Transient(String),
    /// None will.
    Final(StoreError),
}

/// A bucket's client.
#[derive(Debug)]
pub(super) struct Client {
    http: HttpClient,
    endpoint: Endpoint,
    region: String,
    credentials: Credentials,
    pub(super) clock: Clock,
    pub(super) calls: CallCounter,
    reached: AtomicBool,
    connect_timeout: Duration,
    retry_for: Duration,
    /// The target's URL, for messages.
    pub(super) target: String,
}

impl Client {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a certificate file that can't be used.
    pub(super) fn new(
        endpoint: Endpoint,
        region: String,
        credentials: Credentials,
        ca_file: Option<&std::path::Path>,
        options: &TargetOptions,
        target: String,
    ) -> Result<Self, StoreError> {
        // The whole request's time is limited below, by its size.
        let mut http = ClientOptions::new()
            .with_allow_http(options.allow_http)
            .with_timeout_disabled()
            .with_connect_timeout(options.connect_timeout());
        if let Some(path) = ca_file {
            let wrong = |why: String| StoreError::Config {
                detail: format!("ca_file {}: {why}", path.display()),
            };
            let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(chain(&e)))?;
            if certificates.is_empty() {
                return Err(wrong("it holds no certificate".into()));
            }
            http = certificates.into_iter().fold(http, ClientOptions::with_root_certificate);
        }
        let http = ReqwestConnector::default().connect(&http).map_err(|e| StoreError::Config {
            detail: format!("no HTTPS client could be made: {}", chain(&e)),
        })?;
        Ok(Self {
            http,
            endpoint,
            region,
            credentials,
            clock: Clock::new(),
            calls: CallCounter::default(),
            reached: AtomicBool::new(false),
            connect_timeout: options.connect_timeout(),
            retry_for: Duration::from_secs(options.retry_s),
            target,
        })
    }

    /// Sends a request until it is answered, and answers whatever status that is but for those that passed away
    /// with time.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], [`StoreError::NoCredential`], [`StoreError::ClockSkew`], and
    /// [`StoreError::TooLarge`] for an answer beyond the call's bound.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            let detail = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(e)) => return Err(e),
                Err(Failure::Transient(detail)) => detail,
            };
            let reached = self.reached.load(Ordering::Relaxed);
            let limit = if reached { self.retry_for } else { self.retry_for.min(FIRST_CONTACT) };
            let wait = pause.mul_f64(rand::random_range(0.5..1.0));
            if begun.elapsed() + wait >= limit {
                return Err(self.unreachable(&detail));
            }
            tracing::debug!(target = %self.target, action = %call.action, %detail, "trying again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let request = self.sign(call).await.map_err(Failure::Final)?;
        self.calls.add(call.kind());
        let timeout = call.timeout(self.reached.load(Ordering::Relaxed), self.connect_timeout);
        let answer =
            tokio::time::timeout(timeout, self.exchange(request, call)).await.unwrap_or_else(
                |_| Err(Failure::Transient(format!("no answer within {} s", timeout.as_secs()))),
            )?;
        if answer.is_success() {
            return Ok(answer);
        }
        let refusal = Refusal::of(&answer);
        match refusal.code.as_str() {
            "RequestTimeTooSkewed" => Err(Failure::Final(self.clock.skew(&self.target))),
            _ if refusal.is_transient() => Err(Failure::Transient(refusal.words())),
            _ => Ok(answer),
        }
    }

    /// Makes the HTTP request and signs it: anew for each attempt, for a signature ages, and so may the key.
    async fn sign(&self, call: &Call<'_>) -> Result<HttpRequest, StoreError> {
        let credential = self.credentials.get().await?;
        let odd = |what: &str| StoreError::Other {
            target: self.target.clone(),
            action: call.action.clone(),
            detail: format!("the request's {what} can't be written"),
        };
        let mut request = HttpRequest::new(call.body.clone().into());
        *request.method_mut() = call.method.parse().map_err(|_| odd("method"))?;
        *request.uri_mut() =
            self.endpoint.url(call.key, &call.query).parse().map_err(|_| odd("address"))?;
        for (name, value) in &call.headers {
            request.headers_mut().insert(*name, value.parse().map_err(|_| odd(name))?);
        }
        if call.method == "PUT" {
            // The HTTP client leaves it out for an empty body, which Ceph refuses then.
            let length = call.body.len().to_string();
            request
                .headers_mut()
                .insert("content-length", length.parse().map_err(|_| odd("length"))?);
        }
        let digest = call.sums.map_or_else(Sums::of_nothing, |s| s.sha256);
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, Some(&digest))
            .map_err(|_| odd("signature"))?;
        Ok(request)
    }

    async fn exchange(&self, request: HttpRequest, call: &Call<'_>) -> Result<Answer, Failure> {
        let response = self.http.execute(request).await.map_err(|e| self.failed(&e))?;
        self.reached.store(true, Ordering::Relaxed);
        let date = response.headers().get("date").and_then(|d| d.to_str().ok());
        self.clock.observe(date, Timestamp::now());
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // A refusal is a small document, whatever was asked for.
        let max = if (200..300).contains(&status) { call.answer_max } else { DOCUMENT_LEN_MAX };
        let too_large =
            |size: u64| Failure::Final(StoreError::TooLarge { what: call.what.clone(), size, max });
        let announced: Option<u64> =
            headers.get("content-length").and_then(|v| v.to_str().ok()?.parse().ok());
        if call.method != "HEAD" && announced.is_some_and(|n| n > max) {
            return Err(too_large(announced.unwrap_or_default()));
        }
        let mut body = BytesMut::with_capacity(
            usize::try_from(announced.unwrap_or(0).min(64 << 20)).unwrap_or(0),
        );
        let mut stream = response.into_body().bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| self.failed(&e))?;
            if body.len() as u64 + piece.len() as u64 > max {
                return Err(too_large(body.len() as u64 + piece.len() as u64));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }

    fn failed(&self, error: &object_store::client::HttpError) -> Failure {
        let detail = chain(error);
        // A certificate doesn't get better by waiting.
        if detail.contains("certificate") {
            return Failure::Final(self.unreachable(&detail));
        }
        Failure::Transient(detail)
    }

    /// Names the address too: the vault's URL doesn't show which server was asked.
    fn unreachable(&self, detail: &str) -> StoreError {
        let detail = format!("{}: {detail}", self.endpoint.base());
        StoreError::Unreachable { target: self.target.clone(), detail }
    }
}

/// An error with those beneath it, without saying twice what each repeats of the next.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        beneath = cause.source();
    }
    text
}
