//! Requests about directories' contents: opendir, readdir, readdir with attributes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::abi::{Dirent, EntryOut, OpenOut, ReadIn};
use crate::id::FileId;
use crate::mirror::{Context, Mirror};
use crate::table::Node;
use crate::tree::{HIDDEN, statx};

impl Mirror {
    pub(crate) fn opendir(&self, cx: &mut Context<'_>) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.inode(&node)?, ".", flags, Mode::empty())?;
        cx.reply.put(&OpenOut { fh: self.listings.add(fd), ..OpenOut::default() });
        Ok(())
    }

    /// `plus`: with attributes, each of which counts as a lookup.
    pub(crate) fn readdir(&self, cx: &mut Context<'_>, arguments: &ReadIn, plus: bool) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let listing = self.listings.get(arguments.fh)?;
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        listing.seek(arguments.offset)?;
        let directory = listing.fd.clone();
        while let Some(listed) = listing.peek()? {
            let length = entry_length(listed.name.len(), plus);
            if cx.reply.body().len() + length > arguments.size as usize {
                break;
            }
            let hidden = node.id == FileId::ROOT && listed.name == HIDDEN.as_bytes();
            match if hidden { Err(Errno::NOENT) } else { self.listed(cx, &node, &directory, listed.name, plus) } {
                Ok((entry, ino)) => {
                    let kind = u32::from(listed.kind);
                    let dirent = Dirent { ino, off: listed.next, namelen: listed.name.len() as u32, kind };
                    if plus {
                        cx.reply.put(&entry);
                    }
                    cx.reply.put(&dirent);
                    cx.reply.put_bytes(listed.name);
                    cx.reply.put_bytes(&[0; 8][..length - entry_length_unpadded(listed.name.len(), plus)]);
                }
                // Gone since it was listed, or not to be seen.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            listing.consume();
        }
        Ok(())
    }

    fn listed(
        &self,
        cx: &mut Context<'_>,
        node: &Node,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        plus: bool,
    ) -> Result<(EntryOut, u64), Errno> {
        match name {
            b"." => return Ok((EntryOut::default(), node.id.ino())),
            b".." => return Ok((EntryOut::default(), self.parent_id(node, directory)?.ino())),
            _ => {}
        }
        let found = self.find(cx, node, directory, name, false)?;
        let entry = if plus { self.entry_out(&found)? } else { EntryOut::default() };
        Ok((entry, found.id.ino()))
    }

    fn parent_id(&self, node: &Node, directory: &OwnedFd) -> Result<FileId, Errno> {
        if node.id == FileId::ROOT {
            return Ok(FileId::ROOT);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(directory, "..", flags, Mode::empty())?;
        // From a directory in the root, ".." may lead to what is mounted over the root: known by not being below.
        let (parent_stat, root_stat) = (statx(parent.as_fd())?, statx(self.tree.root().as_fd())?);
        let same = |a: &rustix::fs::Statx, b: &rustix::fs::Statx| {
            (a.stx_ino, a.stx_dev_major, a.stx_dev_minor) == (b.stx_ino, b.stx_dev_major, b.stx_dev_minor)
        };
        let elsewhere = parent_stat.stx_dev_major != root_stat.stx_dev_major
            || parent_stat.stx_dev_minor != root_stat.stx_dev_minor;
        if elsewhere || same(&parent_stat, &root_stat) {
            return Ok(FileId::ROOT);
        }
        Ok(self.tree.id_of(parent.as_fd())?.unwrap_or(FileId::ROOT))
    }
}

fn entry_length_unpadded(name: usize, plus: bool) -> usize {
    let dirent = Dirent::default().as_bytes().len() + name;
    if plus { size_of::<EntryOut>() + dirent } else { dirent }
}

fn entry_length(name: usize, plus: bool) -> usize {
    entry_length_unpadded(name, plus).next_multiple_of(8)
}
