//! For benchmarks: an S3 server at the end of a line with a certain latency and bandwidth. Prints where it listens, and serves
//! until its input ends.
//!
//! usage: `s3line SERVER|sink LATENCY_MS MBIT [LOG [PACKS [ROOM]]]`
//!
//! SERVER is the address of a real server; `sink` is one of its own that keeps everything in memory and costs nothing.
//! LATENCY_MS is added to each request; MBIT (0: none) bounds each way, for all connections together. Each request's first
//! line is added to the file LOG, unless that is `-`. The sink also lists so many PACKS that it doesn't have, below `main/`,
//! and touches ROOM MiB of memory for what it will be sent before it prints where it listens.

#![allow(clippy::expect_used, reason = "a benchmark that can't go on must fail")]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keephold_tests::proxy::{Fate, Line, Proxy};
use keephold_tests::sink;

#[expect(clippy::print_stdout, reason = "who started it waits for the address")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words = arguments.iter().map(String::as_str);
    let (server, latency_ms, mbit) = (words.next(), words.next(), words.next());
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let (Some(server), Some(latency_ms), Some(mbit)) = (server, number(latency_ms), number(mbit))
    else {
        return println!("usage: s3line SERVER|sink LATENCY_MS MBIT [LOG [PACKS [ROOM]]]");
    };
    let log = words.next().filter(|log| *log != "-").map(|log| {
        Mutex::new(
            OpenOptions::new().create(true).append(true).open(log).expect("the log can be written"),
        )
    });
    let packs = number(words.next()).unwrap_or(0);
    let room = number(words.next()).unwrap_or(0) as usize * 1024 * 1024;
    let server = match server {
        "sink" => sink::serve("main/", packs.into(), room),
        server => server.to_owned(),
    };
    if (latency_ms, mbit) == (0, 0) && log.is_none() {
        println!("{server}");
    } else {
        let mbit = if mbit == 0 { u32::MAX } else { mbit };
        let line = Line::new(Duration::from_millis(latency_ms.into()), mbit);
        let proxy = Proxy::behind(&server, line, move |request| {
            if let Some(log) = &log {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(log, "{request}").expect("the log can be written");
            }
            Fate::Pass
        });
        println!("{}", proxy.endpoint);
    }
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}
