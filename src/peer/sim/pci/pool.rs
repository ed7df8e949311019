//! The memory of masters as the server has mapped it: once for all connections of one VM that hand over the same files.

use std::os::fd::{AsFd, OwnedFd};

use crate::memory::{MemRegionDesc, MemoryError, RegionTable};
use crate::sys::fd::file_id;

/// Whose memory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Group {
    /// Of the VM with this UUID.
    Vm([u8; 16]),
    /// Of the VM that this listener is for.
    Listener(String),
    /// Of one connection alone.
    Alone(usize),
}

/// A region and the file that it is in.
type Key = (MemRegionDesc, (u64, u64));

/// Regions that are mapped, and who uses them.
#[derive(Debug)]
struct Shared {
    group: Group,
    keys: Vec<Key>,
    table: RegionTable,
    users: Vec<usize>,
}

/// All mappings of a server.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shared: Vec<Shared>,
    /// Mappings that nobody uses and that a fault has kept.
    lost: Vec<RegionTable>,
}

/// How connections of one VM use its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    /// The same files are mapped once.
    pub(super) once: bool,
    /// The group alone decides, whatever the files are.
    pub(super) blindly: bool,
}

impl Pool {
    /// Maps regions for a user, or finds them mapped. Gives the view, and whether it was there.
    pub(super) fn map(
        &mut self,
        user: usize,
        group: Group,
        regions: Vec<(MemRegionDesc, OwnedFd)>,
        sharing: Sharing,
    ) -> Result<(RegionTable, bool), MemoryError> {
        let key = |(desc, fd): &(MemRegionDesc, OwnedFd)| (*desc, file_id(fd.as_fd()).unwrap_or_default());
        let keys: Vec<Key> = regions.iter().map(key).collect();
        let same = |shared: &&mut Shared| shared.group == group && (sharing.blindly || shared.keys == keys);
        if sharing.once
            && let Some(shared) = self.shared.iter_mut().find(same)
        {
            if !shared.users.contains(&user) {
                shared.users.push(user);
            }
            let table = shared.table.clone();
            self.forget_others(user, &keys, sharing.blindly);
            return Ok((table, true));
        }
        let mut table = RegionTable::new();
        table.replace(regions)?;
        self.release(user);
        self.shared.push(Shared {
            group,
            keys,
            table: table.clone(),
            users: vec![user],
        });
        Ok((table, false))
    }

    /// What a user had before it was given something else.
    fn forget_others(&mut self, user: usize, keys: &[Key], blindly: bool) {
        for shared in &mut self.shared {
            if shared.keys != keys && !blindly {
                shared.users.retain(|u| *u != user);
            }
        }
        self.shared.retain(|shared| !shared.users.is_empty());
    }

    /// A user is gone: what nobody else uses is unmapped.
    pub(super) fn release(&mut self, user: usize) {
        for shared in &mut self.shared {
            shared.users.retain(|u| *u != user);
        }
        self.shared.retain(|shared| !shared.users.is_empty());
    }

    /// The same with a fault: what is not used any more stays mapped.
    pub(super) fn leak(&mut self, user: usize) {
        let of_user = |shared: &&Shared| shared.users == [user];
        self.lost
            .extend(self.shared.iter().filter(of_user).map(|shared| shared.table.clone()));
        self.release(user);
    }

    /// The same with a fault: it is unmapped for all who use it.
    pub(super) fn tear_down(&mut self, user: usize) -> Vec<usize> {
        let (gone, stays) = std::mem::take(&mut self.shared)
            .into_iter()
            .partition(|shared| shared.users.contains(&user));
        self.shared = stays;
        let gone: Vec<Shared> = gone;
        let users = gone.into_iter().flat_map(|shared| shared.users);
        users.filter(|u| *u != user).collect()
    }

    /// Mappings that there are.
    pub(super) fn mappings(&self) -> usize {
        let shared = self.shared.iter().map(|shared| shared.keys.len());
        let lost = self.lost.iter().map(|table| table.regions().len());
        shared.chain(lost).sum()
    }

    /// The memory of a user: the view on which a ring or a driver of the slave can be put.
    pub(super) fn view(&self, user: usize) -> Option<&RegionTable> {
        let of_user = |shared: &&Shared| shared.users.contains(&user);
        self.shared.iter().find(of_user).map(|shared| &shared.table)
    }
}
