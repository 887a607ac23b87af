//! What travels behind a `Kind::Copy`: what the target has to do so that one object becomes like the source's, or a part of it.
//!
//! A body is bounded, so a large object takes several copies. Only the last is marked finished; after any other the target answers
//! `NotYet`, and the object comes up again.

use mirrorfs_fs::id::FileId;

use crate::extents::Sent;
use crate::meta::Meta;
use crate::object::Object;
use crate::peer::MESSAGE_MAX;
use crate::question::VERSION;
use crate::wire::{Malformed, Reader, Writer};

/// Where a body that takes no more is full: the largest thing that is put in next fits behind it.
pub const FULL: usize = MESSAGE_MAX - (80 << 10);

const FINISHED: u8 = 1;
const GONE: u8 = 2;
const META: u8 = 4;

const DATA: u8 = 1;
const PUT: u8 = 2;
const DROP: u8 = 3;

/// One thing to do.
pub enum Step<'a> {
    /// Make an extent of the file be this.
    Data(Sent<'a>),
    /// Make a name of the directory lead to this inode. Where there is none: make it, like `meta`, with that data.
    Put { name: &'a [u8], id: FileId, meta: Meta, data: Option<Sent<'a>> },
    /// The directory has no such name: set aside what stands there.
    Drop { name: &'a [u8] },
}

/// A body that was received.
pub struct Body<'a> {
    pub of: Object,
    /// Afterwards the object is equal.
    pub finished: bool,
    /// The source has no such inode that could be opened.
    pub gone: bool,
    /// What the object itself is like, where that may differ.
    pub meta: Option<Meta>,
    steps: Reader<'a>,
}

impl<'a> Body<'a> {
    /// # Errors
    /// `Malformed`: nothing of it may be done.
    pub fn decode(bytes: &'a [u8]) -> Result<Body<'a>, Malformed> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return Err(Malformed("of another version"));
        }
        let (flags, tree, id) = (r.u8()?, r.u16()?, r.id()?);
        let meta = if flags & META == 0 { None } else { Some(Meta::read(&mut r)?) };
        let body =
            Body { of: Object { tree, id }, finished: flags & FINISHED != 0, gone: flags & GONE != 0, meta, steps: r };
        // All of it is looked at before anything is done.
        let mut trial = Reader(body.steps.0);
        while !trial.0.is_empty() {
            step(&mut trial)?;
        }
        Ok(body)
    }
}

impl Body<'_> {
    /// Nothing is to be done, not even to look whether the object is there.
    pub fn is_empty(&self) -> bool {
        self.meta.is_none() && self.steps.0.is_empty()
    }
}

impl<'a> Iterator for Body<'a> {
    type Item = Result<Step<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.steps.0.is_empty()).then(|| step(&mut self.steps))
    }
}

fn step<'a>(r: &mut Reader<'a>) -> Result<Step<'a>, Malformed> {
    Ok(match r.u8()? {
        DATA => Step::Data(Sent::read(r)?),
        PUT => {
            let (name, id, meta) = (r.entry()?, r.id()?, Meta::read(r)?);
            let data = if r.u8()? == 0 { None } else { Some(Sent::read(r)?) };
            Step::Put { name, id, meta, data }
        }
        DROP => Step::Drop { name: r.entry()? },
        _ => return Err(Malformed("a step of unknown kind")),
    })
}

/// Which object a body is for.
///
/// # Errors
/// `Malformed`: it is no body.
pub fn object_of(body: &[u8]) -> Result<Object, Malformed> {
    Body::decode(body).map(|body| body.of)
}

/// A body that does nothing, and leaves the object to be copied again.
pub fn nothing(of: Object) -> Vec<u8> {
    Draft::new(of, None).0.0
}

/// A body in the making.
pub struct Draft(Writer);

impl Draft {
    pub fn new(of: Object, meta: Option<&Meta>) -> Draft {
        let mut w = Writer::default();
        w.u8(VERSION).u8(if meta.is_some() { META } else { 0 }).u16(of.tree).id(of.id);
        if let Some(meta) = meta {
            meta.write(&mut w);
        }
        Draft(w)
    }

    /// What tells the target that there is nothing to be done for an object.
    pub fn gone(of: Object) -> Draft {
        let mut draft = Draft::new(of, None);
        draft.0.0[1] |= GONE;
        draft.finish()
    }

    /// Afterwards the object is equal.
    pub fn finish(mut self) -> Draft {
        self.0.0[1] |= FINISHED;
        self
    }

    /// No more goes in.
    pub fn is_full(&self) -> bool {
        self.0.0.len() >= FULL
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.0.0.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    pub fn drop_name(&mut self, name: &[u8]) {
        self.0.u8(DROP).name(name);
    }

    /// An extent follows, written by `extents::write_out`.
    pub fn data(&mut self) -> &mut Writer {
        self.0.u8(DATA)
    }

    /// A name and its inode; `data` writes an extent.
    pub fn put<E>(
        &mut self,
        name: &[u8],
        id: FileId,
        meta: &Meta,
        data: Option<impl FnOnce(&mut Writer) -> Result<(), E>>,
    ) -> Result<(), E> {
        self.0.u8(PUT).name(name).id(id);
        meta.write(&mut self.0);
        let flag = self.0.0.len();
        self.0.u8(0);
        if let Some(data) = data {
            data(&mut self.0)?;
            self.0.0[flag] = 1;
        }
        Ok(())
    }

    /// Takes back what went in behind the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.0.0.truncate(length);
    }
}
