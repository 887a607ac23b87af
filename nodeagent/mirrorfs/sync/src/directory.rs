//! The source's side of a directory: which names lead elsewhere on the target, and which it has too many.
//!
//! Call with the directory's lock, until what is found has been carried out.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::tree::statx;
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::body::Draft;
use crate::cursors::DirectoryCursor;
use crate::extents;
use crate::meta::Meta;
use crate::names::{Census, Listing};
use crate::object::Object;
use crate::peer::{Line, MESSAGE_MAX};
use crate::question::{ENTRIES, Led, Named, Question, answer};
use crate::sight::{is_small, reopen, sight};
use crate::source::{Failure, Name, Source};

/// How long one copy may take to compare: the directory is locked meanwhile.
const COMPARING: Duration = Duration::from_millis(100);

/// An entry that was found here, and where the listing goes on behind it.
struct Here {
    named: Named,
    cookie: u64,
}

impl Source {
    /// A body for a directory, and where to go on; `None`: the target has no such directory.
    pub(crate) fn directory(
        &self,
        line: &mut dyn Line,
        (of, fd): (Object, &OwnedFd),
        cursor: Option<DirectoryCursor>,
        name: Name<'_>,
    ) -> Result<Option<(Draft, Option<DirectoryCursor>)>, Failure> {
        let io = |errno| Failure::Io(of, errno);
        let mirror = &*self.mirrors[usize::from(of.tree)];
        let meta = Meta::of(mirror.tree(), fd.as_fd(), of.id).map_err(io)?;
        self.ask(line, &Question::Inode { of, meta: meta.digest(), size: 0, first: 0, extents: Vec::new() })?;
        let there = answer::inode(&line.answer()?)?;
        if !there.there {
            return Ok(None);
        }
        let mut cursor = match cursor {
            Some(cursor) => cursor,
            None => {
                let listing = Listing::open(mirror.tree(), mirror.exclude(), fd, of.id).map_err(io)?;
                DirectoryCursor { listing, cookie: 0, surplus: None, dirty: false }
            }
        };
        cursor.dirty |= !there.same;
        let mut draft = Draft::new(of, Some(&meta));
        let empty = draft.len();
        let deadline = Instant::now() + COMPARING;
        if cursor.surplus.is_none() {
            let whole = self.put_names(line, of, &mut cursor, (&mut draft, name), deadline)?;
            cursor.dirty |= draft.len() > empty;
            if !whole {
                return Ok(Some((draft, Some(cursor))));
            }
            if self.same_census(line, of, mirror, &mut cursor)? {
                return Ok(Some((finish(of, draft, cursor.dirty), None)));
            }
            cursor.surplus = Some(0);
        }
        let whole = self.drop_names(line, of, &mut cursor, &mut draft, deadline)?;
        cursor.dirty |= draft.len() > empty;
        Ok(Some(if whole { (finish(of, draft, cursor.dirty), None) } else { (draft, Some(cursor)) }))
    }

    /// Puts in every name that leads elsewhere on the target. Returns whether that was the last.
    fn put_names(
        &self,
        line: &mut dyn Line,
        of: Object,
        cursor: &mut DirectoryCursor,
        (draft, name): (&mut Draft, Name<'_>),
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let io = |errno| Failure::Io(of, errno);
        let mirror = &*self.mirrors[usize::from(of.tree)];
        cursor.listing.seek(cursor.cookie).map_err(io)?;
        loop {
            let chunk = chunk(mirror, &mut cursor.listing).map_err(io)?;
            if chunk.is_empty() {
                return Ok(true);
            }
            let entries = chunk.iter().map(|here| here.named.clone()).collect();
            self.ask(line, &Question::Entries { of, entries })?;
            let mut led = answer::entries(&line.answer()?, chunk.len())?;
            if led.contains(&Led::Nameless) {
                led = self.look_closer(line, of, &chunk, cursor.listing.fd())?;
            }
            for (here, led) in chunk.iter().zip(led) {
                let object = Object { tree: of.tree, id: here.named.id };
                if self.unfound.turned_up(object) {
                    name(object.into());
                }
                let before = draft.len();
                if !matches!(led, Led::Same | Led::Different) {
                    match put(mirror, cursor.listing.fd(), &here.named, led, draft).map_err(io)? {
                        Put::Done { copy: true } => name(object.into()),
                        Put::Done { copy: false } | Put::Gone => {}
                    }
                    if draft.len() > MESSAGE_MAX {
                        draft.truncate(before);
                        return Ok(false);
                    }
                }
                cursor.cookie = here.cookie;
                if draft.is_full() {
                    return Ok(false);
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Asks again, with what everything looks like: where the target's files have no ids yet, their data need not travel.
    fn look_closer(
        &self,
        line: &mut dyn Line,
        of: Object,
        chunk: &[Here],
        directory: &OwnedFd,
    ) -> Result<Vec<Led>, Failure> {
        let tree = self.mirrors[usize::from(of.tree)].tree();
        let sighted = |here: &Here| {
            let mut named = here.named.clone();
            if FileType::from_raw_mode(named.kind) != FileType::Directory {
                let (meta, digest, _) = sight(tree, &open_entry(directory, &named.name)?, named.id)?;
                named.sight = Some(digest).filter(|_| meta.kind() != FileType::RegularFile || is_small(&meta));
            }
            Ok(named)
        };
        let entries = chunk.iter().map(sighted).collect::<Result<_, _>>().map_err(|errno| Failure::Io(of, errno))?;
        self.ask(line, &Question::Entries { of, entries })?;
        Ok(answer::entries(&line.answer()?, chunk.len())?)
    }

    fn same_census(
        &self,
        line: &mut dyn Line,
        of: Object,
        mirror: &Mirror,
        cursor: &mut DirectoryCursor,
    ) -> Result<bool, Failure> {
        self.ask(line, &Question::Census { of })?;
        let own = Census::take(&mut cursor.listing, mirror.exclude()).map_err(|errno| Failure::Io(of, errno))?;
        Ok(answer::census(&line.answer()?)? == Some(own))
    }

    /// Puts in every name that the target has too many. Returns whether that was the last.
    fn drop_names(
        &self,
        line: &mut dyn Line,
        of: Object,
        cursor: &mut DirectoryCursor,
        draft: &mut Draft,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        while let Some(cookie) = cursor.surplus {
            self.ask(line, &Question::Names { of, cookie })?;
            let (names, more) = answer::names(&line.answer()?)?;
            for name in &names {
                match rustix::fs::statat(cursor.listing.fd(), &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => {}
                    Err(Errno::NOENT) => draft.drop_name(name),
                    Err(errno) => return Err(Failure::Io(of, errno)),
                }
            }
            cursor.surplus = more;
            // One answer always fits: its names are a quarter of a body.
            if more.is_some() && (draft.len() > MESSAGE_MAX / 2 || Instant::now() >= deadline) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A directory that turned out equal needs no attributes set again.
fn finish(of: Object, draft: Draft, dirty: bool) -> Draft {
    if dirty { draft.finish() } else { Draft::new(of, None).finish() }
}

/// The next names and the inodes that they lead to, each with an id.
fn chunk(mirror: &Mirror, listing: &mut Listing) -> Result<Vec<Here>, Errno> {
    let mut chunk = Vec::new();
    while chunk.len() < ENTRIES {
        let Some((name, cookie)) = listing.next(mirror.exclude())? else { break };
        match open_entry(listing.fd(), &name) {
            Ok(fd) => {
                let kind = FileType::from_raw_mode(u32::from(statx(fd.as_fd())?.stx_mode)).as_raw_mode();
                let id = mirror.identify(fd.as_fd())?;
                chunk.push(Here { named: Named { name, id, kind, sight: None }, cookie });
            }
            // The lock keeps names as they are, but for those that are not replicated.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(chunk)
}

enum Put {
    /// `copy`: the inode's own copy has to follow.
    Done { copy: bool },
    /// The name leads elsewhere by now.
    Gone,
}

fn put(mirror: &Mirror, directory: &OwnedFd, named: &Named, led: Led, draft: &mut Draft) -> Result<Put, Errno> {
    let fd = match open_entry(directory, &named.name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(Put::Gone),
        Err(errno) => return Err(errno),
    };
    let meta = Meta::of(mirror.tree(), fd.as_fd(), named.id)?;
    // A small file comes whole, with its name.
    let small = led == Led::Absent && is_small(&meta);
    let file = if small { Some(reopen(&fd, OFlags::RDONLY)?) } else { None };
    let data =
        file.as_ref().map(|file| |to: &mut crate::wire::Writer| extents::write_out(file.as_fd(), 0, extents::ALL, to));
    draft.put(&named.name, named.id, &meta, data)?;
    let complete = matches!(meta.kind(), FileType::RegularFile | FileType::Directory);
    Ok(Put::Done { copy: led == Led::Nameless || led == Led::Absent && complete && !small })
}
