//! Where each blob of a run's contents lies: what the agent's list of unchanged files is made of.
//!
//! Blobs are told in the order in which contents consist of them. Where the vault holds one, its place is told with it;
//! where this run stores it, once its segment is stored. In between it waits in memory: of the blobs that were told last,
//! a bounded number, in a few bytes each. The rest is in a file, which lives as long as the run; what becomes of it
//! is never a wrong place: each block carries a hash.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::write::known::PackHandle;

/// How many blobs wait for their places in memory at most: twice what a segment describes, 16 bytes each.
const WAITING_MAX: usize = 1 << 19;
/// Of how many blobs the place is kept in memory that was found after they had to leave it. Those of more than that stay
/// unknown: whoever uses the list reads their files again.
const LATE_MAX: usize = 1 << 18;
/// Blobs in a block of the file.
const BLOCK: usize = 4096;
/// Bytes of a blob in the file: the segment's number, the pack's, the blob's length (u32 LE each).
const TOLD: usize = 12;
/// In place of a segment's number: the place isn't known yet. Instead of the pack's number stands how many blobs ago
/// the same one was told, or 0.
const COMING: u32 = u32::MAX;

/// A blob by how many were told up to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldNo(NonZeroU64);

#[derive(Debug, Clone, Copy)]
enum Place {
    At(PackHandle),
    /// Of a blob that this run stores.
    Coming,
    /// Where the blob lies that was told so many blobs ago.
    AsBefore(u32),
}

impl ToldNo {
    /// How many were told before it.
    fn before(self) -> u64 {
        self.0.get() - 1
    }
}

/// Notes where blobs lie.
#[derive(Debug)]
pub(super) struct PlaceNotes {
    path: PathBuf,
    file: File,
    /// Those that are not in the file yet.
    waiting: VecDeque<(Place, u32)>,
    waiting_max: usize,
    /// The number of the first of them.
    first: u64,
    block: Vec<u8>,
    /// Places of blobs that are in the file without.
    late: HashMap<u64, PackHandle>,
}

impl PlaceNotes {
    /// Begins a file of them, in the place of what an earlier run left there.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        Ok(Self {
            path: path.into(),
            file: file.map_err(failed(path))?,
            waiting: VecDeque::new(),
            waiting_max: WAITING_MAX,
            first: 0,
            block: Vec::new(),
            late: HashMap::new(),
        })
    }

    /// How many were told.
    pub(super) fn told(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    /// Tells of a blob that the vault holds.
    pub(super) fn held(&mut self, pack: PackHandle, length: u32) -> Result<(), Error> {
        self.tell(Place::At(pack), length)
    }

    /// Tells of a blob that is to be stored; answers the number by which its place is [told](Self::found) later.
    pub(super) fn coming(&mut self, length: u32) -> Result<ToldNo, Error> {
        let number = ToldNo(NonZeroU64::MIN.saturating_add(self.told()));
        self.tell(Place::Coming, length).map(|()| number)
    }

    /// Tells of a blob that is on its way since it was told as this number.
    pub(super) fn again(&mut self, number: ToldNo, length: u32) -> Result<(), Error> {
        let back = self.told().checked_sub(number.before());
        let back = back.and_then(|back| u32::try_from(back).ok());
        self.tell(back.map_or(Place::Coming, Place::AsBefore), length)
    }

    fn tell(&mut self, place: Place, length: u32) -> Result<(), Error> {
        self.waiting.push_back((place, length));
        if self.waiting.len() < self.waiting_max {
            return Ok(());
        }
        self.settle()?;
        // Something has been on its way for long: it alone is found late.
        let half = self.waiting_max / 2;
        if self.waiting.len() > half {
            self.write(self.waiting.len() - half)?;
        }
        Ok(())
    }

    /// Tells where the blob with this number lies. [`settle`](Self::settle) is due after some of these.
    pub(super) fn found(&mut self, number: ToldNo, pack: PackHandle) {
        let number = number.before();
        if let Some(told) = self.at(number).and_then(|at| self.waiting.get_mut(at)) {
            told.0 = Place::At(pack);
        } else if self.late.len() < LATE_MAX && number < self.first {
            self.late.insert(number, pack);
        }
    }

    /// Where one is among those that wait.
    fn at(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// Writes all up to the first whose place isn't known.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        for at in 0..self.waiting.len() {
            let Place::AsBefore(back) = self.waiting[at].0 else { continue };
            let number = (self.first + at as u64).saturating_sub(back.into());
            let place = match self.at(number) {
                Some(before) => self.waiting[before].0,
                None => self.late.get(&number).map_or(Place::Coming, |pack| Place::At(*pack)),
            };
            if let Place::At(_) = place {
                self.waiting[at].0 = place;
            }
        }
        let ready = self.waiting.iter().take_while(|(place, _)| matches!(place, Place::At(_)));
        let ready = ready.count();
        self.write(ready)
    }

    /// Writes the first of those that wait, whether their places are known or not.
    fn write(&mut self, count: usize) -> Result<(), Error> {
        for (place, length) in self.waiting.drain(..count) {
            let (segment, pack) = match place {
                Place::At(pack) => pack.numbers(),
                Place::Coming => (COMING, 0),
                Place::AsBefore(back) => (COMING, back),
            };
            for number in [segment, pack, length] {
                self.block.extend_from_slice(&number.to_le_bytes());
            }
            if self.block.len() == BLOCK * TOLD {
                write_block(&mut self.file, &mut self.block).map_err(failed(&self.path))?;
            }
        }
        self.first += count as u64;
        Ok(())
    }

    /// Ends the file, and begins to read it.
    pub(super) fn finish(mut self) -> Result<Places, Error> {
        self.settle()?;
        self.write(self.waiting.len())?;
        if !self.block.is_empty() {
            write_block(&mut self.file, &mut self.block).map_err(failed(&self.path))?;
        }
        let Self { path, mut file, first, late, .. } = self;
        std::io::Seek::rewind(&mut file).map_err(failed(&path))?;
        let file = BufReader::with_capacity(1 << 16, file);
        Ok(Places { path, file, block: Vec::new(), late, next: 0, end: first })
    }
}

/// Where each blob of a run's contents lies, in the order in which contents consist of them: see
/// [`Writer::note_places`](super::Writer::note_places).
#[derive(Debug)]
pub struct Places {
    path: PathBuf,
    file: BufReader<File>,
    block: Vec<u8>,
    late: HashMap<u64, PackHandle>,
    next: u64,
    end: u64,
}

impl Places {
    /// The pack that the next blob lies in, if that is known, and the blob's length in bytes.
    ///
    /// # Errors
    /// [`Error`] after the last one, and if the file can't be read or is damaged.
    pub fn next_place(&mut self) -> Result<(Option<PackHandle>, u32), Error> {
        let at = usize::try_from(self.next % BLOCK as u64).unwrap_or(0);
        if at == 0 {
            self.read_block()?;
        }
        let told = self.block.get(at * TOLD..).and_then(|rest| rest.first_chunk::<TOLD>());
        let told = told.ok_or_else(|| Error::damaged(self.name(), "it ends before its time"))?;
        let [segment, pack, length] = numbers(told);
        let number = self.next;
        self.next += 1;
        let place = match (segment, u64::from(pack)) {
            (COMING, back) => self.late.get(&number.saturating_sub(back)).copied(),
            _ => Some(PackHandle::of(segment, pack)),
        };
        Ok((place, length))
    }

    fn read_block(&mut self) -> Result<(), Error> {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX).min(BLOCK);
        let mut hash = [0; blake3::OUT_LEN];
        self.block.resize(left * TOLD, 0);
        let read =
            self.file.read_exact(&mut hash).and_then(|()| self.file.read_exact(&mut self.block));
        read.map_err(failed(&self.path))?;
        if blake3::hash(&self.block) != hash {
            return Err(Error::damaged(self.name(), "a block isn't what was written"));
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn numbers(told: &[u8; TOLD]) -> [u32; 3] {
    let (all, _) = told.as_chunks::<4>();
    [0, 1, 2].map(|n| u32::from_le_bytes(all[n]))
}

fn write_block(file: &mut File, block: &mut Vec<u8>) -> std::io::Result<()> {
    file.write_all(blake3::hash(block).as_bytes())?;
    file.write_all(block)?;
    block.clear();
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::local(format!("noting in {} where blobs lie", path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to the notes.
    #[derive(Debug, Clone)]
    enum Step {
        Held(u32),
        Coming,
        /// One of those on their way is told again.
        Again(prop::sample::Index),
        /// Some of those on their way are found.
        Found(Vec<prop::sample::Index>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => any::<u16>().prop_map(|pack| Step::Held(pack.into())),
            3 => Just(Step::Coming),
            2 => any::<prop::sample::Index>().prop_map(Step::Again),
            1 => prop::collection::vec(any::<prop::sample::Index>(), 1..9).prop_map(Step::Found),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        /// However few may wait in memory: where a place is told in time, it is the right one, and no other is made up.
        #[test]
        fn places_come_back_in_order(steps in steps(), waiting_max in 1usize..40) {
            let dir = tempfile::tempdir().unwrap();
            let mut notes = PlaceNotes::create(&dir.path().join("places")).unwrap();
            notes.waiting_max = waiting_max;
            let mut expected: Vec<Option<PackHandle>> = Vec::new();
            // Of each blob on its way all places that it was told at, by its number.
            let mut on_way: Vec<(ToldNo, Vec<usize>)> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                let length = u32::try_from(expected.len()).unwrap();
                match step {
                    Step::Held(pack) => {
                        notes.held(PackHandle::of(1, pack), length).unwrap();
                        expected.push(Some(PackHandle::of(1, pack)));
                    }
                    Step::Coming => {
                        on_way.push((notes.coming(length).unwrap(), vec![expected.len()]));
                        expected.push(None);
                    }
                    Step::Again(which) if !on_way.is_empty() => {
                        let which = which.index(on_way.len());
                        let (number, told) = &mut on_way[which];
                        notes.again(*number, length).unwrap();
                        told.push(expected.len());
                        expected.push(None);
                    }
                    Step::Found(which) => {
                        for which in which {
                            if !on_way.is_empty() {
                                let (number, told) = on_way.swap_remove(which.index(on_way.len()));
                                let pack = PackHandle::of(2, u32::try_from(n).unwrap());
                                notes.found(number, pack);
                                told.into_iter().for_each(|at| expected[at] = Some(pack));
                            }
                        }
                        notes.settle().unwrap();
                    }
                    Step::Again(_) => {}
                }
            }
            prop_assert_eq!(notes.told(), expected.len() as u64);
            let mut places = notes.finish().unwrap();
            for (at, place) in expected.into_iter().enumerate() {
                prop_assert_eq!(places.next_place().unwrap(), (place, u32::try_from(at).unwrap()));
            }
            prop_assert!(places.next_place().is_err());
        }
    }

    #[test]
    fn a_damaged_file_is_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("places");
        let told = 2 * BLOCK + 5;
        let write = || {
            let mut notes = PlaceNotes::create(&path).unwrap();
            (0..told).for_each(|n| notes.held(PackHandle::of(0, 1), n as u32).unwrap());
            notes.finish().unwrap()
        };
        let read = |mut places: Places| (0..told).try_for_each(|_| places.next_place().map(drop));
        assert!(read(write()).is_ok());
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 40, BLOCK * TOLD + 31, BLOCK * TOLD + 32, whole.len() - 1] {
            let places = write();
            let mut bad = whole.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(places).is_err(), "byte {at}");
        }
        let places = write();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read(places).is_err());
    }
}
