//! Tests of reading.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};

use super::*;
use crate::FileOpener;
use crate::testing::walked;

fn folder_with(bytes: &[u8]) -> (tempfile::TempDir, Base, Walked) {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), bytes).unwrap();
    let base = Base::open(temp.path()).unwrap();
    let walked = walked(temp.path()).remove(0);
    (temp, base, walked)
}

fn pieces(reader: &mut FileReader) -> Vec<Piece> {
    let mut buffer = vec![0; 1 << 20];
    let mut all = Vec::new();
    loop {
        match reader.next(&mut buffer).unwrap() {
            Piece::End => return all,
            piece => all.push(piece),
        }
    }
}

#[test]
fn a_small_file_is_appended_whole_to_the_buffer() {
    let (_temp, base, walked) = folder_with(b"hello");
    let mut buffer = b"before ".to_vec();
    let mut opener = FileOpener::new(base);
    let small = read_small(&mut opener, &walked, 100, &mut buffer).unwrap().unwrap();
    assert_eq!(buffer, b"before hello");
    assert_eq!(small.changed, None);
    assert!(read_small(&mut opener, &walked, 4, &mut buffer).unwrap().is_none());
    assert_eq!(buffer, b"before hello");
}

#[test]
fn holes_are_found_wherever_they_lie() {
    let (temp, base, _) = folder_with(b"");
    let file = File::create(temp.path().join("file")).unwrap();
    file.set_len(4 << 20).unwrap();
    let hole = |from: u64, to: u64| Piece::Hole(to - from);
    assert_eq!(
        pieces(&mut FileReader::open(&base, &walked(temp.path())[0]).unwrap()),
        [hole(0, 4 << 20)]
    );
    file.write_all_at(&[1; 65536], 1 << 20).unwrap();
    assert_eq!(
        pieces(&mut FileReader::open(&base, &walked(temp.path())[0]).unwrap()),
        [hole(0, 1 << 20), Piece::Data(65536), hole((1 << 20) + 65536, 4 << 20)],
        "this file system shows no holes"
    );
    file.write_all_at(&[1; 65536], 0).unwrap();
    file.write_all_at(&[1; 65536], (4 << 20) - 65536).unwrap();
    assert_eq!(
        pieces(&mut FileReader::open(&base, &walked(temp.path())[0]).unwrap()),
        [
            Piece::Data(65536),
            hole(65536, 1 << 20),
            Piece::Data(65536),
            hole((1 << 20) + 65536, (4 << 20) - 65536),
            Piece::Data(65536)
        ]
    );
}

#[test]
fn a_file_that_grows_is_read_to_its_first_size_and_flagged() {
    let (temp, base, walked) = folder_with(&[7; 100_000]);
    let mut reader = FileReader::open(&base, &walked).unwrap();
    let path = temp.path().join("file");
    std::thread::spawn(move || {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(pieces(&mut reader), [Piece::Data(100_000)]);
    let changed = reader.finish().unwrap().unwrap();
    assert_eq!((changed.read, changed.after.size), (100_000, 100_004));
}

#[test]
fn a_file_that_is_cut_short_gives_no_made_up_zeros() {
    let (temp, base, _) = folder_with(b"");
    let file = File::create(temp.path().join("file")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    let mut reader = FileReader::open(&base, &walked(temp.path())[0]).unwrap();
    file.set_len(8192).unwrap();
    assert_eq!(pieces(&mut reader), [Piece::Data(4096), Piece::Hole(4096)]);
    assert_eq!(reader.finish().unwrap().unwrap().read, 8192);

    let (temp, base, walked) = folder_with(&[1; 10_000]);
    let mut reader = FileReader::open(&base, &walked).unwrap();
    OpenOptions::new().write(true).open(temp.path().join("file")).unwrap().set_len(10).unwrap();
    assert_eq!(pieces(&mut reader), [Piece::Data(10)]);
    assert_eq!(reader.finish().unwrap().unwrap().read, 10);
}

/// A writer that never rests: every read either is whole or says that it isn't.
#[test]
fn appending_all_the_while_never_goes_unnoticed() {
    let (temp, base, _) = folder_with(b"start");
    let mut opener = FileOpener::new(base);
    let path = temp.path().join("file");
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        for _ in 0..3000 {
            file.write_all(&[9; 64]).unwrap();
        }
    });
    while !writer.is_finished() {
        let walked = walked(temp.path()).remove(0);
        let mut buffer = Vec::new();
        let small = read_small(&mut opener, &walked, 1 << 20, &mut buffer).unwrap().unwrap();
        assert_eq!(buffer.len() as u64, small.stat.size);
        if let Some(changed) = small.changed {
            assert_eq!(changed.before, small.stat);
        }
    }
    writer.join().unwrap();
}

#[test]
fn what_was_replaced_or_removed_has_vanished() {
    let (temp, base, walked) = folder_with(b"x");
    let path = temp.path().join("file");
    let vanished = |base: &Base| {
        assert!(matches!(FileReader::open(base, &walked), Err(ReadError::Vanished { .. })));
        assert!(matches!(
            read_small(&mut FileOpener::new(base.clone()), &walked, 10, &mut Vec::new()),
            Err(ReadError::Vanished { .. })
        ));
    };
    fs::rename(&path, temp.path().join("old")).unwrap();
    vanished(&base);
    symlink("old", &path).unwrap();
    vanished(&base);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"another").unwrap();
    vanished(&base);
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    vanished(&base);
}
