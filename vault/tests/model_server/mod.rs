//! A loopback server for models of services: reads each request whole, keeps it, so that its line and headers can be held
//! against a fixed text, and sends what the model answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

/// A request, with its path as it came and its query decoded.
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The query as it came.
    raw_query: String,
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// The running server. It goes on until the test program ends.
#[derive(Clone)]
pub struct Server {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// How far its clock is ahead.
    offset: SignedDuration,
}

pub fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

impl Request {
    pub fn asked(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The part of `data` that the request's range asks for, with its status; `None` where there is none of it.
    pub fn ranged(&self, data: &[u8]) -> Option<(u16, Vec<u8>)> {
        let Some(range) = self.headers.get("range") else { return Some((200, data.to_vec())) };
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        (from < data.len()).then(|| (206, data[from..(to + 1).min(data.len())].to_vec()))
    }

    /// Its line and headers, without what differs from one run to the next, and a body that is text.
    fn shown(&self) -> String {
        let mut text = format!("{} {}", self.method, self.path);
        if !self.raw_query.is_empty() {
            write!(text, "?{}", self.raw_query).unwrap();
        }
        text.push('\n');
        for (name, value) in &self.headers {
            let value = match name.as_str() {
                "host" | "accept" | "user-agent" => continue,
                "authorization" => match value.split_once(':') {
                    Some((begin, _)) => format!("{begin}:…"),
                    None => format!("{} …", value.split(' ').next().unwrap()),
                },
                "date" => "(now)".into(),
                _ => value.clone(),
            };
            writeln!(text, "  {name}: {value}").unwrap();
        }
        let kind = self.headers.get("content-type").map_or("", String::as_str);
        if kind.contains("json") || kind.starts_with("multipart/") {
            for line in String::from_utf8_lossy(&self.body).lines() {
                writeln!(text, "  | {line}").unwrap();
            }
        }
        text
    }

    fn read(client: &mut TcpStream) -> std::io::Result<Option<Self>> {
        let mut received = Vec::new();
        let mut piece = vec![0; 1 << 16];
        let mut more = |received: &mut Vec<u8>| {
            let count = client.read(&mut piece)?;
            received.extend_from_slice(&piece[..count]);
            Ok::<_, std::io::Error>(count > 0)
        };
        let end = loop {
            if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if !more(&mut received)? {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ');
        let method = first.next().unwrap().to_owned();
        let url = url::Url::parse(&format!("http://h{}", first.next().unwrap())).unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
        while received.len() < end + length {
            if !more(&mut received)? {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            method,
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers,
            body: received[end..].to_vec(),
            raw_query: url.query().unwrap_or_default().to_owned(),
        }))
    }
}

impl Server {
    pub fn start(
        offset: SignedDuration,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { endpoint, requests: Arc::default(), offset };
        let (served, answer) = (server.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, answer) = (served.clone(), Arc::clone(&answer));
                // Whoever asks may go away at any time.
                std::thread::spawn(move || server.serve(client, answer.as_ref()).ok());
            }
        });
        server
    }

    /// The requests since the last call, in order.
    pub fn requests(&self) -> String {
        std::mem::take(&mut *self.requests.lock().unwrap()).join("\n")
    }

    fn serve(
        &self,
        mut client: TcpStream,
        answer: &(impl Fn(&Request) -> Reply + ?Sized),
    ) -> std::io::Result<()> {
        let Some(request) = Request::read(&mut client)? else { return Ok(()) };
        self.requests.lock().unwrap().push(request.shown());
        let reply = answer(&request);
        let now = Timestamp::now() + self.offset;
        let mut head = format!("HTTP/1.1 {} X\r\nDate: {}\r\n", reply.status, http_date(now));
        for (name, value) in &reply.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "Content-Length: {}\r\nConnection: close\r\n\r\n", reply.body.len()).unwrap();
        client.write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            client.write_all(&reply.body)?;
        }
        client.shutdown(std::net::Shutdown::Write)
    }
}
