//! Writing, holding and removing one object.

use std::os::fd::OwnedFd;

use jiff::Timestamp;
use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::direct::{Pieces, write_durably};
use super::folder::{Root, split};
use super::{attribute, mode_for, sidecar};
use crate::store::{Lock, LockPolicy, ObjectKey, StoreError};

/// The folder with the policy that writes follow.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) root: Root,
    pub(super) policy: LockPolicy,
    pub(super) pieces: Pieces,
}

impl Writer {
    /// Stores an object. In this order, so that no crash leaves a visible object that is cut short or unlocked:
    /// its bytes under another name, durable; its lock, durable; its name; the attribute; its folder, durable.
    pub(super) fn put(
        &self,
        key: &ObjectKey,
        body: &[u8],
        until: Timestamp,
        immutable: bool,
    ) -> Result<Option<Lock>, StoreError> {
        let failed = |e| self.root.error("write", key.as_str(), e);
        let (dir, name) = split(key.as_str());
        let dir = self.root.make_dir(dir).map_err(failed)?;
        if let Some(existing) = self.existing(key)? {
            match self.adopt(key, &existing, body, until, immutable) {
                Err(StoreError::NotFound { .. }) => {}
                done => return done,
            }
        }
        let (tmp_dir, tmp, file) = self.root.temporary().map_err(failed)?;
        let drop_tmp = || {
            let _ = fs::unlinkat(&tmp_dir, &*tmp, AtFlags::empty());
        };
        let written = write_durably(&file, body, &self.pieces);
        let lock = written.map_err(failed).and_then(|()| {
            let _alone = self.alone(key)?;
            self.raise(key, until, immutable)
        });
        let lock = lock.inspect_err(|_| drop_tmp())?;
        match name_once(&tmp_dir, &tmp, &dir, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // Another writer was faster.
                drop_tmp();
                let Some(existing) = self.existing(key)? else { return Err(failed(Errno::EXIST)) };
                return self.adopt(key, &existing, body, until, immutable);
            }
            Err(e) => {
                drop_tmp();
                return Err(failed(e));
            }
        }
        if immutable {
            attribute::set(&file, true).map_err(failed)?;
        }
        fs::fsync(&dir).map_err(failed)?;
        Ok(lock)
    }

    fn existing(&self, key: &ObjectKey) -> Result<Option<OwnedFd>, StoreError> {
        match self.root.open_file(key.as_str()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.root.error("write", key.as_str(), e)),
        }
    }

    /// Takes an object that is there already for the one to be written, if it has the same bytes.
    fn adopt(
        &self,
        key: &ObjectKey,
        existing: &OwnedFd,
        body: &[u8],
        until: Timestamp,
        immutable: bool,
    ) -> Result<Option<Lock>, StoreError> {
        let failed = |e| self.root.error("write", key.as_str(), e);
        let same = match self.root.read(key, body.len() as u64) {
            Ok(stored) => stored == body,
            Err(StoreError::TooLarge { .. }) => false,
            Err(e) => return Err(e),
        };
        if !same {
            return Err(StoreError::Conflict {
                what: key.to_string(),
                target: self.root.url().to_owned(),
            });
        }
        let lock = {
            let _alone = self.alone(key)?;
            match self.existing(key)? {
                Some(_) => self.raise(key, until, immutable)?,
                // A pruner was faster.
                None => return Err(failed(Errno::NOENT)),
            }
        };
        // The writer before may have been stopped between any two of its steps.
        if immutable {
            attribute::set(existing, true).map_err(failed)?;
        }
        fs::fsync(existing).map_err(failed)?;
        let dir = self.root.dir(split(key.as_str()).0).map_err(failed)?;
        fs::fsync(&dir).map_err(failed)?;
        Ok(lock)
    }

    /// As long as what this answers lives, no other thread or process looks at locks in order to raise them, or to delete
    /// what they no longer hold: a pruner would otherwise delete what a writer has just been told is locked.
    fn alone(&self, key: &ObjectKey) -> Result<Option<OwnedFd>, StoreError> {
        if self.policy == LockPolicy::None {
            return Ok(None);
        }
        sidecar::alone(&self.root).map(Some).map_err(|e| self.root.error("lock", key.as_str(), e))
    }

    /// To be called with [`alone`](Self::alone) held.
    fn raise(
        &self,
        key: &ObjectKey,
        until: Timestamp,
        immutable: bool,
    ) -> Result<Option<Lock>, StoreError> {
        if self.policy == LockPolicy::None {
            return Ok(None);
        }
        let until = sidecar::raise(&self.root, key, until)
            .map_err(|e| self.root.error("lock", key.as_str(), e))?;
        Ok(Some(Lock { mode: mode_for(immutable), until }))
    }

    /// An object's lock, as it lies there.
    pub(super) fn retention(&self, key: &ObjectKey) -> Result<Option<Lock>, StoreError> {
        let failed = |e| self.root.error("read the lock of", key.as_str(), e);
        let file = self
            .root
            .open_file(key.as_str())
            .map_err(|e| self.root.error("read", key.as_str(), e))?;
        let until = sidecar::read(&self.root, key).map_err(failed)?;
        Ok(until.map(|until| Lock { mode: mode_for(attribute::get(&file)), until }))
    }

    /// Moves the end of an object's lock, and sets the attribute where it is missing.
    pub(super) fn extend(
        &self,
        key: &ObjectKey,
        until: Timestamp,
        immutable: bool,
    ) -> Result<Option<Lock>, StoreError> {
        let _alone = self.alone(key)?;
        let file = self
            .root
            .open_file(key.as_str())
            .map_err(|e| self.root.error("read", key.as_str(), e))?;
        let lock = self.raise(key, until, immutable)?;
        if immutable && !attribute::get(&file) {
            attribute::set(&file, true).map_err(|e| self.root.error("lock", key.as_str(), e))?;
        }
        Ok(lock)
    }

    /// Removes an object whose lock has ended. One that isn't there is no error, as with S3.
    pub(super) fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let failed = |e| self.root.error("delete", key.as_str(), e);
        let _alone = self.alone(key)?;
        let file = match self.root.open_file(key.as_str()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        if let Some(until) = sidecar::read(&self.root, key).map_err(failed)?
            && until > Timestamp::now()
        {
            return Err(StoreError::Locked { what: key.to_string(), until });
        }
        if attribute::get(&file) {
            attribute::set(&file, false).map_err(failed)?;
        }
        let (dir, name) = split(key.as_str());
        let dir = self.root.dir(dir).map_err(failed)?;
        match fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed(e)),
        }
        fs::fsync(&dir).map_err(failed)?;
        sidecar::remove(&self.root, key).map_err(failed)
    }
}

/// Gives a file its name, unless that is taken.
fn name_once(from_dir: &OwnedFd, from: &str, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
    match fs::renameat_with(from_dir, from, dir, name, RenameFlags::NOREPLACE) {
        // Some network file systems don't know this; most of those know links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        other => return other,
    }
    match fs::linkat(from_dir, from, dir, name, AtFlags::empty()) {
        Ok(()) => fs::unlinkat(from_dir, from, AtFlags::empty()),
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::renameat(from_dir, from, dir, name)
        }
        Err(e) => Err(e),
    }
}
