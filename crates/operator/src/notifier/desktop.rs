// SPDX-License-Identifier: Apache-2.0
//! Notifications on a desktop, over the session bus: `org.freedesktop.Notifications`.
//!
//! Whatever a process of this session may send, only the present owner of that name is believed,
//! and only about what it shows: everybody on a session bus can send signals, to all or to us
//! alone, and a choice opens a firewall. When the service ends and another comes, what was shown
//! is shown again, and an id of the former one means nothing any more. When the bus itself is
//! gone, whoever waits for a choice is told that there is none; the bus is looked for again.

mod bus;
mod desk;
mod nameless;
mod shown;
mod uid;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Notification, NotificationId, Notifier, OnAction};
use bus::{Bus, Heard};
use desk::{Answer, Desk, News, Ticket, Told};

/// How long to wait before a lost bus is looked for again, at first and at most.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// A session to show notifications in, and as whom.
#[derive(Debug, Clone)]
pub struct Session {
    /// The bus's address, as `DBUS_SESSION_BUS_ADDRESS` has it; several are separated by `;`.
    pub address: String,
    /// The program's name, shown by some desktops.
    pub app: String,
    /// How long the bus and the service may take for an answer.
    pub patience: Duration,
}

impl Session {
    /// What [`Session::new`] sets: a service that is started takes a moment; one that takes longer
    /// hangs.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// Returns the session of the bus at `address`, for the program `app`.
    pub fn new(address: &str, app: &str) -> Self {
        Self {
            address: address.to_owned(),
            app: app.to_owned(),
            patience: Self::PATIENCE,
        }
    }
}

/// Why a desktop's notifications cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nothing to connect to.
    #[error("the session bus has no address")]
    NoAddress,
    /// The bus is not there, or does not take us.
    #[error("connecting to the session bus at {address}")]
    Bus {
        /// Which bus.
        address: String,
        /// What it says.
        #[source]
        source: zbus::Error,
    },
    /// The bus does not answer.
    #[error("the session bus at {0} does not answer")]
    TimedOut(String),
    /// The bus knows no service for notifications, nor how to start one.
    #[error("no service for notifications is on the session bus")]
    Nobody,
}

/// Why a notification was not shown or not taken away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesktopError {
    /// [`Notifier::disconnect`] was called.
    #[error("it is disconnected from the desktop")]
    Disconnected,
    /// The session bus is gone.
    #[error("the session bus is gone")]
    Gone,
    /// The service does not answer.
    #[error("the desktop's notification service does not answer")]
    TimedOut,
    /// There is no service, and the bus could not start one.
    #[error("there is no notification service")]
    Nobody,
    /// The service refused, in its words.
    #[error("the desktop's notification service refused: {0}")]
    Refused(String),
    /// There are as many as one program should show.
    #[error("there are too many notifications")]
    TooMany,
}

/// Shows notifications on the desktop of one session.
#[derive(Debug)]
pub struct DbusNotifier {
    commands: mpsc::Sender<Command>,
    answers: Arc<AtomicBool>,
    losses: Arc<AtomicU64>,
    tasks: Mutex<JoinSet<()>>,
}

enum Command {
    Notify(Box<Notification>, Told<NotificationId>),
    OnAction(NotificationId, OnAction),
    Close(NotificationId, Told<()>),
    Disconnect,
}

impl DbusNotifier {
    /// Connects to the session's bus. Fails with [`ConnectError::Nobody`] where nothing there shows
    /// notifications, nor could be started.
    pub async fn connect(session: Session) -> Result<Self, ConnectError> {
        let bus = Bus::connect(&session).await?;
        if bus.owner.is_none() && !bus.activatable {
            return Err(ConnectError::Nobody);
        }
        Ok(Self::start(session, bus).await)
    }

    /// Connects even where nothing shows notifications yet: those of before are shown when
    /// something does.
    pub async fn connect_early(session: Session) -> Result<Self, ConnectError> {
        let bus = Bus::connect(&session).await?;
        Ok(Self::start(session, bus).await)
    }

    /// Says whether a program shows notifications in `session` right now; one that the bus could
    /// start does not count.
    pub async fn is_there(session: &Session) -> Result<bool, ConnectError> {
        Ok(Bus::connect(session).await?.owner.is_some())
    }

    async fn start(session: Session, bus: Bus) -> Self {
        let (commands, taken) = mpsc::channel(64);
        let answers = Arc::new(AtomicBool::new(true));
        let losses = Arc::new(AtomicU64::new(0));
        let patience = session.patience;
        let mut tasks = JoinSet::new();
        let (settled, known) = oneshot::channel();
        let mut serving = Serving {
            session,
            taken,
            answers: Arc::clone(&answers),
            losses: Arc::clone(&losses),
            desk: Desk::default(),
            settled: Some(settled),
        };
        tasks.spawn(async move { serving.serve(bus).await });
        // So that `answers` is right from the start. Of a service that hangs nothing is known.
        drop(timeout(patience, known).await);
        Self {
            commands,
            answers,
            losses,
            tasks: Mutex::new(tasks),
        }
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(Told<T>) -> Command + Send,
    ) -> Result<T, DesktopError> {
        let (told, answer) = oneshot::channel();
        // Where nobody takes it, `told` is dropped, which the answer says.
        drop(self.commands.send(command(told)).await);
        answer.await.unwrap_or(Err(DesktopError::Disconnected))
    }
}

impl Notifier for DbusNotifier {
    type Error = DesktopError;

    async fn notify(&self, notification: Notification) -> Result<NotificationId, DesktopError> {
        let notification = Box::new(notification);
        self.command(|told| Command::Notify(notification, told))
            .await
    }

    async fn on_action(&self, id: NotificationId, on_action: OnAction) {
        // Where nobody takes it, it is dropped: that says it.
        drop(self.commands.send(Command::OnAction(id, on_action)).await);
    }

    async fn close(&self, id: NotificationId) -> Result<(), DesktopError> {
        self.command(|told| Command::Close(id, told)).await
    }

    async fn disconnect(&self) {
        drop(self.commands.send(Command::Disconnect).await);
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = {
            let mut tasks = tasks;
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }
}

/// The one task: everything happens in it, in the order of the bus.
struct Serving {
    session: Session,
    taken: mpsc::Receiver<Command>,
    answers: Arc<AtomicBool>,
    losses: Arc<AtomicU64>,
    desk: Desk,
    /// Told when it is first known what the service can do.
    settled: Option<oneshot::Sender<()>>,
}

/// What was sent and not answered: until when, if anybody still waits.
#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    until: Option<Instant>,
}

/// Why a connection is over.
enum Over {
    /// We were told to end.
    Asked,
    /// The bus ended it, or does not take what we send.
    Lost(String),
}

impl Serving {
    async fn serve(&mut self, first: Bus) {
        let mut bus = first;
        loop {
            let connection = bus.connection.clone();
            match self.follow(bus).await {
                Over::Asked => {
                    self.desk.lost();
                    drop(timeout(self.session.patience, connection.close()).await);
                    return;
                }
                Over::Lost(error) => {
                    tracing::warn!(error, "the session bus is gone: no choice will be heard");
                    // Whoever is told of it by the next line sees it.
                    self.losses.fetch_add(1, Ordering::Relaxed);
                    self.desk.lost();
                }
            }
            match self.find_again().await {
                Some(found) => bus = found,
                None => return,
            }
            tracing::info!("the session bus is back");
        }
    }

    /// Serves one connection to its end.
    async fn follow(&mut self, mut bus: Bus) -> Over {
        let (owner, activatable) = (bus.owner.take(), bus.activatable);
        self.desk.arrive(owner, activatable, Instant::now());
        let mut sent: HashMap<NonZeroU32, Sent> = HashMap::new();
        loop {
            if let Err(error) = self.send(&bus, &mut sent).await {
                return Over::Lost(error);
            }
            self.say_what_is_known();
            let until = sent.values().filter_map(|sent| sent.until);
            let wake = until.chain(self.desk.wake()).min();
            tokio::select! {
                message = bus.stream.next() => match message {
                    Some(Ok(message)) => self.read(&message, &mut sent),
                    Some(Err(error)) => return Over::Lost(error.to_string()),
                    None => return Over::Lost("the connection is closed".to_owned()),
                },
                command = self.taken.recv() => match command {
                    None | Some(Command::Disconnect) => return Over::Asked,
                    Some(command) => self.take(command),
                },
                () = until_or_never(wake) => {
                    // What lies there already came in time. As many as there can be: a flood does
                    // not stop the clock.
                    for _ in 0..bus.stream.max_queued().get() {
                        let Some(Some(Ok(message))) = bus.stream.next().now_or_never() else {
                            break;
                        };
                        self.read(&message, &mut sent);
                    }
                    self.tick(&mut sent);
                }
            }
        }
    }

    /// Sends what the desk orders. A bus that takes nothing is as good as gone.
    async fn send(
        &mut self,
        bus: &Bus,
        sent: &mut HashMap<NonZeroU32, Sent>,
    ) -> Result<(), String> {
        for order in self.desk.orders() {
            let ticket = order.ticket;
            let message = match bus::message(&order.call, &self.session.app) {
                Ok(message) => message,
                Err(error) => {
                    let news = News::Answer {
                        to: ticket,
                        from: None,
                        answer: Answer::Refused(error.to_string()),
                    };
                    self.desk.hear(news, Instant::now());
                    continue;
                }
            };
            let until = Some(Instant::now() + self.session.patience);
            let serial = message.primary_header().serial_num();
            sent.insert(serial, Sent { ticket, until });
            match timeout(self.session.patience, bus.connection.send(&message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("it takes nothing".to_owned()),
            }
        }
        Ok(())
    }

    fn read(&mut self, message: &zbus::Message, sent: &mut HashMap<NonZeroU32, Sent>) {
        let now = Instant::now();
        match bus::read(message) {
            Some(Heard::News(news)) => self.desk.hear(news, now),
            Some(Heard::Answer { to, from, answer }) => {
                if let Some(Sent { ticket: to, .. }) = sent.remove(&to) {
                    self.desk.hear(News::Answer { to, from, answer }, now);
                }
            }
            None => {}
        }
    }

    fn take(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Notify(notification, told) => self.desk.notify(*notification, told, now),
            Command::OnAction(id, on_action) => self.desk.on_action(id, on_action),
            Command::Close(id, told) => self.desk.close(id, told, now),
            Command::Disconnect => {}
        }
    }

    /// Gives up what was not answered in time, and does what is due.
    fn tick(&mut self, sent: &mut HashMap<NonZeroU32, Sent>) {
        let now = Instant::now();
        let late = sent
            .values_mut()
            .filter(|sent| sent.until.is_some_and(|until| until <= now));
        let late: Vec<_> = late
            .map(|sent| {
                sent.until = None;
                sent.ticket
            })
            .collect();
        for to in late {
            let (from, answer) = (None, Answer::Silence);
            self.desk.hear(News::Answer { to, from, answer }, now);
        }
        self.desk.tick(now);
    }

    fn say_what_is_known(&mut self) {
        if let Some(answers) = self.desk.answers() {
            self.answers.store(answers, Ordering::Relaxed);
        }
        if self.desk.is_settled()
            && let Some(settled) = self.settled.take()
        {
            // Whoever connected may have gone.
            settled.send(()).ok();
        }
    }

    /// Looks for the bus until it is there; `None` when told to end. Until then nothing is shown.
    async fn find_again(&mut self) -> Option<Bus> {
        let mut next = AGAIN;
        loop {
            let pause = next;
            let search = async {
                sleep(pause).await;
                Bus::connect(&self.session).await
            };
            let mut search = std::pin::pin!(search);
            let found = loop {
                tokio::select! {
                    found = &mut search => break found,
                    command = self.taken.recv() => match command {
                        None | Some(Command::Disconnect) => return None,
                        Some(command) => refuse(command),
                    },
                }
            };
            match found {
                Ok(bus) => return Some(bus),
                Err(error) => tracing::debug!(%error, "no session bus yet"),
            }
            next = pause.saturating_mul(2).min(AGAIN_AT_MOST);
        }
    }
}

/// Answers while there is no bus.
fn refuse(command: Command) {
    match command {
        Command::Notify(_, told) => drop(told.send(Err(DesktopError::Gone))),
        Command::Close(_, told) => drop(told.send(Ok(()))),
        Command::OnAction(..) | Command::Disconnect => {}
    }
}

async fn until_or_never(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
