//! Tests on archives that are written here byte by byte, in every version of the format. Archives of a real `pg_dump` are
//! read in `tests/`.

use super::*;
use proptest::prelude::*;

const KEY: [u8; 32] = [9; 32];

/// Writes archives like `pg_dump` does.
struct Writer {
    bytes: Vec<u8>,
    minor: u8,
}

impl Writer {
    fn new(minor: u8) -> Self {
        let mut writer = Self { bytes: b"PGDMP\x01".to_vec(), minor };
        writer.bytes.extend([minor, 0, 4, 8, 1]);
        if minor >= 15 {
            writer.bytes.push(0);
        } else {
            writer.int(0);
        }
        for number in [5, 30, 18, 23, 10, 126, 0] {
            writer.int(number);
        }
        writer.text("shop");
        writer.text("15.18");
        writer.text("15.18 (test)");
        writer
    }

    fn int(&mut self, value: i32) {
        self.bytes.push(u8::from(value < 0));
        self.bytes.extend(value.unsigned_abs().to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.int(i32::try_from(text.len()).unwrap());
        self.bytes.extend(text.as_bytes());
    }

    fn entry(&mut self, id: i32, kind: &str, name: &str, definition: &str, data: bool) {
        self.int(id);
        self.int(i32::from(data));
        for text in ["1259", "16400", name, kind] {
            self.text(text);
        }
        self.int(3);
        self.text(definition);
        self.text("DROP …");
        if kind == "TABLE DATA" {
            self.text(&format!("COPY public.{name} (id, \"full name\") FROM stdin;\n"));
        } else {
            self.int(-1);
        }
        self.text("public");
        self.int(-1);
        if self.minor >= 14 {
            self.text("heap");
        }
        if self.minor >= 16 {
            self.int(i32::from(b'r'));
        }
        self.text("alice");
        self.text("false");
        self.text("7");
        self.int(-1);
        self.bytes.push(if data { 1 } else { 3 });
        self.bytes.extend([0; 8]);
    }

    fn rows(&mut self, id: i32, chunks: &[&str]) {
        self.bytes.push(1);
        self.int(id);
        for chunk in chunks {
            self.text(chunk);
        }
        self.int(0);
    }
}

/// Two tables, large objects, and what has no data.
fn sample(minor: u8) -> Vec<u8> {
    let mut writer = Writer::new(minor);
    writer.int(6);
    writer.entry(1, "ENCODING", "ENCODING", "SET client_encoding = 'UTF8';\n", false);
    writer.entry(2, "DATABASE", "shop", "CREATE DATABASE shop;\n", false);
    writer.entry(3, "VIEW", "v", "CREATE VIEW v AS SELECT 1;\n", false);
    writer.entry(4, "TABLE DATA", "a", "", true);
    writer.entry(5, "TABLE DATA", "b", "", true);
    writer.entry(6, "BLOBS", "BLOBS", "", true);
    // One chunk for a row, as up to PostgreSQL 15; then rows across chunks, as later.
    writer.rows(4, &["1\tone\n", "2\ttwo\n", "\\.\n\n\n"]);
    writer.rows(5, &["1\to", "ne\n2\ttwo", "\n2\ttwo\n\\", ".\n\n\n"]);
    writer.bytes.push(3);
    writer.int(6);
    writer.int(77);
    writer.text("con");
    writer.text("tent");
    writer.int(0);
    writer.int(-2);
    writer.int(0);
    writer.int(0);
    writer.bytes
}

fn parse(pieces: &[&[u8]]) -> Result<ArchiveSummary, ArchiveError> {
    let mut parser = Parser::new(&KEY);
    for piece in pieces {
        parser.feed(piece)?;
    }
    parser.finish()
}

fn set(rows: &[&str]) -> RowSet {
    let mut set = RowSet::default();
    for row in rows {
        set.add(blake3::keyed_hash(&KEY, row.as_bytes()).as_bytes());
    }
    set
}

#[test]
fn every_version_is_read() {
    for minor in 12..=16 {
        let bytes = sample(minor);
        let summary = parse(&[&bytes]).unwrap();
        assert_eq!(summary.archive_version, format!("1.{minor}.0"));
        assert_eq!(summary.database, "shop");
        assert_eq!(summary.server_version, "15.18");
        assert_eq!(summary.dump_version, "15.18 (test)");
        assert_eq!(summary.created.as_deref(), Some("2026-11-23T18:30:05"));
        assert_eq!(summary.encoding.as_deref(), Some("UTF8"));
        assert_eq!(summary.create_database.as_deref(), Some("CREATE DATABASE shop;\n"));
        assert_eq!((summary.toc_entries, summary.kinds["TABLE DATA"]), (6, 2));
        assert_eq!(summary.definitions.rows, 2);
        assert_eq!(summary.bytes, bytes.len() as u64);
        let [a, b] = &summary.tables[..] else { panic!("two tables") };
        assert_eq!(
            (a.full_name().as_str(), a.bytes, a.set),
            ("public.a", 12, set(&["2\ttwo", "1\tone"]))
        );
        assert_eq!(
            (b.full_name().as_str(), b.bytes, b.set),
            ("public.b", 18, set(&["2\ttwo", "1\tone", "2\ttwo"]))
        );
        assert_eq!(a.columns, "(id, \"full name\")");
        assert_eq!(a.end, b.start);
        assert_eq!((summary.large_objects.set.rows, summary.large_objects.bytes), (2, 7));
        let content = [&77_u32.to_le_bytes()[..], b"content"].concat();
        let mut objects = RowSet::default();
        objects.add(blake3::keyed_hash(&KEY, &content).as_bytes());
        objects.add(blake3::keyed_hash(&KEY, &0xffff_fffe_u32.to_le_bytes()).as_bytes());
        assert_eq!(summary.large_objects.set, objects);
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<ArchiveSummary>(&json).unwrap(), summary);
    }
}

#[test]
fn cut_anywhere_is_an_error_and_so_is_a_byte_too_many() {
    for minor in [12, 14, 16] {
        let bytes = sample(minor);
        for cut in 0..bytes.len() {
            let error = parse(&[&bytes[..cut]]).unwrap_err();
            assert!(
                matches!(error, ArchiveError::Truncated { .. } | ArchiveError::Missing { .. }),
                "cut at {cut}: {error}"
            );
            assert!(!error.hint().is_empty());
        }
        for byte in [0, 1, 3, b'\n'] {
            let longer = [&bytes[..], &[byte]].concat();
            assert_eq!(
                parse(&[&longer]),
                Err(ArchiveError::Trailing { offset: bytes.len() as u64 })
            );
        }
    }
}

#[test]
fn errors_name_the_table() {
    let mut writer = Writer::new(14);
    writer.int(2);
    writer.entry(4, "TABLE DATA", "a", "", true);
    writer.entry(5, "TABLE DATA", "Odd \"name\"", "", true);
    let head = writer.bytes.clone();
    let with = |chunks: &[&str], id: i32| {
        let mut writer = Writer { bytes: head.clone(), minor: 14 };
        writer.rows(id, chunks);
        parse(&[&writer.bytes]).unwrap_err().to_string()
    };
    assert!(
        with(&["1\n", "\\.\n"], 4)
            .contains("without the data of table public.\"Odd \"\"name\"\"\" (1 missing in all)")
    );
    assert!(with(&["1\n"], 4).contains("table public.a"), "{}", with(&["1\n"], 4));
    assert!(with(&["\\.\n", "2\n"], 4).contains("after the end of the rows"));
    assert!(with(&["\\.\n"], 9).contains("don't list its id 9"));
    let mut twice = Writer { bytes: head.clone(), minor: 14 };
    twice.rows(4, &["\\.\n"]);
    twice.rows(4, &["\\.\n"]);
    assert!(parse(&[&twice.bytes]).unwrap_err().to_string().contains("a second time"));
}

#[test]
fn what_cannot_be_vouched_for_is_refused() {
    let mut compressed = sample(14);
    compressed[12] = 6;
    assert_eq!(parse(&[&compressed]), Err(ArchiveError::Compressed));
    let mut compressed = sample(16);
    compressed[11] = 1;
    assert_eq!(parse(&[&compressed]), Err(ArchiveError::Compressed));
    let mut version = sample(14);
    version[6] = 17;
    assert_eq!(parse(&[&version]), Err(ArchiveError::Version { major: 1, minor: 17 }));
    assert_eq!(parse(&[b"--\n-- PostgreSQL database dump\n--\n"]), Err(ArchiveError::NotAnArchive));
    let mut parser = Parser::new(&KEY);
    assert_eq!(parser.feed(b"no archive, surely"), Err(ArchiveError::NotAnArchive));
    assert_eq!(parser.feed(&sample(14)), Err(ArchiveError::AfterError));
    assert_eq!(parser.finish(), Err(ArchiveError::AfterError));
}

#[test]
fn impossible_lengths_take_no_memory() {
    // A name of nearly 2 GiB, a table of contents of 2 billion entries: refused, or simply not there.
    let mut writer = Writer::new(14);
    writer.int(i32::MAX);
    let head = writer.bytes.clone();
    assert!(matches!(parse(&[&head]), Err(ArchiveError::Truncated { .. })));
    writer.int(4);
    writer.int(0);
    for text in ["1", "2"] {
        writer.text(text);
    }
    writer.int(i32::MAX);
    assert!(matches!(parse(&[&writer.bytes]), Err(ArchiveError::Toc { entry: 0, .. })));
}

/// Keeps all it is told except whether a row's bytes came along, which depends on the feeds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log(Vec<String>);

impl Observer for Log {
    fn toc_entry(&mut self, entry: &TocEntry) {
        self.0.push(format!("entry {} {}", entry.kind, entry.name));
    }
    fn table_start(&mut self, table: &TableDigest) {
        self.0.push(format!("start {}", table.full_name()));
    }
    fn row(&mut self, row: &Row<'_>) {
        if let Some(bytes) = row.bytes {
            assert_eq!(row.end - row.start, bytes.len() as u64 + 1);
            assert_eq!(blake3::keyed_hash(&KEY, bytes).as_bytes(), row.hash);
        }
        self.0.push(format!(
            "row {} {}..{} {}",
            row.number,
            row.start,
            row.end,
            hex::encode(row.hash)
        ));
    }
    fn table_end(&mut self, table: &TableDigest) {
        self.0.push(format!("end {} {}", table.full_name(), table.set.rows));
    }
}

proptest! {
    #[test]
    fn feeds_do_not_matter(minor in 12_u8..=16, cuts: Vec<prop::sample::Index>) {
        let bytes = sample(minor);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut whole = (Parser::new(&KEY), Log::default());
        whole.0.feed_with(&bytes, &mut whole.1).unwrap();
        let mut pieces = (Parser::new(&KEY), Log::default());
        for pair in cuts.windows(2) {
            pieces.0.feed_with(&bytes[pair[0]..pair[1]], &mut pieces.1).unwrap();
            prop_assert_eq!(pieces.0.offset(), pair[1] as u64);
        }
        prop_assert_eq!(pieces.1, whole.1);
        prop_assert_eq!(pieces.0.finish().unwrap(), whole.0.finish().unwrap());
    }

    #[test]
    fn damage_never_panics(minor in 12_u8..=16, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = sample(minor);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = parse(&[&bytes]);
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(parse(&single), whole);
    }

    #[test]
    fn noise_never_panics(mut bytes: Vec<u8>, minor in 12_u8..=16) {
        prop_assert!(parse(&[&bytes]).is_err());
        bytes.splice(..0, Writer::new(minor).bytes);
        let _ = parse(&[&bytes]);
    }
}
