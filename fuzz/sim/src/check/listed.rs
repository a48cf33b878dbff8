//! The chats that are noted with a user are those whose partitions have the user for a member, neither more nor fewer.

use std::collections::{BTreeMap, BTreeSet};

use columba_engine::{
    env::sim_disk::SimDisk,
    error::Result,
    partition::{Partition, chat::Members},
};
use columba_wire::{ChatId, MessageSeq, UserId};

use super::user_of;
use crate::client::Client;

/// Chats read at a time: few, so that there are pages.
const PAGE: usize = 3;

/// By user: its chats, each with the message that let it in.
type Lists = BTreeMap<UserId, BTreeMap<ChatId, MessageSeq>>;

/// Collects from all partitions what they say, one after the other.
#[derive(Default)]
pub struct Listed {
    chats: BTreeSet<ChatId>,
    /// Users that do not exist: a 1:1 chat keeps its two names.
    gone: BTreeSet<UserId>,
    by_chat: Lists,
    by_user: Lists,
}

impl Listed {
    /// The chats and users that these clients know.
    pub fn of(clients: &[Client], gone: BTreeSet<UserId>) -> Self {
        let received = clients.iter().flat_map(|client| client.received.keys().copied());
        let sent = clients.iter().flat_map(|client| client.acknowledged.iter().map(|message| message.chat));
        let users = || clients.iter().filter_map(user_of).map(|user| (user, BTreeMap::new()));
        Self { chats: received.chain(sent).collect(), gone, by_chat: users().collect(), by_user: users().collect() }
    }

    /// Takes what one partition says.
    ///
    /// # Errors
    /// Those of the partition's reads.
    pub async fn take(mut self, partition: &Partition<SimDisk>) -> Result<Self> {
        for chat in &self.chats {
            let Some(members) = partition.members(*chat).await? else { continue };
            let is_direct = matches!(members, Members::Direct(_));
            let is_in = |user: &UserId, until| until == MessageSeq::MAX && !(is_direct && self.gone.contains(user));
            for (user, from, _) in members.ranges().filter(|(user, _, until)| is_in(user, *until)) {
                if let Some(chats) = self.by_chat.get_mut(&user) {
                    chats.insert(*chat, from);
                }
            }
        }
        for (user, chats) in &mut self.by_user {
            let mut after = None;
            loop {
                // Of who is gone no trace is left.
                let gone = self.gone.contains(user);
                let page = partition.noted_chats(*user, after, PAGE, |row| row.is_in || gone).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                chats.extend(page.into_iter().map(|(chat, row)| (chat, row.at)));
            }
        }
        Ok(self)
    }

    /// What the two disagree about.
    pub fn broken(&self) -> Vec<String> {
        let differ = self.by_chat.iter().filter(|(user, chats)| self.by_user[user] != **chats);
        differ.map(|(user, chats)| format!("{user} is in {chats:?}, and {:?} is noted", self.by_user[user])).collect()
    }
}
