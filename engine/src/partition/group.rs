//! Groups: who is in, since which message, and what may be changed by whom.
//!
//! A change is a message of the chat: it has a seq, and holds from there on. So every member sees the same people at
//! the same place of the log. A member gets what lies between the message that let it in and the one that put it out,
//! both included.
//!
//! A seat is kept for a while after its member has left: somebody may lack messages that were for it, and a retry of
//! what it sent must be recognised.
//!
//! Invariants
//! - Seats ascend by user; `progress` has one entry for each. Numbers are given once.
//! - A group with members has one owner. There are at most `GROUP_MEMBERS_MAX` members and [`FORMER_MAX`] seats of
//!   former ones.
//! - What is stored of a change is what came of it: whoever replays the log has the same group.

use std::sync::Arc;

use bytes::Bytes;
pub use columba_wire::Role;
use columba_wire::{
    ChatId, ClientSeq, Code, DeviceAddress, MessageSeq, UserId,
    limits::{GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX, GROUP_PICTURE_BYTES_MAX, GROUP_REMOVED_MAX},
};

use super::{
    State,
    chat::{ChatRow, NewMessage, People},
    codec::{self, Put as _, Take, VARINT_BYTES_MAX},
    effect::{Effects, Outcome},
    receipt::{Member, put_member, take_member},
    rows::Row as _,
};
use crate::{
    error::Result,
    message::{MessageKind, StoredMessage},
};

/// Seats of former members that are kept. Beyond, the longest empty one is given up; where those that are gone still
/// have to be delivered to, nobody can be removed for a moment.
pub const FORMER_MAX: usize = 128;
const _: () = assert!(GROUP_REMOVED_MAX <= FORMER_MAX, "so many can be removed at once");

const fn role_number(role: Role) -> u8 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
        Role::Owner => 2,
    }
}

fn role_of(number: u8, take: &Take) -> Result<Role> {
    match number {
        0 => Ok(Role::Member),
        1 => Ok(Role::Admin),
        2 => Ok(Role::Owner),
        _ => Err(take.malformed("a role is unknown")),
    }
}

/// A member of a group, or one that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Who.
    pub user: UserId,
    /// What it may do.
    pub role: Role,
    /// Its number in the group, by which its devices' sends are remembered.
    pub(super) number: u32,
    /// The message that let it in: the first that it gets.
    pub from: MessageSeq,
    /// The message that put it out: the last that it gets. `MAX` for a member.
    pub until: MessageSeq,
}

impl Seat {
    /// Whether it is a member now.
    pub fn is_member(&self) -> bool {
        self.until == MessageSeq::MAX
    }
}

/// What a group is called, and how it looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What it is called.
    pub name: Bytes,
    /// A reference to a picture.
    pub picture: Bytes,
    /// Whether only admins may write.
    pub announcements: bool,
}

impl Look {
    /// In bytes of its own: a slice would keep the whole entry, or block, that it lies in.
    fn copied(&self) -> Self {
        let copy = |field: &Bytes| Bytes::copy_from_slice(field);
        Self { name: copy(&self.name), picture: copy(&self.picture), announcements: self.announcements }
    }
}

/// What to change of a group's look; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookChange {
    /// What it is called.
    pub name: Option<Bytes>,
    /// A reference to a picture.
    pub picture: Option<Bytes>,
    /// Whether only admins may write.
    pub announcements: Option<bool>,
}

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// A group begins, with these members beside who makes it and owns it; ascending.
    Create {
        /// Its look.
        look: Look,
        /// The others.
        members: Vec<UserId>,
    },
    /// Users become members; ascending.
    Add(Vec<UserId>),
    /// Members are put out; ascending.
    Remove(Vec<UserId>),
    /// Who sends it leaves.
    Leave {
        /// Who owns the group from now on, where the owner has left. As it is asked: `None`.
        owner: Option<UserId>,
    },
    /// A member gets a role. An owner that names another one is an admin from then on.
    SetRole {
        /// Who.
        user: UserId,
        /// Its role.
        role: Role,
    },
    /// The group looks different.
    SetLook(LookChange),
}

const CREATE: u8 = 1;
const ADD: u8 = 2;
const REMOVE: u8 = 3;
const LEAVE: u8 = 4;
const SET_ROLE: u8 = 5;
const SET_LOOK: u8 = 6;

impl GroupChange {
    /// Whether it can be asked for: lists ascend and are not too long, nor are name and picture.
    pub fn is_valid(&self) -> bool {
        let fits = |field: &Bytes, bytes_max| field.len() <= bytes_max;
        match self {
            Self::Create { look, members } => {
                fits(&look.name, GROUP_NAME_BYTES_MAX)
                    && fits(&look.picture, GROUP_PICTURE_BYTES_MAX)
                    && members.len() < GROUP_MEMBERS_MAX
                    && codec::ascends(members)
            }
            Self::Add(users) => !users.is_empty() && users.len() <= GROUP_MEMBERS_MAX && codec::ascends(users),
            Self::Remove(users) => !users.is_empty() && users.len() <= GROUP_REMOVED_MAX && codec::ascends(users),
            Self::Leave { owner } => owner.is_none(),
            Self::SetRole { .. } => true,
            Self::SetLook(look) => {
                look.name.as_ref().is_none_or(|name| fits(name, GROUP_NAME_BYTES_MAX))
                    && look.picture.as_ref().is_none_or(|picture| fits(picture, GROUP_PICTURE_BYTES_MAX))
                    && *look != LookChange::default()
            }
        }
    }

    /// Who becomes a member by it.
    pub fn newcomers(&self) -> &[UserId] {
        match self {
            Self::Create { members, .. } | Self::Add(members) => members,
            Self::Remove(_) | Self::Leave { .. } | Self::SetRole { .. } | Self::SetLook(_) => &[],
        }
    }

    /// Reads what [`Self::encode`] wrote: the body of a message of kind [`MessageKind::Change`].
    ///
    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let mut take = Take::new(bytes, "group change");
        let change = Self::take(&mut take)?;
        take.finish()?;
        Ok(change)
    }

    /// The bytes of it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_bytes_max());
        self.put(&mut out);
        out.into()
    }

    pub(super) fn encoded_bytes_max(&self) -> usize {
        match self {
            Self::Create { look, members } => 32 + look.name.len() + look.picture.len() + 16 * members.len(),
            Self::Add(users) | Self::Remove(users) => 8 + 16 * users.len(),
            Self::Leave { .. } | Self::SetRole { .. } => 32,
            Self::SetLook(look) => {
                16 + [&look.name, &look.picture].into_iter().flatten().map(Bytes::len).sum::<usize>()
            }
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create { look, members } => {
                out.put_u8(CREATE);
                put_look(look, out);
                out.put_users(members);
            }
            Self::Add(users) => {
                out.put_u8(ADD);
                out.put_users(users);
            }
            Self::Remove(users) => {
                out.put_u8(REMOVE);
                out.put_users(users);
            }
            Self::Leave { owner } => {
                out.put_u8(LEAVE);
                out.put_u8(u8::from(owner.is_some()));
                owner.iter().for_each(|owner| out.put_user(*owner));
            }
            Self::SetRole { user, role } => {
                out.put_u8(SET_ROLE);
                out.put_user(*user);
                out.put_u8(role_number(*role));
            }
            Self::SetLook(LookChange { name, picture, announcements }) => {
                out.put_u8(SET_LOOK);
                let has = [name.is_some(), picture.is_some(), announcements.is_some()];
                out.put_u8(has.iter().rev().fold(0, |bits, has| bits << 1 | u8::from(*has)));
                [name, picture].into_iter().flatten().for_each(|field| out.put_bytes(field));
                announcements.iter().for_each(|only| out.put_u8(u8::from(*only)));
            }
        }
    }

    pub(super) fn take(take: &mut Take) -> Result<Self> {
        Ok(match take.take_u8()? {
            CREATE => Self::Create { look: take_look(take)?, members: take.take_users()? },
            ADD => Self::Add(take.take_users()?),
            REMOVE => Self::Remove(take.take_users()?),
            LEAVE => Self::Leave { owner: if take.take_bool()? { Some(take.take_user()?) } else { None } },
            SET_ROLE => {
                let (user, number) = (take.take_user()?, take.take_u8()?);
                Self::SetRole { user, role: role_of(number, take)? }
            }
            SET_LOOK => {
                let has = take.take_u8()?;
                if has > 7 {
                    return Err(take.malformed("which fields it has is unknown"));
                }
                Self::SetLook(LookChange {
                    name: if has & 1 != 0 { Some(take.take_bytes()?) } else { None },
                    picture: if has & 2 != 0 { Some(take.take_bytes()?) } else { None },
                    announcements: if has & 4 != 0 { Some(take.take_bool()?) } else { None },
                })
            }
            _ => return Err(take.malformed("its kind is unknown")),
        })
    }
}

fn put_look(look: &Look, out: &mut Vec<u8>) {
    out.put_bytes(&look.name);
    out.put_bytes(&look.picture);
    out.put_u8(u8::from(look.announcements));
}

fn take_look(take: &mut Take) -> Result<Look> {
    Ok(Look { name: take.take_bytes()?, picture: take.take_bytes()?, announcements: take.take_bool()? })
}

/// What a group's row has beside a chat's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) look: Look,
    pub(crate) seats: Arc<[Seat]>,
    progress: Vec<Member>,
    next_number: u32,
}

impl Group {
    /// One without members.
    pub(super) fn new(look: Look) -> Self {
        Self { look, seats: Arc::new([]), progress: Vec::new(), next_number: 0 }
    }

    pub(super) fn place_of(&self, user: UserId) -> Option<usize> {
        self.seats.binary_search_by_key(&user, |seat| seat.user).ok()
    }

    /// The seat of a user who is a member now.
    pub(crate) fn member(&self, user: UserId) -> Option<&Seat> {
        self.place_of(user).map(|place| &self.seats[place]).filter(|seat| seat.is_member())
    }

    pub(super) fn progress(&self, place: usize) -> &Member {
        &self.progress[place]
    }

    pub(super) fn progress_mut(&mut self, place: usize) -> &mut Member {
        &mut self.progress[place]
    }

    fn members(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| seat.is_member())
    }

    /// How far all are by this measure, of a chat whose newest message is `last`: who has all that it is to get does
    /// not count.
    pub(super) fn lowest(&self, last: MessageSeq, measure: impl Fn(&Member) -> MessageSeq) -> MessageSeq {
        let open = self.seats.iter().zip(&self.progress).map(|(seat, member)| (seat.until.min(last), measure(member)));
        open.filter(|(until, at)| at < until).map(|(_, at)| at).min().unwrap_or(last)
    }

    /// What the members have by this measure: the lowest two.
    pub(super) fn marks(&self, measure: impl Fn(&Member) -> MessageSeq) -> Marks {
        let mut marks = Marks { lowest: None, second: MessageSeq::MAX };
        for (seat, member) in self.seats.iter().zip(&self.progress).filter(|(seat, _)| seat.is_member()) {
            let at = measure(member);
            match marks.lowest {
                Some((_, lowest)) if at >= lowest => marks.second = marks.second.min(at),
                Some((_, lowest)) => marks = Marks { lowest: Some((seat.user, at)), second: lowest },
                None => marks.lowest = Some((seat.user, at)),
            }
        }
        marks
    }

    /// Gives these users seats, from message `seq` on. Those who had one keep its number.
    fn seat(&mut self, users: &[UserId], role: Role, seq: MessageSeq) {
        let mut seats = self.seats.to_vec();
        for user in users {
            let at = seq.prev();
            let begin = Member { covered: at, delivered: at, read: at, shown: at, everywhere: at };
            match seats.binary_search_by_key(user, |seat| seat.user) {
                Ok(place) => {
                    seats[place] = Seat { role, from: seq, until: MessageSeq::MAX, ..seats[place] };
                    // What it lacks of its former time is still to be kept for it.
                    let everywhere = self.progress[place].everywhere;
                    self.progress[place] = Member { everywhere, ..begin };
                }
                Err(place) => {
                    let number = self.next_number;
                    self.next_number += 1;
                    seats.insert(place, Seat { user: *user, role, number, from: seq, until: MessageSeq::MAX });
                    self.progress.insert(place, begin);
                }
            }
        }
        self.seats = seats.into();
    }

    /// Their seats end with message `seq`.
    fn unseat(&mut self, users: &[UserId], seq: MessageSeq) {
        let mut seats = self.seats.to_vec();
        for seat in seats.iter_mut().filter(|seat| users.contains(&seat.user)) {
            (seat.role, seat.until) = (Role::Member, seq);
        }
        self.seats = seats.into();
    }

    fn set_role(&mut self, user: UserId, role: Role) {
        let mut seats = self.seats.to_vec();
        seats.iter_mut().filter(|seat| seat.user == user).for_each(|seat| seat.role = role);
        self.seats = seats.into();
    }

    /// Gives up seats of former members until there is room for so many more; returns their numbers. `None`: there is
    /// no room yet.
    fn make_room(&mut self, more: usize) -> Option<Vec<u32>> {
        let mut empty: Vec<_> = self.seats.iter().enumerate().filter(|(_, seat)| !seat.is_member()).collect();
        let surplus = (empty.len() + more).saturating_sub(FORMER_MAX);
        empty.retain(|(place, seat)| self.progress[*place].covered >= seat.until);
        // Those that lack nothing first, then by when they left.
        empty.sort_by_key(|(place, seat)| (self.progress[*place].everywhere < seat.until, seat.until));
        if empty.len() < surplus {
            return None;
        }
        let mut places: Vec<_> = empty[..surplus].iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        let numbers = places.iter().map(|place| self.seats[*place].number).collect();
        let keep = |place: &usize| places.binary_search(place).is_err();
        self.progress = (0..self.progress.len()).filter(keep).map(|place| self.progress[place]).collect();
        self.seats = (0..self.seats.len()).filter(keep).map(|place| self.seats[place]).collect();
        Some(numbers)
    }

    /// Whether a device of this member may change the group so, and what comes of it: what is so already is left out.
    fn consider(&self, by: &Seat, change: GroupChange) -> core::result::Result<GroupChange, Code> {
        let is_admin = by.role >= Role::Admin;
        match change {
            GroupChange::Create { .. } => Err(Code::InvalidArgument),
            GroupChange::Leave { .. } => Ok(GroupChange::Leave { owner: self.successor(by) }),
            _ if !is_admin => Err(Code::NotAllowed),
            GroupChange::Add(mut users) => {
                users.retain(|user| self.member(*user).is_none());
                if users.is_empty() {
                    return Err(Code::InvalidArgument);
                }
                if self.members().count() + users.len() > GROUP_MEMBERS_MAX {
                    return Err(Code::TooMany);
                }
                // One who has left must have got what was for it then: there is one account of each user.
                let is_settled = |user: &UserId| {
                    self.place_of(*user).is_none_or(|place| self.progress[place].covered >= self.seats[place].until)
                };
                if users.iter().all(is_settled) { Ok(GroupChange::Add(users)) } else { Err(Code::Unavailable) }
            }
            GroupChange::Remove(mut users) => {
                if users.contains(&by.user) {
                    return Err(Code::InvalidArgument);
                }
                users.retain(|user| self.member(*user).is_some());
                let roles = users.iter().filter_map(|user| self.member(*user)).map(|seat| seat.role);
                match roles.max() {
                    None => Err(Code::InvalidArgument),
                    Some(Role::Owner) => Err(Code::NotAllowed),
                    Some(Role::Member | Role::Admin) => Ok(GroupChange::Remove(users)),
                }
            }
            GroupChange::SetRole { user, role } => match self.member(user) {
                None => Err(Code::UnknownUser),
                Some(seat) if seat.role == role => Err(Code::InvalidArgument),
                // An owner gives the group away, and cannot lay it down otherwise.
                Some(seat) if seat.role == Role::Owner => Err(Code::NotAllowed),
                Some(_) if role == Role::Owner && by.role != Role::Owner => Err(Code::NotAllowed),
                Some(_) => Ok(GroupChange::SetRole { user, role }),
            },
            GroupChange::SetLook(mut change) => {
                change.name = change.name.filter(|name| *name != self.look.name);
                change.picture = change.picture.filter(|picture| *picture != self.look.picture);
                change.announcements = change.announcements.filter(|only| *only != self.look.announcements);
                if change == LookChange::default() {
                    return Err(Code::InvalidArgument);
                }
                Ok(GroupChange::SetLook(change))
            }
        }
    }

    /// Who owns the group when this member leaves: of its admins, or else of its members, the one with the lowest
    /// number.
    fn successor(&self, leaving: &Seat) -> Option<UserId> {
        if leaving.role != Role::Owner {
            return None;
        }
        let others = self.members().filter(|seat| seat.user != leaving.user);
        others.max_by_key(|seat| (seat.role, core::cmp::Reverse(seat.number))).map(|seat| seat.user)
    }

    /// Carries out a change, with message `seq`. Returns the numbers of seats that were given up; `None` where there
    /// is no room for one more of those who have left.
    fn carry_out(&mut self, by: UserId, change: &GroupChange, seq: MessageSeq) -> Option<Vec<u32>> {
        match change {
            GroupChange::Create { members, .. } => {
                self.seat(&[by], Role::Owner, seq);
                self.seat(members, Role::Member, seq);
            }
            GroupChange::Add(users) => self.seat(users, Role::Member, seq),
            GroupChange::Remove(users) => {
                let freed = self.make_room(users.len())?;
                self.unseat(users, seq);
                return Some(freed);
            }
            GroupChange::Leave { owner } => {
                let freed = self.make_room(1)?;
                self.unseat(&[by], seq);
                owner.iter().for_each(|owner| self.set_role(*owner, Role::Owner));
                return Some(freed);
            }
            GroupChange::SetRole { user, role } => {
                if *role == Role::Owner {
                    self.set_role(by, Role::Admin);
                }
                self.set_role(*user, *role);
            }
            GroupChange::SetLook(LookChange { name, picture, announcements }) => {
                name.iter().for_each(|name| self.look.name = name.clone());
                picture.iter().for_each(|picture| self.look.picture = picture.clone());
                announcements.iter().for_each(|only| self.look.announcements = *only);
                self.look = self.look.copied();
            }
        }
        Some(Vec::new())
    }

    /// Bytes it has on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let seats = self.seats.len() * size_of::<Seat>() + self.progress.capacity() * size_of::<Member>();
        size_of::<Self>() + seats + self.look.name.len() + self.look.picture.len()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_look(&self.look, out);
        out.put_u32(self.next_number);
        out.put_u32(u32::try_from(self.seats.len()).expect("bounded"));
        for (seat, member) in self.seats.iter().zip(&self.progress) {
            out.put_user(seat.user);
            out.put_u8(role_number(seat.role) << 1 | u8::from(seat.is_member()));
            out.put_varint(seat.number.into());
            out.put_varint(seat.from.get());
            if !seat.is_member() {
                out.put_varint(seat.until.get());
            }
            put_member(member, out);
        }
    }

    pub(super) fn take(take: &mut Take, last: MessageSeq) -> Result<Self> {
        let look = take_look(take)?.copied();
        let next_number = take.take_u32()?;
        let count = take.take_count(SEAT_BYTES_MIN)?;
        let (mut seats, mut progress): (Vec<Seat>, Vec<Member>) =
            (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let user = take.take_user()?;
            let flags = take.take_u8()?;
            let role = role_of(flags >> 1, take)?;
            let number = u32::try_from(take.take_varint()?).ok().filter(|number| *number < next_number);
            let number = number.ok_or_else(|| take.malformed("a seat's number was not given"))?;
            let from = take.take_short_seq()?;
            let until = if flags & 1 == 1 { MessageSeq::MAX } else { take.take_short_seq()? };
            if from > last || from > until || (until > last && flags & 1 == 0) {
                return Err(take.malformed("a seat is ahead of its chat"));
            }
            if seats.last().is_some_and(|before| before.user >= user) {
                return Err(take.malformed("its seats do not ascend"));
            }
            seats.push(Seat { user, role, number, from, until });
            progress.push(take_member(take)?);
        }
        Ok(Self { look, seats: seats.into(), progress, next_number })
    }
}

/// User, flags, number, from, and four marks.
const SEAT_BYTES_MIN: usize = 16 + 1 + 1 + 1 + 4;
/// The same with `until`, in as many bytes as numbers may have.
const SEAT_BYTES_MAX: usize = 16 + 1 + 5 + 6 * VARINT_BYTES_MAX;
/// Bytes of a group in its chat's row, at most.
pub(super) const GROUP_BYTES_MAX: usize =
    GROUP_NAME_BYTES_MAX + GROUP_PICTURE_BYTES_MAX + 32 + (GROUP_MEMBERS_MAX + FORMER_MAX) * SEAT_BYTES_MAX;

/// What the members of a group have: the lowest mark and whose it is, and the lowest of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    lowest: Option<(UserId, MessageSeq)>,
    second: MessageSeq,
}

impl Marks {
    /// What everybody but this user has; `None` where there is nobody else.
    pub fn of_others(&self, user: UserId) -> Option<MessageSeq> {
        let (lowest_user, lowest) = self.lowest?;
        let others = if lowest_user == user { self.second } else { lowest };
        (others != MessageSeq::MAX).then_some(others)
    }
}

/// A change that a device asks for.
pub(super) struct ChangeFields {
    pub(super) chat: ChatId,
    pub(super) sender: DeviceAddress,
    pub(super) client_seq: ClientSeq,
    pub(super) time_ms: u64,
    pub(super) change: GroupChange,
}

impl State {
    pub(super) fn apply_change_group(&mut self, fields: ChangeFields, effects: &mut Effects) -> Outcome {
        let ChangeFields { chat, sender, client_seq, time_ms, change } = fields;
        let considered = match (self.get::<ChatRow>(&chat), change) {
            (None, GroupChange::Create { look, members }) => {
                if chat != ChatId::group(sender, client_seq) || members.contains(&sender.user) {
                    return Outcome::Refused(Code::InvalidArgument);
                }
                let group = Group::new(look.copied());
                self.active.insert::<ChatRow>(chat, Some(ChatRow::new(People::Group(Box::new(group)), time_ms)));
                Ok(GroupChange::Create { look, members })
            }
            (Some(row), change) => {
                let Some(group) = row.group() else {
                    return Outcome::Refused(Code::UnknownChat);
                };
                if let Some(known) = row.sent_before(sender, client_seq) {
                    return known;
                }
                match group.member(sender.user) {
                    Some(seat) => group.consider(seat, change),
                    None => Err(Code::UnknownChat),
                }
            }
            (None, _) => Err(Code::UnknownChat),
        };
        let change = match considered {
            Ok(change) => change,
            Err(code) => return Outcome::Refused(code),
        };
        let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there, or new");
        let before = row.variable_bytes();
        let seq = row.chat.last_seq.next();
        let freed = row.group_mut().expect("it is a group").carry_out(sender.user, &change, seq);
        let Some(freed) = freed else {
            return Outcome::Refused(Code::Unavailable);
        };
        row.forget_members(&freed);
        let after = row.variable_bytes();
        self.active.count_change(before, after + core::mem::take(&mut self.uncounted_bytes));
        let body = change.encode();
        let message = NewMessage { chat, sender, client_seq, time_ms, kind: MessageKind::Change, body };
        self.store_message(message, effects)
    }
}

impl GroupChange {
    /// Reads the change that a stored message is; `None` where it is another message.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn of(message: &StoredMessage) -> Result<Option<Self>> {
        match message.kind {
            MessageKind::Client => Ok(None),
            MessageKind::Change => Self::decode(message.body.clone()).map(Some),
        }
    }
}

#[cfg(test)]
mod tests;
