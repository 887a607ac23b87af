//! I1 to I7, each a check on one state; A1: it ends well; A2 (`take`): nobody is promoted over a peer that is there.

use super::*;
use mirror_core::Config;
use std::sync::Arc;

impl World {
    /// The first invariant that does not hold here.
    pub fn violation(&self, settings: &Settings) -> Option<String> {
        if let Some(broken) = self.broken {
            return Some(broken.into());
        }
        let serving: Vec<usize> = (0..2).filter(|i| self.hosts[*i].gate_open(NOW)).collect();
        if serving.len() > 1 && !self.forced {
            return Some("I4: two nodes serve".into());
        }
        for i in serving {
            if let Some(broken) = self.gate_violation(i).or_else(|| self.serving_violation(i)) {
                return Some(broken);
            }
        }
        let copy = (0..2).find_map(|i| self.copy_violation(i).or_else(|| self.data_violation(i, settings)));
        copy.or_else(|| self.log_violation()).or_else(|| self.survivor_violation()).or_else(|| self.idle_violation())
    }

    /// The kernel's gate closes by itself when the daemon may no longer serve: what keeps two from serving when one stands still.
    fn gate_violation(&self, i: usize) -> Option<String> {
        let host = &self.hosts[i];
        let until = host.node.as_ref()?.serves_until();
        let own = host.gate != self.leftover[i];
        (own && host.gate > until).then(|| format!("I4: the gate of {:?} stays open longer than it may serve", host.me))
    }

    /// Who may not serve, whatever the witness says: it was taken out, or a resync changed part of its copy, or its disk is new.
    fn copy_violation(&self, i: usize) -> Option<String> {
        let host = &self.hosts[i];
        if !host.serves(NOW) {
            return None;
        }
        match () {
            () if self.removed[i] && host.node.as_ref().is_some_and(|node| node.halted().is_none()) => {
                Some(format!("I5: {:?} serves and knows that it was removed", host.me))
            }
            () if self.mixed[i] => Some(format!("I5: {:?} serves half of what a resync made of its copy", host.me)),
            () if host.reimaged => Some(format!("I5: {:?} serves and has lost all it held", host.me)),
            () => None,
        }
    }

    pub(super) fn serving_violation(&self, i: usize) -> Option<String> {
        let host = &self.hosts[i];
        let node = host.node.as_ref()?;
        if !node.serves() {
            return None;
        }
        let joining = node.role() == RoleName::Join;
        let generation = if joining { node.generation() } else { node.epoch() };
        if !self.history.contains(&(generation, host.me)) {
            return Some(format!("I3: {:?} serves in generation {} which names another", host.me, generation.0));
        }
        if self.forced {
            return None;
        }
        if self.witness.generation > generation && !node.has_open_cas() && !joining {
            return Some(format!(
                "I3: serves in generation {} and knows nothing of {}",
                generation.0, self.witness.generation.0
            ));
        }
        let other = self.witness.holder(host.peer);
        if other.is_some() && node.requires_peer().is_none() {
            return Some("I2: acknowledges alone while both are in sync".into());
        }
        self.witness.holder(host.me).is_none().then(|| "I5: a node that is not in sync serves".into())
    }

    pub(super) fn data_violation(&self, i: usize, settings: &Settings) -> Option<String> {
        let host = &self.hosts[i];
        if self.forced {
            return None;
        }
        let holder = self.witness.holder(host.me);
        // A copy that lost its memory owes the notice; until it is told it serves nobody (the last line).
        let whole = host.state.is_some_and(|state| state.boot == host.inc.boot);
        let intact = whole && holder.is_some_and(|holder| holder.inc.boot == host.inc.boot) && !host.reimaged;
        let synced = holder.is_some() && !host.reimaged;
        if synced && self.synced.iter().zip(&host.disk).any(|(synced, c)| synced & !c.bits != 0) {
            return Some(format!("I1: an acknowledged fsync is not on the disk of {:?}, which is in sync", host.me));
        }
        let on_disk = settings.acknowledgement == Acknowledgement::Disk && holder.is_some() && !host.reimaged;
        let has = |contents: &[Content]| self.acked.iter().zip(contents).all(|(acked, c)| acked & !c.bits == 0);
        if on_disk && !has(&host.disk) || intact && !has(&host.cache) {
            return Some(format!("I1: an acknowledged operation is not on {:?}, which is in sync", host.me));
        }
        let serves = host.serves(NOW) && !has(&host.cache);
        serves.then(|| format!("I1: {:?} serves without an acknowledged operation", host.me))
    }

    pub(super) fn log_violation(&self) -> Option<String> {
        let logs = [self.hosts[0].logged()?, self.hosts[1].logged()?];
        for object in 0..self.acked.len() {
            let id = ObjectId(object as u128);
            let [a, b] = &self.hosts;
            let differs = a.cache[object] != b.cache[object] || a.disk[object] != b.disk[object];
            let volatile = self.hosts.iter().any(|host| host.cache[object] != host.disk[object]);
            if (differs || volatile) && !logs.iter().any(|log| log.contains(&id)) {
                return Some(format!("I7: object {object} may differ and no log says so"));
            }
        }
        None
    }

    /// While both are in sync, the one that survives names every difference by itself: it holds what its peer's cache holds
    /// (peer first, then local), and its log and window cover what its peer has not flushed.
    fn survivor_violation(&self) -> Option<String> {
        let living = |host: &Host| {
            self.witness.holder(host.me).is_some_and(|holder| holder.inc == host.inc) && host.node.is_some()
        };
        if !self.hosts.iter().all(|host| living(host) && !host.failing) || self.forced {
            return None;
        }
        let primary = self.hosts.iter().position(|host| host.role() == Some(RoleName::Prim))?;
        let (here, there) = (&self.hosts[primary], &self.hosts[1 - primary]);
        let node = here.node.as_ref()?;
        let touched = node.touched()?;
        (0..self.acked.len()).find_map(|object| {
            let id = ObjectId(object as u128);
            if here.cache[object].bits & !there.cache[object].bits != 0 {
                return Some(format!("I7: object {object} changed on the primary before its peer had it"));
            }
            let named = touched.contains(&id) || node.window().iter().any(|entry| entry.op.object == id);
            let volatile = there.cache[object] != there.disk[object];
            (volatile && !named)
                .then(|| format!("I7: object {object} is volatile on the secondary, which may die alone"))
        })
    }

    /// Both are in sync and no operation is under way: the copies are equal.
    fn idle_violation(&self) -> Option<String> {
        let primary = self.hosts.iter().position(|host| host.role() == Some(RoleName::Prim))?;
        let (here, there) = (&self.hosts[primary], &self.hosts[1 - primary]);
        let (node, peer) = (here.node.as_ref()?, there.node.as_ref()?);
        let in_sync =
            peer.role() == RoleName::Second && peer.epoch() == node.epoch() && !here.failing && !there.failing;
        let idle = in_sync && node.window().is_empty() && !self.forced;
        (idle && here.cache != there.cache).then(|| "I1: nothing is under way and the copies differ".into())
    }

    /// Whether the world ends well by itself: no more faults, everything is up, what is cut one way stays cut.
    pub fn ends_well(&self, settings: &Settings) -> bool {
        // Giving up is no good end: whoever needs it is stuck.
        let patient = Settings(Arc::new(Config { give_up: Span(1 << 40), ..(*settings.0).clone() }));
        let settings = &patient;
        let mut world = self.with(settings);
        world.left = Budget { versions: u8::MAX, ..Budget::default() };
        for i in 0..2u8 {
            if world.hosts[usize::from(i)].node.is_none() {
                world.take(settings, Step::Start(i));
            }
        }
        world.held = [false; 2];
        world.paused = [false; 2];
        while !world.late.is_empty() {
            world.take(settings, Step::Land(0));
        }
        // Whoever is recorded alone has to get to know it from somebody.
        let alone = |w: &World, i: usize| w.witness.other.is_none() && w.witness.primary.node == w.hosts[i].me;
        if (0..2).any(|i| world.away[i] && alone(&world, i))
            || world.away == [true, true]
            || world.cut == [false, false]
        {
            world.away = [false; 2];
        }
        if world.cut == [true, true] {
            world.take(settings, Step::Heal(0));
            world.take(settings, Step::Heal(1));
        }
        world.reconnected(settings);
        let well = |w: &World| {
            let serving: Vec<_> = w.hosts.iter().filter(|host| host.serves(NOW)).collect();
            let on_good_disk = matches!(serving.as_slice(), [host] if !host.failing);
            on_good_disk && w.waiting.iter().all(Vec::is_empty)
        };
        world.undone || world.run_fairly(settings, 1500, well) || world.needs_a_person()
    }

    /// No copy that the witness names is whole and on a disk that works; or a node is halted.
    fn needs_a_person(&self) -> bool {
        let halted = |host: &Host| host.node.as_ref().is_some_and(|node| node.halted().is_some());
        let whole = |host: &Host| self.witness.holder(host.me).is_some() && !host.failing && !host.reimaged;
        self.hosts.iter().any(|host| halted(host)) || !self.hosts.iter().any(|host| whole(host))
    }
}
