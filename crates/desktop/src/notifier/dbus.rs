// SPDX-License-Identifier: Apache-2.0
//! Notifications on a desktop, over the session bus: `org.freedesktop.Notifications`.
//!
//! A choice can open a firewall, and every process of the session can send signals to any
//! connection. Signals and replies therefore count only if the present owner of the name sent them,
//! and only for notifications that this owner shows. When another service becomes the owner, the
//! notifications are shown again, and the ids from the former owner become invalid. When the
//! connection to the bus is lost, every notification ends with [`Closed::ConnectionLost`], and the
//! notifier reconnects.

mod anonymous_auth;
mod event;
mod render;
mod service_info;
mod session_bus;
mod state;
mod uid;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Closed, ClosedCallback, Notification, NotificationId, NotificationOutcome, Notifier,
    NotifierCapabilities, TextLimits,
};
pub use service_info::{
    NotificationServiceInfo, NotificationServiceState, query_notification_service,
};

use event::{DbusCallId, DbusEvent, DbusReply, DesktopReplySender, StateEvent, UniqueBusName};
use session_bus::{BusMessage, SessionBus};
use state::NotificationState;

/// The first and the longest delay before an attempt to reconnect to the bus.
const RECONNECT_MIN_DELAY: Duration = Duration::from_millis(500);
const RECONNECT_MAX_DELAY: Duration = Duration::from_secs(30);

/// The session in which notifications are shown.
#[derive(Debug, Clone)]
pub struct DesktopSession {
    /// The address of the bus, as in `DBUS_SESSION_BUS_ADDRESS`; `;` separates several addresses.
    pub address: String,
    /// The name of the program. Some desktops show the name.
    pub app_name: String,
    /// The time limit of each call to the bus and to the service.
    pub call_timeout: Duration,
}

impl DesktopSession {
    /// The time limit set by [`DesktopSession::new`]; leaves time for the bus to start a service.
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

/// The reason why the desktop's notification service cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbusConnectError {
    /// The address is missing.
    #[error("the session bus has no address")]
    NoAddress,
    /// The bus does not exist or refuses the connection.
    #[error("connecting to the session bus at {address}")]
    Bus {
        /// The address of the bus.
        address: String,
        /// The error of the connection.
        #[source]
        source: zbus::Error,
    },
    /// The bus did not answer before the deadline.
    #[error("the session bus at {0} does not answer")]
    TimedOut(String),
    /// No notification service runs on the bus, and the bus cannot start one.
    #[error("no notification service runs on the session bus")]
    NoService,
}

/// The reason why a notification was not shown or not closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DesktopError {
    /// [`Notifier::disconnect`] was called.
    #[error("the notifier is disconnected from the desktop")]
    Disconnected,
    /// The connection to the session bus is lost.
    #[error("the connection to the session bus is lost")]
    BusLost,
    /// The service did not answer before the deadline.
    #[error("the desktop's notification service does not answer")]
    TimedOut,
    /// No service runs, and the bus could not start a service.
    #[error("no notification service runs on the session bus, and the bus cannot start one")]
    NoService,
    /// The service returned this error.
    #[error("the desktop's notification service refused: {0}")]
    Refused(String),
    /// Too many notifications of this program are shown.
    #[error("too many notifications are shown; close some first")]
    TooMany,
}

/// Shows notifications on the desktop of one session.
#[derive(Debug)]
pub struct DbusNotifier {
    commands: mpsc::Sender<NotifierCommand>,
    /// Whether the present service has buttons, and the text that it shows.
    service: watch::Receiver<(bool, TextLimits)>,
    tasks: Mutex<JoinSet<()>>,
}

enum NotifierCommand {
    State(StateEvent),
    Disconnect,
}

impl DbusNotifier {
    /// Connects to the bus of the session. Fails with [`DbusConnectError::NoService`] if no
    /// notification service runs on the bus and the bus cannot start one.
    pub async fn connect(session: DesktopSession) -> Result<Self, DbusConnectError> {
        let bus = SessionBus::connect(&session).await?;
        if bus.owner.is_none() && !bus.activatable {
            return Err(DbusConnectError::NoService);
        }
        Ok(Self::start(session, bus).await)
    }

    /// Connects even if no notification service runs yet; notifications are shown once a service
    /// starts.
    pub async fn connect_early(session: DesktopSession) -> Result<Self, DbusConnectError> {
        let bus = SessionBus::connect(&session).await?;
        Ok(Self::start(session, bus).await)
    }

    /// Returns `true` if a notification service runs in `session`; a service that the bus could
    /// start does not count.
    pub async fn is_service_running(session: &DesktopSession) -> Result<bool, DbusConnectError> {
        Ok(SessionBus::connect(session).await?.owner.is_some())
    }

    async fn start(session: DesktopSession, bus: SessionBus) -> Self {
        let (commands, receiver) = mpsc::channel(64);
        let (publisher, service) = watch::channel((true, TextLimits::CONSERVATIVE));
        let call_timeout = session.call_timeout;
        let mut tasks = JoinSet::new();
        let (probed, is_probed) = oneshot::channel();
        let mut task = DbusTask {
            session,
            commands: receiver,
            service: publisher,
            state: NotificationState::default(),
            probed: Some(probed),
        };
        tasks.spawn(async move { task.run(bus).await });
        // The capabilities are known when this function returns, unless the service hangs.
        drop(timeout(call_timeout, is_probed).await);
        Self {
            commands,
            service,
            tasks: Mutex::new(tasks),
        }
    }

    async fn send_command<T>(
        &self,
        event: impl FnOnce(DesktopReplySender<T>) -> StateEvent + Send,
    ) -> Result<T, DesktopError> {
        let (sender, reply) = oneshot::channel();
        // A task that has ended drops the sender.
        drop(
            self.commands
                .send(NotifierCommand::State(event(sender)))
                .await,
        );
        reply.await.unwrap_or(Err(DesktopError::Disconnected))
    }
}

impl Notifier for DbusNotifier {
    type Error = DesktopError;

    async fn notify(&self, notification: Notification) -> Result<NotificationId, DesktopError> {
        let notification = Box::new(notification);
        self.send_command(|reply| StateEvent::Notify(notification, reply))
            .await
    }

    async fn on_closed(&self, id: NotificationId, callback: ClosedCallback) {
        let command = NotifierCommand::State(StateEvent::OnClosed(id, callback));
        // A task that has ended drops the callback.
        drop(self.commands.send(command).await);
    }

    async fn close(&self, id: NotificationId) -> Result<(), DesktopError> {
        self.send_command(|reply| StateEvent::Close(id, reply))
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

    fn capabilities(&self) -> NotifierCapabilities {
        NotifierCapabilities {
            visible: true,
            actions: self.service.borrow().0,
        }
    }

    fn text_limits(&self) -> TextLimits {
        self.service.borrow().1
    }

    async fn limits_changed(&self, known: TextLimits) {
        let mut service = self.service.clone();
        if service
            .wait_for(|(_, limits)| *limits != known)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

/// The task that owns the notification state and applies all events in the order of the bus.
struct DbusTask {
    session: DesktopSession,
    commands: mpsc::Receiver<NotifierCommand>,
    service: watch::Sender<(bool, TextLimits)>,
    state: NotificationState,
    /// Notified once the capabilities of the service are known.
    probed: Option<oneshot::Sender<()>>,
}

/// A call without a reply so far. The deadline becomes `None` when it passes.
#[derive(Debug)]
struct SentCall {
    call_id: DbusCallId,
    deadline: Option<Instant>,
}

/// The end of a connection.
enum BusConnectionEnd {
    /// The notifier is disconnected or dropped.
    Requested,
    /// The bus closed the connection or does not accept messages.
    Lost(String),
}

impl DbusTask {
    async fn run(&mut self, first: SessionBus) {
        let mut bus = first;
        loop {
            let connection = bus.connection.clone();
            match self.serve_connection(bus).await {
                BusConnectionEnd::Requested => {
                    self.state = NotificationState::default();
                    drop(timeout(self.session.call_timeout, connection.close()).await);
                    return;
                }
                BusConnectionEnd::Lost(error) => {
                    tracing::warn!(
                        error,
                        "the connection to the session bus is lost: popups \
                        cannot be answered until it is back"
                    );
                    let lost = StateEvent::ConnectionLost;
                    self.state.apply(lost, Instant::now());
                }
            }
            match self.reconnect().await {
                Some(found) => bus = found,
                None => return,
            }
            tracing::info!("connected to the session bus again");
        }
    }

    /// Serves one connection until it ends.
    async fn serve_connection(&mut self, mut bus: SessionBus) -> BusConnectionEnd {
        let connected = StateEvent::Connected {
            owner: bus.owner.take(),
            activatable: bus.activatable,
        };
        self.state.apply(connected, Instant::now());
        let mut sent: HashMap<NonZeroU32, SentCall> = HashMap::new();
        loop {
            if let Err(error) = self.send_calls(&bus, &mut sent).await {
                return BusConnectionEnd::Lost(error);
            }
            self.publish_capabilities();
            let until = sent.values().filter_map(|sent| sent.deadline);
            let wake = until.chain(self.state.next_tick()).min();
            tokio::select! {
                message = bus.stream.next() => match message {
                    Some(Ok(message)) => self.handle_message(&message, &mut sent),
                    Some(Err(error)) => return BusConnectionEnd::Lost(error.to_string()),
                    None => return BusConnectionEnd::Lost("the connection is closed".to_owned()),
                },
                command = self.commands.recv() => match command {
                    None | Some(NotifierCommand::Disconnect) => return BusConnectionEnd::Requested,
                    Some(NotifierCommand::State(event)) => {
                        self.state.apply(event, Instant::now());
                    }
                },
                () = sleep_until_or_forever(wake) => {
                    // Queued messages arrived before the deadline, so apply them first. The bound
                    // lets deadlines pass even when messages keep arriving.
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

    /// Sends the queued calls. Fails if the bus does not accept a call before the deadline.
    async fn send_calls(
        &mut self,
        bus: &SessionBus,
        sent: &mut HashMap<NonZeroU32, SentCall>,
    ) -> Result<(), String> {
        for queued in self.state.take_calls() {
            let call_id = queued.call_id;
            let message = match session_bus::build_message(&queued.call, &self.session.app_name) {
                Ok(message) => message,
                Err(error) => {
                    let reply = DbusReply::Refused(error.to_string());
                    self.apply_reply(call_id, None, reply, Instant::now());
                    continue;
                }
            };
            let deadline = Some(Instant::now() + self.session.call_timeout);
            let serial = message.primary_header().serial_num();
            sent.insert(serial, SentCall { call_id, deadline });
            match timeout(self.session.call_timeout, bus.connection.send(&message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("the bus does not accept messages".to_owned()),
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
            Some(BusMessage::Event(event)) => self.state.apply(StateEvent::Dbus(event), now),
            Some(BusMessage::Reply {
                serial,
                from,
                reply,
            }) => {
                if let Some(SentCall { call_id, .. }) = sent.remove(&serial) {
                    self.apply_reply(call_id, from, reply, now);
                }
            }
            None => {}
        }
    }

    fn apply_reply(
        &mut self,
        call_id: DbusCallId,
        from: Option<UniqueBusName>,
        reply: DbusReply,
        now: Instant,
    ) {
        let reply = DbusEvent::Reply {
            call_id,
            from,
            reply,
        };
        self.state.apply(StateEvent::Dbus(reply), now);
    }

    /// Ends the calls whose deadline passed, and applies the tick.
    fn expire_calls(&mut self, sent: &mut HashMap<NonZeroU32, SentCall>) {
        let now = Instant::now();
        let late = sent
            .values_mut()
            .filter(|sent| sent.deadline.is_some_and(|deadline| deadline <= now));
        let late: Vec<_> = late
            .map(|sent| {
                sent.deadline = None;
                sent.call_id
            })
            .collect();
        for call_id in late {
            self.apply_reply(call_id, None, DbusReply::TimedOut, now);
        }
        self.state.apply(StateEvent::Tick, now);
    }

    fn publish_capabilities(&mut self) {
        if let Some(service) = self.state.service_limits() {
            self.service
                .send_if_modified(|present| std::mem::replace(present, service) != service);
        }
        if self.state.is_probed()
            && let Some(probed) = self.probed.take()
        {
            // The caller may have stopped waiting.
            probed.send(()).ok();
        }
    }

    /// Reconnects to the bus. Returns `None` if the notifier is disconnected or dropped meanwhile.
    async fn reconnect(&mut self) -> Option<SessionBus> {
        let mut next_delay = RECONNECT_MIN_DELAY;
        loop {
            let delay = next_delay;
            let attempt = async {
                sleep(delay).await;
                SessionBus::connect(&self.session).await
            };
            let mut attempt = std::pin::pin!(attempt);
            let connected = loop {
                tokio::select! {
                    connected = &mut attempt => break connected,
                    command = self.commands.recv() => match command {
                        None | Some(NotifierCommand::Disconnect) => return None,
                        Some(NotifierCommand::State(event)) => refuse(event),
                    },
                }
            };
            match connected {
                Ok(bus) => return Some(bus),
                Err(error) => tracing::debug!(%error, "connecting to the session bus failed"),
            }
            next_delay = delay.saturating_mul(2).min(RECONNECT_MAX_DELAY);
        }
    }
}

/// Replies to a command while the bus is disconnected.
fn refuse(event: StateEvent) {
    match event {
        StateEvent::Notify(_, reply) => drop(reply.send(Err(DesktopError::BusLost))),
        StateEvent::Close(_, reply) => drop(reply.send(Ok(()))),
        StateEvent::OnClosed(_, callback) => {
            callback(NotificationOutcome::now(Closed::ConnectionLost));
        }
        StateEvent::Connected { .. }
        | StateEvent::ConnectionLost
        | StateEvent::Tick
        | StateEvent::Dbus(_) => {}
    }
}

async fn sleep_until_or_forever(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
