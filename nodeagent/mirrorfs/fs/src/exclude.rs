//! The excluded paths: what lies on or below them exists on the primary alone.
//!
//! Each inode carries its place in this tree of names from its lookup on, so no path is ever put together. What stands
//! on the way to an excluded path can't be renamed (EXDEV), or the exclusion would move with it.

/// An inode's place: away from all excluded paths.
pub const PLAIN: u16 = 0;
/// On or below an excluded path.
pub const EXCLUDED: u16 = u16::MAX;

/// The excluded paths of one replicated directory.
#[derive(Debug, Default)]
pub struct Exclude {
    /// `nodes[place - 1]`: the names that lead on, and where to.
    nodes: Vec<Vec<(Vec<u8>, u16)>>,
}

impl Exclude {
    /// From paths relative to the directory, such as `postmaster.pid` or `cache/tmp`.
    ///
    /// # Errors
    /// A sentence for people when a path is absolute, empty or leads out.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p str>) -> Result<Exclude, String> {
        let mut exclude = Exclude::default();
        for path in paths {
            let names: Vec<&str> = path.trim_end_matches('/').split('/').collect();
            if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
                return Err(format!(
                    "excluded path {path:?}: write it relative to the replicated directory, without '.' and '..'"
                ));
            }
            exclude.add(&names).ok_or_else(|| format!("excluded path {path:?}: too many excluded paths"))?;
        }
        Ok(exclude)
    }

    fn add(&mut self, names: &[&str]) -> Option<()> {
        if self.nodes.is_empty() {
            self.nodes.push(Vec::new());
        }
        let mut at = 0;
        for (depth, name) in names.iter().enumerate() {
            let last = depth + 1 == names.len();
            let known = self.nodes[at].iter().position(|(other, _)| other == name.as_bytes());
            let place = match known.map(|k| self.nodes[at][k].1) {
                Some(EXCLUDED) => return Some(()),
                Some(place) if !last => place,
                _ if last => EXCLUDED,
                _ => {
                    self.nodes.push(Vec::new());
                    u16::try_from(self.nodes.len()).ok().filter(|place| *place < EXCLUDED)?
                }
            };
            match known {
                Some(known) => self.nodes[at][known].1 = place,
                None => self.nodes[at].push((name.as_bytes().to_vec(), place)),
            }
            at = usize::from(place).wrapping_sub(1);
        }
        Some(())
    }

    /// The root's place.
    pub fn root(&self) -> u16 {
        if self.nodes.is_empty() { PLAIN } else { 1 }
    }

    /// The place of `name` in a directory at `parent`.
    pub fn child(&self, parent: u16, name: &[u8]) -> u16 {
        match parent {
            PLAIN | EXCLUDED => parent,
            place => self.nodes[usize::from(place) - 1].iter().find(|(n, _)| n == name).map_or(PLAIN, |(_, p)| *p),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(exclude: &Exclude, path: &str) -> u16 {
        path.split('/').fold(exclude.root(), |place, name| exclude.child(place, name.as_bytes()))
    }

    #[test]
    fn what_lies_below_an_excluded_path_is_excluded_and_nothing_else() {
        let exclude = Exclude::new(["postmaster.pid", "cache/tmp/", "cache/tmp/deeper"]).unwrap();
        assert_eq!(place(&exclude, "postmaster.pid"), EXCLUDED);
        assert_eq!(place(&exclude, "cache/tmp/a/b"), EXCLUDED);
        assert_eq!(place(&exclude, "cache/other"), PLAIN);
        assert_eq!(place(&exclude, "sub/postmaster.pid"), PLAIN);
        assert!(![PLAIN, EXCLUDED].contains(&place(&exclude, "cache")));
        assert_eq!(Exclude::default().root(), PLAIN);
    }

    #[test]
    fn a_shorter_path_takes_in_the_longer_one_in_either_order() {
        for paths in [["a", "a/b"], ["a/b", "a"]] {
            let exclude = Exclude::new(paths).unwrap();
            assert_eq!(place(&exclude, "a/x"), EXCLUDED);
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/abs", "a/../b", "", "."] {
            assert!(Exclude::new([path]).is_err(), "{path}");
        }
    }
}
