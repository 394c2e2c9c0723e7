//! A site and its physics, closed into a loop without sockets: what the field bus would deliver each
//! second goes in, what the decision says goes out to the devices.
//!
//! What a stranger gets wrong: setpoints reach the devices only when the decision says that it writes,
//! and a device that cannot be read cannot be written either; it keeps what it holds until its own time
//! is over. Everything comes from one seed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use simulators::physics::{Car, OutputLimit, Pile, PlugState, StorageControl, World};
use simulators::scenario::Scenario;

use super::trouble::{Heard, Troubles, What, Who};
use crate::logic::decision::Decision;
use crate::logic::observation::{Observation, Silence};
use crate::logic::site::{
    BatteryReading, Charger, ChargerReading, ComputeReading, Id, MeterReading, PhaseCount,
    PvReading, Reading, Site, Target, Vehicle,
};
use crate::logic::vision::{Scene, Tier, Verdict};
use crate::units::{Amps, Hertz, Moment, PerPhase, Soc, Volts, WattHours, Watts};

/// How finely the physics move; half of the shortest time that anything here cares for.
const STEP_S: f64 = 0.5;
/// After this long without a write a battery rests and an inverter is limited no more, s.
const BATTERY_REVERTS_S: u16 = 30;

/// The closed loop's other half.
pub struct Plant {
    /// The physics.
    pub world: World,
    /// What is wrong with whom.
    pub troubles: Troubles,
    /// What the eyes say of every camera.
    pub verdict: Verdict,
    /// Drivers say what they need and when they leave.
    pub drivers_tell: bool,
    /// How long a pile keeps its setpoint without a new one, s.
    pub lease_s: f64,
    /// The meter sees no voltage: the site is on its own.
    pub grid_down: bool,
    rng: fastrand::Rng,
    now: Moment,
    frame: u64,
    told: Vec<Option<f64>>,
}

impl Plant {
    /// A site's physics at `start`; the scenario's pile n is the site's charger n.
    #[must_use]
    pub fn new(site: &Site, scenario: Scenario, seed: u64, start: DateTime<Utc>) -> Plant {
        let mut world = World::new(scenario, seed);
        for (pile, charger) in world.piles.iter_mut().zip(&site.chargers) {
            pile.max_a = charger.max.get();
            pile.safe_a = charger.failsafe.get();
            pile.setpoint_a = charger.failsafe.get();
        }
        match site.batteries.first() {
            Some(battery) => {
                world.hybrid.max_w = battery.max_charge.max(battery.max_discharge).get();
                world.hybrid.capacity_wh =
                    battery.capacity.map_or(world.hybrid.max_w * 2.0, WattHours::get);
                world.hybrid.energy_wh = world.hybrid.capacity_wh * 0.55;
            }
            None => {
                world.hybrid.max_w = 1.0;
                world.hybrid.energy_wh = 0.0;
            }
        }
        if let Some(inverter) = site.inverters.first() {
            world.hybrid.rated_w = inverter.rated.get();
        }
        Plant {
            world,
            troubles: Troubles::default(),
            verdict: Verdict::Clear,
            drivers_tell: false,
            lease_s: 60.0,
            grid_down: false,
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            now: Moment { uptime: Duration::from_secs(1000), utc: start },
            frame: 0,
            told: Vec::new(),
        }
    }

    /// The site's time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Somebody sets the wall clock.
    pub fn shift_clock(&mut self, by: chrono::Duration) {
        self.now.utc = self.now.utc.checked_add_signed(by).unwrap_or(self.now.utc);
    }

    /// The gateway sleeps with its site awake: time passes, nothing is heard or written.
    pub fn suspend(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.pass(&mut |_, _| {});
        }
    }

    /// A second passes; `watch` sees the physics after each step and how long that was, s.
    pub fn pass(&mut self, watch: &mut dyn FnMut(&World, f64)) {
        for _ in 0..(1.0 / STEP_S) as usize {
            self.world.step(STEP_S);
            watch(&self.world, STEP_S);
        }
        self.now = self.now.after(Duration::from_secs(1));
    }

    /// What comes in after a second: every device's answer or its silence, scenes, and what drivers say.
    pub fn listen(&mut self, site: &Site, into: &mut dyn FnMut(Observation)) {
        let at = self.now;
        let reading = Reading::Meter(self.meter());
        self.answer(Who::Meter, &site.meter, reading, into);
        for (i, charger) in site.chargers.iter().enumerate() {
            if let Some(pile) = self.world.piles.get(i) {
                let reading = Reading::Charger(charger_reading(charger, pile, self.world.volts));
                self.answer(Who::Charger(i), &charger.id, reading, into);
            }
        }
        for node in site.computes.iter().take(1) {
            if let Some(physical) = &self.world.node {
                let reading = Reading::Compute(ComputeReading {
                    power: Watts(physical.power_w),
                    cap: Watts(physical.cap_w()),
                    energy: Some(WattHours(physical.energy_wh)),
                });
                self.answer(Who::Compute, &node.id, reading, into);
            }
        }
        self.inverters(site, into);
        if !self.troubles.has(Who::Eyes, What::Silent) {
            for camera in &site.cameras {
                self.frame += 1;
                into(Observation::Scene(scene(&camera.id, self.frame, at, self.verdict)));
            }
        }
        if self.drivers_tell {
            self.drivers(site, into);
        }
        self.troubles.pass(at);
    }

    fn inverters(&mut self, site: &Site, into: &mut dyn FnMut(Observation)) {
        let hybrid = &self.world.hybrid;
        let soc = Soc::from_ratio(hybrid.soc()).unwrap_or_default();
        let battery = BatteryReading { power: Watts(hybrid.battery_w), soc };
        let pv = PvReading { power: Watts(hybrid.pv_w) };
        if let Some(known) = site.batteries.first() {
            let reading = Reading::Hybrid { battery, pv };
            self.answer(Who::Battery, &known.id, reading, into);
        } else if let Some(id) = site.pvs.first() {
            self.answer(Who::Battery, id, Reading::Pv(pv), into);
        }
    }

    fn answer(
        &mut self,
        who: Who,
        device: &Id,
        reading: Reading,
        into: &mut dyn FnMut(Observation),
    ) {
        let (at, device) = (self.now, device.clone());
        match self.troubles.hear(who, reading, &mut self.rng) {
            Heard::Answer(reading) => into(Observation::Answered { device, at, reading }),
            Heard::Silence => {
                into(Observation::Silent { device, at, why: Silence::Timeout });
            }
        }
    }

    /// The devices get what the decision says, those that can be reached.
    pub fn obey(&mut self, site: &Site, decision: &Decision) {
        if !decision.writing {
            return;
        }
        for (i, charger) in site.chargers.iter().enumerate() {
            if self.troubles.has(Who::Charger(i), What::Silent) {
                continue;
            }
            let (Some(pile), Some((setpoint, _))) =
                (self.world.piles.get_mut(i), decision.permitted.charger(&charger.id))
            else {
                continue;
            };
            // The device task writes the phases only while the device is seen to be paused.
            if let Some(count) = decision.permitted.phases(&charger.id)
                && pile.limit_a() < charger.min.get()
            {
                pile.connect(usize::from(count.number()));
            }
            pile.ignores_setpoint = self.troubles.has(Who::Charger(i), What::Runaway);
            if self.troubles.has(Who::Charger(i), What::Deaf) {
                pile.feed();
                continue;
            }
            // The device task writes the failsafe again when it sees that it is gone.
            pile.safe_a = charger.failsafe.get();
            pile.validity_s = self.lease_s;
            pile.write_setpoint(setpoint.amps().get());
        }
        if let (Some(node), Some(known)) = (&mut self.world.node, site.computes.first())
            && !self.troubles.has(Who::Compute, What::Silent)
            && let Some((cap, _)) = decision.permitted.compute(&known.id)
        {
            node.ignores_setpoint = self.troubles.has(Who::Compute, What::Deaf);
            node.write_cap(cap.get());
        }
        if self.troubles.has(Who::Battery, What::Silent)
            || self.troubles.has(Who::Battery, What::Deaf)
        {
            return;
        }
        if let Some(inverter) = site.inverters.first()
            && let Some((most, _)) = decision.permitted.inverter(&inverter.id)
        {
            let rated = inverter.rated.get();
            self.world.hybrid.limit = OutputLimit::at(most.get(), rated, BATTERY_REVERTS_S);
        }
        if let Some(battery) = site.batteries.first()
            && let Some((power, _)) = decision.permitted.battery(&battery.id)
        {
            let largest = self.world.hybrid.max_w;
            let control = StorageControl::pinned(power.get(), largest, BATTERY_REVERTS_S);
            self.world.hybrid.control = control;
        }
    }

    fn meter(&mut self) -> MeterReading {
        let alive = if self.grid_down { 0.0 } else { 1.0 };
        let powers = self.world.grid_phases_w().map(|watts| watts * alive);
        let volts = self.world.volts.map(|volts| volts * alive);
        let mut noise = || (self.rng.f64() - 0.5) * 0.1;
        MeterReading {
            power: Watts(powers.iter().sum()),
            phase_power: PerPhase(powers.map(Watts)),
            current: PerPhase(std::array::from_fn(|i| {
                Amps(powers[i] / volts[i].max(1.0) + noise())
            })),
            voltage: PerPhase(volts.map(Volts)),
            frequency: Some(Hertz(self.world.hertz * alive)),
            import: Some(WattHours(self.world.import_wh)),
            export: Some(WattHours(self.world.export_wh)),
        }
    }

    /// Whoever has just plugged in says what the car lacks and when it leaves.
    fn drivers(&mut self, site: &Site, into: &mut dyn FnMut(Observation)) {
        self.told.resize(self.world.piles.len(), None);
        for (i, charger) in site.chargers.iter().enumerate() {
            let Some(pile) = self.world.piles.get(i) else { continue };
            let told = &mut self.told[i];
            if pile.car.is_none() {
                *told = None;
                continue;
            }
            if told.is_some() {
                continue;
            }
            let (Some(leaves), Some(car)) = (self.world.leaves_s(&pile.id), &pile.car) else {
                continue;
            };
            *told = Some(leaves);
            let stays = (leaves - self.world.elapsed_s) as i64;
            let target = Target {
                need: WattHours(car.capacity_wh - car.energy_wh),
                leaves: self.now.utc + chrono::Duration::seconds(stays),
            };
            into(Observation::Asked { charger: charger.id.clone(), target, at: self.now });
        }
    }
}

fn scene(camera: &Id, frame: u64, at: Moment, verdict: Verdict) -> Scene {
    Scene {
        camera: camera.clone(),
        frame,
        at,
        fire: 0.0,
        smoke: 0.0,
        verdict,
        tier: Tier::Small,
        bays: Vec::new(),
        scored_by: None,
        cpu_ms: 5.0,
        fault: None,
    }
}

/// What a pile says, on its own phases: those that the charger of the site file has.
fn charger_reading(charger: &Charger, pile: &Pile, volts: [f64; 3]) -> ChargerReading {
    let currents = pile.currents();
    let own = pile.own_volts(volts);
    let power: f64 = currents.iter().zip(own).map(|(amps, volts)| amps * volts).sum();
    debug_assert!(pile.car.as_ref().map_or(0, |car: &Car| car.phases) <= charger.phases.len());
    ChargerReading {
        vehicle: match pile.state() {
            PlugState::A => Vehicle::Absent,
            PlugState::B => Vehicle::Connected,
            PlugState::C => Vehicle::Charging,
        },
        current: PerPhase(currents.map(Amps)),
        voltage: PerPhase(own.map(Volts)),
        power: Watts(power),
        limit: Amps(pile.limit_a()),
        energy: Some(WattHours(pile.energy_wh)),
        phases: Some(if pile.connected == 1 { PhaseCount::One } else { PhaseCount::Three }),
        lease: None,
    }
}
