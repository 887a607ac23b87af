//! One file, many ways to change and read it, a model of what it must hold: in the manner of fsx.
//!
//! Through the page cache, O_DIRECT and a shared mapping in turn; `MIRRORFS_SEED` and `MIRRORFS_STEPS` as in `random`.

mod support;

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use support::Pair;
use support::random::Random;

const MAX: usize = 400_000;

struct Exerciser {
    cached: File,
    direct: File,
    model: Vec<u8>,
    random: Random,
}

impl Exerciser {
    fn span(&mut self) -> (usize, usize) {
        let start = self.random.below(MAX as u64) as usize;
        (start, 1 + self.random.below((MAX - start).min(120_000) as u64) as usize)
    }

    fn put(&mut self, start: usize, data: &[u8]) {
        if self.model.len() < start + data.len() {
            self.model.resize(start + data.len(), 0);
        }
        self.model[start..start + data.len()].copy_from_slice(data);
    }

    fn step(&mut self) -> &'static str {
        let (start, length) = self.span();
        match self.random.below(12) {
            0..=1 => {
                let data = self.random.bytes(length);
                self.cached.write_all_at(&data, start as u64).unwrap();
                self.put(start, &data);
                "write"
            }
            2 => {
                let (start, length) = (start & !4095, length.next_multiple_of(4096));
                let mut memory = Aligned::new(length);
                memory.bytes().copy_from_slice(&self.random.bytes(length));
                self.direct.write_all_at(memory.bytes(), start as u64).unwrap();
                self.put(start, memory.bytes());
                "direct write"
            }
            3 => {
                let size = self.random.below(MAX as u64) as usize;
                self.cached.set_len(size as u64).unwrap();
                self.model.resize(size, 0);
                "truncate"
            }
            4 => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&self.cached, flags, start as u64, length as u64).unwrap();
                self.clear(start, length);
                "punch"
            }
            5 => {
                let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                fallocate(&self.cached, flags, start as u64, length as u64).unwrap();
                self.clear(start, length);
                "zero"
            }
            6 => {
                fallocate(&self.cached, FallocateFlags::empty(), start as u64, length as u64).unwrap();
                self.model.resize(self.model.len().max(start + length), 0);
                "allocate"
            }
            7 => self.copy(start, length),
            8 => self.map(start, length),
            9 => {
                let mut memory = Aligned::new(1 << 19);
                let got = self.direct.read_at(memory.bytes(), 0).unwrap();
                assert!(memory.bytes()[..got] == self.model[..got] && got == self.model.len(), "direct read");
                "direct read"
            }
            10 => {
                self.cached.sync_data().unwrap();
                "sync"
            }
            _ => {
                self.check();
                "read"
            }
        }
    }

    fn clear(&mut self, start: usize, length: usize) {
        let end = self.model.len().min(start + length);
        if start < end {
            self.model[start..end].fill(0);
        }
    }

    fn copy(&mut self, start: usize, length: usize) -> &'static str {
        let target = self.random.below(MAX as u64) as usize;
        let length = length.min(self.model.len().saturating_sub(start));
        if length == 0 || (target < start + length && start < target + length) {
            return "no copy";
        }
        let (mut from, mut to) = (start as u64, target as u64);
        let copied =
            rustix::fs::copy_file_range(&self.cached, Some(&mut from), &self.cached, Some(&mut to), length).unwrap();
        let data = self.model[start..start + copied].to_vec();
        self.put(target, &data);
        "copy"
    }

    /// Writes through a shared mapping, within the file.
    fn map(&mut self, start: usize, length: usize) -> &'static str {
        let end = self.model.len().min(start + length);
        if start >= end {
            return "no map";
        }
        let data = self.random.bytes(end - start);
        let size = self.model.len();
        // SAFETY: the mapping is ours alone, as long as the file, which nobody changes meanwhile, and unmapped below.
        unsafe {
            let flags = ProtFlags::READ | ProtFlags::WRITE;
            let memory = mmap(std::ptr::null_mut(), size, flags, MapFlags::SHARED, self.cached.as_fd(), 0).unwrap();
            let view = std::slice::from_raw_parts_mut(memory.cast::<u8>(), size);
            assert!(view[..] == self.model[..], "what the mapping shows");
            view[start..end].copy_from_slice(&data);
            msync(memory, size, MsyncFlags::SYNC).unwrap();
            munmap(memory, size).unwrap();
        }
        self.put(start, &data);
        "map"
    }

    fn check(&self) {
        assert_eq!(self.cached.metadata().unwrap().len(), self.model.len() as u64);
        let mut seen = vec![0; self.model.len()];
        self.cached.read_exact_at(&mut seen, 0).unwrap();
        if let Some(at) = (0..seen.len()).find(|at| seen[*at] != self.model[*at]) {
            panic!("byte {at} of {} is {}, not {}", seen.len(), seen[at], self.model[at]);
        }
    }
}

/// Memory that O_DIRECT accepts.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Aligned {
        let memory = vec![0; length + 4096];
        let start = memory.as_ptr().align_offset(4096);
        Aligned { memory, start, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[test]
fn a_file_holds_what_its_model_holds() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let steps = number("MIRRORFS_STEPS").unwrap_or(400);
    for seed in number("MIRRORFS_SEED").map_or(1..=4, |seed| seed..=seed) {
        let mut pair = Pair::new();
        let path = pair.mnt().join("file");
        let cached = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        let direct = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
        let mut exerciser = Exerciser { cached, direct, model: Vec::new(), random: Random::new(seed) };
        let mut story = Vec::new();
        for number in 0..steps {
            story.push(exerciser.step());
            let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| exerciser.check()));
            assert!(step.is_ok(), "seed {seed}, step {number}: {:?}", &story[story.len().saturating_sub(6)..]);
        }
        let model = exerciser.model.clone();
        drop(exerciser);
        pair.settle();
        assert!(std::fs::read(pair.b().join("file")).unwrap() == model, "seed {seed}: the secondary's copy");
    }
}
