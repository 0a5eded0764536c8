// SPDX-License-Identifier: Apache-2.0
//! The clock that also runs while the machine sleeps, and its alarm.

use std::io;
use std::time::Duration;

use netns::PollableFd;
use policy::BootInstant;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Returns the time since the boot, with the time that the machine slept.
pub(crate) fn boot_now() -> BootInstant {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    BootInstant::from_boot(Duration::new(seconds, nanos))
}

/// Returns the id of the machine's boot, in which times of the boot clock count.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// Waits for times of the boot clock. After a sleep of the machine, a time that has passed is
/// noticed at once.
#[derive(Debug)]
pub(crate) struct BootAlarm {
    timer: PollableFd,
}

impl BootAlarm {
    /// Creates the alarm. Requires a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self {
            timer: PollableFd::new_readable(timer)?,
        })
    }

    /// Waits until `time`; forever without one. Cancel safe.
    pub(crate) async fn wait_until(&mut self, time: Option<BootInstant>) -> io::Result<()> {
        let Some(time) = time else {
            return std::future::pending().await;
        };
        // Zero would switch the timer off.
        let time = time.since_boot().max(Duration::from_nanos(1));
        let at = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: at,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        // The number of expirations, since the setting (timerfd_create(2)).
        let mut expirations = [0; 8];
        self.timer
            .read_with(|timer| Ok(rustix::io::read(timer, &mut expirations)?))
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_alarm_waits_for_its_time() {
        let mut alarm = BootAlarm::new().unwrap();
        let start = boot_now();
        let due = start.saturating_add(Duration::from_millis(30));
        alarm.wait_until(Some(due)).await.unwrap();
        assert!(boot_now() >= due);
        // A time that has passed, and the time of the boot itself.
        alarm.wait_until(Some(start)).await.unwrap();
        let boot = BootInstant::from_boot(Duration::ZERO);
        alarm.wait_until(Some(boot)).await.unwrap();
    }
}
