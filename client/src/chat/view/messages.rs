//! Messages on the screen: as they come, as they stand, and what is said about them.

use columba_wire::MessageSeq;

use super::{Ask, Tone, View};
use crate::{
    chat::{
        args::reason,
        text::{clock, printable},
        words::{answered, join, quotation, words},
    },
    types::{Content, Message, MessageBody, MessageKind, Recipient, Sent, Shown, TimelineItem},
};

impl View {
    /// Sends what was typed to whom is chosen. Without a type: every client reads it.
    pub(super) fn say(&mut self, text: String) {
        let Some(peer) = self.peer else {
            let text = printable(text.as_bytes());
            return self.trouble(format!("not sent: nobody is chosen; /with HANDLE first: {text}"));
        };
        // It would not be read as text.
        if text.starts_with('\0') {
            return self.queue(peer.to, &MessageBody::text(text));
        }
        self.ask(Ask::Queue { to: peer.to, body: text.into() });
    }

    /// Sends what names a message on the screen.
    pub(super) fn tell(&mut self, body: &MessageBody) {
        let (Some(peer), Some(me)) = (self.peer, self.me.as_ref().map(|me| me.user)) else {
            return self.trouble("not sent: nobody is chosen; /with HANDLE first".to_owned());
        };
        self.refresh_roles();
        let target = body.kind.target().or(body.reply_to).unwrap_or_default();
        let Some(timeline) = self.timeline.as_ref().filter(|timeline| timeline.item(target).is_some()) else {
            return self.trouble(format!(
                "not sent: message {target} is not on the screen; /show tells the numbers, /history shows older ones"
            ));
        };
        if !timeline.may(me, &body.kind, MessageSeq::MAX) {
            return self.trouble(match body.kind {
                MessageKind::Reaction { .. } => format!("not sent: message {target} takes no reactions"),
                _ => format!("not sent: message {target} is not yours to change"),
            });
        }
        self.queue(peer.to, body);
    }

    fn queue(&mut self, to: Recipient, body: &MessageBody) {
        match body.to_bytes() {
            Ok(body) => self.ask(Ask::Queue { to, body }),
            Err(error) => self.trouble(format!("not sent: {}", reason(&error))),
        }
    }

    /// A message of this device has its place.
    pub(super) fn handle_sent(&mut self, sent: &Sent) {
        let body = self.ticks.handle_sent(sent);
        self.mark_on_screen(sent.chat, sent.seq);
        let (Some(body), Some(sender)) = (body, self.me.as_ref().map(|me| me.user)) else {
            return;
        };
        let (chat, seq, time_ms) = (sent.chat, sent.seq, sent.time_ms);
        let timeline = self.timeline.as_ref().filter(|timeline| timeline.chat() == chat);
        let disappears_ms =
            timeline.and_then(|timeline| timeline.timer_ms_at(seq)).map(|timer_ms| time_ms.saturating_add(timer_ms));
        self.keep(&Message { chat, seq, sender, time_ms, disappears_ms, body, change: None });
    }

    /// A message of the chosen chat is on the screen.
    pub(super) fn keep(&mut self, message: &Message) {
        if let Some(timeline) = &mut self.timeline {
            timeline.insert(message);
        }
    }

    /// What nobody here has told of the roles, the list of members does.
    fn refresh_roles(&mut self) {
        let Some(timeline) = &mut self.timeline else {
            return;
        };
        if let Some(group) = self.groups.get(timeline.chat()) {
            timeline.set_roles(group.members.clone());
        }
    }

    /// A new message on its line. Nothing where it wants to change what its sender may not, or has disappeared already.
    pub(super) fn print_message(&mut self, message: &Message) {
        if message.has_disappeared(self.now_ms) {
            return;
        }
        self.keep(message);
        let is_chosen = self.peer.is_some_and(|peer| peer.chat == message.chat);
        let time = clock(message.time_ms, self.now_ms);
        if let Some(change) = &message.change {
            let group = match self.groups.get(message.chat) {
                _ if is_chosen => String::new(),
                Some(_) => format!("[{}] ", self.groups.name(message.chat)),
                None => format!("[{}] ", self.people.name(message.sender)),
            };
            let line = format!("{time} {group}{}", self.change_line(message.sender, change));
            return self.print(Tone::Message, line);
        }
        let content = message.content();
        if is_chosen && self.is_in_vain(message, &content) {
            return;
        }
        let words = format!("{}{}", self.quotation(message.seq, answered(&content)), words(&content));
        let name = self.people.name(message.sender);
        let line = if self.is_me(message.sender) {
            self.own_line(message, &join(&name, &content, &words))
        } else if is_chosen {
            join(&name, &content, &words)
        } else if self.groups.get(message.chat).is_some() {
            format!("[{}] {}", self.groups.name(message.chat), join(&name, &content, &words))
        } else {
            format!("[{name}] {words}")
        };
        self.print(Tone::Message, format!("{time} {line}"));
    }

    /// Own messages have their number while they are not read.
    fn own_line(&mut self, message: &Message, phrase: &str) -> String {
        match self.ticks.show(message.chat, message.seq) {
            Some(number) => format!("{number} {phrase}"),
            None => phrase.to_owned(),
        }
    }

    /// Whether a message is about one that is here, and does nothing to it.
    fn is_in_vain(&mut self, message: &Message, content: &Content) -> bool {
        let (Content::Typed(body), Some(target)) = (content, content.target()) else {
            return false;
        };
        self.refresh_roles();
        let Some(timeline) = self.timeline.as_ref().filter(|timeline| timeline.item(target).is_some()) else {
            return false;
        };
        !timeline.may(message.sender, &body.kind, message.seq)
    }

    /// Messages of the log or the history, oldest first, each as it stands now.
    pub(super) fn print_page<'a>(&mut self, messages: impl Iterator<Item = &'a Message> + Clone) {
        let now_ms = self.now_ms;
        let messages = messages.filter(move |message| !message.has_disappeared(now_ms));
        messages.clone().for_each(|message| self.keep(message));
        self.refresh_roles();
        for message in messages {
            let item = self.timeline.as_ref().and_then(|timeline| timeline.item(message.seq));
            match item {
                Some(item) => {
                    let phrase = self.item_phrase(&item);
                    let is_own = self.is_me(item.sender) && !matches!(item.shown, Shown::Change(_));
                    let phrase = if is_own { self.own_line(message, &phrase) } else { phrase };
                    self.print(Tone::Message, format!("{} {phrase}", clock(item.time_ms, self.now_ms)));
                }
                // It shows in the message that it is about.
                None if message.content().target().is_some() => {}
                // So much is on the screen that there is no room for it.
                None => self.print_message(message),
            }
        }
    }

    /// The newest messages on the screen as they stand now, with the numbers by which they are named.
    pub(super) fn show(&mut self, limit: usize) {
        self.refresh_roles();
        let Some(timeline) = self.timeline.as_ref().filter(|_| self.peer.is_some()) else {
            return self.nobody();
        };
        let mut items: Vec<_> = timeline.items().rev().take(limit).collect();
        if items.is_empty() {
            return self.notice("no messages yet".to_owned());
        }
        items.reverse();
        for item in items {
            let (seq, time) = (item.seq, clock(item.time_ms, self.now_ms));
            let line = format!("({seq}) {time} {}", self.item_phrase(&item));
            self.print(Tone::Message, line);
        }
    }

    /// A message as it stands: who says what, whether it was something else, and what others think of it.
    fn item_phrase(&self, item: &TimelineItem) -> String {
        let name = self.people.name(item.sender);
        let content = match &item.shown {
            Shown::Content(content) => content,
            Shown::Change(change) => return self.change_line(item.sender, change),
            Shown::Deleted { by } if *by == item.sender => return format!("{name}: <deleted>"),
            Shown::Deleted { by } => return format!("{name}: <deleted by {}>", self.people.name(*by)),
        };
        let quotation = self.quotation(item.seq, item.reply_to);
        let edited = if item.is_edited { " (edited)" } else { "" };
        let reactions: Vec<_> = item
            .reactions
            .iter()
            .map(|(user, emoji)| format!("{} {}", printable(emoji.as_bytes()), self.people.name(*user)))
            .collect();
        let reactions = if reactions.is_empty() { String::new() } else { format!(" [{}]", reactions.join(", ")) };
        format!("{name}: {quotation}{}{edited}{reactions}", words(content))
    }

    /// What a message answers, where it does: as it stands now, or by its number.
    pub(super) fn quotation(&self, seq: MessageSeq, target: Option<MessageSeq>) -> String {
        let Some(target) = target.filter(|target| *target < seq) else {
            return String::new();
        };
        let item = self.timeline.as_ref().and_then(|timeline| timeline.item(target));
        let quoted = match item.as_ref().map(|item| (&item.shown, item.sender)) {
            Some((Shown::Content(content), sender)) => {
                format!(" {} {}", self.people.name(sender), quotation(&words(content)))
            }
            Some((Shown::Deleted { .. }, sender)) => format!(" {} <deleted>", self.people.name(sender)),
            Some((Shown::Change(_), _)) | None => String::new(),
        };
        format!("(to {target}{quoted}) ")
    }
}
