//! What was promised, held against what clients remember. One function per promise.
//!
//! | check | promise |
//! |---|---|
//! | [`acknowledged_is_delivered`] | what got `Sent` reaches every other device of both members, at its place, unchanged |
//! | [`order_is_dense`] | a chat's seqs are 1, 2, 3 ... without gaps, and each is one message |
//! | [`nothing_is_stored_twice`] | a message that was sent again has one place |
//! | [`receipts_are_true`] | a tick says no more than what the other side has |
//! | [`keys_are_given_once`] | a one-time key is in one answer, and was uploaded |
//! | [`groups::members_get_what_is_for_them`] | a member has what was written while it was in, and nothing else |
//! | [`groups::receipts_of_groups_are_true`] | what all are said to have they have |
//! | [`groups::reads_are_kept`] | what is read stays read |
//! | [`groups::links_lead_in_while_they_hold`] | nobody comes in by a link that has ended |
//! | [`blocks::who_is_blocked_sends_nothing`] | nothing new is stored between two users while there is a block |
//! | [`blocks::only_who_is_blocked_is_refused`] | without one nothing is refused |
//! | [`deletion::only_who_is_gone_is_unknown`], [`deletion::only_who_asked_is_gone`] | an account ends when its user wants it |
//! | [`listed::Listed`] | the chats noted with a user are those that it is in |
//! | [`settled::Settled`] | what all devices of a user have is known to be had by all |
//! | [`clients_saw_nothing_odd`] | no answer contradicted an earlier one |

pub mod blocks;
pub mod deletion;
pub mod groups;
pub mod listed;
pub mod settled;

use std::collections::{BTreeMap, BTreeSet};

use columba_wire::{ChatId, UserId};

use crate::client::Client;

/// Runs every check. Returns what was broken.
pub fn all(clients: &[Client]) -> Vec<String> {
    let mut broken = clients_saw_nothing_odd(clients);
    broken.extend(acknowledged_is_delivered(clients));
    broken.extend(order_is_dense(clients));
    broken.extend(nothing_is_stored_twice(clients));
    broken.extend(receipts_are_true(clients));
    broken.extend(keys_are_given_once(clients));
    broken.extend(groups::members_get_what_is_for_them(clients));
    broken.extend(groups::receipts_of_groups_are_true(clients));
    broken.extend(groups::reads_are_kept(clients));
    broken.extend(groups::links_lead_in_while_they_hold(clients));
    broken.extend(blocks::who_is_blocked_sends_nothing(clients));
    broken.extend(blocks::only_who_is_blocked_is_refused(clients));
    broken.extend(deletion::only_who_is_gone_is_unknown(clients));
    broken
}

fn user_of(client: &Client) -> Option<UserId> {
    client.address.map(|address| address.user)
}

/// The number of a message, by its body.
pub fn number_of(body: &[u8]) -> Option<u64> {
    core::str::from_utf8(body).ok().and_then(|text| text.split(':').nth(1)?.parse().ok())
}

/// Whether the node owes a message to a device: one that was linked is owed what was written after that.
fn is_owed(client: &Client, body: &[u8]) -> bool {
    if client.deletion.asked {
        return false;
    }
    let Some(link) = &client.link else {
        return true;
    };
    let number = number_of(body);
    client.is_owed() && link.since.is_some_and(|since| number.is_some_and(|number| number > since))
}

/// What got `Sent` reaches every other device of both members, at its place, unchanged.
pub fn acknowledged_is_delivered(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    for sender in clients {
        for message in sender.acknowledged.iter().filter(|message| message.to.is_some()) {
            let users = [message.to, user_of(sender)];
            let others = clients.iter().filter(|client| client.address != sender.address);
            for peer in others.filter(|client| client.address.is_some() && users.contains(&user_of(client))) {
                let found = peer.received.get(&message.chat).and_then(|received| received.messages.get(&message.seq));
                match found {
                    Some((user, body)) if Some(*user) == user_of(sender) && *body == message.body => {}
                    Some(_) => broken.push(format!("{}: seq {} is another message", peer.handle, message.seq)),
                    None if !is_owed(peer, &message.body) => {}
                    None => broken.push(format!(
                        "{} lacks seq {} of {} from {} (client seq {})",
                        peer.handle, message.seq, message.chat, sender.handle, message.client_seq
                    )),
                }
            }
        }
    }
    broken
}

/// By chat and seq: who sent it, and its body; from all that clients received or had acknowledged.
fn known(clients: &[Client]) -> BTreeMap<ChatId, BTreeMap<u64, BTreeSet<(UserId, bytes::Bytes)>>> {
    let mut chats: BTreeMap<ChatId, BTreeMap<u64, BTreeSet<(UserId, bytes::Bytes)>>> = BTreeMap::new();
    for client in clients {
        for (chat, received) in &client.received {
            for (seq, message) in &received.messages {
                chats.entry(*chat).or_default().entry(*seq).or_default().insert(message.clone());
            }
        }
        let Some(user) = user_of(client) else {
            continue;
        };
        // What came of a change only those know who received it.
        for message in client.acknowledged.iter().filter(|message| !message.body.is_empty()) {
            let at = chats.entry(message.chat).or_default().entry(message.seq).or_default();
            at.insert((user, message.body.clone()));
        }
    }
    chats
}

/// A chat's seqs are dense, and each is one message.
pub fn order_is_dense(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    for (chat, messages) in known(clients) {
        let own: BTreeSet<_> = clients
            .iter()
            .flat_map(|client| &client.acknowledged)
            .filter(|message| message.chat == chat)
            .map(|message| message.seq)
            .collect();
        let mut next = 1;
        for (seq, variants) in &messages {
            while next < *seq && own.contains(&next) {
                next += 1;
            }
            let n = next;
            next = seq + 1;
            if *seq != n {
                broken.push(format!("{chat}: seq {n} is missing, {seq} is there"));
                break;
            }
            if variants.len() != 1 {
                broken.push(format!("{chat}: seq {seq} is {} messages", variants.len()));
            }
        }
    }
    broken
}

/// Bodies are unique in the simulation: one that is at two places was stored twice.
pub fn nothing_is_stored_twice(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    let changes = groups::changes(clients);
    for (chat, messages) in known(clients) {
        let mut places = BTreeMap::new();
        // Changes of a group may be alike.
        let is_change = |seq: u64| changes.get(&chat).is_some_and(|changes| changes.contains_key(&seq));
        for (seq, variants) in messages.into_iter().filter(|(seq, _)| !is_change(*seq)) {
            for (_, body) in variants {
                if let Some(before) = places.insert(body, seq) {
                    broken.push(format!("{chat}: the same message is at {before} and at {seq}"));
                }
            }
        }
    }
    broken
}

/// A tick says no more than what the other side has.
pub fn receipts_are_true(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    for client in clients {
        for ((chat, user), (delivered, read)) in &client.receipts {
            let has = |peer: &Client| {
                let has = peer.received.get(chat).and_then(|received| received.messages.keys().next_back().copied());
                let own = peer.acknowledged.iter().filter(|message| message.chat == *chat);
                has.max(own.map(|message| message.seq).max()).unwrap_or(0)
            };
            let has = clients.iter().filter(|peer| user_of(peer) == Some(*user)).map(has).max();
            if let Some(has) = has.filter(|has| delivered > has || read > has) {
                broken.push(format!("{} was told {delivered}/{read} of {user}, who has {has}", client.handle));
            }
        }
    }
    broken
}

/// A one-time key is in one answer, and its device has uploaded it.
pub fn keys_are_given_once(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut given = BTreeMap::new();
    for client in clients {
        for (device, id) in &client.keys.taken {
            if let Some(before) = given.insert((*device, *id), &client.handle) {
                broken.push(format!("{before} and {} were given the one-time key {id} of {device}", client.handle));
            }
            let owner = clients.iter().find(|owner| owner.address == Some(*device));
            if owner.is_some_and(|owner| *id > owner.keys.last) {
                broken.push(format!("{} was given the key {id} of {device}, which does not exist", client.handle));
            }
        }
    }
    broken
}

/// What clients noticed themselves.
pub fn clients_saw_nothing_odd(clients: &[Client]) -> Vec<String> {
    clients.iter().flat_map(|client| client.broken.iter().cloned()).collect()
}
