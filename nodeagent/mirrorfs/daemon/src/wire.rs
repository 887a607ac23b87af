//! The wire form of the protocol's messages: one version byte, one kind byte, little-endian fields, nothing left over.
//!
//! Operations and their answers travel apart (`session`, `intake`): on their own connections, with the file system's own form.
//! `decode` believes nothing: every kind, role and length is checked.

use mirror_core::RoleName;
use mirror_core::Time;
use mirror_core::ids::{Generation, Lineage, ObjectId, Seq};
use mirror_core::message::{Message, Purpose, View};

/// The version of these forms. A peer of another version is refused with a message that says so.
const VERSION: u8 = 1;
/// More objects than a difference log can hold are 'everything'; a longer list is no message.
const OBJECTS_MAX: usize = 65_536;

/// Where an operation's frame names its replicated directory: a resync's copy (its body names the directory), and the end of the
/// copies. No directory has these numbers.
pub const COPY: u16 = u16::MAX;
pub const PURGE: u16 = u16::MAX - 1;

/// What precedes an operation's fields: the lowest number that is not finished, and the one that must have been applied.
pub fn operation_head(low: Seq, after: Seq) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&low.0.to_le_bytes());
    head[8..].copy_from_slice(&after.0.to_le_bytes());
    head
}

/// The two numbers, and the fields behind them.
pub fn split_operation(payload: &[u8]) -> Option<(Seq, Seq, &[u8])> {
    let mut r = Reader(payload);
    let (low, after) = (Seq(r.number()?), Seq(r.number()?));
    Some((low, after, r.0))
}

/// Makes of a `ResyncBegin` one that wants the copy kept that it overwrites.
pub fn keep(message: &mut [u8]) {
    message[1] = BEGIN_AND_KEEP;
}

/// Whether a message is such a one.
pub fn keeps(message: &[u8]) -> bool {
    message.get(1) == Some(&BEGIN_AND_KEEP)
}

/// The kind byte of a `ResyncBegin` that wants the copy kept.
const BEGIN_AND_KEEP: u8 = 10;

/// The bytes of a message; `None` for the two kinds that don't travel here.
pub fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut w = vec![VERSION];
    match message {
        Message::Operation { .. } | Message::Acknowledgement { .. } => return None,
        Message::Beacon { sent, answered, renew, view } => {
            w.push(1);
            time(&mut w, *sent);
            optional_time(&mut w, *answered);
            w.push((*renew).into());
            put_view(&mut w, view);
        }
        Message::Answer { to, granted, view } => {
            w.push(2);
            time(&mut w, *to);
            w.push((*granted).into());
            put_view(&mut w, view);
        }
        Message::ResyncBegin { generation, session, first } => {
            w.push(3);
            numbers(&mut w, &[generation.0, u64::from(*session), first.0]);
        }
        Message::ResyncReady { session, touched } => {
            w.push(4);
            numbers(&mut w, &[u64::from(*session)]);
            w.push(touched.is_some().into());
            let objects = touched.as_deref().unwrap_or_default();
            numbers(&mut w, &[objects.len() as u64]);
            objects.iter().for_each(|object| w.extend(object.0.to_le_bytes()));
        }
        Message::Prepare { purpose, generation, session, first, sent } => {
            w.extend([5, purpose_code(*purpose)]);
            numbers(&mut w, &[generation.0, u64::from(*session), first.0]);
            time(&mut w, *sent);
        }
        Message::Granted { purpose, generation, session, to } => {
            w.extend([6, purpose_code(*purpose)]);
            numbers(&mut w, &[generation.0, u64::from(*session)]);
            time(&mut w, *to);
        }
        Message::Cut { generation, low, number } => {
            w.push(7);
            numbers(&mut w, &[generation.0, low.0, *number]);
        }
        Message::CutReached { generation, number } => {
            w.push(8);
            numbers(&mut w, &[generation.0, *number]);
        }
        Message::CutDone { generation, number } => {
            w.push(9);
            numbers(&mut w, &[generation.0, *number]);
        }
    }
    Some(w)
}

fn numbers(w: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| w.extend(value.to_le_bytes()));
}

fn time(w: &mut Vec<u8>, time: Time) {
    w.extend(time.0.to_le_bytes());
}

fn optional_time(w: &mut Vec<u8>, value: Option<Time>) {
    w.push(value.is_some().into());
    time(w, value.unwrap_or_default());
}

fn purpose_code(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Join => 1,
        Purpose::Switch => 2,
        Purpose::Resume => 3,
    }
}

fn put_view(w: &mut Vec<u8>, view: &View) {
    let role = RoleName::ALL.iter().position(|role| *role == view.role).unwrap_or(0);
    w.push(role as u8);
    numbers(w, &[view.generation.0, view.held.0, view.fence.0]);
    w.extend(view.lineage.0.to_le_bytes());
    w.extend([view.target, view.lost, view.open, view.leaving].map(u8::from));
}

/// The message in `bytes`, which it must fill exactly.
pub fn decode(bytes: &[u8]) -> Option<Message> {
    let mut r = Reader(bytes);
    if r.byte()? != VERSION {
        return None;
    }
    let message = match r.byte()? {
        1 => Message::Beacon { sent: r.time()?, answered: r.optional_time()?, renew: r.flag()?, view: r.view()? },
        2 => Message::Answer { to: r.time()?, granted: r.flag()?, view: r.view()? },
        3 | BEGIN_AND_KEEP => {
            Message::ResyncBegin { generation: r.generation()?, session: r.session()?, first: Seq(r.number()?) }
        }
        4 => {
            let (session, known, count) = (r.session()?, r.flag()?, usize::try_from(r.number()?).ok()?);
            if count > OBJECTS_MAX || !known && count > 0 {
                return None;
            }
            let objects = (0..count).map(|_| r.wide().map(ObjectId)).collect::<Option<Vec<_>>>()?;
            Message::ResyncReady { session, touched: known.then_some(objects) }
        }
        5 => Message::Prepare {
            purpose: r.purpose()?,
            generation: r.generation()?,
            session: r.session()?,
            first: Seq(r.number()?),
            sent: r.time()?,
        },
        6 => Message::Granted {
            purpose: r.purpose()?,
            generation: r.generation()?,
            session: r.session()?,
            to: r.time()?,
        },
        7 => Message::Cut { generation: r.generation()?, low: Seq(r.number()?), number: r.number()? },
        8 => Message::CutReached { generation: r.generation()?, number: r.number()? },
        9 => Message::CutDone { generation: r.generation()?, number: r.number()? },
        _ => return None,
    };
    r.0.is_empty().then_some(message)
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }
    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    fn wide(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }
    fn time(&mut self) -> Option<Time> {
        self.take().map(|bytes| Time(i64::from_le_bytes(bytes)))
    }
    fn optional_time(&mut self) -> Option<Option<Time>> {
        let (known, time) = (self.flag()?, self.time()?);
        Some(known.then_some(time))
    }
    fn generation(&mut self) -> Option<Generation> {
        self.number().map(Generation)
    }
    fn session(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }
    fn purpose(&mut self) -> Option<Purpose> {
        Some(match self.byte()? {
            1 => Purpose::Join,
            2 => Purpose::Switch,
            3 => Purpose::Resume,
            _ => return None,
        })
    }
    fn view(&mut self) -> Option<View> {
        Some(View {
            role: *RoleName::ALL.get(usize::from(self.byte()?))?,
            generation: self.generation()?,
            held: self.generation()?,
            fence: self.generation()?,
            lineage: Lineage(self.wide()?),
            target: self.flag()?,
            lost: self.flag()?,
            open: self.flag()?,
            leaving: self.flag()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        let view = View {
            role: RoleName::Join,
            generation: Generation(3),
            held: Generation(2),
            fence: Generation(1),
            lineage: Lineage(u128::MAX - 5),
            target: true,
            lost: false,
            open: true,
            leaving: false,
        };
        let (generation, session, first, sent) = (Generation(7), 9, Seq(11), Time(-13));
        let mut all = vec![
            Message::Beacon { sent, answered: Some(Time(5)), renew: true, view },
            Message::Beacon { sent, answered: None, renew: false, view },
            Message::Answer { to: sent, granted: true, view },
            Message::ResyncBegin { generation, session, first },
            Message::ResyncReady { session, touched: None },
            Message::ResyncReady { session, touched: Some(vec![]) },
            Message::ResyncReady { session, touched: Some(vec![ObjectId(1), ObjectId(u128::MAX)]) },
            Message::Cut { generation, low: first, number: 4 },
            Message::CutReached { generation, number: 4 },
            Message::CutDone { generation, number: 4 },
        ];
        for purpose in [Purpose::Join, Purpose::Switch, Purpose::Resume] {
            all.push(Message::Prepare { purpose, generation, session, first, sent });
            all.push(Message::Granted { purpose, generation, session, to: sent });
        }
        all
    }

    #[test]
    fn every_message_reads_back_and_a_cut_or_longer_one_is_none() {
        for message in all() {
            let mut bytes = encode(&message).expect("it travels here");
            assert_eq!(decode(&bytes).as_ref(), Some(&message));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None, "{message:?} cut at {cut}");
            }
            bytes.push(0);
            assert_eq!(decode(&bytes), None);
        }
    }

    #[test]
    fn a_resync_that_keeps_the_copy_reads_back_as_one_that_does_not() {
        let message = Message::ResyncBegin { generation: Generation(7), session: 9, first: Seq(11) };
        let mut bytes = encode(&message).expect("it travels here");
        assert!(!keeps(&bytes));
        keep(&mut bytes);
        assert!(keeps(&bytes));
        assert_eq!(decode(&bytes), Some(message));
    }

    #[test]
    fn what_is_out_of_bounds_is_no_message() {
        let mut bytes = encode(&Message::ResyncReady { session: 1, touched: Some(vec![]) }).expect("it travels here");
        let count = bytes.len() - 8;
        bytes[count..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode(&bytes), None);
        bytes[0] = VERSION + 1;
        assert_eq!(decode(&bytes), None, "another version");
    }
}
