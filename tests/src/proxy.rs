//! A proxy in front of an S3 server that lets a test decide what becomes of each request, and over what line it goes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It reaches the server, and its answer comes back.
    Pass,
    /// It never reaches the server, and nothing ever comes back.
    Lost,
    /// It reaches the server; nothing ever comes back.
    AnswerLost,
    /// The connection is closed at once.
    Refused,
}

/// A line that all connections share, with so much latency and so many bytes a second each way.
#[derive(Debug)]
pub struct Line {
    latency: Duration,
    bytes_s: f64,
    /// When the last byte that was let through will have passed: up, and down.
    busy_until: [Mutex<Option<Instant>>; 2],
}

/// How much of a line's time buffers bridge.
const BUFFERED: Duration = Duration::from_millis(100);

/// A direction of a line.
#[derive(Debug, Clone, Copy)]
enum Way {
    Up = 0,
    Down = 1,
}

impl Line {
    /// A line; `mbit` is in millions of bits a second.
    pub fn new(latency: Duration, mbit: u32) -> Self {
        Self { latency, bytes_s: f64::from(mbit) * 1e6 / 8.0, busy_until: Default::default() }
    }

    /// Waits until so many bytes have passed, after all that others have sent before.
    fn pass(&self, way: Way, bytes: usize) {
        let now = Instant::now();
        let passed = {
            let mut busy =
                self.busy_until[way as usize].lock().unwrap_or_else(PoisonError::into_inner);
            #[expect(clippy::cast_precision_loss, reason = "pieces are short")]
            let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_s);
            // What sockets and switches buffer keeps a line busy while a program waits for its turn on a full CPU.
            let free =
                busy.map_or(now, |until| until.max(now.checked_sub(BUFFERED).unwrap_or(now)));
            *busy.insert(free + takes)
        };
        std::thread::sleep(passed.saturating_duration_since(now));
    }
}

type Judge = dyn Fn(&str) -> Fate + Send + Sync;
type Retouch = dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync;

/// A running proxy; it ends with the test program.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it listens.
    pub endpoint: String,
    count: Arc<Count>,
}

/// Requests by where they are.
#[derive(Debug, Default)]
struct Count {
    held: AtomicUsize,
    /// Between being received and being answered.
    under_way: AtomicUsize,
}

impl Proxy {
    /// A proxy that asks `judge` about the first line of each request, such as `PUT /bucket/main/packs/…`.
    pub fn judging(server: &str, judge: impl Fn(&str) -> Fate + Send + Sync + 'static) -> Self {
        Self::start(server, Arc::new(judge), Arc::new(|answer| answer), None)
    }

    /// A proxy at the far end of a line, and `judge` as with [`judging`](Self::judging).
    pub fn behind(
        server: &str,
        line: Line,
        judge: impl Fn(&str) -> Fate + Send + Sync + 'static,
    ) -> Self {
        Self::start(server, Arc::new(judge), Arc::new(|answer| answer), Some(Arc::new(line)))
    }

    /// A proxy that changes the head of each answer.
    pub fn retouching(
        server: &str,
        retouch: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start(server, Arc::new(|_: &str| Fate::Pass), Arc::new(retouch), None)
    }

    fn start(
        server: &str,
        judge: Arc<Judge>,
        retouch: Arc<Retouch>,
        line: Option<Arc<Line>>,
    ) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let count = Arc::<Count>::default();
        let proxy = Self { endpoint, count: count.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, judge, retouch, count, line) =
                    (server.clone(), judge.clone(), retouch.clone(), count.clone(), line.clone());
                std::thread::spawn(move || {
                    let _ = serve(client, &server, &*judge, &*retouch, &count, line.as_deref());
                });
            }
        });
        proxy
    }

    /// Waits until a request was lost, and those that the proxy had received by then were answered.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub fn wait_until_held(&self) {
        let began = Instant::now();
        while self.count.held.load(Ordering::SeqCst) == 0
            || self.count.under_way.load(Ordering::SeqCst) > 0
        {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no request came that was to be held"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A request that is under way until this is dropped.
struct UnderWay<'c>(&'c AtomicUsize);

impl<'c> UnderWay<'c> {
    fn begin(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One request, one answer, one connection: `Connection: close` keeps both sides to it.
fn serve(
    mut client: TcpStream,
    server: &str,
    judge: &Judge,
    retouch: &Retouch,
    count: &Count,
    line: Option<&Line>,
) -> std::io::Result<()> {
    let pass = |way, count| line.into_iter().for_each(|line| line.pass(way, count));
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
        pass(Way::Up, count);
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
        pass(Way::Up, count);
        received.extend_from_slice(&piece[..count]);
    }
    line.into_iter().for_each(|line| std::thread::sleep(line.latency));
    let under_way = UnderWay::begin(&count.under_way);
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
        count.held.fetch_add(1, Ordering::SeqCst);
        drop(under_way);
        // Until the client gives up.
        while client.read(&mut piece)? > 0 {}
        return Ok(());
    }
    for piece in retouch(answer).chunks(piece.len()) {
        pass(Way::Down, piece.len());
        client.write_all(piece)?;
    }
    Ok(())
}
