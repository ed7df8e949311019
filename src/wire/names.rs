//! Messages by name: current and old spellings, with or without prefixes.

use super::dialect::{Channel, Dialect};
use super::suggest;
use super::table::{MessageSpec, all};

/// A name that no message has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no message is called {name:?}{}", suggest::did_you_mean(.suggestions))]
pub struct UnknownName {
    /// What was written.
    pub name: String,
    /// Messages with a similar name.
    pub suggestions: Vec<&'static str>,
}

/// The message called `name` on `channel`. Without a channel, a `BACKEND_` or `SLAVE_` prefix means the back-end channel,
/// and a name that both channels have (IOTLB_MSG) means the main one.
pub fn find(dialect: Dialect, name: &str, channel: Option<Channel>) -> Result<&'static MessageSpec, UnknownName> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("VHOST_USER_").unwrap_or(&upper);
    let on = |channel: Channel, short: &str| all(dialect, channel).iter().find(|spec| spec.is_called(short));
    let prefixed = short.strip_prefix("BACKEND_").or_else(|| short.strip_prefix("SLAVE_"));
    let found = match channel {
        Some(Channel::Main) => on(Channel::Main, short),
        Some(Channel::Backend) => on(Channel::Backend, prefixed.unwrap_or(short)),
        None => on(Channel::Main, short).or_else(|| on(Channel::Backend, prefixed.unwrap_or(short))),
    };
    found.ok_or_else(|| {
        let channels = Channel::ALL
            .into_iter()
            .filter(|c| channel.is_none_or(|wanted| wanted == *c));
        let specs = channels.flat_map(|channel| all(dialect, channel));
        let names = specs.flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied()));
        UnknownName {
            name: name.to_owned(),
            suggestions: suggest::similar(short, names),
        }
    })
}

/// The id of a request that the table does not know, written `request 99`, as [`Message::name`](super::Message::name) prints it.
pub fn unassigned(dialect: Dialect, name: &str, channel: Channel) -> Option<u32> {
    let id = name.trim().strip_prefix("request ")?.trim().parse().ok()?;
    super::table::spec(dialect, channel, id).is_none().then_some(id)
}
