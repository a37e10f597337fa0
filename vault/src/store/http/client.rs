//! The one way by which every request goes out: signed afresh at each attempt, timed, tried again where that can
//! help, and its answer's date noted.
//!
//! `object_store` supplies the credentials, the signature and the HTTP client. Its own object calls are not used:
//! they know no lock headers, and re-signing their requests from below would leave their timeouts, their retries
//! (which send the first signature again) and their reading of conflicts in the way.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use jiff::Timestamp;
use object_store::client::{
    HttpClient, HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::{Certificate, ClientOptions, PutPayload};

use super::call::{Answer, Call, DOCUMENT_LEN_MAX, FIRST_CONTACT};
use super::clock::Clock;
use crate::store::StoreError;
use crate::store::buffers::Buffers;
use crate::store::calls::{CallCounter, CallKind};
use crate::store::target::TargetOptions;

/// Longest answer that room is made for because a server announces it.
const ANNOUNCED_MAX: u64 = 64 << 20;

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What went wrong in one attempt.
enum Failure {
    /// Another attempt may help.
    Transient(String),
    /// None will.
    Final(StoreError),
}

/// What an answer means for the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Judgement {
    /// It stands, whatever it says.
    Stands,
    /// It may pass away with time; the server's words.
    Passing(String),
    /// The server found this host's clock too wrong.
    Skewed,
    /// It stands, unless this host's clock turns out to be wrong.
    PerhapsSkewed,
}

/// What a service has for itself: its addresses, its signatures, and the meaning of its refusals.
#[async_trait]
pub(in crate::store) trait Service: fmt::Debug + Send + Sync {
    /// The address that requests go to, for messages.
    fn base(&self) -> &str;

    /// Makes the HTTP request and signs it: anew for each attempt, for a signature ages, and so may the key.
    async fn sign(&self, call: &Call<'_>, target: &str) -> Result<HttpRequest, StoreError>;

    /// What a provider charges a request as.
    fn kind(&self, call: &Call<'_>) -> CallKind;

    /// What an answer means that isn't a success.
    fn judge(&self, answer: &Answer) -> Judgement;
}

/// Makes the unsigned HTTP request of a call.
///
/// # Errors
/// [`StoreError::Other`] for what can't be written in HTTP.
pub(in crate::store) fn request(
    call: &Call<'_>,
    url: &str,
    target: &str,
) -> Result<HttpRequest, StoreError> {
    let odd = |what: &str| unwritable(call, what, target);
    let body: HttpRequestBody = match call.around.clone() {
        None => call.body.clone().into(),
        Some((before, after)) => PutPayload::from_iter([before, call.body.clone(), after]).into(),
    };
    let length = body.content_length();
    let mut request = HttpRequest::new(body);
    *request.method_mut() = call.method.parse().map_err(|_| odd("method"))?;
    *request.uri_mut() = url.parse().map_err(|_| odd("address"))?;
    for (name, value) in &call.headers {
        request.headers_mut().insert(*name, value.parse().map_err(|_| odd(name))?);
    }
    if matches!(call.method, "PUT" | "POST" | "PATCH") {
        // The HTTP client leaves it out for an empty body, which some servers refuse then.
        request.headers_mut().insert("content-length", length.into());
    }
    Ok(request)
}

/// The error for a request a part of which can't be written.
pub(in crate::store) fn unwritable(call: &Call<'_>, what: &str, target: &str) -> StoreError {
    StoreError::Other {
        target: target.to_owned(),
        action: call.action.clone(),
        detail: format!("the request's {what} can't be written"),
    }
}

/// The client of one vault's bucket or container.
#[derive(Debug)]
pub(in crate::store) struct Client<S> {
    http: HttpClient,
    pub(in crate::store) service: S,
    pub(in crate::store) clock: Clock,
    pub(in crate::store) calls: CallCounter,
    buffers: Buffers,
    reached: AtomicBool,
    connect_timeout: Duration,
    retry_for: Duration,
    /// The target's URL, for messages.
    pub(in crate::store) target: String,
}

impl<S: Service> Client<S> {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a certificate file that can't be used.
    pub(in crate::store) fn new(
        service: S,
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
            service,
            clock: Clock::new(),
            calls: CallCounter::default(),
            buffers: Buffers::default(),
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
    pub(in crate::store) async fn send(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
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
        let request = self.service.sign(call, &self.target).await.map_err(Failure::Final)?;
        self.calls.add(self.service.kind(call));
        let timeout = call.timeout(self.reached.load(Ordering::Relaxed), self.connect_timeout);
        let answer =
            tokio::time::timeout(timeout, self.exchange(request, call)).await.unwrap_or_else(
                |_| Err(Failure::Transient(format!("no answer within {} s", timeout.as_secs()))),
            )?;
        if answer.is_success() {
            return Ok(answer);
        }
        match self.service.judge(&answer) {
            Judgement::Stands => Ok(answer),
            Judgement::Passing(words) => Err(Failure::Transient(words)),
            Judgement::Skewed => Err(Failure::Final(self.clock.skew(&self.target))),
            Judgement::PerhapsSkewed => match self.clock.check(&self.target) {
                Err(e @ StoreError::ClockSkew { .. }) => Err(Failure::Final(e)),
                _ => Ok(answer),
            },
        }
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
        let expected = announced.filter(|n| *n <= ANNOUNCED_MAX && call.method != "HEAD");
        let mut body = self.buffers.gather(expected.unwrap_or(0));
        let mut stream = response.into_body().bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| self.failed(&e))?;
            let size = (body.len() + piece.len()) as u64;
            if size > max {
                return Err(too_large(size));
            }
            body.add(&piece);
        }
        Ok(Answer { status, headers, body: body.finish() })
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
        let detail = format!("{}: {detail}", self.service.base());
        StoreError::Unreachable { target: self.target.clone(), detail }
    }
}

/// An error with those beneath it, without saying twice what each repeats of the next.
pub(in crate::store) fn chain(error: &dyn Error) -> String {
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
