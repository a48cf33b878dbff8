//! (D) `columba chat`: a terminal client in lines, for people and for scripts.

use std::path::PathBuf;

use clap::Args;

/// What `columba chat` is told.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Whose profile to use: handle of the account, made on the first use.
    #[arg(long = "as", value_name = "NAME")]
    handle: String,
    /// The node.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7443")]
    server: String,
    /// Directory of the profile.
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
}

/// Chats until the user leaves.
///
/// # Errors
/// What ends the session for good.
#[expect(clippy::unused_async, reason = "x")]
pub async fn run(args: ChatArgs) -> anyhow::Result<()> {
    anyhow::bail!("{args:?}")
}
