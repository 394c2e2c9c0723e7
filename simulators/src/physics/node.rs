//! A compute node under a power cap: it idles, takes work as it comes, and keeps to its cap within half a
//! second. A cap that is not renewed expires; then the node keeps to its safe power.

/// Idle power, W.
pub const IDLE_W: f64 = 800.0;
/// Power without a fresh cap, W.
const SAFE_W: f64 = 2000.0;
/// Seconds that a cap lives.
const VALIDITY_S: f64 = 60.0;
/// How fast power follows, W/s.
const RATE_W_PER_S: f64 = 8000.0;

/// The node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Largest power, W.
    pub max_w: f64,
    /// Cap as it was written, W.
    pub setpoint_w: f64,
    /// Power, W; a third on each phase.
    pub power_w: f64,
    /// Energy taken since ever, Wh.
    pub energy_wh: f64,
    /// What its jobs would draw beyond idle, W; nothing: work comes in waves of its own.
    pub work_w: Option<f64>,
    /// Fault switch: takes caps but does not follow them.
    pub ignores_setpoint: bool,
    left_s: f64,
}

impl Node {
    /// An idle node.
    #[must_use]
    pub fn new(max_w: f64) -> Node {
        Node {
            max_w: max_w.max(IDLE_W),
            setpoint_w: SAFE_W,
            power_w: IDLE_W,
            energy_wh: 89_000.0,
            work_w: None,
            ignores_setpoint: false,
            left_s: 0.0,
        }
    }

    /// The cap in force, W.
    #[must_use]
    pub fn cap_w(&self) -> f64 {
        let told = if self.left_s > 0.0 { self.setpoint_w } else { SAFE_W };
        let cap = if self.ignores_setpoint { self.max_w } else { told };
        cap.clamp(IDLE_W, self.max_w)
    }

    /// Writes a cap, which lives for a minute.
    pub fn write_cap(&mut self, watts: f64) {
        self.setpoint_w = watts.clamp(0.0, self.max_w);
        self.left_s = VALIDITY_S;
    }

    /// Power-cycled.
    pub fn reboot(&mut self) {
        *self = Node { energy_wh: self.energy_wh, ..Node::new(self.max_w) };
    }

    /// Moves on by `dt` seconds; `t` is the site's time, s: work comes in waves of half an hour.
    pub fn step(&mut self, dt: f64, t: f64) {
        self.left_s = (self.left_s - dt).max(0.0);
        let busy = (0.7 + 0.6 * (t / 280.0).sin()).clamp(0.0, 1.0);
        let waves = (self.max_w - IDLE_W) * busy;
        let wish = IDLE_W + self.work_w.unwrap_or(waves);
        let target = wish.min(self.cap_w());
        let step = RATE_W_PER_S * dt;
        self.power_w += (target - self.power_w).clamp(-step, step);
        self.energy_wh += self.power_w * dt / 3600.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_to_its_cap_and_to_its_safe_power_when_left_alone() {
        let mut node = Node::new(6000.0);
        let mut most: f64 = 0.0;
        for second in 0..3600 {
            node.write_cap(3000.0);
            node.step(1.0, f64::from(second));
            most = most.max(node.power_w);
        }
        assert!((2999.0..=3000.0).contains(&most), "{most}");
        let mut last: f64 = 0.0;
        for second in 0..3600 {
            node.step(1.0, f64::from(second));
            last = if second > 70 { last.max(node.power_w) } else { 0.0 };
        }
        assert!((1999.0..=2000.0).contains(&last), "{last}");
    }
}
