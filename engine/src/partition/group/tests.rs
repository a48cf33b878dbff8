//! Groups against a model: who is in, with which role, since which message, over flushes, restarts and retries.

use std::collections::BTreeMap;

use columba_wire::DeviceId;
use proptest::{prelude::*, test_runner::Config};

use bytes::Bytes;

use super::{super::chat::Members, *};
use crate::partition::{
    command::{Command, Progress},
    dedup::LONG_WINDOWS_MAX,
    effect::Effect,
    keys::tests::{Bench, block_on},
};

const fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

/// Users beyond those of [`user`].
fn many(numbers: core::ops::Range<u32>) -> Vec<UserId> {
    let user = |n: u32| {
        let mut id = [0xff; 16];
        id[1..5].copy_from_slice(&n.to_be_bytes());
        UserId::from_bytes(id)
    };
    numbers.map(user).collect()
}

fn users(numbers: &[u8]) -> Vec<UserId> {
    let mut users: Vec<_> = numbers.iter().map(|n| user(*n)).collect();
    users.sort_unstable();
    users.dedup();
    users
}

const fn device(n: u8) -> DeviceAddress {
    DeviceAddress { user: user(n), device: DeviceId::FIRST }
}

fn group() -> ChatId {
    ChatId::group(device(0), ClientSeq::new(1))
}

fn change(by: u8, client_seq: u64, change: GroupChange) -> Command {
    let client_seq = ClientSeq::new(client_seq);
    Command::ChangeGroup { chat: group(), sender: device(by), client_seq, time_ms: client_seq.get(), change }
}

fn create(members: &[u8]) -> Command {
    let look = Look { name: Bytes::from_static(b"us"), ..Look::default() };
    change(0, 1, GroupChange::Create { look, members: users(members) })
}

fn create_of(members: Vec<UserId>) -> Command {
    change(0, 1, GroupChange::Create { look: Look::default(), members })
}

fn send(by: u8, client_seq: u64) -> Command {
    send_of(user(by), client_seq)
}

fn send_of(user: UserId, client_seq: u64) -> Command {
    let sender = DeviceAddress { user, device: DeviceId::FIRST };
    let (client_seq, body) = (ClientSeq::new(client_seq), Bytes::from_static(b"hi"));
    let time_ms = client_seq.get() % (1 << 20);
    Command::Send { chat: group(), peer: None, sender, client_seq, time_ms, body }
}

fn advance(n: u8, covered: u64, everywhere: u64) -> Command {
    let [covered, everywhere] = [covered, everywhere].map(MessageSeq::new);
    Command::Advance(vec![Progress { chat: group(), user: user(n), covered, delivered: covered, everywhere }])
}

/// These users have everything up to here.
fn advance_all(users: &[UserId], seq: u64) -> Command {
    let at = MessageSeq::new(seq);
    let item = |user: &UserId| Progress { chat: group(), user: *user, covered: at, delivered: at, everywhere: at };
    Command::Advance(users.iter().map(item).collect())
}

/// What somebody asks for.
#[derive(Clone, Debug)]
enum Ask {
    Add(Vec<u8>),
    Remove(Vec<u8>),
    Leave,
    SetRole(u8, Role),
    SetLook(LookChange),
    /// A link with this secret, for ever or until this time; or none.
    SetInvite(Option<(u8, u64)>),
    Join(u8),
    SetTimer(u32),
    Send,
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8, Ask),
    /// The last thing that this user was answered with a seq is asked again.
    Again(u8),
    /// This user has everything that is for it.
    Advance(u8),
    Flush,
    Reopen,
}

const USERS: u8 = 7;

fn ask() -> impl Strategy<Value = Ask> {
    let some = || proptest::collection::vec(0..USERS, 1..4);
    let role = prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)];
    let name = proptest::option::of(prop_oneof![Just(Bytes::from_static(b"a")), Just(Bytes::from_static(b"b"))]);
    prop_oneof![
        4 => some().prop_map(Ask::Add),
        2 => some().prop_map(Ask::Remove),
        1 => Just(Ask::Leave),
        3 => (0..USERS, role).prop_map(|(who, role)| Ask::SetRole(who, role)),
        1 => (name, proptest::option::of(any::<bool>()))
            .prop_map(|(name, announcements)| Ask::SetLook(LookChange { name, picture: None, announcements })),
        2 => proptest::option::of((0..2u8, prop_oneof![Just(0), 1..90u64])).prop_map(Ask::SetInvite),
        3 => (0..2u8).prop_map(Ask::Join),
        1 => (0..3u32).prop_map(Ask::SetTimer),
        4 => Just(Ask::Send),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..USERS, ask()).prop_map(|(by, ask)| Step::Ask(by, ask)),
        2 => (0..USERS).prop_map(Step::Again),
        6 => (0..USERS).prop_map(Step::Advance),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

/// A group as its rules say, kept in another way: by what each message did.
#[derive(Clone, Debug, Default)]
struct Model {
    members: BTreeMap<u8, (Role, u64)>,
    /// In which order users first came.
    order: Vec<u8>,
    /// Up to where somebody lacks messages who has left.
    owed: BTreeMap<u8, u64>,
    look: Look,
    invite: Option<(u8, u64)>,
    timer_s: u32,
    last: u64,
    answered: BTreeMap<u8, (Command, u64)>,
}

impl Model {
    fn join(&mut self, numbers: &[u8], role: Role) {
        for n in numbers {
            if !self.order.contains(n) {
                self.order.push(*n);
            }
            self.members.insert(*n, (role, self.last));
        }
    }

    fn part(&mut self, n: u8, is_covered: bool) {
        self.members.remove(&n);
        assert!(!is_covered);
        self.owed.insert(n, self.last);
    }

    /// The seq of what is asked, or why there is none.
    fn ask(&mut self, by: u8, ask: &Ask, now: u64) -> core::result::Result<u64, Code> {
        let is_over = |ends: u64| ends != 0 && ends <= now;
        let joins = if let Ask::Join(secret) = ask { Some(*secret) } else { None };
        let (role, _) = match (self.members.get(&by), joins) {
            (Some(member), None) => *member,
            (Some(_), Some(_)) => return Err(Code::InvalidArgument),
            (None, None) => return Err(Code::UnknownChat),
            (None, Some(secret)) => {
                if !self.invite.is_some_and(|(good, ends)| good == secret && !is_over(ends)) {
                    return Err(Code::InviteUnknown);
                }
                if self.owed.contains_key(&by) {
                    return Err(Code::Unavailable);
                }
                self.last += 1;
                self.join(&[by], Role::Member);
                return Ok(self.last);
            }
        };
        let is_admin = role != Role::Member;
        match ask {
            Ask::Send if self.look.announcements && !is_admin => return Err(Code::NotAllowed),
            Ask::Send => self.last += 1,
            Ask::Leave => {
                self.last += 1;
                self.part(by, false);
                let rank = |n: &u8| (self.members[n].0, core::cmp::Reverse(self.order.iter().position(|m| m == n)));
                let next = self.members.keys().copied().max_by_key(rank);
                if let Some(next) = next.filter(|_| role == Role::Owner) {
                    self.members.get_mut(&next).unwrap().0 = Role::Owner;
                }
                self.invite = self.invite.filter(|_| !self.members.is_empty());
            }
            _ if !is_admin => return Err(Code::NotAllowed),
            Ask::Add(numbers) => {
                let mut new: Vec<_> = numbers.iter().copied().filter(|n| !self.members.contains_key(n)).collect();
                new.sort_unstable();
                new.dedup();
                if new.is_empty() {
                    return Err(Code::InvalidArgument);
                }
                if new.iter().any(|n| self.owed.contains_key(n)) {
                    return Err(Code::Unavailable);
                }
                self.last += 1;
                self.join(&new, Role::Member);
            }
            Ask::Remove(numbers) => {
                if numbers.contains(&by) {
                    return Err(Code::InvalidArgument);
                }
                let gone: Vec<_> = self.members.keys().copied().filter(|n| numbers.contains(n)).collect();
                if gone.is_empty() {
                    return Err(Code::InvalidArgument);
                }
                if gone.iter().any(|n| self.members[n].0 == Role::Owner) {
                    return Err(Code::NotAllowed);
                }
                self.last += 1;
                gone.iter().for_each(|n| self.part(*n, false));
                self.invite = None;
            }
            Ask::SetRole(who, new) => {
                let (old, _) = *self.members.get(who).ok_or(Code::UnknownUser)?;
                if old == *new {
                    return Err(Code::InvalidArgument);
                }
                if old == Role::Owner || (*new == Role::Owner && role != Role::Owner) {
                    return Err(Code::NotAllowed);
                }
                self.last += 1;
                if *new == Role::Owner {
                    self.members.get_mut(&by).unwrap().0 = Role::Admin;
                }
                self.members.get_mut(who).unwrap().0 = *new;
            }
            Ask::SetLook(change) => {
                let mut look = self.look.clone();
                change.name.iter().for_each(|name| look.name = name.clone());
                change.announcements.iter().for_each(|only| look.announcements = *only);
                if look == self.look {
                    return Err(Code::InvalidArgument);
                }
                self.last += 1;
                self.look = look;
            }
            Ask::SetInvite(invite) => {
                if *invite == self.invite || invite.is_some_and(|(_, ends)| is_over(ends)) {
                    return Err(Code::InvalidArgument);
                }
                self.last += 1;
                self.invite = *invite;
            }
            Ask::SetTimer(timer_s) => {
                if *timer_s == self.timer_s {
                    return Err(Code::InvalidArgument);
                }
                self.last += 1;
                self.timer_s = *timer_s;
            }
            Ask::Join(_) => unreachable!("a member does not"),
        }
        Ok(self.last)
    }
}

fn command(by: u8, client_seq: u64, ask: Ask) -> Command {
    let asked = match ask {
        Ask::Add(numbers) => GroupChange::Add(users(&numbers)),
        Ask::Remove(numbers) => GroupChange::Remove(users(&numbers)),
        Ask::Leave => GroupChange::Leave { owner: None },
        Ask::SetRole(who, role) => GroupChange::SetRole { user: user(who), role },
        Ask::SetLook(look) => GroupChange::SetLook(look),
        Ask::SetInvite(invite) => GroupChange::SetInvite(
            invite.map(|(secret, expires_ms)| Invite { secret: Some(secret_of(secret)), expires_ms }),
        ),
        Ask::SetTimer(timer_s) => GroupChange::SetTimer(timer_s),
        Ask::Join(secret) => GroupChange::Join { secret: Some(secret_of(secret)) },
        Ask::Send => return send(by, client_seq),
    };
    change(by, client_seq, asked)
}

const fn secret_of(n: u8) -> InviteSecret {
    InviteSecret::from_bytes([n; 16])
}

/// Whom a message was for, by its effect.
fn committed(effects: &[Effect]) -> Vec<UserId> {
    let [Effect::Committed { members, message, .. }] = effects else { panic!("{effects:?}") };
    let is_for = |(_, from, until): &(UserId, MessageSeq, MessageSeq)| (*from..=*until).contains(&message.seq);
    members.ranges().filter(is_for).map(|(user, ..)| user).collect()
}

async fn check(bench: &Bench, model: &Model) {
    for n in 0..USERS {
        let found = bench.partition().chat_of(group(), user(n)).await.unwrap();
        let Some((_, from)) = model.members.get(&n) else {
            assert_eq!(found, None, "{n} is no member");
            continue;
        };
        let view = found.unwrap();
        let chat = &view.chat;
        assert_eq!((chat.last_seq.get(), view.from.get(), chat.timer_s), (model.last, *from, model.timer_s));
        let (look, seats) = view.group.unwrap();
        assert_eq!(look, model.look);
        let roles: BTreeMap<_, _> = seats
            .iter()
            .filter(|seat| seat.is_member())
            .map(|seat| (seat.user.as_bytes()[0], (seat.role, seat.from.get())))
            .collect();
        assert_eq!(roles, model.members);
        let told = view.invite.map(|invite| (invite.secret.unwrap(), invite.expires_ms));
        let known = model.invite.filter(|_| model.members[&n].0 != Role::Member);
        assert_eq!(told, known.map(|(secret, expires_ms)| (secret_of(secret), expires_ms)), "{n}");
        assert_eq!(view.members.iter().map(|(user, _)| user.as_bytes()[0]).collect::<Vec<_>>().len(), roles.len());
    }
}

async fn run(seed: u64, members: &[u8], steps: Vec<Step>) {
    let mut bench = Bench::open(seed).await;
    let (outcome, effects) = bench.apply(&create(members)).await;
    assert_eq!(outcome, Outcome::Sent { seq: MessageSeq::new(1), time_ms: 1, duplicate: false });
    let mut model = Model { last: 1, ..Model::default() };
    model.look.name = Bytes::from_static(b"us");
    model.join(&[0], Role::Owner);
    let others: Vec<_> = users(members).iter().map(|user| user.as_bytes()[0]).collect();
    model.join(&others, Role::Member);
    assert_eq!(committed(&effects).len(), model.members.len());
    model.answered.insert(0, (create(members), 1));
    let mut client_seq = 1;
    for step in steps {
        match step {
            Step::Ask(by, ask) => {
                client_seq += 1;
                let before = model.members.clone();
                let command = command(by, client_seq, ask.clone());
                let wanted = model.ask(by, &ask, client_seq);
                let (outcome, effects) = bench.apply(&command).await;
                match wanted {
                    Err(code) => {
                        assert_eq!(outcome, Outcome::Refused(code), "{by}: {ask:?}");
                        assert!(effects.is_empty());
                    }
                    Ok(seq) => {
                        let sent = Outcome::Sent { seq: MessageSeq::new(seq), time_ms: client_seq, duplicate: false };
                        assert_eq!(outcome, sent, "{by}: {ask:?}");
                        if let (Ask::Send, [Effect::Committed { message, .. }]) = (&ask, &effects[..]) {
                            assert_eq!(message.timer_s().unwrap_or(0), model.timer_s);
                        }
                        // Those who were in and those who are in: who is put out is told so.
                        let mut all: Vec<_> = before.keys().chain(model.members.keys()).copied().collect();
                        all.sort_unstable();
                        all.dedup();
                        assert_eq!(committed(&effects), users(&all));
                        model.answered.insert(by, (command, seq));
                    }
                }
            }
            Step::Again(by) => {
                if let Some((command, seq)) = model.answered.get(&by) {
                    let (outcome, effects) = bench.apply(command).await;
                    assert!(
                        matches!(outcome, Outcome::Sent { seq: found, duplicate: true, .. } if found.get() == *seq),
                        "{by}: {outcome:?}",
                    );
                    assert!(effects.is_empty());
                }
            }
            Step::Advance(n) => {
                bench.apply(&advance(n, model.last, model.last)).await;
                model.owed.remove(&n);
            }
            Step::Flush => bench.flush_and_reopen().await,
            Step::Reopen => bench.reopen().await,
        }
        check(&bench, &model).await;
    }
    // The log alone tells the same story, without the secret of a link.
    let last = MessageSeq::new(model.last);
    let page = bench.partition().messages(group(), MessageSeq::new(1), last, usize::MAX).await.unwrap();
    let mut again = Group::new(Look::default());
    for message in &page.messages {
        if let Some(change) = GroupChange::of(message).unwrap() {
            assert_eq!(change, change.clone().without_secret());
            if let GroupChange::Create { look, .. } = &change {
                again.look = look.clone();
            }
            again.carry_out(message.sender.user, &change, message.seq);
        }
    }
    let told: BTreeMap<_, _> =
        again.members().map(|seat| (seat.user.as_bytes()[0], (seat.role, seat.from.get()))).collect();
    assert_eq!((told, again.look), (model.members, model.look));
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(64) })]
    #[test]
    fn a_group_is_what_its_log_says_over_flushes_and_retries(
        seed: u64,
        members in proptest::collection::vec(1..USERS, 0..5),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        block_on(run(seed, &members, steps));
    }

    #[test]
    fn any_bytes_are_a_change_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let bytes = Bytes::from(bytes);
        if let Ok(change) = GroupChange::decode(bytes.clone()) {
            prop_assert_eq!(change.encode(), bytes);
        }
    }
}

#[test]
fn what_somebody_lacks_who_was_put_out_is_kept_for_it() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let keep = Command::SetRetention {
            chat: None,
            retention: Some(crate::partition::retention::Retention::UntilDelivered { days: 30 }),
        };
        bench.apply(&keep).await;
        bench.apply(&create(&[1, 2])).await;
        bench.apply(&send(0, 2)).await;
        bench.apply(&change(0, 3, GroupChange::Remove(users(&[2])))).await;
        bench.apply(&send(0, 4)).await;
        for n in [0, 1] {
            bench.apply(&advance(n, 4, 4)).await;
        }
        // It is in the inbox of its device, which is away.
        bench.apply(&advance(2, 4, 1)).await;
        let deleted = |bench: &Bench| block_on(bench.partition().chat(group())).unwrap().unwrap().deleted_up_to.get();
        assert_eq!(deleted(&bench), 1);
        assert!(!block_on(bench.partition().chat(group())).unwrap().unwrap().pending);
        bench.apply(&advance(2, 4, 3)).await;
        assert_eq!(deleted(&bench), 4);
    });
}

#[test]
fn a_direct_chat_has_a_timer_and_no_other_change() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let chat = ChatId::direct(user(1), user(2));
        let say = |n: u8, client_seq| {
            let peer = Some(user(if n == 1 { 2 } else { 1 }));
            let (client_seq, body) = (ClientSeq::new(client_seq), Bytes::from_static(b"hi"));
            Command::Send { chat, peer, sender: device(n), client_seq, time_ms: client_seq.get(), body }
        };
        let change = |n, client_seq, change| {
            let client_seq = ClientSeq::new(client_seq);
            Command::ChangeGroup { chat, sender: device(n), client_seq, time_ms: client_seq.get(), change }
        };
        let refused = Outcome::Refused;
        assert_eq!(bench.apply(&change(1, 1, GroupChange::SetTimer(9))).await.0, refused(Code::UnknownChat));
        bench.apply(&say(1, 2)).await;
        for (n, asked, code) in [
            (3, GroupChange::SetTimer(9), Code::UnknownChat),
            (1, GroupChange::SetTimer(0), Code::InvalidArgument),
            (1, GroupChange::Add(users(&[3])), Code::UnknownChat),
            (3, GroupChange::Join { secret: Some(secret_of(1)) }, Code::InviteUnknown),
        ] {
            assert_eq!(bench.apply(&change(n, 3, asked.clone())).await.0, refused(code), "{asked:?}");
        }
        let set = change(2, 4, GroupChange::SetTimer(9));
        let sent = |duplicate| Outcome::Sent { seq: MessageSeq::new(2), time_ms: 4, duplicate };
        assert_eq!(bench.apply(&set).await.0, sent(false));
        assert_eq!(bench.apply(&set).await.0, sent(true));
        bench.apply(&say(1, 5)).await;
        bench.flush_and_reopen().await;
        bench.apply(&say(2, 6)).await;
        let last = MessageSeq::new(4);
        let page = bench.partition().messages(chat, MessageSeq::new(1), last, usize::MAX).await.unwrap();
        let told: Vec<_> =
            page.messages.iter().map(|message| (message.timer_s(), message.client_body(9_004))).collect();
        let hi = Bytes::from_static(b"hi");
        assert_eq!(told, [(None, hi.clone()), (None, Bytes::new()), (Some(9), hi.clone()), (Some(9), hi)]);
        assert_eq!(page.messages[2].client_body(9_005), Bytes::new(), "it has disappeared");
        let block = Command::BlockChat { by: user(1), other: user(2), blocked: true, time_ms: 7 };
        bench.apply(&block).await;
        assert_eq!(bench.apply(&change(2, 8, GroupChange::SetTimer(0))).await.0, refused(Code::NotAllowed));
    });
}

#[test]
fn a_link_that_is_over_stays_so_though_the_clock_steps_back() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        bench.apply(&create(&[])).await;
        let invite = Invite { secret: Some(secret_of(1)), expires_ms: 50 };
        bench.apply(&change(0, 2, GroupChange::SetInvite(Some(invite)))).await;
        let join = |n, at| change(n, at, GroupChange::Join { secret: Some(secret_of(1)) });
        assert!(matches!(bench.apply(&join(1, 49)).await.0, Outcome::Sent { .. }));
        bench.apply(&send(0, 50)).await;
        assert_eq!(bench.apply(&join(2, 49)).await.0, Outcome::Refused(Code::InviteUnknown));
        let found = |secret, now_ms| block_on(bench.partition().invitation(group(), secret, now_ms)).unwrap();
        assert_eq!(found(secret_of(1), 49), None);
    });
}

#[test]
fn who_comes_back_gets_nothing_of_the_time_between() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        bench.apply(&create(&[1])).await;
        bench.apply(&change(0, 2, GroupChange::Remove(users(&[1])))).await;
        bench.apply(&send(0, 3)).await;
        bench.apply(&advance(1, 2, 1)).await;
        bench.apply(&change(0, 4, GroupChange::Add(users(&[1])))).await;
        let view = bench.partition().chat_of(group(), user(1)).await.unwrap().unwrap();
        assert_eq!(view.from.get(), 4);
        let member = view.members.iter().find(|(found, _)| *found == user(1)).unwrap().1;
        // What it lacks of its first time is still owed.
        assert_eq!((member.covered.get(), member.everywhere.get()), (3, 1));
    });
}

#[test]
fn a_group_is_full_at_its_bound_and_old_seats_make_room() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let bound = u32::try_from(GROUP_MEMBERS_MAX).unwrap();
        let members = many(0..bound - 1);
        bench.apply(&create_of(members.clone())).await;
        let refused = bench.apply(&change(0, 2, GroupChange::Add(users(&[200])))).await.0;
        assert_eq!(refused, Outcome::Refused(Code::TooMany));
        // Some leave and others come, again and again: seats of those who have everything are given up.
        let removed = GROUP_REMOVED_MAX;
        let mut come = bound;
        for (round, gone) in members.chunks(removed).take(5).enumerate() {
            let seq = round as u64 * 2 + 2;
            let outcome = bench.apply(&change(0, seq, GroupChange::Remove(gone.to_vec()))).await.0;
            assert!(matches!(outcome, Outcome::Sent { .. }), "round {round}: {outcome:?}");
            bench.apply(&advance_all(gone, seq)).await;
            let next = come + u32::try_from(gone.len()).unwrap();
            let outcome = bench.apply(&change(0, seq + 1, GroupChange::Add(many(come..next)))).await.0;
            assert!(matches!(outcome, Outcome::Sent { .. }), "round {round}: {outcome:?}");
            come = next;
        }
        let Members::Group(seats) = bench.partition().members(group()).await.unwrap().unwrap() else { panic!() };
        assert_eq!(seats.len(), GROUP_MEMBERS_MAX + FORMER_MAX);
        // It is a row like any other, written and read back.
        bench.flush_and_reopen().await;
        let Members::Group(again) = bench.partition().members(group()).await.unwrap().unwrap() else { panic!() };
        assert_eq!(again, seats);
    });
}

#[test]
fn nobody_is_put_out_while_too_many_lack_what_was_for_them() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let members = many(0..200);
        bench.apply(&create_of(members.clone())).await;
        let remove = |client_seq, users: &[UserId]| change(0, client_seq, GroupChange::Remove(users.to_vec()));
        for (n, gone) in members.chunks(GROUP_REMOVED_MAX).take(FORMER_MAX / GROUP_REMOVED_MAX).enumerate() {
            assert!(matches!(bench.apply(&remove(n as u64 + 2, gone)).await.0, Outcome::Sent { .. }));
        }
        let next = &members[FORMER_MAX..=FORMER_MAX];
        assert_eq!(bench.apply(&remove(9, next)).await.0, Outcome::Refused(Code::Unavailable));
        bench.apply(&advance_all(&members[..1], 2)).await;
        assert!(matches!(bench.apply(&remove(9, next)).await.0, Outcome::Sent { .. }));
    });
}

#[test]
fn the_row_of_a_group_in_which_everybody_writes_has_a_bound() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let members = many(0..u32::try_from(GROUP_MEMBERS_MAX).unwrap() - 1);
        bench.apply(&create_of(members.clone())).await;
        let mut seq = 1;
        // As long as numbers may be.
        let client_seq = |round: u64, n: u64| (round + 1) << 60 | n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 4;
        for round in 0..3 {
            for (n, user) in members.iter().enumerate().take(2 * LONG_WINDOWS_MAX) {
                bench.apply(&send_of(*user, client_seq(round, n as u64))).await;
                seq += 1;
            }
        }
        bench.flush_and_reopen().await;
        let answer = async |bench: &mut Bench, n: usize, round: u64| {
            bench.apply(&send_of(members[n], client_seq(round, n as u64))).await.0
        };
        // Each was cut between two of its sends. Those that wrote last have two since, the others one.
        let last = 2 * LONG_WINDOWS_MAX - 1;
        for (n, round, is_known) in
            [(last, 2, true), (last, 1, true), (last, 0, false), (0, 2, true), (0, 1, false), (0, 0, false)]
        {
            let outcome = answer(&mut bench, n, round).await;
            match outcome {
                Outcome::Sent { duplicate: true, .. } if is_known => {}
                Outcome::Refused(Code::ClientSeqTooOld) if !is_known => {}
                other => panic!("{n} in round {round}: {other:?}"),
            }
        }
        let chat = bench.partition().chat(group()).await.unwrap().unwrap();
        assert_eq!(chat.last_seq.get(), seq);
    });
}

#[test]
fn marks_tell_each_member_what_all_others_have() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        bench.apply(&create(&[1, 2])).await;
        bench.apply(&send(0, 2)).await;
        bench.apply(&advance(1, 2, 2)).await;
        let (_, effects) = bench.apply(&advance(2, 1, 1)).await;
        let [Effect::Advanced { marks: Some((delivered, _)), .. }] = &effects[..] else { panic!("{effects:?}") };
        let of = |n: u8| delivered.of_others(user(n)).unwrap().get();
        assert_eq!([of(0), of(1), of(2)], [1, 0, 0]);
    });
}
