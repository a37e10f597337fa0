//! What stands beside an entry's data: owners' names, extended attributes, where a link leads.
//!
//! The walk gives what `stat` says. The rest costs calls for each entry, so it is read only for those that are new or
//! changed: a change of any of it changes the ctime.

mod links;
mod names;
pub(crate) mod xattrs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keephold_vault::tree::Metadata;
use rustix::fs::{OFlags, readlinkat};
use rustix::io::Errno;

pub use links::LinkTracker;
pub use names::Names;

use crate::walk::Walked;
use crate::{Base, Kind, Problem, ProblemKind, Stat};
use xattrs::Opened;

/// Reads metadata below one base.
#[derive(Debug)]
pub struct MetaReader {
    base: Base,
    names: Names,
}

impl MetaReader {
    /// A reader that knows owners by `names`.
    pub fn new(base: Base, names: Names) -> Self {
        Self { base, names }
    }

    /// The metadata of an entry that is opened for it. What can't be read is left out and told as problems.
    pub fn read(&self, walked: &Walked) -> (Metadata, Vec<Problem>) {
        let mut meta = self.bare(walked);
        let fd = match self.open(walked) {
            Ok(fd) => fd,
            Err(error) => return (meta, vec![Problem::new(Some(walked.path.clone()), error)]),
        };
        let problems = read_xattrs(Opened::PathOnly(fd.as_fd()), walked, &mut meta);
        (meta, problems)
    }

    /// The metadata of a file that is open anyway ([`crate::read`]): spares opening it again. `stat` is what was said
    /// when it was opened, so that the times belong to the bytes that were read.
    pub fn read_open(
        &self,
        walked: &Walked,
        stat: &Stat,
        file: BorrowedFd<'_>,
    ) -> (Metadata, Vec<Problem>) {
        let mut meta = self.of_stat(stat);
        let problems = read_xattrs(Opened::Fully(file), walked, &mut meta);
        (meta, problems)
    }

    /// The metadata without extended attributes: needs no call to the system.
    pub fn bare(&self, walked: &Walked) -> Metadata {
        self.of_stat(&walked.stat)
    }

    fn of_stat(&self, stat: &Stat) -> Metadata {
        Metadata {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: self.names.user(stat.uid).to_vec(),
            group: self.names.group(stat.gid).to_vec(),
            mtime: stat.mtime,
            xattrs: Vec::new(),
        }
    }

    /// What a symbolic link says, in raw bytes.
    ///
    /// # Errors
    /// A [`Problem`] if it is gone, no longer a link, or can't be read.
    pub fn link(&self, walked: &Walked) -> Result<Vec<u8>, Box<Problem>> {
        let fail = |error: Errno| Box::new(Problem::new(Some(walked.path.clone()), error));
        let fd = self.open(walked).map_err(fail)?;
        // The empty path means the descriptor itself.
        Ok(readlinkat(&fd, "", Vec::new()).map_err(fail)?.into_bytes())
    }

    /// Opens just enough to ask about the very entry that was walked.
    fn open(&self, walked: &Walked) -> Result<OwnedFd, Errno> {
        let fd = self.base.open_at(walked.path.as_bytes(), OFlags::PATH)?;
        let now = crate::stat::numbers(&rustix::fs::fstat(&fd)?);
        // Replaced by another entry of the same name: the one that was walked has vanished.
        if (now.inode, now.device) != (walked.stat.inode, walked.stat.device) {
            return Err(Errno::NOENT);
        }
        Ok(fd)
    }
}

fn read_xattrs(of: Opened<'_>, walked: &Walked, meta: &mut Metadata) -> Vec<Problem> {
    // The kernel shows attributes of a socket's name through no descriptor worth the trouble: it is listed only.
    if walked.kind == Kind::Socket {
        return Vec::new();
    }
    let told = |text: String| Problem::said(Some(walked.path.clone()), ProblemKind::Xattrs, text);
    match xattrs::read(of) {
        Ok((found, unreadable)) => {
            meta.xattrs = found;
            unreadable
                .into_iter()
                .map(|(name, error)| {
                    told(format!("its attribute '{}' can't be read: {error}", name.escape_ascii()))
                })
                .collect()
        }
        Err(error) => vec![told(format!(
            "its extended attributes can't be listed: {error}; is /proc mounted?"
        ))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{Options, Step, Walk};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn walked(base: &Base) -> Vec<Walked> {
        let walk = Walk::start(base, &["/".into()], &Options::default()).unwrap();
        walk.map(|step| match step {
            Step::Entry(walked) => walked,
            Step::Problem(problem) => panic!("{problem}"),
        })
        .collect()
    }

    #[test]
    fn attributes_come_sorted_and_large_ones_whole() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, b"x").unwrap();
        xattr::set(&file, "user.z", b"last").unwrap();
        xattr::set(&file, "user.a", &[7; 3000]).unwrap();
        let base = Base::open(temp.path()).unwrap();
        let reader = MetaReader::new(base.clone(), Names::of_host());
        let walked = walked(&base).remove(0);
        let (meta, problems) = reader.read(&walked);
        assert!(problems.is_empty(), "{problems:?}");
        let names: Vec<_> =
            meta.xattrs.iter().map(|x| (x.name.as_slice(), x.value.len())).collect();
        assert_eq!(names, [(&b"user.a"[..], 3000), (b"user.z", 4)]);
        let open = fs::File::open(&file).unwrap();
        assert_eq!(reader.read_open(&walked, &walked.stat, open.as_fd()).0, meta);
    }

    #[test]
    fn links_are_read_and_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        symlink("nowhere/\u{fe}", temp.path().join("link")).unwrap();
        let base = Base::open(temp.path()).unwrap();
        let reader = MetaReader::new(base.clone(), Names::of_host());
        let walked = walked(&base).remove(0);
        assert_eq!(reader.link(&walked).unwrap(), "nowhere/\u{fe}".as_bytes());
        assert!(reader.read(&walked).1.is_empty());
        // The first one stays: what is created next could else get its number, and pass for it.
        fs::rename(temp.path().join("link"), temp.path().join("other")).unwrap();
        symlink("elsewhere", temp.path().join("link")).unwrap();
        assert_eq!(reader.link(&walked).unwrap_err().kind, ProblemKind::Vanished);
    }

    #[test]
    fn further_names_point_at_the_first_and_are_then_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a"), b"x").unwrap();
        for name in ["b", "c"] {
            fs::hard_link(temp.path().join("a"), temp.path().join(name)).unwrap();
        }
        let mut tracker = LinkTracker::new();
        let first: Vec<_> = walked(&Base::open(temp.path()).unwrap())
            .iter()
            .map(|walked| tracker.see(walked).map(|path| path.to_string()))
            .collect();
        assert_eq!(first, [None, Some("a".into()), Some("a".into())]);
        assert!(tracker.is_empty());
    }
}
