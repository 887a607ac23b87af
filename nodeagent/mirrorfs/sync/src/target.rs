//! The target: answers what its copy is like, and makes it like the source's. It decides nothing and asks nobody.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mirror_core::message::Outcome;
use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::locks::Span;
use mirrorfs_fs::op::{Op, Time};
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::sys;
use mirrorfs_fs::tree::{HIDDEN, statx};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::body::{Body, Step};
use crate::extents;
use crate::meta::Meta;
use crate::names::{Census, Listing};
use crate::object::{Object, changed};
use crate::place::{Side, kind_of};
use crate::question::{Inode, Led, Named, Question, answer};
use crate::sight::{reopen, sight};
use crate::wire::Digest;

/// Bytes of names in one answer.
const NAMES: usize = 256 << 10;

/// What became of something, and why not more, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the core.
    pub outcome: Outcome,
    /// A sentence, where it is not done.
    pub why: Option<String>,
}

impl Verdict {
    fn done() -> Verdict {
        Verdict { outcome: Outcome::Done, why: None }
    }

    fn not_yet(why: impl Into<String>) -> Verdict {
        Verdict { outcome: Outcome::NotYet, why: Some(why.into()) }
    }

    /// What is not here, or not as it must be, comes with another copy. What this file system can't hold, or its disk can't
    /// read, no repetition will mend.
    fn of(errno: Errno, what: &str) -> Verdict {
        let outcome = match errno {
            Errno::IO | Errno::ROFS | Errno::NOMEM | Errno::MFILE | Errno::NFILE => Outcome::DiskError,
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::OPNOTSUPP | Errno::PERM | Errno::NAMETOOLONG => {
                Outcome::Refused
            }
            _ => Outcome::NotYet,
        };
        Verdict { outcome, why: Some(format!("{what}: {errno}")) }
    }
}

/// The copy that is made equal.
pub struct Target {
    sides: Vec<Side>,
}

impl Target {
    /// The replicated directories, in the configuration's order, with what is excluded in each.
    ///
    /// # Errors
    /// What making a folder for what is set aside says.
    pub fn new(sides: Vec<(Arc<Applier>, Exclude)>) -> Result<Target, Errno> {
        let sides = sides.into_iter().map(|(applier, exclude)| Side::new(applier, exclude));
        Ok(Target { sides: sides.collect::<Result<_, _>>()? })
    }

    pub(crate) fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// Answers a question. Whatever it is, the copy is not changed.
    pub fn answer(&self, question: &[u8]) -> Vec<u8> {
        let question = match Question::decode(question) {
            Ok(question) => question,
            Err(malformed) => return answer::refuse(&malformed.to_string()),
        };
        let Some(side) = self.sides.get(usize::from(question.of().tree)) else {
            return answer::refuse("no such replicated directory is configured here");
        };
        let told = match &question {
            Question::Entries { of, entries } => side.entries(of.id, entries),
            Question::Census { of } => side.census(of.id),
            Question::Names { of, cookie } => side.names(of.id, *cookie),
            Question::Inode { of, meta, size, first, extents } => side.inode(of.id, meta, *size, (*first, extents)),
            Question::Blocks { of, size, extents } => side.blocks(of.id, *size, extents),
        };
        told.unwrap_or_else(|errno| answer::refuse(&format!("looking at {}: {errno}", question.of().id)))
    }

    /// Carries out the body of a `Kind::Copy`.
    pub fn copy(&self, body: &[u8]) -> Verdict {
        let body = match Body::decode(body) {
            Ok(body) => body,
            Err(malformed) => return Verdict { outcome: Outcome::Refused, why: Some(malformed.to_string()) },
        };
        let Some(side) = self.sides.get(usize::from(body.of.tree)) else {
            return Verdict { outcome: Outcome::Refused, why: Some("no such replicated directory here".into()) };
        };
        let (of, finished) = (body.of, body.finished);
        let result = if body.gone { side.gone(of.id) } else { side.copy(body) };
        match result {
            Ok(()) if finished => Verdict::done(),
            Ok(()) => Verdict::not_yet("there is more to come"),
            Err(errno) => Verdict::of(errno, &format!("copy of {}", of.id)),
        }
    }

    /// Carries out a `Kind::Change` while this copy is a resync's target. What does not fit it yet changes nothing.
    pub fn change(&self, tree: u16, op: &Op<'_>) -> Verdict {
        let Some(side) = self.sides.get(usize::from(tree)) else {
            return Verdict { outcome: Outcome::Refused, why: Some("no such replicated directory here".into()) };
        };
        let (first, second) = changed(op);
        let _guard = side.locks.hold([Span::whole(first), Span::whole(second.unwrap_or(first))]);
        match side.change(op) {
            Ok(()) => Verdict::done(),
            Err(errno) => Verdict::of(errno, op.kind()),
        }
    }

    /// Deletes all that has no name: what was set aside, and nameless files. For a copy that is about to be mounted.
    ///
    /// # Errors
    /// What the file system says.
    pub fn empty(&self) -> Result<(), Errno> {
        self.sides.iter().try_for_each(|side| {
            side.purge()?;
            side.delete_all(&side.limbo()?)
        })
    }

    /// Carries out `Kind::Purge`: deletes what was set aside.
    pub fn purge(&self) -> Verdict {
        match self.sides.iter().try_for_each(Side::purge) {
            Ok(()) => Verdict::done(),
            Err(errno) => Verdict::of(errno, "deleting what was set aside"),
        }
    }
}

impl Side {
    fn entries(&self, directory: FileId, entries: &[Named]) -> Result<Vec<u8>, Errno> {
        let directory = self.find(directory)?;
        let mut told = answer::begin();
        for named in entries {
            told.u8(self.led(directory.as_ref(), named)? as u8);
        }
        Ok(told.0)
    }

    fn led(&self, directory: Option<&OwnedFd>, named: &Named) -> Result<Led, Errno> {
        let there = match directory.map(|directory| open_entry(directory, &named.name)) {
            Some(Ok(fd)) => Some(fd),
            None | Some(Err(Errno::NOENT | Errno::NOTDIR)) => None,
            Some(Err(errno)) => return Err(errno),
        };
        let kind = FileType::from_raw_mode(named.kind);
        if let Some(fd) = there.filter(|fd| kind_of(fd) == Ok(kind)) {
            let id = self.tree().identity(fd.as_fd(), &sys::handle_of(fd.as_fd())?)?;
            if id == Some(named.id) {
                let Some(wanted) = named.sight else { return Ok(Led::Same) };
                let same = sight(self.tree(), &fd, named.id)?.1 == wanted;
                return Ok(if same { Led::Same } else { Led::Different });
            }
            if id.is_none() && self.find(named.id)?.is_none() {
                let same = match named.sight {
                    Some(wanted) => sight(self.tree(), &fd, named.id)?.1 == wanted,
                    None => false,
                };
                return Ok(if same { Led::NamelessSame } else { Led::Nameless });
            }
        }
        Ok(if self.find(named.id)?.is_some() { Led::Elsewhere } else { Led::Absent })
    }

    fn listing(&self, id: FileId) -> Result<Option<Listing>, Errno> {
        let Some(directory) = self.find(id)? else { return Ok(None) };
        match Listing::open(self.tree(), &self.exclude, &directory, id) {
            Ok(listing) => Ok(Some(listing)),
            Err(Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn census(&self, id: FileId) -> Result<Vec<u8>, Errno> {
        let mut told = answer::begin();
        match self.listing(id)? {
            None => drop(told.u8(0)),
            Some(mut listing) => {
                let census = Census::take(&mut listing, &self.exclude)?;
                told.u8(1).u64(census.count).u128(census.sum);
            }
        }
        Ok(told.0)
    }

    fn names(&self, id: FileId, from: u64) -> Result<Vec<u8>, Errno> {
        let (mut names, mut bytes, mut more, mut cookie) = (Vec::new(), 0, false, from);
        if let Some(mut listing) = self.listing(id)? {
            listing.seek(from)?;
            while let Some((name, next)) = listing.next(&self.exclude)? {
                bytes += name.len();
                cookie = next;
                names.push(name);
                if bytes > NAMES || names.len() >= usize::from(u16::MAX) {
                    more = true;
                    break;
                }
            }
        }
        let mut told = answer::begin();
        told.u16(names.len() as u16).u8(more.into()).u64(cookie);
        for name in &names {
            told.name(name);
        }
        Ok(told.0)
    }

    fn inode(&self, id: FileId, meta: &Digest, size: u64, (first, asked): (u64, &[Digest])) -> Result<Vec<u8>, Errno> {
        let mut found = Inode { there: false, same: false, differing: Vec::new() };
        if let Some(fd) = self.find(id)? {
            found.there = true;
            found.same = Meta::of(self.tree(), fd.as_fd(), id)?.digest() == *meta;
            if !asked.is_empty() && kind_of(&fd)? == FileType::RegularFile {
                let file = reopen(&fd, OFlags::RDONLY)?;
                let (own, _) = extents::digests(file.as_fd(), first, asked.len() as u64, size)?;
                let pairs = own.iter().zip(asked).enumerate();
                found.differing = pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at as u16).collect();
            } else {
                found.differing = (0..asked.len() as u16).collect();
            }
        }
        let mut told = answer::begin();
        told.u8(found.there.into()).u8(found.same.into()).u16(found.differing.len() as u16);
        for at in &found.differing {
            told.u16(*at);
        }
        Ok(told.0)
    }

    fn blocks(&self, id: FileId, size: u64, asked: &[(u64, Vec<Digest>)]) -> Result<Vec<u8>, Errno> {
        let file = match self.find(id)? {
            Some(fd) if kind_of(&fd)? == FileType::RegularFile => Some(reopen(&fd, OFlags::RDONLY)?),
            _ => None,
        };
        let mut told = answer::begin();
        for (extent, digests) in asked {
            let mut mask = extents::ALL;
            if let Some(file) = &file {
                let own = extents::block_digests(file.as_fd(), *extent, size)?.0;
                let differing = own.iter().zip(digests).enumerate().filter(|(_, (a, b))| a != b);
                mask = differing.fold(0, |mask, (at, _)| mask | 1 << at);
            }
            told.u16(mask);
        }
        Ok(told.0)
    }

    /// The source has no such inode that could be opened. What names it has here its directories' copies take away; as a
    /// nameless file it may be out of date, so it must not come back by a link.
    fn gone(&self, id: FileId) -> Result<(), Errno> {
        match rustix::fs::unlinkat(self.tree().limbo(), id.to_string(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn copy(&self, body: Body<'_>) -> Result<(), Errno> {
        let Object { id, .. } = body.of;
        if body.is_empty() {
            return Ok(());
        }
        let _guard = self.locks.hold([Span::whole(id)]);
        let (meta, finished) = (body.meta.clone(), body.finished);
        let fd = match &meta {
            Some(meta) => self.find_like(id, meta)?,
            None => self.find(id)?,
        };
        // Its directory's copy makes it, or finds it under another id's name.
        let fd = fd.ok_or(Errno::STALE)?;
        let mut file = None;
        for step in body {
            match step.map_err(|_| Errno::INVAL)? {
                Step::Data(data) => {
                    if file.is_none() {
                        file = Some(reopen(&fd, OFlags::RDWR)?);
                    }
                    if let Some(file) = &file {
                        data.apply(file.as_fd())?;
                    }
                }
                Step::Put { name, .. } | Step::Drop { name } if id == FileId::ROOT && name == HIDDEN.as_bytes() => {
                    return Err(Errno::PERM);
                }
                Step::Put { name, id, meta, data } => self.put(&fd, name, id, &meta, data.as_ref())?,
                Step::Drop { name } => self.drop_name(&fd, name)?,
            }
        }
        let Some(meta) = meta.filter(|_| finished) else { return Ok(()) };
        if meta.kind() == FileType::RegularFile && statx(fd.as_fd())?.stx_size != meta.size {
            rustix::fs::ftruncate(reopen(&fd, OFlags::RDWR)?, meta.size)?;
        }
        meta.apply(self.tree(), fd.as_fd(), id)
    }

    fn change(&self, op: &Op<'_>) -> Result<(), Errno> {
        match *op {
            Op::Create { birth, .. } | Op::Tmpfile { birth, .. } => {
                let _birth = self.birth(birth.id);
                // Its own copy was faster; its directory's gives it its name.
                if self.find(birth.id)?.is_some() { Err(Errno::EXIST) } else { self.applier.apply(op) }
            }
            Op::Link { id, .. } => {
                // A nameless file that is just being made: not between its id and its hidden name, or it would keep both names.
                let _birth = self.birth(id);
                self.applier.apply(op)
            }
            // What it would copy may still be another thing here.
            Op::Copy { .. } => Err(Errno::STALE),
            // The source had nothing there: rename(2) would replace, or do nothing between two names of one inode.
            Op::Rename { to, replaced: None, .. } => {
                let Some(parent) = self.find(to.parent)? else { return Err(Errno::STALE) };
                match open_entry(&parent, to.name) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => self.rename(op, to.parent),
                    Err(errno) => Err(errno),
                }
            }
            Op::Rename { to, .. } => self.rename(op, to.parent),
            Op::Discard { id } => match self.applier.apply(op) {
                Err(Errno::NOENT) => self.gone(id),
                other => other,
            },
            _ => self.applier.apply(op),
        }
    }

    /// A rename is ordered with what happens in the directory that it leads out of; in the other one it may come after what came
    /// later. It must not take that one's time back.
    fn rename(&self, op: &Op<'_>, to: FileId) -> Result<(), Errno> {
        let time = |side: &Side| -> Result<Option<Time>, Errno> {
            let Some(fd) = side.find(to)? else { return Ok(None) };
            let stat = side.tree().attributes(fd.as_fd(), to)?;
            Ok(Some(Time { sec: stat.stx_mtime.tv_sec, nsec: stat.stx_mtime.tv_nsec }))
        };
        let before = time(self)?;
        self.applier.apply(op)?;
        if let Some(before) = before.filter(|before| Some(*before) > time(self).ok().flatten()) {
            self.tree().modified(to, before);
        }
        Ok(())
    }

    /// Empties the folder of what was set aside.
    fn purge(&self) -> Result<(), Errno> {
        self.delete_all(&self.aside)
    }

    fn limbo(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self.tree().limbo(), ".", flags, Mode::empty())
    }

    /// Empties a folder. Whole trees are taken apart on the way (in the folder `aside`), so that no depth needs more memory.
    pub fn delete_all(&self, folder: &OwnedFd) -> Result<(), Errno> {
        loop {
            let names = self.list(folder)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                let fd = open_entry(folder, &name)?;
                if kind_of(&fd)? == FileType::Directory {
                    self.take_apart(&fd)?;
                    self.bury(folder, &name, &fd, AtFlags::REMOVEDIR)?;
                } else {
                    self.bury(folder, &name, &fd, AtFlags::empty())?;
                }
            }
        }
    }

    fn list(&self, folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
        let none = Exclude::default();
        let mut listing = Listing::open(self.tree(), &none, folder, FileId(2))?;
        let mut names = Vec::new();
        while let Some((name, _)) = listing.next(&none)?.filter(|_| names.len() < 4096) {
            names.push(name);
        }
        Ok(names)
    }

    /// Deletes the files of a directory and moves its directories aside, each for itself.
    fn take_apart(&self, directory: &OwnedFd) -> Result<(), Errno> {
        let none = Exclude::default();
        loop {
            let mut listing = Listing::open(self.tree(), &none, directory, FileId(2))?;
            let mut any = false;
            while let Some((name, _)) = listing.next(&none)? {
                any = true;
                let fd = open_entry(directory, &name)?;
                if kind_of(&fd)? == FileType::Directory {
                    rustix::fs::renameat(directory, &name[..], &self.aside, FileId::random()?.to_string())?;
                } else {
                    self.bury(directory, &name, &fd, AtFlags::empty())?;
                }
            }
            if !any {
                return Ok(());
            }
        }
    }

    fn bury(&self, parent: &OwnedFd, name: &[u8], fd: &OwnedFd, flags: AtFlags) -> Result<(), Errno> {
        let last = flags == AtFlags::REMOVEDIR || statx(fd.as_fd())?.stx_nlink == 1;
        rustix::fs::unlinkat(parent, name, flags)?;
        let Some(id) = self.tree().id_of(fd.as_fd())?.filter(|_| last) else { return Ok(()) };
        // Another inode may bear this id by now.
        if self.tree().index.get(id)? == Some(sys::handle_of(fd.as_fd())?) {
            self.tree().index.remove(id)?;
            self.tree().late.forget(id);
            self.applier.forget(id);
        }
        Ok(())
    }
}
