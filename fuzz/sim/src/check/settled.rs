//! What the last device of a user has caught up with is known to be had everywhere: only then is it deleted.
//!
//! What was acknowledged shortly before a crash may be known later, with the chat's next message: so this is asked of
//! what was acknowledged in the last session of a device.

use std::collections::{BTreeMap, BTreeSet};

use columba_engine::{env::sim_disk::SimDisk, error::Result, partition::Partition};
use columba_wire::{ChatId, UserId};

use super::user_of;
use crate::client::Client;

/// What the node must know: of users all of whose devices are clients and have caught up, by chat, how far one of them
/// has acknowledged just now.
#[derive(Clone)]
pub struct Settled(BTreeMap<(ChatId, UserId), u64>);

impl Settled {
    /// Of these clients, and how many devices each user has, as the node says.
    pub fn of(clients: &[Client], devices: &BTreeMap<UserId, usize>) -> Self {
        let of_user = |user| clients.iter().filter(move |client| client.is_owed() && user_of(client) == Some(user));
        let complete: BTreeSet<_> = devices.iter().filter(|(user, count)| of_user(**user).count() == **count).collect();
        let mut settled = BTreeMap::new();
        for (user, _) in complete {
            for (chat, seq) in of_user(*user).flat_map(Client::acknowledged_in_session) {
                let known = settled.entry((chat, *user)).or_default();
                *known = seq.max(*known);
            }
        }
        Self(settled)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// What a partition does not know of it.
    ///
    /// # Errors
    /// Those of the partition's reads.
    pub async fn missing(&self, partition: &Partition<SimDisk>) -> Result<Vec<String>> {
        let mut broken = Vec::new();
        for ((chat, user), seq) in &self.0 {
            let members = partition.progress(*chat).await?.unwrap_or_default();
            for (_, member) in members.iter().filter(|(member, _)| member == user) {
                if member.everywhere.get() < *seq {
                    let known = member.everywhere;
                    broken.push(format!("{chat}: all devices of {user} have everything up to {seq}, {known} is known"));
                }
            }
        }
        Ok(broken)
    }
}
