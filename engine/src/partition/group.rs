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

mod change;

use std::sync::Arc;

pub use columba_wire::Role;
use columba_wire::{
    ChatId, ClientSeq, Code, DeviceAddress, InviteSecret, MessageSeq, UserId,
    limits::{GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX, GROUP_PICTURE_BYTES_MAX, GROUP_REMOVED_MAX},
};

pub use self::change::{GroupChange, Invite, Look, LookChange};
use self::change::{role_number, role_of};
use super::{
    State,
    chat::{ChatRow, NewMessage, People},
    codec::{Put as _, Take, VARINT_BYTES_MAX},
    effect::{Effects, Outcome},
    receipt::{Member, put_member, take_member},
    rows::Row as _,
};
use crate::{
    error::Result,
    message::MessageKind,
    planted::{self, Planted},
};

/// Seats of former members that are kept. Beyond, the longest empty one is given up; where those that are gone still
/// have to be delivered to, nobody can be removed for a moment.
pub const FORMER_MAX: usize = 128;
const _: () = assert!(GROUP_REMOVED_MAX <= FORMER_MAX, "so many can be removed at once");

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

/// A group, as somebody sees it who holds its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its look.
    pub look: Look,
    /// How many are in it.
    pub members: usize,
    /// When the link ends, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
}

/// What a group's row has beside a chat's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) look: Look,
    pub(crate) seats: Arc<[Seat]>,
    progress: Vec<Member>,
    next_number: u32,
    /// Its secret is there.
    invite: Option<Invite>,
}

impl Group {
    /// One without members.
    pub(super) fn new(look: Look) -> Self {
        Self { look, seats: Arc::new([]), progress: Vec::new(), next_number: 0, invite: None }
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

    /// Its link, for a member that may know it.
    pub(super) fn invite_for(&self, user: UserId) -> Option<Invite> {
        self.member(user).filter(|seat| seat.role >= Role::Admin).and(self.invite)
    }

    /// The group as the holder of a link sees it; `None` where the link does not lead here, or does so no more.
    pub(super) fn invitation(&self, secret: InviteSecret, now_ms: u64) -> Option<Invitation> {
        let invite = self.invite.filter(|invite| invite.secret == Some(secret) && !invite.is_over(now_ms))?;
        Some(Invitation { look: self.look.clone(), members: self.members().count(), expires_ms: invite.expires_ms })
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

    /// Whether these users may come in: there is room, and who was in before has got what was for it then, since
    /// there is one account of each user.
    fn check_room(&self, users: &[UserId]) -> core::result::Result<(), Code> {
        if self.members().count() + users.len() > GROUP_MEMBERS_MAX {
            return Err(Code::TooMany);
        }
        let is_settled = |user: &UserId| {
            self.place_of(*user).is_none_or(|place| self.progress[place].covered >= self.seats[place].until)
        };
        if users.iter().all(is_settled) { Ok(()) } else { Err(Code::Unavailable) }
    }

    /// Whether somebody who is not in may change the group so: come in, by its link.
    fn consider_stranger(
        &self,
        user: UserId,
        change: GroupChange,
        now_ms: u64,
    ) -> core::result::Result<GroupChange, Code> {
        let GroupChange::Join { secret } = change else {
            return Err(Code::UnknownChat);
        };
        let invitation = secret.and_then(|secret| self.invitation(secret, now_ms));
        if invitation.is_none() && !planted::is(Planted::EndedInvite) {
            return Err(Code::InviteUnknown);
        }
        self.check_room(&[user])?;
        Ok(change)
    }

    /// Whether a device of this member may change the group so, and what comes of it: what is so already is left out.
    fn consider(&self, by: &Seat, change: GroupChange, now_ms: u64) -> core::result::Result<GroupChange, Code> {
        let is_admin = by.role >= Role::Admin;
        match change {
            GroupChange::Create { .. } | GroupChange::Join { .. } => Err(Code::InvalidArgument),
            GroupChange::Leave { .. } => Ok(GroupChange::Leave { owner: self.successor(by) }),
            _ if !is_admin => Err(Code::NotAllowed),
            GroupChange::Add(mut users) => {
                users.retain(|user| self.member(*user).is_none());
                if users.is_empty() {
                    return Err(Code::InvalidArgument);
                }
                self.check_room(&users)?;
                Ok(GroupChange::Add(users))
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
            GroupChange::SetInvite(invite) if invite == self.invite => Err(Code::InvalidArgument),
            GroupChange::SetInvite(Some(invite)) if invite.is_over(now_ms) => Err(Code::InvalidArgument),
            GroupChange::SetInvite(invite) => Ok(GroupChange::SetInvite(invite)),
            GroupChange::SetTimer(timer_s) => Ok(GroupChange::SetTimer(timer_s)),
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
                // Who goes may know it.
                self.invite = None;
                return Some(freed);
            }
            GroupChange::Leave { owner } => {
                let freed = self.make_room(1)?;
                self.unseat(&[by], seq);
                owner.iter().for_each(|owner| self.set_role(*owner, Role::Owner));
                // Who came in later would be in a group that nobody owns.
                self.invite = self.invite.filter(|_| self.members().next().is_some());
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
            GroupChange::SetInvite(invite) => self.invite = *invite,
            GroupChange::Join { .. } => self.seat(&[by], Role::Member, seq),
            // It is the chat's, not the group's alone.
            GroupChange::SetTimer(_) => {}
        }
        Some(Vec::new())
    }

    /// Bytes it has on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let seats = self.seats.len() * size_of::<Seat>() + self.progress.capacity() * size_of::<Member>();
        size_of::<Self>() + seats + self.look.name.len() + self.look.picture.len()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Look { name, picture, announcements } = &self.look;
        out.put_bytes(name);
        out.put_bytes(picture);
        out.put_u8(u8::from(*announcements) | u8::from(self.invite.is_some()) << 1);
        if let Some(Invite { secret, expires_ms }) = self.invite {
            out.extend_from_slice(secret.expect("a link that is kept has one").as_bytes());
            out.put_u64(expires_ms);
        }
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
        let (name, picture, flags) = (take.take_bytes()?, take.take_bytes()?, take.take_u8()?);
        if flags > 3 {
            return Err(take.malformed("what a group has is unknown"));
        }
        let look = Look { name, picture, announcements: flags & 1 == 1 }.copied();
        let invite = if flags & 2 == 2 {
            let secret = Some(take.take_invite_secret()?);
            Some(Invite { secret, expires_ms: take.take_u64()? })
        } else {
            None
        };
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
        Ok(Self { look, seats: seats.into(), progress, next_number, invite })
    }
}

/// User, flags, number, from, and four marks.
const SEAT_BYTES_MIN: usize = 16 + 1 + 1 + 1 + 4;
/// The same with `until`, in as many bytes as numbers may have.
const SEAT_BYTES_MAX: usize = 16 + 1 + 5 + 6 * VARINT_BYTES_MAX;
/// Bytes of a group in its chat's row, at most.
pub(super) const GROUP_BYTES_MAX: usize =
    GROUP_NAME_BYTES_MAX + GROUP_PICTURE_BYTES_MAX + 64 + (GROUP_MEMBERS_MAX + FORMER_MAX) * SEAT_BYTES_MAX;

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

/// What somebody learns who would change a group that is not there.
pub(super) const fn not_there(change: &GroupChange) -> Code {
    match change {
        GroupChange::Join { .. } => Code::InviteUnknown,
        _ => Code::UnknownChat,
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
                if let Some(known) = row.sent_before(sender, client_seq) {
                    return known;
                }
                // The time of the chat: clocks of those who lead it may differ, and what is over stays over.
                let now_ms = time_ms.max(row.chat.last_time_ms);
                let considered = match row.group().map(|group| (group, group.member(sender.user))) {
                    Some((group, Some(seat))) => group.consider(seat, change, now_ms),
                    Some((group, None)) => group.consider_stranger(sender.user, change, now_ms),
                    None => row.consider_timer(sender.user, change),
                };
                match considered {
                    Ok(GroupChange::SetTimer(timer_s)) if timer_s == row.chat.timer_s => Err(Code::InvalidArgument),
                    considered => considered,
                }
            }
            (None, change) => Err(not_there(&change)),
        };
        let change = match considered {
            Ok(change) => change,
            Err(code) => return Outcome::Refused(code),
        };
        let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there, or new");
        let before = row.variable_bytes();
        let seq = row.chat.last_seq.next();
        if let GroupChange::SetTimer(timer_s) = change {
            row.chat.timer_s = timer_s;
        }
        let freed = match row.group_mut() {
            Some(group) => group.carry_out(sender.user, &change, seq),
            None => Some(Vec::new()),
        };
        let Some(freed) = freed else {
            return Outcome::Refused(Code::Unavailable);
        };
        row.forget_members(&freed);
        let after = row.variable_bytes();
        self.active.count_change(before, after + core::mem::take(&mut self.uncounted_bytes));
        let body = change.without_secret().encode();
        let message = NewMessage { chat, sender, client_seq, time_ms, kind: MessageKind::Change, body };
        self.store_message(message, effects)
    }
}

#[cfg(test)]
mod tests;
