//! A bot that answers every message with the same words: `cargo run -p columba-client --example echo -- DIRECTORY`.

use columba_client::{Client, Event, Options, options::Profile};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), columba_client::Error> {
    let mut options = Options::new("127.0.0.1:7443");
    options.profile = Profile::Directory(std::env::args_os().nth(1).unwrap_or_else(|| "echo".into()).into());
    // A message counts as taken only when its answer is in the profile: after a crash it comes again.
    options.automatic_ack = false;
    let (client, mut events) = Client::connect(options).await?;
    let me = client.register("echo", "").await?;

    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => {
                if message.sender != me.user {
                    client.queue(message.sender, message.body).await?;
                }
                client.ack(message.chat, message.seq);
            }
            // The client reconnects by itself; without a time to retry it has ended.
            Event::Disconnected { reason, retry_in: None } => return Err(reason),
            _ => {}
        }
    }
    Ok(())
}
