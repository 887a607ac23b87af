//! The mode that a new file gets: umask, default ACL and the parent's set-group-id, as the kernel works them out.
//!
//! Needed before the file exists, because the peer makes it first. The file system below inherits the ACL itself, on
//! both sides, from the same default ACL; this is only the arithmetic of `posix_acl_create` on the mode.

use rustix::fs::FileType;

/// The parent directory, as far as its children inherit from it.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    pub mode: u32,
    pub gid: u32,
    /// The value of `system.posix_acl_default`, where there is one.
    pub default_acl: Option<&'a [u8]>,
}

const SET_GROUP_ID: u32 = 0o2000;
const PERMISSIONS: u32 = 0o777;

/// Mode and group of a new inode that the caller (group `gid`) makes with `mode` and `umask`.
pub fn born(parent: Parent<'_>, mode: u32, umask: u32, gid: u32) -> (u32, u32) {
    // A symbolic link has no permissions of its own, hence no umask and no ACL.
    let mut mode = match parent.default_acl.and_then(inherited_limits) {
        _ if FileType::from_raw_mode(mode) == FileType::Symlink => mode | PERMISSIONS,
        Some(limits) => mode & (limits | !PERMISSIONS),
        None => mode & !(umask & PERMISSIONS),
    };
    if parent.mode & SET_GROUP_ID == 0 {
        return (mode, gid);
    }
    if FileType::from_raw_mode(mode) == FileType::Directory {
        mode |= SET_GROUP_ID;
    }
    (mode, parent.gid)
}

/// What a change of data or owner leaves of set-user-id and set-group-id; `None`: nothing changes.
///
/// `in_group`: the caller belongs to the file's group. Set-group-id without group execute (once the mark of
/// mandatory locking) stays for such a caller alone.
pub fn without_privileges(mode: u32, in_group: impl FnOnce() -> bool) -> Option<u32> {
    let mut left = mode & !0o4000;
    if left & SET_GROUP_ID != 0 && (mode & 0o010 != 0 || !in_group()) {
        left &= !SET_GROUP_ID;
    }
    (left != mode && FileType::from_raw_mode(mode) != FileType::Directory).then_some(left)
}

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The permission bits that a default ACL lets through, `None` where the value is no ACL.
fn inherited_limits(acl: &[u8]) -> Option<u32> {
    let (version, entries) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 || entries.is_empty() {
        return None;
    }
    let permissions = |tag: u16| {
        entries.chunks_exact(8).find(|e| u16::from_le_bytes([e[0], e[1]]) == tag).map(|e| u32::from(e[2] & 7))
    };
    let group = permissions(MASK).or_else(|| permissions(GROUP_OBJ))?;
    Some(permissions(USER_OBJ)? << 6 | group << 3 | permissions(OTHER)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u8)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&[*permissions, 0, 0xff, 0xff, 0xff, 0xff]);
        }
        bytes
    }

    const PLAIN: Parent<'static> = Parent { mode: 0o40755, gid: 5, default_acl: None };

    #[test]
    fn umask_counts_without_a_default_acl() {
        assert_eq!(born(PLAIN, 0o100_666, 0o027, 100), (0o100_640, 100));
        assert_eq!(born(PLAIN, 0o120_777, 0o077, 100), (0o120_777, 100));
    }

    #[test]
    fn a_default_acl_takes_the_place_of_the_umask_and_its_mask_that_of_the_group() {
        let with_mask = acl(&[(USER_OBJ, 7), (0x02, 7), (GROUP_OBJ, 7), (MASK, 5), (OTHER, 0)]);
        let parent = Parent { default_acl: Some(&with_mask), ..PLAIN };
        assert_eq!(born(parent, 0o100_666, 0o777, 100), (0o100_640, 100));
        let minimal = acl(&[(USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 4)]);
        let parent = Parent { default_acl: Some(&minimal), ..PLAIN };
        assert_eq!(born(parent, 0o40777, 0o022, 100), (0o40644, 100));
    }

    #[test]
    fn a_set_group_id_directory_hands_on_its_group_and_to_directories_the_bit() {
        let parent = Parent { mode: 0o42775, ..PLAIN };
        assert_eq!(born(parent, 0o100_666, 0o022, 100), (0o100_644, 5));
        assert_eq!(born(parent, 0o40777, 0o022, 100), (0o42755, 5));
    }

    #[test]
    fn writes_take_set_user_id_and_executable_set_group_id_away() {
        let (inside, outside) = (|| true, || false);
        assert_eq!(without_privileges(0o104_755, inside), Some(0o100_755));
        assert_eq!(without_privileges(0o102_755, inside), Some(0o100_755));
        assert_eq!(without_privileges(0o102_745, inside), None);
        assert_eq!(without_privileges(0o102_745, outside), Some(0o100_745));
        assert_eq!(without_privileges(0o100_644, outside), None);
        assert_eq!(without_privileges(0o042_775, outside), None);
    }
}
