//! A proxy in front of an S3 server that lets a test decide what becomes of each request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It reaches the server, and its answer comes back.
    Pass,
    /// It never reaches the server, and nothing ever comes back.
    Lost,
    /// It reaches the server; nothing ever comes back.
    AnswerLost,
    /// The connection is closed at once.
    Refused,
}

type Judge = dyn Fn(&str) -> Fate + Send + Sync;
type Retouch = dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync;

/// A running proxy; it ends with the test program.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    held: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy that asks `judge` about the first line of each request, such as `PUT /bucket/main/packs/…`.
    pub(crate) fn judging(
        server: &str,
        judge: impl Fn(&str) -> Fate + Send + Sync + 'static,
    ) -> Self {
        Self::start(server, Arc::new(judge), Arc::new(|answer| answer))
    }

    /// A proxy that changes the head of each answer.
    pub(crate) fn retouching(
        server: &str,
        retouch: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start(server, Arc::new(|_: &str| Fate::Pass), Arc::new(retouch))
    }

    fn start(server: &str, judge: Arc<Judge>, retouch: Arc<Retouch>) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let held = Arc::new(AtomicUsize::new(0));
        let proxy = Self { endpoint, held: held.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, judge, retouch, held) =
                    (server.clone(), judge.clone(), retouch.clone(), held.clone());
                std::thread::spawn(move || {
                    let _ = serve(client, &server, &*judge, &*retouch, &held);
                });
            }
        });
        proxy
    }

    /// Waits until a request was lost.
    pub(crate) fn wait_until_held(&self) {
        let began = Instant::now();
        while self.held.load(Ordering::SeqCst) == 0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no request came that was to be held"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One request, one answer, one connection: `Connection: close` keeps both sides to it.
fn serve(
    mut client: TcpStream,
    server: &str,
    judge: &Judge,
    retouch: &Retouch,
    held: &AtomicUsize,
) -> std::io::Result<()> {
    let mut received = Vec::new();
    let mut piece = vec![0; 65536];
    let end = loop {
        if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let count = client.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&piece[..count]);
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    while received.len() < end + length {
        let count = client.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&piece[..count]);
    }
    let fate = judge(head.lines().next().unwrap_or_default());
    if fate == Fate::Refused {
        return Ok(());
    }
    let mut answer = Vec::new();
    if fate != Fate::Lost {
        let mut upstream = TcpStream::connect(server)?;
        upstream.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
        upstream.write_all(&received[end..])?;
        upstream.read_to_end(&mut answer)?;
    }
    if fate != Fate::Pass {
        held.fetch_add(1, Ordering::SeqCst);
        // Until the client gives up.
        while client.read(&mut piece)? > 0 {}
        return Ok(());
    }
    client.write_all(&retouch(answer))
}
