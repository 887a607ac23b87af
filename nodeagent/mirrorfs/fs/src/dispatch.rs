//! Which request is whose: from operation codes to handlers.

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::abi::{
    BatchForgetIn, CopyFileRangeIn, CreateIn, FallocateIn, ForgetIn, ForgetOne, FsyncIn, GetxattrIn, LinkIn, LseekIn,
    MkdirIn, MknodIn, OpenIn, ReadIn, ReleaseIn, Rename2In, RenameIn, SetattrIn, SetxattrIn, SetxattrInCompat, StatxIn,
    WriteIn, opcode,
};
use crate::device::{Arguments, Reply, Request};
use crate::mirror::{Context, Mirror};
use crate::names::Wish;
use crate::replicate::Session;

/// What a request comes to.
pub enum Answer {
    Reply(Result<(), Errno>),
    /// The kernel expects none.
    None,
}

impl Mirror {
    /// Does what a request says; a reply's body is left in `reply`.
    pub fn handle(&self, request: &Request<'_>, session: &mut dyn Session, reply: &mut Reply) -> Answer {
        reply.clear();
        let mut arguments = request.arguments;
        match request.header.opcode {
            opcode::FORGET => {
                if let Ok(forget) = arguments.take::<ForgetIn>() {
                    self.table.forget(request.header.nodeid, forget.nlookup);
                }
                Answer::None
            }
            opcode::BATCH_FORGET => {
                self.forget_many(arguments);
                Answer::None
            }
            _ => {
                // Whichever way the request came: nothing is answered while this node may not serve.
                if let Err(errno) = session.admit() {
                    return Answer::Reply(Err(errno));
                }
                let mut cx = Context { header: &request.header, session, reply };
                Answer::Reply(self.answer(&mut cx, arguments))
            }
        }
    }

    fn forget_many(&self, mut arguments: Arguments<'_>) {
        let count = arguments.take::<BatchForgetIn>().map_or(0, |batch| batch.count);
        for _ in 0..count {
            let Ok(one) = arguments.take::<ForgetOne>() else { return };
            self.table.forget(one.nodeid, one.nlookup);
        }
    }

    fn answer(&self, cx: &mut Context<'_>, mut a: Arguments<'_>) -> Result<(), Errno> {
        match cx.header.opcode {
            opcode::LOOKUP => self.lookup(cx, a.name()?),
            opcode::GETATTR => self.getattr(cx),
            opcode::STATX => self.statx(cx, &a.take::<StatxIn>()?),
            opcode::SETATTR => self.setattr(cx, &a.take::<SetattrIn>()?),
            opcode::READLINK => self.readlink(cx),
            opcode::SYMLINK => {
                let (name, target) = (a.name()?, a.name()?);
                let mode = FileType::Symlink.as_raw_mode() | 0o777;
                self.make(cx, &Wish { name, mode, umask: 0, rdev: 0, target })
            }
            opcode::MKNOD => {
                let mknod = a.take::<MknodIn>()?;
                self.mknod(cx, &mknod, a.name()?)
            }
            opcode::MKDIR => {
                let MkdirIn { mode, umask } = a.take()?;
                let mode = FileType::Directory.as_raw_mode() | mode & 0o7777;
                self.make(cx, &Wish { name: a.name()?, mode, umask, rdev: 0, target: b"" })
            }
            opcode::UNLINK => self.unlink(cx, a.name()?, false),
            opcode::RMDIR => self.unlink(cx, a.name()?, true),
            opcode::RENAME => {
                let rename = a.take::<RenameIn>()?;
                let (name, new_name) = (a.name()?, a.name()?);
                self.rename(cx, name, rename.newdir, new_name, 0)
            }
            opcode::RENAME2 => {
                let rename = a.take::<Rename2In>()?;
                let (name, new_name) = (a.name()?, a.name()?);
                self.rename(cx, name, rename.newdir, new_name, rename.flags)
            }
            opcode::LINK => {
                let link = a.take::<LinkIn>()?;
                self.link(cx, link.oldnodeid, a.name()?)
            }
            opcode::CREATE => {
                let create = a.take::<CreateIn>()?;
                self.create(cx, &create, a.name()?)
            }
            opcode::TMPFILE => self.tmpfile(cx, &a.take::<CreateIn>()?),
            opcode::STATFS => self.statfs(cx),
            opcode::OPENDIR => self.opendir(cx),
            opcode::READDIR => self.readdir(cx, &a.take::<ReadIn>()?, false),
            opcode::READDIRPLUS => self.readdir(cx, &a.take::<ReadIn>()?, true),
            opcode::RELEASEDIR => {
                self.listings.release(a.take::<ReleaseIn>()?.fh);
                Ok(())
            }
            opcode::FSYNCDIR => self.fsync(cx, &a.take::<FsyncIn>()?, true),
            code => self.answer_data(cx, code, a),
        }
    }

    fn answer_data(&self, cx: &mut Context<'_>, code: u32, mut a: Arguments<'_>) -> Result<(), Errno> {
        match code {
            opcode::OPEN => self.open(cx, &a.take::<OpenIn>()?),
            opcode::READ => self.read(cx, &a.take::<ReadIn>()?),
            opcode::WRITE => {
                let write = a.take::<WriteIn>()?;
                self.write(cx, &write, a.bytes(write.size as usize)?)
            }
            opcode::RELEASE => self.release(cx),
            opcode::FSYNC => self.fsync(cx, &a.take::<FsyncIn>()?, false),
            opcode::FALLOCATE => self.fallocate(cx, &a.take::<FallocateIn>()?),
            opcode::LSEEK => self.lseek(cx, &a.take::<LseekIn>()?),
            opcode::COPY_FILE_RANGE => self.copy_file_range(cx, &a.take::<CopyFileRangeIn>()?),
            opcode::GETXATTR => {
                let get = a.take::<GetxattrIn>()?;
                self.getxattr(cx, a.name()?, get.size)
            }
            opcode::LISTXATTR => self.listxattr(cx, a.take::<GetxattrIn>()?.size),
            opcode::SETXATTR => {
                let set = if self.extended_setxattr() {
                    a.take::<SetxattrIn>()?
                } else {
                    let SetxattrInCompat { size, flags } = a.take()?;
                    SetxattrIn { size, flags, setxattr_flags: 0, padding: 0 }
                };
                let name = a.name()?;
                self.setxattr(cx, &set, name, a.bytes(set.size as usize)?)
            }
            opcode::REMOVEXATTR => self.removexattr(cx, a.name()?),
            // FLUSH, INTERRUPT, ACCESS, locks, IOCTL, POLL, BMAP: the kernel does without.
            _ => Err(Errno::NOSYS),
        }
    }
}
