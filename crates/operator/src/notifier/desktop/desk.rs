// SPDX-License-Identifier: Apache-2.0
//! What is on the desktop and who waits for it: orders to the service out, news of it in.
//!
//! It does no I/O and reads no clock. News come in the order in which the bus passed them on, the
//! replies among them, so that a signal is always judged by who owned the service's name when it
//! was sent, and by what was shown then.

mod answers;
mod post;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::DesktopError;
use super::shown::{Capabilities, Texts, texts};
use crate::notifier::guard::Guard;
use crate::notifier::{Choice, Notification, NotificationId, OnAction};
use post::{Place, Post};

/// The most notifications at once, and the most choices that nobody asked for yet.
const POSTS: usize = 1024;
const KEPT: usize = 64;

/// A service that lives this long did not die of what it was shown.
const HEALTHY: Duration = Duration::from_secs(60);
/// The first and the longest pause before a service that died is asked again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection's own name on the bus, given by the bus alone and never given twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner(pub(super) String);

/// What the bus passed on.
#[derive(Debug)]
pub(super) enum News {
    /// The service's name has another owner, or none.
    Owner(Option<Owner>),
    /// The answer to an order.
    Answer {
        to: Ticket,
        from: Option<Owner>,
        answer: Answer,
    },
    /// Somebody says that an action was chosen.
    Chosen { from: Owner, id: u32, key: String },
    /// Somebody says that a notification is closed.
    Closed { from: Owner, id: u32 },
    /// Somebody gives a token along with the choice that follows.
    Token { from: Owner, id: u32, token: String },
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Answer {
    Posted(u32),
    Able(Vec<String>),
    Done,
    /// The service refused, in its words.
    Refused(String),
    /// There is no service, or it ended meanwhile.
    Vanished,
    /// There was no answer in time. One may still come.
    Silence,
}

/// Names an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket(u64);

/// A call to the service.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) ticket: Ticket,
    pub(super) call: Call,
}

#[derive(Debug)]
pub(super) enum Call {
    Capabilities,
    Notify {
        notification: Box<Notification>,
        texts: Texts,
        replaces: u32,
    },
    /// For the connection that gave the id, so that a later one does not close something else.
    Close {
        at: Owner,
        id: u32,
    },
}

pub(super) type Told<T> = oneshot::Sender<Result<T, DesktopError>>;

/// Why an order was given.
#[derive(Debug)]
enum Purpose {
    Capabilities,
    Post(u64),
    /// Nobody wants it any more: what it shows is to be closed.
    Unwanted(Option<Told<()>>),
    Close(Told<()>),
    Clean,
}

#[derive(Debug, Default)]
enum Service {
    #[default]
    Unknown,
    Asked,
    Known {
        able: Capabilities,
        since: Instant,
    },
}

#[derive(Debug, Default)]
pub(super) struct Desk {
    owner: Option<Owner>,
    /// The bus starts the service when it is called.
    activatable: bool,
    service: Service,
    /// When to ask the service next, and how often it was in vain.
    ask_at: Option<Instant>,
    tries: u32,
    /// How often the bus could not start it: nothing that one is to blame for that comes by itself.
    starts: u32,
    posts: HashMap<u64, Post>,
    /// What was chosen before anybody asked, of notifications that are no more.
    kept: VecDeque<(NotificationId, Choice)>,
    purposes: HashMap<Ticket, Purpose>,
    orders: Vec<Order>,
    guard: Guard,
    next: u64,
    last_id: u32,
    /// A stranger's signal was said in the log.
    said_stranger: bool,
    /// That nobody shows anything was said in the log.
    said_nobody: bool,
}

impl Desk {
    /// Starts with what a new connection to the bus finds.
    pub(super) fn arrive(&mut self, owner: Option<Owner>, activatable: bool, now: Instant) {
        self.owner = owner;
        self.activatable = activatable;
        self.service = Service::Unknown;
        self.say_who();
        self.want(now);
    }

    /// Returns what is to be sent, in this order.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Returns when [`Desk::tick`] is to be called at the latest.
    pub(super) const fn wake(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Returns whether what is chosen comes back; `None` before it is known.
    pub(super) const fn answers(&self) -> Option<bool> {
        match &self.service {
            Service::Known { able, .. } => Some(able.actions),
            _ => None,
        }
    }

    /// Says whether it is known what the service can do, or that there is none to ask.
    pub(super) const fn is_settled(&self) -> bool {
        match self.service {
            Service::Known { .. } => true,
            Service::Asked => false,
            Service::Unknown => self.owner.is_none(),
        }
    }

    /// Shows `notification`. Where there is no service at present, it is shown as soon as there
    /// is one.
    pub(super) fn notify(
        &mut self,
        notification: Notification,
        told: Told<NotificationId>,
        now: Instant,
    ) {
        let known = notification
            .replaces
            .filter(|id| *id != NotificationId::NONE)
            .and_then(|id| self.find(id));
        let key = if let Some(key) = known {
            if let Some(post) = self.posts.get_mut(&key) {
                post.replace(notification, told);
            }
            key
        } else {
            if self.posts.len() >= POSTS {
                drop(told.send(Err(DesktopError::TooMany)));
                return;
            }
            let key = self.key();
            self.posts.insert(key, Post::new(notification, told));
            key
        };
        if matches!(self.service, Service::Known { .. }) {
            self.post(key);
            return;
        }
        self.want(now);
        if self.owner.is_none() && !self.activatable {
            let id = self.id_of(key, 0);
            if let Some(post) = self.posts.get_mut(&key) {
                post.tell(id);
            }
        }
    }

    /// Notes what to do with the choice of `id`.
    pub(super) fn on_action(&mut self, id: NotificationId, on_action: OnAction) {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == id) {
            if let Some((_, choice)) = self.kept.remove(at) {
                on_action(choice);
            }
            return;
        }
        let post = self.find(id).and_then(|key| self.posts.get_mut(&key));
        if let Some(post) = post {
            post.on_action(on_action);
        }
    }

    /// Takes `id` away.
    pub(super) fn close(&mut self, id: NotificationId, told: Told<()>, now: Instant) {
        self.kept.retain(|(kept, _)| *kept != id);
        let Some(post) = self.find(id).and_then(|key| self.posts.remove(&key)) else {
            drop(told.send(Ok(())));
            return;
        };
        match (post.place, self.owner.clone()) {
            (Place::Shown { id }, Some(at)) => {
                self.guard.changed(now);
                self.order(Call::Close { at, id }, Purpose::Close(told));
            }
            (Place::Posting { ticket, .. }, _) => {
                self.purposes.insert(ticket, Purpose::Unwanted(Some(told)));
            }
            _ => drop(told.send(Ok(()))),
        }
    }

    /// Does what the time asks for.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            self.ask();
        }
    }

    /// The connection to the bus is lost: nobody will be told of a choice.
    pub(super) fn lost(&mut self) {
        for (_, mut post) in self.posts.drain() {
            post.fail(&DesktopError::Gone);
        }
        for (_, purpose) in self.purposes.drain() {
            if let Purpose::Close(told) | Purpose::Unwanted(Some(told)) = purpose {
                drop(told.send(Err(DesktopError::Gone)));
            }
        }
        self.kept.clear();
        self.orders.clear();
        self.owner = None;
        self.service = Service::Unknown;
        self.ask_at = None;
    }

    /// Takes what the bus passed on.
    pub(super) fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::Owner(owner) => {
                self.succeed(owner, now);
            }
            News::Answer { to, from, answer } => self.answered(to, from, answer, now),
            News::Chosen { from, id, key } => {
                if self.believes(&from) {
                    self.chosen(id, &key, now);
                }
            }
            News::Closed { from, id } => {
                if self.believes(&from) {
                    self.closed(id, now);
                }
            }
            News::Token { from, id, token } => {
                let key = self.believes(&from).then(|| self.shown(id)).flatten();
                if let Some(post) = key.and_then(|key| self.posts.get_mut(&key)) {
                    post.token = Some(token);
                }
            }
        }
    }

    /// The name has another owner: all that the former one showed is to be shown by it.
    fn succeed(&mut self, owner: Option<Owner>, now: Instant) {
        if self.owner == owner {
            return;
        }
        let former = std::mem::replace(&mut self.owner, owner);
        self.say_who();
        let Some(former) = former else {
            self.starts = 0;
            self.ask_at = None;
            // The one that the question which started it is for will answer it.
            if !matches!(self.service, Service::Asked) {
                self.forget(now);
            }
            return;
        };
        let shown = self.posts.values().filter_map(|post| match post.place {
            Place::Shown { id } => Some(id),
            _ => None,
        });
        let shown: Vec<_> = shown.collect();
        self.forget(now);
        // It may live on under its own name, and its popups with it.
        for id in shown {
            let at = former.clone();
            self.order(Call::Close { at, id }, Purpose::Clean);
        }
    }

    /// Says in the log when nobody is there to show anything, and when somebody is again.
    fn say_who(&mut self) {
        let nobody = self.owner.is_none() && !self.activatable;
        if nobody && !self.said_nobody {
            tracing::warn!(
                "no notification service is on the session bus: popups are shown when one comes"
            );
        } else if self.said_nobody && !nobody {
            tracing::info!("there is a notification service");
        }
        self.said_nobody = nobody;
    }

    /// Says whether a signal comes from the one connection whose signals count, now that it is
    /// heard: all that the bus passed on before is known.
    fn believes(&mut self, from: &Owner) -> bool {
        let believed = self.owner.as_ref() == Some(from);
        if !believed && !self.said_stranger {
            self.said_stranger = true;
            let owner = self.owner.as_ref().map_or("nobody", |owner| &owner.0);
            tracing::warn!(
                from = from.0,
                owner,
                "a signal about notifications came from another connection than their service's: \
                 not believed, and not said again"
            );
        }
        believed
    }

    fn chosen(&mut self, id: u32, key: &str, now: Instant) {
        let Some(at) = self.shown(id) else {
            return;
        };
        let Some(post) = self.posts.get_mut(&at) else {
            return;
        };
        let Some(action) = post.action(key) else {
            return;
        };
        let least = post.notification.guard;
        if let Some(least) = least {
            // While it is posted anew nobody can tell what was clicked on.
            if matches!(post.place, Place::Posting { .. }) {
                return;
            }
            if self.guard.is_too_soon(least, now) {
                tracing::info!("a click came too soon to be an answer: it is asked again");
                post.too_soon = true;
                post.moves = true;
                self.post(at);
                return;
            }
        }
        post.choose(action);
    }

    fn closed(&mut self, id: u32, now: Instant) {
        let Some(key) = self.shown(id) else {
            return;
        };
        // It is being shown anew: the answer to that says under which number.
        let posting = |post: &Post| matches!(post.place, Place::Posting { .. });
        if self.posts.get(&key).is_none_or(posting) {
            return;
        }
        self.guard.changed(now);
        let Some(mut post) = self.posts.remove(&key) else {
            return;
        };
        if let (Some(handle), Some(choice)) = (post.handle, post.chosen.take()) {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back((handle, choice));
        }
    }

    /// Sends a notification to the service, in place of what it was.
    fn post(&mut self, key: u64) {
        let Service::Known { able, .. } = self.service else {
            return;
        };
        let ticket = self.ticket();
        let Some(post) = self.posts.get_mut(&key) else {
            return;
        };
        let replaces = match post.place {
            Place::Nowhere => None,
            Place::Shown { id } => Some(id),
            Place::Posting { .. } => {
                post.again = true;
                return;
            }
        };
        post.place = Place::Posting {
            ticket,
            was: replaces,
        };
        let notification = Box::new(post.notification.clone());
        let texts = texts(&notification, able, post.too_soon);
        let call = Call::Notify {
            notification,
            texts,
            replaces: replaces.unwrap_or(0),
        };
        self.purposes.insert(ticket, Purpose::Post(key));
        self.orders.push(Order { ticket, call });
    }

    /// The service is not what it was: all that it showed is to be shown anew.
    fn forget(&mut self, now: Instant) {
        if let Service::Known { since, .. } = self.service
            && now.saturating_duration_since(since) >= HEALTHY
        {
            self.tries = 0;
        }
        self.service = Service::Unknown;
        for (_, purpose) in self.purposes.drain() {
            // What it showed is gone with it.
            if let Purpose::Close(told) | Purpose::Unwanted(Some(told)) = purpose {
                drop(told.send(Ok(())));
            }
        }
        for post in self.posts.values_mut() {
            post.place = Place::Nowhere;
            post.again = false;
            post.moves = true;
        }
        self.want(now);
    }

    /// Arranges that the service is asked what it can do, as soon as that makes sense.
    fn want(&mut self, now: Instant) {
        let useful = self.owner.is_some() || (self.activatable && !self.posts.is_empty());
        if !matches!(self.service, Service::Unknown) || !useful {
            self.ask_at = self.ask_at.filter(|_| useful);
            return;
        }
        let pause = match self.tries.max(self.starts) {
            0 => Duration::ZERO,
            tries => PAUSE.saturating_mul(2_u32.saturating_pow(tries - 1)),
        };
        let at = now + pause.min(LONGEST_PAUSE);
        self.ask_at = self.ask_at.or(Some(at));
        self.tick(now);
    }

    fn ask(&mut self) {
        self.tries = self.tries.saturating_add(1);
        self.service = Service::Asked;
        self.order(Call::Capabilities, Purpose::Capabilities);
    }

    /// Tells those who wait for something to be shown that it is not; what was shown once waits on.
    fn give_up(&mut self, error: &DesktopError) {
        let waiting = self.posts.iter().filter(|(_, post)| post.is_waited_for());
        let keys: Vec<_> = waiting.map(|(key, _)| *key).collect();
        for key in keys {
            self.drop_post(key, error);
        }
    }

    fn drop_post(&mut self, key: u64, error: &DesktopError) {
        if let Some(mut post) = self.posts.remove(&key) {
            post.fail(error);
        }
    }

    fn order(&mut self, call: Call, purpose: Purpose) {
        let ticket = self.ticket();
        self.purposes.insert(ticket, purpose);
        self.orders.push(Order { ticket, call });
    }

    const fn ticket(&mut self) -> Ticket {
        Ticket(self.key())
    }

    const fn key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns the number by which the caller knows a notification: the service's, unless it was
    /// given before; an old number never means a new question.
    fn id_of(&mut self, key: u64, id: u32) -> NotificationId {
        let known = self.posts.get(&key).and_then(|post| post.handle);
        let handle = known.unwrap_or_else(|| {
            let next = self.last_id.saturating_add(1).max(id);
            self.last_id = next;
            NotificationId::from_number(next)
        });
        if let Some(post) = self.posts.get_mut(&key) {
            post.handle = Some(handle);
        }
        handle
    }

    fn find(&self, id: NotificationId) -> Option<u64> {
        let found = self.posts.iter().find(|(_, post)| post.handle == Some(id));
        found.map(|(key, _)| *key)
    }

    /// Returns what the present owner knows as `id`, or knew until it is shown anew.
    fn shown(&self, id: u32) -> Option<u64> {
        let found = self.posts.iter().find(|(_, post)| post.is_known_as(id));
        found.map(|(key, _)| *key)
    }
}
