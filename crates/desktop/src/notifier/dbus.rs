// SPDX-License-Identifier: Apache-2.0
//! Notifications on a desktop, over the session bus: `org.freedesktop.Notifications`.
//!
//! Whatever a process of this session may send, only the present owner of that name is believed,
//! and only about what it shows: everybody on a session bus can send signals, to all or to us
//! alone, and a choice opens a firewall. When the service ends and another comes, what was shown
//! is shown again, and an id of the former one means nothing any more. When the bus itself is
//! gone, whoever waits for a choice is told that there is none; the bus is looked for again.

mod anonymous_auth;
mod render;
mod session_bus;
mod state;
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

use super::{ActionCallback, Notification, NotificationId, Notifier};
use session_bus::{BusMessage, SessionBus};
use state::{DbusCallId, DbusEvent, DbusReply, DesktopReplySender, NotificationState};

/// How long to wait before a lost bus is looked for again, at first and at most.
const RECONNECT_MIN_DELAY: Duration = Duration::from_millis(500);
const RECONNECT_MAX_DELAY: Duration = Duration::from_secs(30);

/// A session to show notifications in, and as whom.
#[derive(Debug, Clone)]
pub struct DesktopSession {
    /// The bus's address, as `DBUS_SESSION_BUS_ADDRESS` has it; several are separated by `;`.
    pub address: String,
    /// The program's name, shown by some desktops.
    pub app_name: String,
    /// How long the bus and the service may take for an answer.
    pub call_timeout: Duration,
}

impl DesktopSession {
    /// What [`Session::new`] sets: a service that is started takes a moment; one that takes longer
    /// hangs.
    pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

    /// Returns the session of the bus at `address`, for the program `app`.
    pub fn new(address: &str, app: &str) -> Self {
        Self {
            address: address.to_owned(),
            app_name: app.to_owned(),
            call_timeout: Self::DEFAULT_CALL_TIMEOUT,
        }
    }
}

/// Why a desktop's notifications cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbusConnectError {
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
    NoService,
}

/// Why a notification was not shown or not taken away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesktopError {
    /// [`Notifier::disconnect`] was called.
    #[error("it is disconnected from the desktop")]
    Disconnected,
    /// The session bus is gone.
    #[error("the session bus is gone")]
    BusLost,
    /// The service does not answer.
    #[error("the desktop's notification service does not answer")]
    TimedOut,
    /// There is no service, and the bus could not start one.
    #[error("there is no notification service")]
    NoService,
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
    commands: mpsc::Sender<NotifierCommand>,
    supports_actions: Arc<AtomicBool>,
    losses: Arc<AtomicU64>,
    tasks: Mutex<JoinSet<()>>,
}

enum NotifierCommand {
    Notify(Box<Notification>, DesktopReplySender<NotificationId>),
    OnAction(NotificationId, ActionCallback),
    Close(NotificationId, DesktopReplySender<()>),
    Disconnect,
}

impl DbusNotifier {
    /// Connects to the session's bus. Fails with [`ConnectError::Nobody`] where nothing there shows
    /// notifications, nor could be started.
    pub async fn connect(session: DesktopSession) -> Result<Self, DbusConnectError> {
        let bus = SessionBus::connect(&session).await?;
        if bus.owner.is_none() && !bus.activatable {
            return Err(DbusConnectError::NoService);
        }
        Ok(Self::start(session, bus).await)
    }

    /// Connects even where nothing shows notifications yet: those of before are shown when
    /// something does.
    pub async fn connect_early(session: DesktopSession) -> Result<Self, DbusConnectError> {
        let bus = SessionBus::connect(&session).await?;
        Ok(Self::start(session, bus).await)
    }

    /// Says whether a program shows notifications in `session` right now; one that the bus could
    /// start does not count.
    pub async fn is_service_running(session: &DesktopSession) -> Result<bool, DbusConnectError> {
        Ok(SessionBus::connect(session).await?.owner.is_some())
    }

    async fn start(session: DesktopSession, bus: SessionBus) -> Self {
        let (commands, taken) = mpsc::channel(64);
        let answers = Arc::new(AtomicBool::new(true));
        let losses = Arc::new(AtomicU64::new(0));
        let patience = session.call_timeout;
        let mut tasks = JoinSet::new();
        let (settled, known) = oneshot::channel();
        let mut serving = DbusTask {
            session,
            commands: taken,
            supports_actions: Arc::clone(&answers),
            losses: Arc::clone(&losses),
            state: NotificationState::default(),
            probed: Some(settled),
        };
        tasks.spawn(async move { serving.run(bus).await });
        // So that `answers` is right from the start. Of a service that hangs nothing is known.
        drop(timeout(patience, known).await);
        Self {
            commands,
            supports_actions: answers,
            losses,
            tasks: Mutex::new(tasks),
        }
    }

    async fn send_command<T>(
        &self,
        command: impl FnOnce(DesktopReplySender<T>) -> NotifierCommand + Send,
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
        self.send_command(|told| NotifierCommand::Notify(notification, told))
            .await
    }

    async fn on_action(&self, id: NotificationId, on_action: ActionCallback) {
        // Where nobody takes it, it is dropped: that says it.
        drop(
            self.commands
                .send(NotifierCommand::OnAction(id, on_action))
                .await,
        );
    }

    async fn close(&self, id: NotificationId) -> Result<(), DesktopError> {
        self.send_command(|told| NotifierCommand::Close(id, told))
            .await
    }

    async fn disconnect(&self) {
        drop(self.commands.send(NotifierCommand::Disconnect).await);
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

    fn supports_actions(&self) -> bool {
        self.supports_actions.load(Ordering::Relaxed)
    }
}

/// The one task: everything happens in it, in the order of the bus.
struct DbusTask {
    session: DesktopSession,
    commands: mpsc::Receiver<NotifierCommand>,
    supports_actions: Arc<AtomicBool>,
    losses: Arc<AtomicU64>,
    state: NotificationState,
    /// Told when it is first known what the service can do.
    probed: Option<oneshot::Sender<()>>,
}

/// What was sent and not answered: until when, if anybody still waits.
#[derive(Debug)]
struct SentCall {
    call_id: DbusCallId,
    deadline: Option<Instant>,
}

/// Why a connection is over.
enum ConnectionEnd {
    /// We were told to end.
    Requested,
    /// The bus ended it, or does not take what we send.
    Lost(String),
}

impl DbusTask {
    async fn run(&mut self, first: SessionBus) {
        let mut bus = first;
        loop {
            let connection = bus.connection.clone();
            match self.serve_connection(bus).await {
                ConnectionEnd::Requested => {
                    self.state.connection_lost();
                    drop(timeout(self.session.call_timeout, connection.close()).await);
                    return;
                }
                ConnectionEnd::Lost(error) => {
                    tracing::warn!(error, "the session bus is gone: no choice will be heard");
                    // Whoever is told of it by the next line sees it.
                    self.losses.fetch_add(1, Ordering::Relaxed);
                    self.state.connection_lost();
                }
            }
            match self.reconnect().await {
                Some(found) => bus = found,
                None => return,
            }
            tracing::info!("the session bus is back");
        }
    }

    /// Serves one connection to its end.
    async fn serve_connection(&mut self, mut bus: SessionBus) -> ConnectionEnd {
        let (owner, activatable) = (bus.owner.take(), bus.activatable);
        self.state
            .start_connection(owner, activatable, Instant::now());
        let mut sent: HashMap<NonZeroU32, SentCall> = HashMap::new();
        loop {
            if let Err(error) = self.send_calls(&bus, &mut sent).await {
                return ConnectionEnd::Lost(error);
            }
            self.publish_capabilities();
            let until = sent.values().filter_map(|sent| sent.deadline);
            let wake = until.chain(self.state.next_tick()).min();
            tokio::select! {
                message = bus.stream.next() => match message {
                    Some(Ok(message)) => self.handle_message(&message, &mut sent),
                    Some(Err(error)) => return ConnectionEnd::Lost(error.to_string()),
                    None => return ConnectionEnd::Lost("the connection is closed".to_owned()),
                },
                command = self.commands.recv() => match command {
                    None | Some(NotifierCommand::Disconnect) => return ConnectionEnd::Requested,
                    Some(command) => self.handle_command(command),
                },
                () = sleep_until_or_forever(wake) => {
                    // What lies there already came in time. As many as there can be: a flood does
                    // not stop the clock.
                    for _ in 0..bus.stream.max_queued().get() {
                        let Some(Some(Ok(message))) = bus.stream.next().now_or_never() else {
                            break;
                        };
                        self.handle_message(&message, &mut sent);
                    }
                    self.expire_calls(&mut sent);
                }
            }
        }
    }

    /// Sends what the desk orders. A bus that takes nothing is as good as gone.
    async fn send_calls(
        &mut self,
        bus: &SessionBus,
        sent: &mut HashMap<NonZeroU32, SentCall>,
    ) -> Result<(), String> {
        for order in self.state.take_calls() {
            let ticket = order.call_id;
            let message = match session_bus::build_message(&order.call, &self.session.app_name) {
                Ok(message) => message,
                Err(error) => {
                    let news = DbusEvent::Reply {
                        call_id: ticket,
                        from: None,
                        reply: DbusReply::Refused(error.to_string()),
                    };
                    self.state.apply_event(news, Instant::now());
                    continue;
                }
            };
            let until = Some(Instant::now() + self.session.call_timeout);
            let serial = message.primary_header().serial_num();
            sent.insert(
                serial,
                SentCall {
                    call_id: ticket,
                    deadline: until,
                },
            );
            match timeout(self.session.call_timeout, bus.connection.send(&message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("it takes nothing".to_owned()),
            }
        }
        Ok(())
    }

    fn handle_message(
        &mut self,
        message: &zbus::Message,
        sent: &mut HashMap<NonZeroU32, SentCall>,
    ) {
        let now = Instant::now();
        match session_bus::parse_message(message) {
            Some(BusMessage::Event(news)) => self.state.apply_event(news, now),
            Some(BusMessage::Reply {
                serial: to,
                from,
                reply: answer,
            }) => {
                if let Some(SentCall { call_id: to, .. }) = sent.remove(&to) {
                    self.state.apply_event(
                        DbusEvent::Reply {
                            call_id: to,
                            from,
                            reply: answer,
                        },
                        now,
                    );
                }
            }
            None => {}
        }
    }

    fn handle_command(&mut self, command: NotifierCommand) {
        let now = Instant::now();
        match command {
            NotifierCommand::Notify(notification, told) => {
                self.state.notify(*notification, told, now);
            }
            NotifierCommand::OnAction(id, on_action) => self.state.on_action(id, on_action),
            NotifierCommand::Close(id, told) => self.state.close(id, told, now),
            NotifierCommand::Disconnect => {}
        }
    }

    /// Gives up what was not answered in time, and does what is due.
    fn expire_calls(&mut self, sent: &mut HashMap<NonZeroU32, SentCall>) {
        let now = Instant::now();
        let late = sent
            .values_mut()
            .filter(|sent| sent.deadline.is_some_and(|until| until <= now));
        let late: Vec<_> = late
            .map(|sent| {
                sent.deadline = None;
                sent.call_id
            })
            .collect();
        for to in late {
            let (from, answer) = (None, DbusReply::TimedOut);
            self.state.apply_event(
                DbusEvent::Reply {
                    call_id: to,
                    from,
                    reply: answer,
                },
                now,
            );
        }
        self.state.tick(now);
    }

    fn publish_capabilities(&mut self) {
        if let Some(answers) = self.state.supports_actions() {
            self.supports_actions.store(answers, Ordering::Relaxed);
        }
        if self.state.is_probed()
            && let Some(settled) = self.probed.take()
        {
            // Whoever connected may have gone.
            settled.send(()).ok();
        }
    }

    /// Looks for the bus until it is there; `None` when told to end. Until then nothing is shown.
    async fn reconnect(&mut self) -> Option<SessionBus> {
        let mut next = RECONNECT_MIN_DELAY;
        loop {
            let pause = next;
            let search = async {
                sleep(pause).await;
                SessionBus::connect(&self.session).await
            };
            let mut search = std::pin::pin!(search);
            let found = loop {
                tokio::select! {
                    found = &mut search => break found,
                    command = self.commands.recv() => match command {
                        None | Some(NotifierCommand::Disconnect) => return None,
                        Some(command) => refuse_command(command),
                    },
                }
            };
            match found {
                Ok(bus) => return Some(bus),
                Err(error) => tracing::debug!(%error, "no session bus yet"),
            }
            next = pause.saturating_mul(2).min(RECONNECT_MAX_DELAY);
        }
    }
}

/// Answers while there is no bus.
fn refuse_command(command: NotifierCommand) {
    match command {
        NotifierCommand::Notify(_, told) => drop(told.send(Err(DesktopError::BusLost))),
        NotifierCommand::Close(_, told) => drop(told.send(Ok(()))),
        NotifierCommand::OnAction(..) | NotifierCommand::Disconnect => {}
    }
}

async fn sleep_until_or_forever(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
