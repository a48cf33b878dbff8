//! Blocks: nothing new is stored between two users of whom one has blocked the other, and nothing is refused otherwise.

use bytes::Bytes;
use columba_wire::UserId;

use super::{number_of, user_of};
use crate::client::{Block, Client};

/// The blocks between two users, whoever has blocked whom.
fn between(clients: &[Client], one: UserId, other: UserId) -> impl Iterator<Item = &Block> {
    clients.iter().flat_map(move |client| {
        let user = user_of(client);
        let is_theirs = move |block: &&Block| {
            (user == Some(one) && block.other == other) || (user == Some(other) && block.other == one)
        };
        client.blocks.all.iter().filter(is_theirs)
    })
}

fn number(body: &Bytes) -> u64 {
    number_of(body).expect("messages to users have a number")
}

/// A message that was written after a block was confirmed, and acknowledged before its end was asked for, was let
/// through.
pub fn who_is_blocked_sends_nothing(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    for client in clients {
        let Some(user) = user_of(client) else {
            continue;
        };
        for message in &client.acknowledged {
            let Some(to) = message.to else {
                continue;
            };
            let stops = |block: &Block| {
                block.since.is_some_and(|since| number(&message.body) > since)
                    && block.until.is_none_or(|until| message.at < until)
            };
            if between(clients, user, to).any(stops) {
                let (handle, seq) = (&client.handle, message.seq);
                broken.push(format!("{handle}: seq {seq} of {} was stored in spite of a block", message.chat));
            }
        }
    }
    broken
}

/// What is refused was written or sent while there was a block, or one was asked for.
pub fn only_who_is_blocked_is_refused(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    for client in clients {
        let Some(user) = user_of(client) else {
            continue;
        };
        for refused in &client.blocks.refused {
            let may = |block: &Block| {
                block.asked <= refused.at && block.ended.is_none_or(|ended| ended >= number(&refused.body))
            };
            if !between(clients, user, refused.to).any(may) {
                let (handle, number) = (&client.handle, number(&refused.body));
                broken.push(format!("{handle}: message {number} was refused, and nobody is blocked"));
            }
        }
    }
    broken
}
