//! Small files, read and named ahead: many one after another in one buffer, which is a frame as it is where the vault
//! knows none of them, and all are expected to be needed for as long. So the bytes of a first backup are never copied between being read and being compressed.

use crate::content::{Content, Extent, Extents};
use crate::error::Error;
use crate::ids::BlobId;
use crate::keys::BlobNamer;
use crate::limits::FRAME_RAW_MAX;
use crate::pack::BlobKind;
use crate::write::content::length_of;
use crate::write::group::Group;
use crate::write::life::Life;
use crate::write::pipeline::{Draft, FRAME_BLOBS, Writer};

/// Small files that are being read, one after another in the snapshot, each one blob.
#[derive(Debug, Default)]
pub struct SmallReads {
    /// All their bytes, in order.
    bytes: Vec<u8>,
    files: Vec<(u32, Life)>,
    /// How many of `bytes` belong to a file that was read whole.
    ended: usize,
}

/// Small files, named.
#[derive(Debug, Default)]
pub struct SmallFiles {
    /// All their bytes, in order.
    bytes: Vec<u8>,
    files: Vec<SmallFile>,
}

#[derive(Debug)]
struct SmallFile {
    id: BlobId,
    length: u32,
    life: Life,
    /// Whether the vault needs its bytes. Only a [`Writer`] can say.
    new: bool,
}

/// One of several [`SmallFiles`], by its number.
#[derive(Debug, Clone, Copy)]
pub struct SmallFileNo(usize);

impl SmallReads {
    /// Will put files into `buffer`, of which only the room is used.
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer, files: Vec::new(), ended: 0 }
    }

    /// How many bytes of small files should be handed over together, in bytes, by a run that has handed over `before`.
    pub fn target(before: u64) -> usize {
        Group::Small(Life::Lasting).target(before)
    }

    /// The next file's bytes, up to [`SMALL_FILE_MAX`](crate::limits::SMALL_FILE_MAX), are to be put at the end of this.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was put into the buffer since is one file, which is expected to be needed for so long.
    pub fn end(&mut self, life: Life) -> SmallFileNo {
        let length = length_of(self.bytes.get(self.ended..).unwrap_or_default());
        self.ended = self.bytes.len();
        self.files.push((length, life));
        SmallFileNo(self.files.len() - 1)
    }

    /// Names all of them.
    pub fn name(self, namer: &BlobNamer) -> SmallFiles {
        let Self { bytes, files, .. } = self;
        let mut rest = bytes.as_slice();
        let each: Vec<_> = files
            .iter()
            .map(|&(length, _)| {
                let (file, after) = rest.split_at(rest.len().min(length as usize));
                rest = after;
                file
            })
            .collect();
        let ids = namer.name_all(BlobKind::Data, &each);
        let files = files
            .into_iter()
            .zip(ids)
            .map(|((length, life), id)| SmallFile { id, length, life, new: false })
            .collect();
        SmallFiles { bytes, files }
    }
}

impl SmallFiles {
    /// The length of one of them, in bytes.
    pub fn size(&self, file: SmallFileNo) -> u64 {
        self.files.get(file.0).map_or(0, |file| u64::from(file.length))
    }
}

impl Writer {
    /// The content of a small file. Its bytes are stored by [`store_small`](Self::store_small), if the vault doesn't hold them.
    ///
    /// # Errors
    /// The first failure of any stage; [`Error::Stopped`] if it isn't one of `files`.
    pub fn add_small(
        &mut self,
        files: &mut SmallFiles,
        file: SmallFileNo,
    ) -> Result<Content, Error> {
        let Some(file) = files.files.get_mut(file.0) else {
            return Err(Error::Stopped(
                "a small file is among others than it was read with".into(),
            ));
        };
        let SmallFile { id, length, life, .. } = *file;
        let mut extents = Vec::new();
        // An empty file has no blob.
        if length > 0 {
            file.new |= self.lacks(Group::Small(life), &id, length)?;
            extents.push(Extent::Blob { id, length });
        }
        Ok(Content { size: length.into(), hash: None, extents: Extents::Inline(extents) })
    }

    /// Stores those that were [added](Self::add_small) and that the vault doesn't hold.
    ///
    /// # Errors
    /// The first failure of any stage.
    pub fn store_small(&mut self, files: SmallFiles) -> Result<(), Error> {
        let SmallFiles { mut bytes, files } = files;
        let mut some = files.iter().filter(|file| file.length > 0);
        let life = some.clone().next().map(|file| file.life).unwrap_or_default();
        let group = Group::Small(life);
        let whole = some.all(|file| file.new && file.life == life)
            && bytes.len() <= FRAME_RAW_MAX as usize
            && files.len() <= FRAME_BLOBS;
        // A frame that is about full goes first: then nothing of these need be added to it.
        if whole && self.about_full(group) {
            self.send(group)?;
        }
        let draft = self.draft(group);
        if whole && draft.blobs.is_empty() {
            std::mem::swap(&mut draft.data, &mut bytes);
            let new = files.iter().filter(|file| file.new);
            draft.blobs.extend(new.map(|file| (file.id, file.length)));
            if self.about_full(group) {
                self.send(group)?;
            }
        } else {
            let mut rest = bytes.as_slice();
            for file in files {
                let (blob, after) = rest.split_at(rest.len().min(file.length as usize));
                if file.new {
                    self.put(Group::Small(file.life), file.id, blob)?;
                }
                rest = after;
            }
        }
        self.spare.give(bytes);
        Ok(())
    }

    /// Whether a frame has three quarters of its length, or as many blobs.
    fn about_full(&mut self, group: Group) -> bool {
        let target = self.target(group);
        let Draft { data, blobs } = self.draft(group);
        data.len() >= target / 4 * 3 || blobs.len() >= FRAME_BLOBS / 4 * 3
    }
}
