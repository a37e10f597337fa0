//! One entry held against what it should be.

use keephold_vault::tree::{Entry, EntryKind, FileTime, Metadata, TreePath};

use super::{Compare, Expected, ExpectedData, What, data, unreadable};
use crate::read::FileReader;
use crate::restore::Owners;
use crate::walk::Walked;
use crate::{Kind, Problem, Stat};

/// Set by the system on its own where SELinux runs; not to be held against a restore.
const SELINUX: &[u8] = b"security.selinux";

/// The word for an entry's kind in messages.
pub(super) fn word(kind: &EntryKind) -> &'static str {
    plain(kind).map_or("hard link", Kind::word)
}

/// The kind of entry that should be found; `None` for a hard link, which is of its file's kind.
fn plain(kind: &EntryKind) -> Option<Kind> {
    Some(match kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File(_) => Kind::File,
        EntryKind::Symlink(_) => Kind::Symlink,
        EntryKind::HardLink(_) => return None,
        EntryKind::CharDevice { .. } => Kind::CharDevice,
        EntryKind::BlockDevice { .. } => Kind::BlockDevice,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::Socket => Kind::Socket,
    })
}

impl<I: Iterator<Item = Expected>> Compare<I> {
    pub(super) fn check(&mut self, expected: Expected, walked: &Walked) {
        let Expected { entry, data } = expected;
        let first = self.links.see(walked);
        let Some(kind) = plain(&entry.kind) else {
            return self.check_link(&entry, first);
        };
        if kind != walked.kind {
            return self.tell(
                &entry.path,
                What::Kind,
                kind.word().into(),
                walked.kind.word().into(),
            );
        }
        if let Some(first) = first {
            self.tell(
                &entry.path,
                What::HardLink,
                "a file of its own".into(),
                format!("a further name of {first}"),
            );
        }
        match &entry.kind {
            EntryKind::File(content) if content.size != walked.stat.size => {
                let (expected, found) = (content.size.to_string(), walked.stat.size.to_string());
                self.tell(&entry.path, What::Size, expected, found);
            }
            EntryKind::File(_) => {
                if let Some(data) = data {
                    return self.check_file(&entry, walked, data);
                }
            }
            EntryKind::Symlink(to) => self.check_target(walked, to),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                let (expected, found) = ((*major, *minor), walked.stat.device_numbers());
                if expected != found {
                    self.tell(
                        &entry.path,
                        What::Device,
                        format!("{expected:?}"),
                        format!("{found:?}"),
                    );
                }
            }
            _ => {}
        }
        self.check_meta(&entry, walked);
        if self.options.xattrs {
            let (found, problems) = self.reader.read(walked);
            self.check_xattrs(&entry, &found, problems);
        }
    }

    /// A file with its bytes: opened once for both them and its attributes.
    fn check_file(&mut self, entry: &Entry, walked: &Walked, data: ExpectedData) {
        self.check_meta(entry, walked);
        let file = match FileReader::open(&self.base, walked) {
            Ok(file) => file,
            Err(error) => {
                self.found.push_back(unreadable(Some(entry.path.clone()), error.to_string()));
                return;
            }
        };
        if self.options.xattrs {
            let (found, problems) = self.reader.read_open(walked, &walked.stat, file.fd());
            self.check_xattrs(entry, &found, problems);
        }
        self.found.extend(data::check(file, walked, data, &mut self.buffer));
    }

    fn check_link(&mut self, entry: &Entry, first: Option<TreePath>) {
        let EntryKind::HardLink(target) = &entry.kind else { return };
        if first.as_ref().is_none_or(|first| first.as_bytes() != target.as_slice()) {
            let expected = format!("a further name of {}", target.escape_ascii());
            let found = first.map_or("a file of its own".to_owned(), |first| {
                format!("a further name of {first}")
            });
            self.tell(&entry.path, What::HardLink, expected, found);
        }
    }

    fn check_target(&mut self, walked: &Walked, to: &[u8]) {
        match self.reader.link(walked) {
            Ok(found) if found == to => {}
            Ok(found) => {
                let (expected, found) =
                    (to.escape_ascii().to_string(), found.escape_ascii().to_string());
                self.tell(&walked.path, What::LinkTarget, expected, found);
            }
            Err(problem) => {
                self.found.push_back(unreadable(problem.path, problem.error.to_string()));
            }
        }
    }

    fn check_meta(&mut self, entry: &Entry, walked: &Walked) {
        let Entry { path, kind, meta } = entry;
        let Stat { mode, uid, gid, mtime, .. } = walked.stat;
        let is_link = matches!(kind, EntryKind::Symlink(_));
        // A link's mode means nothing and can't be set.
        if !is_link && meta.mode != mode {
            self.tell(path, What::Mode, format!("{:04o}", meta.mode), format!("{mode:04o}"));
        }
        if let Some((wanted_uid, wanted_gid)) = self.owner(meta) {
            if wanted_uid != uid {
                self.tell(path, What::Owner, wanted_uid.to_string(), uid.to_string());
            }
            if wanted_gid != gid {
                self.tell(path, What::Group, wanted_gid.to_string(), gid.to_string());
            }
        }
        if self.options.times && meta.mtime != mtime {
            self.tell(path, What::Time, shown(meta.mtime), shown(mtime));
        }
    }

    fn owner(&self, meta: &Metadata) -> Option<(u32, u32)> {
        match self.options.owners {
            Owners::Ignored => None,
            Owners::ByNumber => Some((meta.uid, meta.gid)),
            Owners::ByName => Some((
                self.names.uid(&meta.user).unwrap_or(meta.uid),
                self.names.gid(&meta.group).unwrap_or(meta.gid),
            )),
        }
    }

    fn check_xattrs(&mut self, entry: &Entry, found: &Metadata, problems: Vec<Problem>) {
        self.found.extend(problems.into_iter().map(|p| unreadable(p.path, p.error.to_string())));
        let expected = &entry.meta.xattrs;
        for want in expected {
            let name = want.name.escape_ascii();
            match found.xattrs.iter().find(|x| x.name == want.name) {
                Some(is) if is.value == want.value => {}
                Some(is) => {
                    let (wanted, is) = (want.value.escape_ascii(), is.value.escape_ascii());
                    self.tell(
                        &entry.path,
                        What::Xattr,
                        format!("{name}={wanted}"),
                        format!("{name}={is}"),
                    );
                }
                None => self.tell(&entry.path, What::Xattr, name.to_string(), "nothing".into()),
            }
        }
        for is in found.xattrs.iter().filter(|is| is.name != SELINUX) {
            if !expected.iter().any(|want| want.name == is.name) {
                self.tell(
                    &entry.path,
                    What::Xattr,
                    "nothing".into(),
                    is.name.escape_ascii().to_string(),
                );
            }
        }
    }
}

fn shown(time: FileTime) -> String {
    format!("{}.{:09}", time.seconds, time.nanos)
}
