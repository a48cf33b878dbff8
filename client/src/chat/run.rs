//! (D) Client, standard input, standard output and signals around the [`View`].

use std::{
    io::{ErrorKind, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use columba_wire::{ChatId, UserId};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    ChatArgs,
    command::{GroupCommand, RosterCommand},
    input,
    output::Screen,
    text::printable,
    view::{Answer, Ask, DevicesAnswer, Output, RosterAnswer, RosterTold, Typed, View},
};
use crate::{
    client::{Client, Events, groups::new_secret},
    driver::now_ms,
    error::Error,
    limits::{CHAT_LOG_SHOWN, EVENTS_MAX, OWN_CHATS_MAX},
    types::{ChatInfo, GroupChange, GroupLook, PrivacyChange, Sent},
};

/// Chats until the user leaves, by command, signal or the end of standard input.
///
/// # Errors
/// What ends the session for good; at the end of standard input also what could not be stored in time.
pub async fn run(args: ChatArgs) -> anyhow::Result<()> {
    let directory = args.directory(|name| std::env::var_os(name))?;
    // Before there is anything to leave in disorder.
    let signals = Signals::new().context("listen to signals")?;
    let connected = Client::connect(args.options(&directory)).await;
    let (client, events) = connected.map_err(|error| args.explain(&error, &directory))?;
    let mut chat = Chat {
        credential: args.credential.as_str().into(),
        view: View::new(&args.handle, &args.server, !std::io::stdin().is_terminal()),
        screen: Screen::new(|name| std::env::var_os(name)),
        client: client.clone(),
        events,
        typed: input::lines().context("read standard input")?,
        asked: JoinSet::new(),
        signals,
        leave_at: None,
        args,
        directory,
    };
    let result = chat.run().await;
    chat.asked.abort_all();
    client.close().await;
    result
}

struct Chat {
    args: ChatArgs,
    directory: PathBuf,
    credential: Arc<str>,
    view: View,
    screen: Screen,
    client: Client,
    events: Events,
    typed: mpsc::Receiver<Typed>,
    asked: JoinSet<Answer>,
    signals: Signals,
    leave_at: Option<Instant>,
}

impl Chat {
    async fn run(&mut self) -> anyhow::Result<()> {
        self.view.set_now(now_ms());
        let account = self.client.account();
        if let Some(handle) =
            account.as_ref().map(|account| &account.handle).filter(|known| **known != self.args.handle)
        {
            let error = Error::AlreadyRegistered { handle: handle.clone() };
            return Err(self.args.explain(&error, &self.directory));
        }
        if self.args.link {
            self.view.link_first();
        }
        self.view.begin(account, self.args.with.as_deref());
        loop {
            if !self.carry_out().await? {
                return Ok(());
            }
            if let Some(error) = self.view.ended() {
                return Err(self.args.explain(error, &self.directory));
            }
            if self.view.is_done() && (self.asked.is_empty() || !self.view.waits_for_answers()) {
                return self.end();
            }
            if !self.wait().await {
                return self.end();
            }
        }
    }

    /// Takes in what comes next, with the time at which it comes: long after what came before, maybe. Whether to go on.
    async fn wait(&mut self) -> bool {
        if let Some(patience) = self.view.leaves_within() {
            self.leave_at.get_or_insert_with(|| Instant::now() + patience);
        }
        let leave_at = self.leave_at;
        tokio::select! {
            biased;
            () = self.signals.next() => return false,
            Some(answer) = self.asked.join_next(), if !self.asked.is_empty() => {
                if let Ok(answer) = answer {
                    self.view.set_now(now_ms());
                    self.view.handle_answer(answer);
                }
            }
            event = self.events.next() => {
                let Some(event) = event else {
                    return false;
                };
                self.view.set_now(now_ms());
                self.view.handle_event(event);
                // What is there already is shown together: ticks and marks coalesce.
                for _ in 0..EVENTS_MAX {
                    let Some(event) = self.events.try_next() else {
                        break;
                    };
                    self.view.handle_event(event);
                }
            }
            typed = self.typed.recv(), if self.view.takes_lines() => {
                self.view.set_now(now_ms());
                self.view.handle_typed(typed.unwrap_or(Typed::End));
            }
            () = sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => return false,
        }
        true
    }

    /// Does what the view wants. Whether anybody still reads.
    async fn carry_out(&mut self) -> anyhow::Result<bool> {
        loop {
            while let Some(output) = self.view.poll_output() {
                match output {
                    Output::Print(line) => self.screen.push(&line),
                    Output::Ask(ask) if ask.is_local() => {
                        let answer = answer(self.client.clone(), Arc::clone(&self.credential), ask).await;
                        self.view.handle_answer(answer);
                    }
                    Output::Ask(ask) => {
                        self.asked.spawn(answer(self.client.clone(), Arc::clone(&self.credential), ask));
                    }
                }
            }
            self.view.flush();
            if !self.view.has_output() {
                break;
            }
        }
        match self.screen.flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("write to standard output"),
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let result = self.view.end().map_err(anyhow::Error::msg);
        while let Some(output) = self.view.poll_output() {
            if let Output::Print(line) = output {
                self.screen.push(&line);
            }
        }
        // Nobody who reads it is no reason to fail any more.
        let _ = self.screen.flush();
        result
    }
}

/// Asks the client. A client that has ended gives an empty answer: its events tell why.
async fn answer(client: Client, credential: Arc<str>, ask: Ask) -> Answer {
    match ask {
        Ask::Register { handle } => Answer::Registered(client.register(&handle, &credential).await),
        Ask::Names => Answer::Names(client.names().await.unwrap_or_default()),
        Ask::Chats => Answer::Chats(client.chats().await.unwrap_or_default()),
        Ask::DeleteAccount { handle } => Answer::AccountDeleted(client.delete_account(&handle).await),
        Ask::OwnChats => Answer::OwnChats(own_chats(&client).await.unwrap_or_default()),
        Ask::Unsent => Answer::Unsent(client.unsent().await.unwrap_or_default()),
        Ask::Certificate => Answer::Certificate(client.certificate().await.unwrap_or_default()),
        Ask::Queue { to, body } => {
            let result = client.queue(to, body.clone()).await;
            Answer::Queued { to, body, result }
        }
        Ask::Log { chat } => Answer::Log { chat, messages: client.log(chat, CHAT_LOG_SHOWN).await.unwrap_or_default() },
        Ask::Find { handle, then } => {
            let result = client.find_user(&handle).await;
            Answer::Found { handle, then, result }
        }
        Ask::History { chat, before, limit } => {
            Answer::History { chat, result: client.history(chat, before, limit).await }
        }
        Ask::Receipts { chat, shown } => Answer::Receipts { chat, shown, result: client.receipts(chat).await },
        Ask::Read { chat, seq } => Answer::Read { chat, seq, result: client.read(chat, seq).await },
        Ask::Watch { user } => {
            // Whether or not it is answered in time, the session repeats it with each connection.
            let _ = client.subscribe_presence(&[user]).await;
            Answer::Watching
        }
        Ask::BeginLink => DevicesAnswer::Offered(client.begin_link().await).into(),
        Ask::Devices => DevicesAnswer::Listed(client.devices().await).into(),
        Ask::FindLink { code, approves } => {
            let result = client.find_link(&code).await;
            DevicesAnswer::Found { code, approves, result }.into()
        }
        Ask::ApproveLink { code, request } => {
            let result = client.approve_link(&code, &request, "").await;
            DevicesAnswer::Added { name: printable(request.name.as_bytes()), result }.into()
        }
        Ask::Rename { number, name } => {
            let result = client.rename_device(number, &name).await;
            DevicesAnswer::Renamed { number, result }.into()
        }
        Ask::Revoke { number } => {
            let result = client.revoke_device(number).await;
            DevicesAnswer::Revoked { number, result }.into()
        }
        Ask::Whois { handle } => {
            let result = match client.find_user(&handle).await {
                Ok(user) => client.user(user).await,
                Err(error) => Err(error),
            };
            Answer::Whois { handle, result }
        }
        Ask::SetProfile { change } => Answer::ProfileSet(client.set_profile(change).await),
        Ask::Chat { chat } => Answer::Chat(client.chat(chat).await),
        Ask::Handle { user } => Answer::Handle(client.user(user).await),
        Ask::Group { group, command } => {
            let result = change_group(&client, group, command.clone()).await;
            Answer::Group { command, result }
        }
        Ask::Roster { command } => {
            let result = change_roster(&client, command.clone()).await;
            RosterAnswer { command, result }.into()
        }
    }
}

/// What the chats are that the user is in. One after the other, so that this is one request at a time.
async fn own_chats(client: &Client) -> Result<Vec<ChatInfo>, Error> {
    let (mut infos, mut after) = (Vec::new(), None);
    loop {
        let page = client.fetch_chats(after).await?;
        for (chat, _) in &page.chats {
            after = Some(*chat);
            if infos.len() == OWN_CHATS_MAX {
                return Ok(infos);
            }
            // The user may have left it meanwhile.
            infos.extend(client.chat(*chat).await.ok());
        }
        if page.complete || page.chats.is_empty() {
            return Ok(infos);
        }
    }
}

/// Finds whom a command names, and carries it out.
async fn change_roster(client: &Client, command: RosterCommand) -> Result<RosterTold, Error> {
    match command {
        RosterCommand::Block { handle, blocked } => {
            client.set_blocked(client.find_user(&handle).await?, blocked).await?;
        }
        RosterCommand::Show => return Ok(RosterTold::Roster(client.roster().await?)),
        RosterCommand::Contacts { handles, known } => {
            let users = find_users(client, handles).await?;
            let (add, remove) = if known { (&users[..], &[][..]) } else { (&[][..], &users[..]) };
            client.change_contacts(add, remove).await?;
        }
        RosterCommand::Privacy(change) => {
            if change != PrivacyChange::default() {
                client.set_privacy(change).await?;
            }
            return Ok(RosterTold::Privacy(client.fetch_account().await?.privacy));
        }
    }
    Ok(RosterTold::Done)
}

/// Finds whom a command names, and carries it out.
async fn change_group(
    client: &Client,
    group: Option<ChatId>,
    command: GroupCommand,
) -> Result<(Sent, GroupChange), Error> {
    let look = |name, announcements| GroupChange::SetLook { name, picture: None, announcements };
    let change = match command {
        GroupCommand::New { name, handles } => {
            let look = GroupLook { name: name.into(), ..GroupLook::default() };
            GroupChange::Create { look, members: find_users(client, handles).await? }
        }
        GroupCommand::Add(handles) => GroupChange::Add(find_users(client, handles).await?),
        GroupCommand::Remove(handles) => GroupChange::Remove(find_users(client, handles).await?),
        GroupCommand::Role { handle, role } => GroupChange::SetRole { user: client.find_user(&handle).await?, role },
        GroupCommand::Name(name) => look(Some(name.into()), None),
        GroupCommand::Announcements(only) => look(None, Some(only)),
        GroupCommand::Leave => GroupChange::Leave { owner: None },
        GroupCommand::Invite(hours) => GroupChange::SetInvite {
            secret: Some(new_secret()?),
            expires_ms: hours.map(|hours| now_ms() + u64::from(hours) * 3_600_000),
        },
        GroupCommand::Uninvite => GroupChange::EndInvite,
        GroupCommand::Timer(timer_s) => GroupChange::SetTimer { timer_s },
        GroupCommand::Join(link) => GroupChange::Join { secret: Some(link.secret) },
    };
    Ok((client.make_or_change(group, change.clone()).await?, change))
}

async fn find_users(client: &Client, handles: Vec<String>) -> Result<Vec<UserId>, Error> {
    let mut users = Vec::new();
    for handle in handles {
        users.push(client.find_user(&handle).await?);
    }
    Ok(users)
}

/// The signals by which a user, a system or a terminal asks to leave.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
