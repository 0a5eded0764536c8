// SPDX-License-Identifier: Apache-2.0
//! What becomes of what was ordered.

use tokio::time::Instant;

use super::post::Place;
use super::{Answer, Call, Desk, Owner, Purpose, Service, Ticket};
use crate::notifier::desktop::DesktopError;
use crate::notifier::desktop::shown::Capabilities;

impl Desk {
    pub(super) fn answered(
        &mut self,
        to: Ticket,
        from: Option<Owner>,
        answer: Answer,
        now: Instant,
    ) {
        let Some(purpose) = self.purposes.remove(&to) else {
            return;
        };
        // It was sent to the name: whoever answers must still have it, else the id is nobody's.
        let own = from.is_some() && from == self.owner;
        match purpose {
            Purpose::Capabilities => self.introduced(own, answer, now),
            Purpose::Post(key) => self.posted(to, key, from, answer, now),
            Purpose::Unwanted(told) => match (answer, from) {
                (Answer::Posted(id), Some(at)) => {
                    let purpose = told.map_or(Purpose::Clean, Purpose::Close);
                    self.order(Call::Close { at, id }, purpose);
                }
                (Answer::Silence, _) => {
                    if let Some(told) = told {
                        drop(told.send(Err(DesktopError::TimedOut)));
                    }
                    self.purposes.insert(to, Purpose::Unwanted(None));
                }
                (..) => {
                    if let Some(told) = told {
                        drop(told.send(Ok(())));
                    }
                }
            },
            // One that is refused was closed already.
            Purpose::Close(told) => drop(told.send(match answer {
                Answer::Silence => Err(DesktopError::TimedOut),
                _ => Ok(()),
            })),
            Purpose::Clean => {}
        }
    }

    /// The service said what it can do, or did not.
    fn introduced(&mut self, own: bool, answer: Answer, now: Instant) {
        let able = match answer {
            Answer::Able(names) if own => Capabilities::of(&names),
            // It answers, but not this: it is shown what every service can show.
            Answer::Refused(error) if own => {
                tracing::info!(%error, "the notification service does not say what it can do");
                Capabilities {
                    body: true,
                    ..Capabilities::default()
                }
            }
            Answer::Silence => {
                self.service = Service::Unknown;
                self.give_up(&DesktopError::TimedOut);
                self.want(now);
                return;
            }
            _ => {
                self.service = Service::Unknown;
                if self.owner.is_none() {
                    self.starts = self.starts.saturating_add(1);
                    self.tries = self.tries.saturating_sub(1);
                    if self.starts > 1 {
                        self.give_up(&DesktopError::Nobody);
                    }
                }
                self.want(now);
                return;
            }
        };
        self.service = Service::Known { able, since: now };
        let mut keys: Vec<_> = self.posts.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.post(key);
        }
    }

    /// A notification was shown, or not.
    fn posted(&mut self, to: Ticket, key: u64, from: Option<Owner>, answer: Answer, now: Instant) {
        let own = from.is_some() && from == self.owner;
        match answer {
            Answer::Posted(id) if own && id != 0 => {
                // A service that gave the same id twice shows the newer one.
                let older = self.shown(id).filter(|older| *older != key);
                if let Some(older) = older {
                    self.posts.remove(&older);
                }
                let handle = self.id_of(key, id);
                let Some(post) = self.posts.get_mut(&key) else {
                    return;
                };
                post.place = Place::Shown { id };
                if std::mem::take(&mut post.moves) {
                    self.guard.changed(now);
                }
                if post.again {
                    post.again = false;
                    self.post(key);
                } else if !post.tell(handle) {
                    // Whoever wanted it has gone and cannot know its number.
                    self.posts.remove(&key);
                    if let Some(at) = from {
                        self.order(Call::Close { at, id }, Purpose::Clean);
                    }
                }
            }
            // It answers against its own specification, and would do so again at once.
            Answer::Posted(_) | Answer::Able(_) | Answer::Done if own => {
                let error = "it gave no number for it".to_owned();
                self.drop_post(key, &DesktopError::Refused(error));
            }
            Answer::Refused(error) => self.drop_post(key, &DesktopError::Refused(error)),
            Answer::Silence => {
                self.drop_post(key, &DesktopError::TimedOut);
                self.purposes.insert(to, Purpose::Unwanted(None));
            }
            _ => {
                if let Some(post) = self.posts.get_mut(&key) {
                    post.place = Place::Nowhere;
                }
                self.forget(now);
            }
        }
    }
}
