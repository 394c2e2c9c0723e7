//! The only place that asks for the time, and the only place that waits for site time. Site time runs
//! `speed` times as fast as the wall clock when the site is simulated; socket, broker and process
//! time-outs stay in wall time and do not come from here.
//!
//! What a stranger gets wrong: uptime is `CLOCK_BOOTTIME`, which counts through suspend, so a gateway
//! that slept sees its leases expired instead of fresh.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::time::{ClockId, clock_gettime};

use crate::units::Moment;

/// Up to this speed cameras are looked at in site time.
const VISION_FOLLOWS: f64 = 5.0;

/// The site's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    speed: f64,
    boot: Duration,
    utc: DateTime<Utc>,
    own_time: bool,
}

impl Clock {
    /// Real time.
    #[must_use]
    pub fn real() -> Clock {
        Clock::simulated(1.0, None)
    }

    /// Site time that runs `speed` times as fast from now on (bounded to 0.1..=1000), from `utc` where
    /// the simulated site has a time of its own.
    #[must_use]
    pub fn simulated(speed: f64, utc: Option<DateTime<Utc>>) -> Clock {
        let speed = if speed.is_finite() { speed.clamp(0.1, 1000.0) } else { 1.0 };
        let now = wall();
        let utc = utc.unwrap_or(now);
        Clock { speed, boot: boot_time(), utc, own_time: utc != now }
    }

    /// Both clocks now.
    #[must_use]
    pub fn now(&self) -> Moment {
        if self.speed == 1.0 && !self.own_time {
            return Moment { uptime: boot_time(), utc: wall() };
        }
        let passed = boot_time().saturating_sub(self.boot).mul_f64(self.speed);
        Moment { uptime: self.boot, utc: self.utc }.after(passed)
    }

    /// Both clocks as they were so much wall time ago.
    #[must_use]
    pub fn ago(&self, wall: Duration) -> Moment {
        let (now, site) = (self.now(), wall.mul_f64(self.speed));
        let uptime = now.uptime.saturating_sub(site);
        Moment { uptime, utc: now.utc - chrono::Duration::from_std(site).unwrap_or_default() }
    }

    /// How long the wall clock takes for this much site time.
    #[must_use]
    pub fn wall_time(&self, site: Duration) -> Duration {
        site.div_f64(self.speed)
    }

    /// Time since the machine started, suspended or not, whatever the speed of the site.
    #[must_use]
    pub fn wall_uptime(&self) -> Duration {
        boot_time()
    }

    /// Whether it is the time of a simulated site, and not of the world.
    #[must_use]
    pub fn has_own_time(&self) -> bool {
        self.own_time || self.speed != 1.0
    }

    /// How fast site time runs.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// By how much vision's limits stretch in site time: cameras and nets do not get faster when site
    /// time does, so above 5x their limits are wall time (ARCHITECTURE.md).
    #[must_use]
    pub fn vision_pace(&self) -> f64 {
        if self.speed > VISION_FOLLOWS { self.speed } else { 1.0 }
    }

    /// Waits for this much site time.
    pub async fn sleep(&self, site: Duration) {
        tokio::time::sleep(self.wall_time(site)).await;
    }
}

/// The wall clock's monotonic moment, for socket time-outs only.
#[must_use]
#[allow(clippy::disallowed_methods)] // the one place that may
pub fn instant() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// CPU time this process has used so far, all threads.
#[must_use]
pub fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    span(t.tv_sec, t.tv_nsec)
}

/// CPU time the asking thread has used so far.
#[must_use]
pub fn thread_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    span(t.tv_sec, t.tv_nsec)
}

fn boot_time() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    span(t.tv_sec, t.tv_nsec)
}

#[allow(clippy::disallowed_methods)] // the one place that may
fn wall() -> DateTime<Utc> {
    Utc::now()
}

fn span(seconds: i64, nanos: i64) -> Duration {
    Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0))
}
