//! Groups: who was in when, by the changes that somebody received, and whether each device got what was for it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use columba_wire::{
    ChatId, UserId,
    v1::{self, group_change::Kind as Change},
};

use super::{is_owed, known, user_of};
use crate::client::Client;

/// Members of each group, by the seq from which on they are that.
type Membership = BTreeMap<u64, BTreeSet<UserId>>;
/// The changes of a group, by seq: by whom, and what.
type Changes = BTreeMap<u64, (UserId, v1::GroupChange)>;

fn users(ids: &[Bytes]) -> BTreeSet<UserId> {
    ids.iter().map(|id| UserId::try_from(&id[..]).expect("the node sends ids")).collect()
}

/// All changes of each group that some device received. Two devices that received different ones is told by
/// [`super::order_is_dense`].
pub(super) fn changes(clients: &[Client]) -> BTreeMap<ChatId, Changes> {
    let mut all: BTreeMap<ChatId, Changes> = BTreeMap::new();
    for client in clients {
        for (chat, changes) in &client.groups.changes {
            all.entry(*chat).or_default().extend(changes.clone());
        }
    }
    all
}

/// Who was in, after each change.
fn membership(changes: &Changes) -> Membership {
    let mut members = BTreeSet::new();
    let mut all = Membership::new();
    for (seq, (by, change)) in changes {
        match change.kind.as_ref() {
            Some(Change::Create(create)) => {
                members = users(&create.user_ids);
                members.insert(*by);
            }
            Some(Change::Add(add)) => members.extend(users(&add.user_ids)),
            Some(Change::Remove(remove)) => members.retain(|user| !users(&remove.user_ids).contains(user)),
            Some(Change::Leave(_)) => {
                members.remove(by);
            }
            Some(Change::Join(_)) => {
                members.insert(*by);
            }
            Some(Change::SetRole(_) | Change::SetLook(_) | Change::SetInvite(_) | Change::SetTimer(_)) | None => {}
        }
        all.insert(*seq, members.clone());
    }
    all
}

/// Whether a message was for a user: who is put out by it gets it too.
fn is_for(membership: &Membership, user: UserId, seq: u64) -> bool {
    let has = |members: Option<(&u64, &BTreeSet<UserId>)>| members.is_some_and(|(_, members)| members.contains(&user));
    has(membership.range(..=seq).next_back()) || has(membership.range(..seq).next_back())
}

/// Each device of each member has every message of its time, and nothing else; a message that was refused is nowhere.
///
/// A group of which a change is known by its maker's word alone is not looked at: what came of it is not known.
pub fn members_get_what_is_for_them(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    let changes = changes(clients);
    let known = known(clients);
    for (chat, changes) in &changes {
        let untold = |client: &Client| {
            let own = client.acknowledged.iter().filter(|message| message.chat == *chat && message.body.is_empty());
            own.map(|message| message.seq).any(|seq| !changes.contains_key(&seq))
        };
        // Nor one where somebody may have come in who does not know it: its device has ended, or has given up.
        if clients.iter().any(untold) || clients.iter().any(|client| client.may_have_joined(*chat)) {
            continue;
        }
        let membership = membership(changes);
        for client in clients {
            let Some(user) = user_of(client) else {
                continue;
            };
            let received = client.received.get(chat);
            let has = |seq: &u64| received.is_some_and(|received| received.messages.contains_key(seq));
            for (seq, variants) in &known[chat] {
                let own = client.acknowledged.iter().any(|message| (message.chat, message.seq) == (*chat, *seq));
                let body = variants.iter().next().map(|(_, body)| body.clone()).unwrap_or_default();
                let is_for = is_for(&membership, user, *seq);
                if has(seq) && !is_for {
                    broken.push(format!("{} has seq {seq} of group {chat}, and was not in", client.handle));
                }
                // What was written before a device was linked it may lack; of changes that is not known.
                let is_owed = is_owed(client, &body) && (client.link.is_none() || !changes.contains_key(seq));
                if is_for && is_owed && !own && !has(seq) {
                    broken.push(format!("{} lacks seq {seq} of group {chat}", client.handle));
                }
            }
        }
    }
    let bodies: BTreeSet<_> = known.values().flat_map(BTreeMap::values).flatten().map(|(_, body)| body).collect();
    for client in clients {
        let refused = client.groups.refused.iter().chain(client.blocks.refused.iter().map(|refused| &refused.body));
        for refused in refused.filter(|body| !body.is_empty() && bodies.contains(body)) {
            let text = String::from_utf8_lossy(&refused[..refused.len().min(20)]);
            broken.push(format!("{}: {text} was refused, and is there", client.handle));
        }
    }
    broken
}

/// Nobody comes in by a link after it has ended: another was made, or somebody was removed.
pub fn links_lead_in_while_they_hold(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    let changes = changes(clients);
    let own = || clients.iter().flat_map(|client| client.groups.carried_out.iter().map(move |own| (client, own)));
    let ends = |change: &Change| matches!(change, Change::SetInvite(_) | Change::Remove(_));
    for (client, (chat, seq, change)) in own() {
        let Change::Join(join) = change else {
            continue;
        };
        let is_made = |change: &Change| matches!(change, Change::SetInvite(set) if set.secret == join.secret);
        // Where its maker was never answered it is not known since when it leads in.
        let Some((_, (_, made, _))) = own().find(|(_, (of, _, change))| of == chat && is_made(change)) else {
            continue;
        };
        let handle = &client.handle;
        if made > seq {
            broken.push(format!("{handle} came into {chat} with seq {seq} by a link that was made with {made}"));
            continue;
        }
        let between = made + 1..*seq;
        let told = changes.get(chat).into_iter().flat_map(|changes| changes.range(between.clone()));
        let mut told = told.filter_map(|(at, (_, change))| change.kind.as_ref().filter(|kind| ends(kind)).map(|_| *at));
        let mut kept = own().filter(|(_, (of, at, change))| of == chat && between.contains(at) && ends(change));
        if let Some(end) = told.next().or_else(|| kept.next().map(|(_, (_, at, _))| *at)) {
            broken.push(format!("{handle} came into {chat} with seq {seq} by a link that ended with {end}"));
        }
    }
    broken
}

/// Up to where a user has read is not forgotten.
pub fn reads_are_kept(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    for client in clients {
        for (chat, read) in &client.groups.read {
            // It is not told where the user is no member any more.
            if let Some(at_end) = client.groups.read_at_end.get(chat).filter(|at_end| *at_end < read) {
                broken.push(format!("{} has read {chat} up to {read}, and the node says {at_end}", client.handle));
            }
        }
    }
    broken
}

/// What is said that all others have, each of them has who was in from then to the end.
pub fn receipts_of_groups_are_true(clients: &[Client]) -> Vec<String> {
    let mut broken = Vec::new();
    let memberships: BTreeMap<_, _> =
        changes(clients).iter().map(|(chat, changes)| (*chat, membership(changes))).collect();
    let all: BTreeSet<_> = clients.iter().filter_map(user_of).collect();
    for client in clients {
        for (chat, (delivered, read)) in &client.group_receipts {
            let Some(membership) = memberships.get(chat) else {
                continue;
            };
            let said = *delivered.max(read);
            let stays = |user: UserId| {
                is_for(membership, user, said) && membership.range(said..).all(|(_, members)| members.contains(&user))
            };
            for other in all.iter().copied().filter(|user| Some(*user) != user_of(client) && stays(*user)) {
                let has = |peer: &Client| {
                    let has = peer.received.get(chat).and_then(|has| has.messages.keys().next_back().copied());
                    let own = peer.acknowledged.iter().filter(|message| message.chat == *chat);
                    has.max(own.map(|message| message.seq).max()).unwrap_or(0)
                };
                let has = clients.iter().filter(|peer| user_of(peer) == Some(other)).map(has).max();
                if let Some(has) = has.filter(|has| *has < said) {
                    broken.push(format!("{} was told {said} of all in {chat}, and {other} has {has}", client.handle));
                }
            }
        }
    }
    broken
}
