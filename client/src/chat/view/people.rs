//! Profiles: one's own, and those of others.

use columba_wire::Code;

use super::{Ask, View};
use crate::{
    chat::{args::reason, text::printable},
    error::{Error, Result},
    types::{OwnAccount, ProfileChange, User},
};

impl View {
    pub(super) fn whois(&mut self, handle: String) {
        if !columba_wire::ids::handle_is_valid(&handle) {
            return self.not_a_handle(&handle);
        }
        self.ask(Ask::Whois { handle });
    }

    pub(super) fn handle_whois(&mut self, handle: &str, result: Result<User>) {
        let user = match result {
            Ok(user) => user,
            Err(Error::Refused { code: Code::UnknownUser, .. }) => {
                return self.trouble(format!("nobody is called {handle} (UNKNOWN_USER)"));
            }
            Err(error) => return self.trouble(format!("nothing is known of {handle}: {}", reason(&error))),
        };
        self.people.learn(user.user, handle);
        self.notice(format!("{handle} is {}", user.user));
        for (what, text) in [("name", &user.profile.name), ("about", &user.profile.about)] {
            if !text.is_empty() {
                self.notice(format!("{what}: {}", printable(text)));
            }
        }
    }

    pub(super) fn set_profile(&mut self, change: ProfileChange) {
        self.ask(Ask::SetProfile { change });
    }

    pub(super) fn handle_profile_set(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.notice("your profile is stored".to_owned()),
            Err(error) => self.trouble(format!("your profile was not changed: {}", reason(&error))),
        }
    }

    /// Another device of this user was here.
    pub(super) fn handle_account_changed(&mut self, account: &OwnAccount) {
        let name = printable(&account.user.profile.name);
        self.notice(format!("another device of yours has changed your account; name: {name}"));
    }
}
