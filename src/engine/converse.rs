//! Two programs in the middle of a conversation that is being recorded: whoever was passed a message most likely answers at
//! once, so that is where the harness looks before it waits for anything at all. Decides nothing, and keeps nobody waiting:
//! after some turns everything else is looked at as well.

use super::run::Run;
use crate::trace::LinkId;
use crate::wire::{Channel, Party};

/// Turns after which everybody else is looked at.
const TURNS_MAX: usize = 64;
/// How long giving way may take, in nanoseconds, until an answer is there. If it takes longer, somebody else needs the
/// processor, and does not give it back.
const TURN_NS_MAX: u64 = 1_000_000;
/// Messages after which it is tried again where it did not help, at most.
const PAUSE_MAX: u32 = 64;

/// Who was passed a message last, and whether it helps to give way to it.
#[derive(Debug, Default)]
pub(super) struct Converse {
    last: Option<(LinkId, Channel, Party)>,
    /// Messages until it is tried again.
    pause: u32,
    /// The pause after the next failure.
    next_pause: u32,
}

impl Converse {
    /// A message was passed to a real peer.
    pub(super) fn passed(&mut self, link: LinkId, channel: Channel, to: Party) {
        self.last = Some((link, channel, to));
    }

    fn helped(&mut self, it_did: bool) {
        self.next_pause = match it_did {
            true => 0,
            false => (2 * self.next_pause).clamp(1, PAUSE_MAX),
        };
        self.pause = self.next_pause;
    }
}

impl Run<'_> {
    /// Gives way to whoever was passed a message, and takes in what it answers, for as long as the two go on like that.
    /// True if something moved.
    pub(super) fn converse(&mut self) -> bool {
        let Some((link, channel, mut asked)) = self.converse.last.take() else {
            return false;
        };
        if self.converse.pause > 0 {
            self.converse.pause -= 1;
            return false;
        }
        let mut moved = false;
        for _ in 0..TURNS_MAX {
            let before = self.timeline.last_moment();
            // on a processor of its own, or where nobody else wants this one, it is back at once
            std::thread::yield_now();
            let parties = [asked, asked.other()];
            let Some(from) = parties.into_iter().find(|from| self.hand_on(link, channel, *from)) else {
                if !moved {
                    self.converse.helped(false);
                }
                break;
            };
            moved = true;
            asked = from.other();
            let in_time = self.timeline.last_moment().ns - before.ns < TURN_NS_MAX;
            self.converse.helped(in_time);
            self.timeline.flush_recording_of_late();
            if !in_time {
                break;
            }
        }
        self.converse.last = None;
        moved
    }

    /// Reads a message from a side and passes it on. True if there was something.
    fn hand_on(&mut self, link: LinkId, channel: Channel, from: Party) -> bool {
        let some = self.read_messages(link, channel, from, 1);
        while some && self.deliver_next(link, channel, from) {}
        some
    }
}
