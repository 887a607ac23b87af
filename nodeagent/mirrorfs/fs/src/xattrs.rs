//! Requests about extended attributes and POSIX ACLs: all of them, except our own, which nobody sees.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::abi::{GetxattrOut, SETXATTR_ACL_KILL_SGID, SetxattrIn};
use crate::id::ID_XATTR;
use crate::locks::Span;
use crate::mirror::{Context, Mirror};
use crate::op::{Changes, Op, Time, XATTR_MAX};
use crate::tree::{proc_path, statx};

impl Mirror {
    pub(crate) fn getxattr(&self, cx: &mut Context<'_>, name: &[u8], size: u32) -> Result<(), Errno> {
        if name == ID_XATTR.as_bytes() {
            return Err(Errno::NODATA);
        }
        let fd = self.inode(&self.node(cx.header.nodeid)?)?;
        let path = proc_path(fd.as_fd());
        if size == 0 {
            let length = rustix::fs::getxattr_query(path, name)?;
            cx.reply.put(&GetxattrOut { size: length as u32, padding: 0 });
            return Ok(());
        }
        let mut value = vec![0; XATTR_MAX.min(size as usize)];
        let length = rustix::fs::getxattr(path, name, &mut value[..])?;
        cx.reply.put_bytes(&value[..length]);
        Ok(())
    }

    pub(crate) fn listxattr(&self, cx: &mut Context<'_>, size: u32) -> Result<(), Errno> {
        let fd = self.inode(&self.node(cx.header.nodeid)?)?;
        let mut names = vec![0; XATTR_MAX];
        let length = rustix::fs::listxattr(proc_path(fd.as_fd()), &mut names[..])?;
        // The kernel shows trusted.* to the superuser only; below us it takes us for the caller.
        let shown = |name: &&[u8]| {
            !name.is_empty() && *name != ID_XATTR.as_bytes() && (cx.header.uid == 0 || !name.starts_with(b"trusted."))
        };
        let list: Vec<u8> = names[..length]
            .split(|byte| *byte == 0)
            .filter(shown)
            .flat_map(|name| name.iter().copied().chain([0]))
            .collect();
        if size == 0 {
            cx.reply.put(&GetxattrOut { size: list.len() as u32, padding: 0 });
        } else if list.len() > size as usize {
            return Err(Errno::RANGE);
        } else {
            cx.reply.put_bytes(&list);
        }
        Ok(())
    }

    pub(crate) fn setxattr(
        &self,
        cx: &mut Context<'_>,
        arguments: &SetxattrIn,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Errno> {
        if name == ID_XATTR.as_bytes() {
            return Err(Errno::PERM);
        }
        let node = self.node(cx.header.nodeid)?;
        let _guard = self.locks.hold([Span::whole(node.id)]);
        let node = self.node(node.nodeid)?;
        let fd = self.inode(&node)?;
        let mirrored = Self::mirrored(&node);
        let op = Op::SetXattr { id: node.id, flags: arguments.flags, name, value };
        self.change(cx, mirrored, &op, &[(node.id, &fd)])?;
        if arguments.setxattr_flags & SETXATTR_ACL_KILL_SGID == 0 {
            return Ok(());
        }
        // An ACL set by somebody outside the group takes set-group-id away, which the kernel leaves to us.
        let mode = u32::from(statx(fd.as_fd())?.stx_mode);
        let changes = Changes { mode: Some(mode & 0o5777), ..Changes::default() };
        let op = Op::SetAttr { id: node.id, changes, time: Time::now() };
        self.change(cx, mirrored, &op, &[(node.id, &fd)]).map(drop)
    }

    pub(crate) fn removexattr(&self, cx: &mut Context<'_>, name: &[u8]) -> Result<(), Errno> {
        if name == ID_XATTR.as_bytes() {
            return Err(Errno::NODATA);
        }
        let node = self.node(cx.header.nodeid)?;
        let _guard = self.locks.hold([Span::whole(node.id)]);
        let node = self.node(node.nodeid)?;
        let fd = self.inode(&node)?;
        let op = Op::RemoveXattr { id: node.id, name };
        self.change(cx, Self::mirrored(&node), &op, &[(node.id, &fd)]).map(drop)
    }
}
