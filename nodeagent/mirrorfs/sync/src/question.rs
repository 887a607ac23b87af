//! What the source asks the target before it sends anything, and the answers. Asking changes nothing on either side.

use mirrorfs_fs::id::FileId;

use crate::extents::{BLOCKS, EXTENT};
use crate::names::Census;
use crate::object::Object;
use crate::wire::{Digest, Malformed, Reader, Writer};

/// The version of questions, answers and bodies.
pub const VERSION: u8 = 1;

/// Names in one question.
pub const ENTRIES: usize = 256;
/// Extents in one question: 8 MiB of data.
pub const EXTENTS: u64 = 128;

const ENTRIES_ASKED: u8 = 1;
const CENSUS_ASKED: u8 = 2;
const NAMES_ASKED: u8 = 3;
const INODE_ASKED: u8 = 4;
const BLOCKS_ASKED: u8 = 5;

/// Extents in one question about blocks.
pub const BLOCK_EXTENTS: usize = 64;

/// Behind it no file has data.
const LAST_EXTENT: u64 = i64::MAX as u64 / EXTENT - EXTENTS;

/// A name, where it leads on the source, and what that is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    pub name: Vec<u8>,
    pub id: FileId,
    /// The type's bits of the mode.
    pub kind: u32,
    /// `target::sight` of the inode, where it is to be compared.
    pub sight: Option<Digest>,
}

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Do these names of a directory lead to these inodes?
    Entries { of: Object, entries: Vec<Named> },
    /// How many names has a directory?
    Census { of: Object },
    /// Which names has a directory, from a cookie on?
    Names { of: Object, cookie: u64 },
    /// Is an inode like this, and are these extents of its data, once it is `size` long?
    Inode { of: Object, meta: Digest, size: u64, first: u64, extents: Vec<Digest> },
    /// Which blocks of these extents of a file differ, once it is `size` long? Each with its blocks' digests.
    Blocks { of: Object, size: u64, extents: Vec<(u64, Vec<Digest>)> },
}

/// What a name leads to on the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Led {
    /// To the same inode, and that looks the same as far as it was asked.
    Same = 0,
    /// To the same inode, which looks different.
    Different = 1,
    /// To an inode of the same type without an id: it can become this one.
    Nameless = 2,
    /// Elsewhere or nowhere, but the inode is there under another name.
    Elsewhere = 3,
    /// Elsewhere or nowhere, and there is no such inode.
    Absent = 4,
    /// As `Nameless`, and it looks the same.
    NamelessSame = 5,
}

impl Led {
    const ALL: [Led; 6] = [Led::Same, Led::Different, Led::Nameless, Led::Elsewhere, Led::Absent, Led::NamelessSame];
}

/// What an inode is like on the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    pub there: bool,
    /// All but its data is equal.
    pub same: bool,
    /// Which of the extents differ, counted from the first that was asked for.
    pub differing: Vec<u16>,
}

impl Question {
    /// Of which replicated directory.
    pub fn of(&self) -> Object {
        match self {
            Question::Entries { of, .. }
            | Question::Census { of }
            | Question::Names { of, .. }
            | Question::Inode { of, .. }
            | Question::Blocks { of, .. } => *of,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        let of = self.of();
        let kind = match self {
            Question::Entries { .. } => ENTRIES_ASKED,
            Question::Census { .. } => CENSUS_ASKED,
            Question::Names { .. } => NAMES_ASKED,
            Question::Inode { .. } => INODE_ASKED,
            Question::Blocks { .. } => BLOCKS_ASKED,
        };
        w.u8(VERSION).u8(kind).u16(of.tree).id(of.id);
        match self {
            Question::Entries { entries, .. } => {
                w.u16(entries.len() as u16);
                for entry in entries {
                    w.name(&entry.name).id(entry.id).u32(entry.kind).u8(entry.sight.is_some().into());
                    w.bytes(entry.sight.as_ref().map_or(&[], |sight| &sight[..]));
                }
            }
            Question::Census { .. } => {}
            Question::Names { cookie, .. } => {
                w.u64(*cookie);
            }
            Question::Inode { meta, size, first, extents, .. } => {
                w.bytes(meta).u64(*size).u64(*first).u16(extents.len() as u16);
                for digest in extents {
                    w.bytes(digest);
                }
            }
            Question::Blocks { size, extents, .. } => {
                w.u64(*size).u16(extents.len() as u16);
                for (extent, digests) in extents {
                    w.u64(*extent);
                    for digest in digests {
                        w.bytes(digest);
                    }
                }
            }
        }
        w.0
    }

    /// # Errors
    /// `Malformed`: it is not answered.
    pub fn decode(bytes: &[u8]) -> Result<Question, Malformed> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return Err(Malformed("of another version"));
        }
        let (kind, tree, id) = (r.u8()?, r.u16()?, r.id()?);
        let of = Object { tree, id };
        let question = match kind {
            ENTRIES_ASKED => {
                let count = r.u16()?;
                let mut one = || {
                    let (name, id, kind) = (r.entry()?.to_vec(), r.id()?, r.u32()?);
                    let sight = if r.u8()? == 0 { None } else { Some(r.digest()?) };
                    Ok(Named { name, id, kind, sight })
                };
                Question::Entries { of, entries: (0..count).map(|_| one()).collect::<Result<_, _>>()? }
            }
            CENSUS_ASKED => Question::Census { of },
            NAMES_ASKED => Question::Names { of, cookie: r.u64()? },
            INODE_ASKED => {
                let (meta, size, first, count) = (r.digest()?, r.u64()?, r.u64()?, u64::from(r.u16()?));
                if count > EXTENTS || first > LAST_EXTENT {
                    return Err(Malformed("extents beyond any bound"));
                }
                let extents = (0..count).map(|_| r.digest()).collect::<Result<_, _>>()?;
                Question::Inode { of, meta, size, first, extents }
            }
            BLOCKS_ASKED => {
                let (size, count) = (r.u64()?, r.u16()?);
                let mut one = || {
                    let extent = r.u64()?;
                    if extent > LAST_EXTENT {
                        return Err(Malformed("extents beyond any bound"));
                    }
                    Ok((extent, (0..BLOCKS).map(|_| r.digest()).collect::<Result<_, _>>()?))
                };
                let extents = (0..count).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
                if extents.len() > BLOCK_EXTENTS {
                    return Err(Malformed("more extents than one question may have"));
                }
                Question::Blocks { of, size, extents }
            }
            _ => return Err(Malformed("a question of unknown kind")),
        };
        r.end()?;
        Ok(question)
    }
}

/// What the target's answers look like. The first byte tells an answer from a refusal, which is a sentence.
pub mod answer {
    use super::{Census, Inode, Led, Malformed, Reader, Writer};
    use crate::peer::Lost;

    /// An answer's beginning.
    pub fn begin() -> Writer {
        let mut w = Writer::default();
        w.u8(1);
        w
    }

    /// Instead of an answer.
    pub fn refuse(why: &str) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(0).bytes(why.as_bytes());
        w.0
    }

    fn body(bytes: &[u8]) -> Result<Reader<'_>, Lost> {
        match bytes.split_first() {
            Some((1, body)) => Ok(Reader(body)),
            Some((0, why)) => Err(Lost(format!("it says: {}", String::from_utf8_lossy(why)))),
            _ => Err(Lost("it gave no answer".into())),
        }
    }

    fn read<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>) -> Result<T, Lost> {
        let mut reader = body(bytes)?;
        let value = read(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map_err(|malformed| Lost(malformed.to_string()))
    }

    /// # Errors
    /// `Lost` for anything but `count` statuses.
    pub fn entries(bytes: &[u8], count: usize) -> Result<Vec<Led>, Lost> {
        read(bytes, |r| {
            let led = |byte: &u8| Led::ALL.get(usize::from(*byte)).copied().ok_or(Malformed("an unknown status"));
            r.take(count)?.iter().map(led).collect()
        })
    }

    /// # Errors
    /// `Lost`.
    pub fn census(bytes: &[u8]) -> Result<Option<Census>, Lost> {
        read(bytes, |r| {
            let there = r.u8()? != 0;
            Ok(if there { Some(Census { count: r.u64()?, sum: r.u128()? }) } else { None })
        })
    }

    /// Names, and the cookie to go on with.
    ///
    /// # Errors
    /// `Lost`.
    pub fn names(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, Option<u64>), Lost> {
        read(bytes, |r| {
            let (count, more) = (r.u16()?, r.u8()? != 0);
            let cookie = r.u64()?;
            let names = (0..count).map(|_| r.entry().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
            Ok((names, more.then_some(cookie)))
        })
    }

    /// For each extent the blocks that differ, as a mask.
    ///
    /// # Errors
    /// `Lost` for anything but `count` masks.
    pub fn blocks(bytes: &[u8], count: usize) -> Result<Vec<u16>, Lost> {
        read(bytes, |r| (0..count).map(|_| r.u16()).collect())
    }

    /// # Errors
    /// `Lost`.
    pub fn inode(bytes: &[u8]) -> Result<Inode, Lost> {
        read(bytes, |r| {
            let (there, same, count) = (r.u8()? != 0, r.u8()? != 0, r.u16()?);
            let differing = (0..count).map(|_| r.u16()).collect::<Result<_, _>>()?;
            Ok(Inode { there, same, differing })
        })
    }
}
